"""Matching: which fields of an action may be filled from what is there, how sure, and why.

Fields are compared by name, by title in both languages and by what the words mean. Each source is
proposed for one field at most, and a field that a person has filled is left alone. What is proposed
is only shown; a person takes it over.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    if not _fit(wanted, offer).ok or _is_time(wanted.path, wanted) != _is_time(
        ".".join(offer.path), offer
    ):
        return None
    is_list = "array" in wanted.kind.split("/") and "array" in offer.kind.split("/")
    path = tuple(wanted.path.split("."))
    score, why = _compare(path, wanted.title, offer.path, offer.title)
    inner: tuple[Proposal, ...] = ()
    if is_list and _properties(wanted.schema):
        inner, covered = _inner(wanted.schema, offer.schema)
        if not inner or not covered:
            return None
        score = min(0.99, 0.5 * score + 0.5 * covered)
    if score < ENOUGH:
        return None
    return _Pair(score, wanted, offer, why, inner)


def _is_time(path: str, one: Wanted | Offer) -> bool:
    """Tell whether a field holds a time or a day: only such a field gets one."""
    if fitting.format_of(one.schema) in ("date", "date-time"):
        return True
    own = [meanings.of_name(path.rpartition(".")[2]), meanings.of_chinese(_last(one.title))]
    return any("time" in said for said in own)


def _fit(wanted: Wanted, offer: Offer) -> fitting.Fit:
    return fitting.fit(
        offer.kind,
        wanted.kind,
        given_format=fitting.format_of(offer.schema),
        wanted_format=fitting.format_of(wanted.schema),
    )


def _compare(
    left: Sequence[str], left_title: Any, right: Sequence[str], right_title: Any
) -> tuple[float, Say]:
    """Return how alike two fields are, from 0 to 1, and what of them is."""
    mine, theirs = meanings.readings(left, left_title), meanings.readings(right, right_title)
    likeness = [(meanings.likeness(a, b), a, b) for a in mine for b in theirs]
    if not likeness:
        return 0.0, {}
    best, a, b = max(likeness, key=lambda one: one[0])
    score = 0.85 * best + 0.15 * sum(one for one, _, _ in likeness) / len(likeness)
    titles_differ = _titles_differ(left_title, right_title)
    if left[-1].lower() == right[-1].lower() and meanings.of_name(left[-1]):
        if titles_differ:
            why = {"zh": "字段名相同，名称不同", "en": "the same name, another title"}
            return min(score, 0.75), why
        is_plain = not meanings.is_weak(meanings.of_name(left[-1]))
        score = max(score, 0.9) if is_plain and best >= 0.5 else score
        return min(score, 0.99), {"zh": "字段名相同", "en": "the same name"}
    if _last(left_title) and _last(left_title) == _last(right_title):
        return min(max(score, 0.85), 0.99), {"zh": "名称相同", "en": "the same title"}
    shared = a.keys() & b.keys()
    if meanings.is_weak(shared):
        score *= 0.6
    words = meanings.told(shared)
    return min(score, 0.95), {
        "zh": f"意思相近：{words['zh']}" if words["zh"] else "用词相同",
        "en": f"alike in meaning: {words['en']}" if words["en"] else "the same words",
    }


def _titles_differ(left: Any, right: Any) -> bool:
    """Tell whether both have a title and nothing of them means the same."""
    mine, theirs = meanings.of_chinese(_last(left)), meanings.of_chinese(_last(right))
    return bool(mine and theirs and not mine & theirs)


def _last(title: Any) -> str:
    return str(title.get("zh") or "").split(" · ")[-1] if isinstance(title, Mapping) else ""


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
