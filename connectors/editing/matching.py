"""Matching: which fields of an action may be filled from what is there, how sure, and why.

Fields are compared by name, by title in both languages and by what the words mean. Each source is
proposed for one field at most, and a field that a person has filled is left alone. What is proposed
is only shown; a person takes it over.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from connectors import field_paths, mapping_rows
from connectors.editing import fitting, meanings
from connectors.field_paths import Leaf, Offer, Wanted

ENOUGH = 0.62
SURE_PERCENT = 85
_LINE = "line"  # what an item of a list is called in a proposal
_NEVER = {"${event.id}", "${event.subject}", "${event.time}", "${item}", "${index}"}
Say = dict[str, str]


@dataclass(frozen=True)
class Proposal:
    """One field and what may fill it, as a row of the form takes it."""

    target: str
    title: Any
    how: str  # text | optional | yaml
    source: str
    origin: Offer
    percent: int
    why: Say
    inner: tuple["Proposal", ...] = ()  # of a list: the fields of each item

    @property
    def is_sure(self) -> bool:
        """Tell whether names or titles agree, and not only what they mean."""
        return self.percent >= SURE_PERCENT


class _Called(NamedTuple):
    """What a field is called."""

    path: tuple[str, ...]
    zh: str
    en: str

    @property
    def own(self) -> str:
        """Its Chinese title without what it is part of."""
        return self.zh.rpartition(" · ")[2]


def _called(path: Sequence[str], title: Any) -> _Called:
    titles = title if isinstance(title, Mapping) else {}
    return _Called(tuple(path) or ("",), str(titles.get("zh") or ""), str(titles.get("en") or ""))


@dataclass(frozen=True)
class _Pair:
    score: float
    wanted: Wanted
    offer: Offer
    why: Say
    inner: tuple[Proposal, ...] = ()


def propose(
    wanted: Sequence[Wanted],
    offers: Sequence[Offer],
    filled: Iterable[str] = (),
    absent: Container[str] = (),
) -> list[Proposal]:
    """Return what may fill the fields that nobody has filled yet, in the order of the fields.

    `filled` names fields a person has filled; neither they nor anything inside them is touched.
    `absent` holds expressions that have no value in the sample: no field that is needed gets one.
    """
    taken = list(filled)
    free = [one for one in wanted if not any(_is_within(one.path, other) for other in taken)]
    usable = [one for one in offers if one.expression not in _NEVER]
    pairs = [
        pair
        for one in free
        for offer in usable
        if not (one.is_required and offer.expression in absent)
        if (pair := _pair(one, offer)) is not None
    ]
    order = {one.path: number for number, one in enumerate(wanted)}
    near = {one.expression: number for number, one in enumerate(offers)}
    pairs.sort(
        key=lambda one: (
            -one.score,
            one.offer.expression in absent,
            order[one.wanted.path],
            len(one.offer.path),
            near[one.offer.expression],
        )
    )
    chosen: dict[str, Proposal] = {}
    used: set[str] = set()
    for pair in pairs:
        if pair.wanted.path not in chosen and pair.offer.expression not in used:
            used.add(pair.offer.expression)
            chosen[pair.wanted.path] = _proposal(pair)
    return [chosen[one.path] for one in wanted if one.path in chosen]


def _is_within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


def _pair(wanted: Wanted, offer: Offer) -> _Pair | None:
    if not _fit(wanted, offer).ok:
        return None
    mine = _called(wanted.path.split("."), wanted.title)
    theirs = _called(offer.path, offer.title)
    if _is_time(mine, fitting.format_of(wanted.schema)) != _is_time(
        theirs, fitting.format_of(offer.schema)
    ):
        return None
    is_list = "array" in wanted.kind.split("/") and "array" in offer.kind.split("/")
    score, (zh, en) = _compare(mine, theirs)
    inner: tuple[Proposal, ...] = ()
    if is_list and _properties(wanted.schema):
        inner, covered = _inner(wanted.schema, offer.schema)
        if not inner or not covered:
            return None
        score = min(0.99, 0.5 * score + 0.5 * covered)
    if score < ENOUGH:
        return None
    return _Pair(score, wanted, offer, {"zh": zh, "en": en}, inner)


def _is_time(called: _Called, format_of: str) -> bool:
    """Tell whether a field holds a time or a day: only such a field gets one."""
    if format_of in ("date", "date-time"):
        return True
    own = [meanings.of_name(called.path[-1]), meanings.of_chinese(called.own)]
    return any("time" in said for said in own)


def _fit(wanted: Wanted, offer: Offer) -> fitting.Fit:
    return fitting.fit(
        offer.kind,
        wanted.kind,
        given_format=fitting.format_of(offer.schema),
        wanted_format=fitting.format_of(wanted.schema),
    )


@lru_cache(maxsize=65_536)  # the steps of a flow read mostly the same fields
def _compare(left: _Called, right: _Called) -> tuple[float, tuple[str, str]]:
    """Return how alike two fields are, from 0 to 1, and what of them is, in both languages."""
    mine = meanings.readings(left.path, left.zh, left.en)
    theirs = meanings.readings(right.path, right.zh, right.en)
    likeness = [(meanings.likeness(a, b), a, b) for a in mine for b in theirs]
    if not likeness:
        return 0.0, ("", "")
    best, a, b = max(likeness, key=lambda one: one[0])
    score = 0.85 * best + 0.15 * sum(one for one, _, _ in likeness) / len(likeness)
    name = meanings.of_name(left.path[-1])
    if left.path[-1].lower() == right.path[-1].lower() and name:
        if _titles_differ(left, right):
            return min(score, 0.75), ("字段名相同，名称不同", "the same name, another title")
        score = max(score, 0.9) if not meanings.is_weak(name) and best >= 0.5 else score
        return min(score, 0.99), ("字段名相同", "the same name")
    if left.own and left.own == right.own:
        return min(max(score, 0.85), 0.99), ("名称相同", "the same title")
    shared = a.keys() & b.keys()
    if meanings.is_weak(shared):
        score *= 0.6
    words = meanings.told(shared)
    return min(score, 0.95), (
        f"意思相近：{words['zh']}" if words["zh"] else "用词相同",
        f"alike in meaning: {words['en']}" if words["en"] else "the same words",
    )


def _titles_differ(left: _Called, right: _Called) -> bool:
    """Tell whether both have a title and nothing of them means the same."""
    mine, theirs = meanings.of_chinese(left.own), meanings.of_chinese(right.own)
    return bool(mine and theirs and not mine & theirs)


def _properties(schema: Mapping[str, Any]) -> list[Leaf]:
    """Return the fields of a list's items, [] for a list of plain values."""
    items = schema.get("items")
    if not isinstance(items, Mapping):
        return []
    return list(field_paths.leaves({**items, "$defs": schema.get("$defs", {})}))


