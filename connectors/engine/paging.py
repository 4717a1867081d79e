"""Paging: a list that comes in pages becomes one list, with an end whatever the app answers.

What was read so far is a plain document, so that it can be kept and taken up again:
{"look": what the next page is asked for with, "pages": how many came, "items": …, "rest": the
other fields of the last answer, "seen": marks of what named earlier pages, "last": mark of the
last page}.
"""

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from connectors.engine import templates
from connectors.engine.declared import Pages
from connectors.engine.expressions import EvaluationError
from connectors.engine.findings import EngineError, say
from kernel import documents

MAX_PAGE_NAME = 1_000
MAX_KEPT_BYTES = 56 * 1024  # what a step keeps of its output, less some for the rest

ENDLESS = say(
    "对方应用的列表没有尽头：两次给出了同一页，已停止读取",
    "The app's list has no end: it gave the same page twice, so reading was stopped",
)
UNREADABLE = say("下一页的标记读不出来", "What names the next page cannot be read")
TOO_LONG = say("下一页的标记太长", "What names the next page is too long")


class Unpaged(EngineError):  # noqa: N818 - it says what happened
    """The pages of a list lead nowhere; nothing of it is used."""


def begin(pages: Pages) -> dict[str, Any]:
    """Return where reading starts: nothing came, and this asks for the first page."""
    look = {"page": pages.first if pages.kind == "number" else None}
    return {
        "look": {**look, "offset": 0, "size": pages.size},
        "pages": 0,
        "items": [],
        "rest": None,
        "seen": [],
        "last": None,
    }


def add(
    pages: Pages, progress: Mapping[str, Any], output: Any, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Return the progress with one more page, and whether that was the last.

    `facts` is the answer as expressions see it: body, data, header, status. Raises Unpaged.
    """
    items = output.get(pages.items) if isinstance(output, Mapping) else None
    if not isinstance(items, list):
        raise Unpaged(say(f"回应里没有列表 {pages.items}", f"The answer has no {pages.items}"))
    mark = _mark(items)
    if items and mark == progress["last"]:
        raise Unpaged(ENDLESS)
    rest = {name: value for name, value in output.items() if name != pages.items}
    now = {
        **progress,
        "pages": progress["pages"] + 1,
        "items": [*progress["items"], *items],
        "rest": rest,
        "last": mark,
    }
    following = _following(pages, now, items, facts)
    if following is None:
        return now, True
    # offsets go up by themselves; what an app names has to be another name each time
    name = _mark([following["page"], following["offset"] if pages.kind == "offset" else None])
    if name in now["seen"]:
        raise Unpaged(ENDLESS)
    return {**now, "look": following, "seen": [*now["seen"], name]}, False


def is_full(pages: Pages, progress: Mapping[str, Any]) -> bool:
    """Tell whether no further page may be asked for, though the app has more."""
    is_long = len(progress["items"]) >= pages.max_items or progress["pages"] >= pages.max_pages
    return is_long or len(documents.dump(progress["items"])) > MAX_KEPT_BYTES


def joined(pages: Pages, progress: Mapping[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """Return the output of the step: all pages as one list; raises Unpaged when it was cut unsaid.

    A list that is too long is cut only where the manifest has a field that tells so.
    """
    items = progress["items"]
    if not is_whole and pages.cut is None:
        raise Unpaged(
            say(
                f"列表太长，读到第 {len(items)} 项时停止；请缩小查询范围",
                f"The list is too long: reading stopped at {len(items)} items; ask for less",
            )
        )
    out = {**(progress["rest"] or {}), pages.items: items[: pages.max_items]}
    is_cut = not is_whole or len(items) > pages.max_items
    return out if pages.cut is None else {**out, pages.cut: is_cut}


def _following(
    pages: Pages, progress: Mapping[str, Any], items: list[Any], facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the next page is asked for with, None after the last."""
    look = {**progress["look"], "offset": len(progress["items"])}
    known = {**facts, "look": progress["look"], "item": items[-1] if items else None}
    if pages.more is not None and _value(pages.more, known) is not True:
        return None
    if pages.kind in ("token", "link"):
        found = facts["header"].get("link") if pages.link else _value(pages.next, known)
        name = named(found, pages.link)
        return None if name is None else {**look, "page": name}
    if not items or (pages.more is None and len(items) < pages.size):
        return None
    if pages.kind == "last_id":
        name = named(_value(pages.next, known), None)
        return None if name is None else {**look, "page": name}
    return {**look, "page": look["page"] + 1} if pages.kind == "number" else look


def named(found: Any, link: str | None) -> str | None:
    """Return what names the next page, None when there is none; raises Unpaged.

    Of a Link header only one parameter is taken, never the address: where calls go is fixed.
    """
    if found in (None, "", False):
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise Unpaged(UNREADABLE)
    name = str(found) if link is None else linked(str(found), link)
    if name is not None and len(name) > MAX_PAGE_NAME:
        raise Unpaged(TOO_LONG)
    return name


def linked(header: str, parameter: str) -> str | None:
    """Find a parameter of the address with rel="next" in a Link header (RFC 8288)."""
    for part in header.split(","):
        address, _, about = part.strip().partition(">")
        relations = about.replace('"', "").replace(" ", "").lower().split(";")
        if not address.startswith("<") or "rel=next" not in relations:
            continue
        try:
            query = parse_qs(urlsplit(address[1:]).query, max_num_fields=100)
        except ValueError:
            return None
        return query[parameter][-1] if parameter in query else None
    return None


def _value(text: str | None, known: Mapping[str, Any]) -> Any:
    try:
        return templates.parse(text or "").evaluate(known)
    except EvaluationError:
        return None


def _mark(value: Any) -> str:
    return hashlib.sha256(documents.dump(value)).hexdigest()[:16]
