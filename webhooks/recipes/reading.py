"""Reading a delivery by what a manifest says of it: who sent it, what it says, what to answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, product
from typing import Any

from kernel import documents
from kernel.errors import Problem
from webhooks.recipes import running, texts, values
from webhooks.recipes.values import Missing, Refused, Surroundings

MAX_TRIES = 8
MAX_REPLY_BYTES = 64 * 1024
BRIEF_WORK = 512 * 1024  # bytes; the slowest steps handle so many in less than 100 ms
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
# An answer holds what a stranger sent, at the hub's own address: it is never a page or a script.
CONTENT_TYPES = frozenset({"text/plain", "application/json", "text/xml", "application/xml"})
# said with every answer of a recipe, for browsers that were led here
ALONE = "default-src 'none'; frame-ancestors 'none'; sandbox"

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request as it came: names of headers in small letters, the body as it was sent."""

    method: str
    path: str
    query: bytes
    header: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What the sender hears."""

    status: int
    body: bytes
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Read:
    """What a delivery turned out to be; `body` None means that the raw one is the event."""

    body: bytes | None = None
    message_id: str | None = None
    occurred_at: datetime | None = None
    type: str | None = None
    once: str | None = None
    reply: Reply | None = None
    is_handshake: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What the owner filled in: one value of each name, and values that still hold a while."""

    now: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)


def read(
    options: Options,
    delivery: Delivery,
    given: Given,
    around: Surroundings,
    *,
    is_brief: bool = False,
) -> Read:
    """Return what a delivery says, or the answer to a handshake; raises Refused.

    Secrets that were replaced a while ago are tried as well; which one fits is told to nobody.
    With `is_brief` it raises Heavy rather than taking longer than an event loop may be held.
    """
    most = BRIEF_WORK if is_brief else values.MAX_WORK
    with values.bounded_work(most, is_brief=is_brief):
        return _read_any_way(options, delivery, given, around)


def _read_any_way(options: Options, delivery: Delivery, given: Given, around: Surroundings) -> Read:
    reason: Refused | None = None
    for filled in _ways(given):
        try:
            return _read(options, {**_roots(delivery), **_split(options, filled)}, around)
        except Refused as refused:
            reason = reason or refused
    assert reason is not None  # there is always one way
    raise reason


def _ways(given: Given) -> Iterator[dict[str, str]]:
    """Yield what was filled in, then with each older value that still holds."""
    names = [name for name in given.before if given.before[name] != given.now.get(name)]
    choices = [
        [(name, given.now[name]), (name, given.before[name])]
        if name in given.now
        else [(name, given.before[name])]
        for name in names
    ]
    for chosen in islice(product(*choices), MAX_TRIES):
        yield {**given.now, **dict(chosen)}


def _roots(delivery: Delivery) -> dict[str, Any]:
    return {
        "method": delivery.method,
        "path": delivery.path,
        "query": texts.read_form(delivery.query),
        "header": delivery.header,
        "body": delivery.body,
    }


def _split(options: Options, filled: Mapping[str, str]) -> dict[str, Any]:
    """Part what is secret from what is a mere setting."""
    secret: dict[str, str] = {}
    settings: dict[str, str] = {}
    for name, asked in options.get("secrets", {}).items():
        if filled.get(name):
            (secret if asked.get("secret", True) else settings)[name] = filled[name]
    return {"secret": secret, "settings": settings}


def _read(options: Options, roots: Mapping[str, Any], around: Surroundings) -> Read:
    passed: Refused | None = None
    for handshake in options.get("handshake", ()):
        if not running.is_so(handshake["when"], roots):
            continue
        try:
            found = running.run(handshake.get("steps", []), roots, around)
        except Refused as refused:
            passed = passed or refused
            continue
        return Read(reply=reply(handshake["reply"], found, around), is_handshake=True)
    if roots["method"] != "POST":
        raise passed or values.mismatch("只接受 POST", "Only POST brings events")
    try:
        return _event(options, running.run(options.get("steps", []), roots, around), around)
    except Refused as refused:
        # a handshake that was not proved says more than the signature that no handshake has
        is_blank = refused.code == "signature_missing" and passed is not None
        raise passed if is_blank and passed else refused from None


