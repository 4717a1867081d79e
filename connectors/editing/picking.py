"""Picking: what a field may be filled with, as a list that can be searched in both languages."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pypinyin import Style, lazy_pinyin

from connectors import masking
from connectors.editing import fitting
from connectors.editing.trials import Values
from connectors.field_paths import Offer
from kernel.web import localized

_SHOWN = 60  # characters of a sample value


def pool(
    offers: Iterable[Offer], values: Values, origins: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return the offers of all steps of a page, each once: expression → what the list shows.

    `origins` gives what each step is called.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in offers:
        key = key_of(one)
        if key not in found:
            found[key] = _option(one, values, origins)
    return found


def key_of(offer: Offer) -> str:
    """Return what tells offers of a page apart: the same words may read another loop's item."""
    return f"{offer.origin} {offer.expression}"


def _option(offer: Offer, values: Values, origins: Mapping[str, str]) -> dict[str, Any]:
    title = localized(offer.title)
    there, value = values.at(offer)
    return {
        "expression": offer.expression,
        "title": title,
        "path": offer.expression[2:-1],
        "kind": offer.kind,
        "kind_title": localized(fitting.kind_words(offer.kind)),
        "format": fitting.format_of(offer.schema),
        "origin": origins.get(offer.origin, offer.origin),
        "sample": shown(value) if there else "",
        "has": there or not values.knows(offer),
        "words": words(offer.title, offer.expression),
    }


def shown(value: Any) -> str:
    """Return a value as a few words."""
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        value = masking.show(value)
        text = ", ".join(f"{name}: {shown(one)}" for name, one in list(value.items())[:8])
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def words(title: Any, path: str) -> str:
    """Return everything a field can be searched by, in small letters."""
    parts = [path]
    if isinstance(title, Mapping):
        parts += [str(title.get("en") or ""), str(title.get("zh") or "")]
        parts += _pinyin(str(title.get("zh") or ""))
    else:
        parts.append(str(title or ""))
    return " ".join(one for one in parts if one).lower()


@lru_cache(maxsize=4096)
def _pinyin(text: str) -> tuple[str, ...]:
    """Return a title as it is typed without a Chinese keyboard: whole, and first letters."""
    if not text:
        return ()
    return "".join(lazy_pinyin(text)), "".join(lazy_pinyin(text, style=Style.FIRST_LETTER))


def verdicts(
    options: Iterable[Mapping[str, Any]], wanted: Iterable[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return how each kind goes into each: "integer->string" → {ok, wrap, why}."""
    found: dict[str, dict[str, Any]] = {}
    given = sorted({(one["kind"], one["format"]) for one in options})
    for kind, shape in given:
        for target, target_shape in sorted(set(wanted)):
            how = fitting.fit(kind, target, given_format=shape, wanted_format=target_shape)
            found[f"{kind}:{shape}->{target}:{target_shape}"] = {
                "ok": how.ok,
                "wrap": how.wrap,
                "why": localized(how.why) if how.why else "",
            }
    return found


def absent(offers: Sequence[Offer], values: Values) -> set[str]:
    """Return the expressions that have no value in the sample."""
    return {one.expression for one in offers if values.knows(one) and not values.at(one)[0]}