def _inner(
    target: Mapping[str, Any], source: Mapping[str, Any]
) -> tuple[tuple[Proposal, ...], float]:
    """Return what fills the fields of each item, and how much of what they need, from 0 to 1."""
    wanted = [
        Wanted(".".join(one.path), one.title, field_paths.kind_of(one.schema), one.is_required,
               one.schema)
        for one in _properties(target)
    ]  # fmt: skip
    offers = [field_paths.offer_of(_LINE, _LINE, one) for one in _properties(source)]
    found = tuple(propose(wanted, offers))
    needed = [one.path for one in wanted if one.is_required] or [one.path for one in wanted]
    covered = {one.target for one in found} & set(needed)
    return found, len(covered) / len(needed)


def _proposal(pair: _Pair) -> Proposal:
    wanted, offer = pair.wanted, pair.offer
    how, source = "text", fitting.expression(offer.expression, _fit(wanted, offer))
    if pair.inner:
        how = "yaml"
        source = mapping_rows.to_yaml(_each(offer.expression, pair.inner)).rstrip("\n")
    elif not wanted.is_required and not offer.is_sure:
        how = "optional"
    return Proposal(
        target=wanted.path,
        title=wanted.title,
        how=how,
        source=source,
        origin=offer,
        percent=int(100 * pair.score),
        why=pair.why,
        inner=pair.inner,
    )


def _each(source: str, inner: Sequence[Proposal]) -> dict[str, Any]:
    return {"each": source, "as": _LINE, "do": node_of(inner)}


def node_of(proposals: Iterable[Proposal]) -> Any:
    """Return the mapping that proposals make."""
    return mapping_rows.document_of(
        [mapping_rows.Row(one.target, one.how, one.source) for one in proposals], ""
    )