def _event(options: Options, found: Mapping[str, Any], around: Surroundings) -> Read:
    kind = options.get("type") or {}
    named = _first(kind.get("value"), found)
    if named and kind.get("lower"):
        named = named.lower()
    at = options.get("at") or {}
    told = _first(at.get("value"), found)
    return Read(
        body=body_of(str(options["body"]), found) if "body" in options else None,
        message_id=_first(options.get("id"), found),
        occurred_at=texts.read_time(told.encode(), at.get("unit", "s"), at.get("offset", "+00:00"))
        if told
        else None,
        type=f"{kind.get('prefix', '')}{named}" if named else None,
        once=_first(options.get("once"), found),
        reply=reply(options["ack"], found, around) if "ack" in options else None,
    )


def _first(templates: Any, found: Mapping[str, Any]) -> str | None:
    """Return the first text that has all it needs and is not empty."""
    listed = templates if isinstance(templates, list) else [templates] if templates else []
    for template in listed:
        try:
            told = values.text(template, found).decode("utf-8", "replace")
        except Missing:
            continue
        if told:
            return told
    return None


def body_of(template: str, found: Mapping[str, Any]) -> bytes:
    """Return an event's bytes; XML, forms and values become JSON, JSON stays as it came."""
    alone = values.pieces(template)
    if len(alone) == 1 and isinstance(alone[0], tuple):
        value = values.find(alone[0], found)
        if not isinstance(value, bytes | str):
            return documents.dump(values.plain(value))
    raw = values.text(template, found)
    return as_json(raw)


def as_json(raw: bytes) -> bytes:
    """Return bytes as they are, or as JSON when they are XML."""
    if raw.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"<"):
        return documents.dump(texts.read_xml(raw))
    return raw


def reply(said: Mapping[str, Any], found: Mapping[str, Any], around: Surroundings) -> Reply:
    """Write an answer: a text or a JSON document, perhaps with steps of its own before it."""
    if said.get("steps"):
        found = running.run(said["steps"], found, around)
    status = said.get("status", 200)
    if "json" in said:
        body, kind = documents.dump(_filled(said["json"], found)), JSON
    else:
        body, kind = values.text(said.get("text", ""), found), TEXT
    if len(body) > MAX_REPLY_BYTES:
        raise values.too_large()
    return Reply(status, body, _content_type(said.get("content_type"), kind))


def _content_type(stated: Any, kind: str) -> str:
    return stated if is_content_type(stated) else kind


def is_content_type(stated: Any) -> bool:
    """Tell whether an answer may call itself so."""
    if not isinstance(stated, str):
        return False
    name, _, rest = stated.partition(";")
    return name in CONTENT_TYPES and rest in ("", " charset=utf-8")


def _filled(document: Any, found: Mapping[str, Any]) -> Any:
    if isinstance(document, dict):
        return {name: _filled(one, found) for name, one in document.items()}
    if isinstance(document, list):
        return [_filled(one, found) for one in document]
    if not isinstance(document, str):
        return document
    alone = values.pieces(document)
    if len(alone) == 1 and isinstance(alone[0], tuple):
        value = values.find(alone[0], found)
        values.spend(len(values.as_bytes(value)))
        return values.plain(value)
    return values.text(document, found).decode("utf-8", "replace")


def refusal(options: Options) -> Reply | None:
    """Return what a refused sender hears instead of the hub's own words; None: those."""
    said = options.get("refuse")
    if not said:
        return None
    try:
        return reply({"status": 401, **said}, {}, Surroundings(datetime.min.replace(tzinfo=UTC)))
    except (Refused, Problem):
        return None


def is_proof(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a recipe checks anything that only the sender can know."""
    for step in steps:
        if not isinstance(step, Mapping):
            continue
        if {"equal", "rsa_verify", "ed25519_verify", "jwt"} & step.keys():
            return True
        if step.get("decrypt") == "aes_gcm":
            return True
        inner = [step["steps"]] if isinstance(step.get("steps"), list) else []
        ways = step["any"] if isinstance(step.get("any"), list) else []
        if any(is_proof(one) for one in [*inner, *ways] if isinstance(one, list)):
            return True
    return False
