"""Rows: events made of a sheet's rows, and what is wrong with those of which none can be made.

Rows under each other that are about the same thing (the same natural key) make one event, each an
entry of its list. What tells an event apart is its natural key, so that the same file sent twice,
or a longer one that holds the same rows, brings in nothing twice.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog import event_types
from catalog.event_types import EventType
from connectors.engine.findings import Say, say
from connectors.sheets import cells, grids
from connectors.sheets.fields import LIST, SheetField, of_schema
from connectors.sheets.grids import Row
from kernel import documents

MAX_LIST = 5_000


@dataclass(frozen=True, slots=True)
class Wrong:
    """One cell of which nothing can be made."""

    row: int
    field: str
    text: str
    say: Say


@dataclass(slots=True)
class Made:
    """What some rows became: an event's data and its key, or what is wrong with them."""

    first_row: int
    last_row: int
    data: dict[str, Any]
    key: str
    wrong: list[Wrong] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the columns of a file fill an event type."""

    event_type: EventType
    fields: Mapping[str, SheetField]
    columns: Mapping[str, int]  # field → place of its column
    fixed: Mapping[str, str]  # field → the same text for all rows

    @classmethod
    def of(
        cls, event_type: EventType, columns: Mapping[str, int], fixed: Mapping[str, str]
    ) -> "Plan":
        """Take up what people chose; what the type does not know any more is left out."""
        known = {one.name: one for one in of_schema(event_type.schema)}
        return cls(
            event_type,
            known,
            {name: place for name, place in columns.items() if name in known},
            {name: text for name, text in fixed.items() if name in known and text},
        )

    @property
    def key_names(self) -> tuple[str, ...]:
        """Return the fields that tell one event from another."""
        return tuple(
            pointer.lstrip("/").replace("/", ".") for pointer in self.event_type.natural_key
        )

    def missing(self) -> list[SheetField]:
        """Return required fields that neither a column nor a fixed text fills."""
        return [
            one
            for name, one in self.fields.items()
            if one.is_required and not self._is_filled(name) and not self._goes_without(one)
        ]

    def _is_filled(self, name: str) -> bool:
        return name in self.columns or name in self.fixed

    def _goes_without(self, one: SheetField) -> bool:
        if one.path[-1] == "line_id":
            return True  # the number of the line in its list
        return one.usual is not None and self._is_filled(_sibling(one, "value"))

    def text_of(self, name: str, row: Row) -> str:
        """Return what a row says of a field."""
        place = self.columns.get(name)
        text = row.cells[place] if place is not None and place < len(row.cells) else ""
        return text or self.fixed.get(name, "")


def _sibling(one: SheetField, name: str) -> str:
    return ".".join((*one.path[:-1], name)).replace(f".{LIST}", LIST)


def made(plan: Plan, rows: Iterable[Row]) -> Iterator[Made]:
    """Give what the rows become, one event after the other, holding no more than one in memory."""
    gathered: list[Row] = []
    known: tuple[str, ...] | None = None
    for row in rows:
        key = tuple(plan.text_of(name, row) for name in plan.key_names)
        is_same = bool(gathered) and any(key) and key == known and _has_list(plan)
        if not is_same and gathered:
            yield _event(plan, gathered)
            gathered = []
        gathered.append(row)
        known = key
    if gathered:
        yield _event(plan, gathered)


def _has_list(plan: Plan) -> bool:
    return any(plan.fields[name].is_listed for name in plan.columns)


def _event(plan: Plan, rows: Sequence[Row]) -> Made:
    data: dict[str, Any] = {}
    wrong: list[Wrong] = []
    _fill(plan, rows[0], data, wrong, is_listed=False)
    for number, row in enumerate(rows[:MAX_LIST], start=1):
        _fill(plan, row, data, wrong, is_listed=True, number=number)
    if len(rows) > MAX_LIST:
        words = say(f"一张单据最多 {MAX_LIST} 行", f"{MAX_LIST} lines at most in one document")
        wrong.append(Wrong(rows[MAX_LIST].number, "", "", words))
    wrong += _absent(plan, rows[0])
    return Made(rows[0].number, rows[-1].number, data, _key(plan, data), wrong)


def _fill(
    plan: Plan,
    row: Row,
    data: dict[str, Any],
    wrong: list[Wrong],
    *,
    is_listed: bool,
    number: int = 1,
) -> None:
    """Put what a row says into an event's data: into the event itself, or a new entry of lists."""
    entries: dict[str, dict[str, Any]] = {}
    for name in (*plan.columns, *(one for one in plan.fixed if one not in plan.columns)):
        one = plan.fields[name]
        text = plan.text_of(name, row)
        if one.is_listed is not is_listed or not text:
            continue
        if one.kind == "string" and name in plan.columns and grids.has_lost_digits(text):
            words = say(
                "Excel 只保留 15 位数字，后面的位数已经丢失：请把这一列设成“文本”再填",
                "Excel keeps 15 digits, the others are lost: make the column text and fill it anew",
            )
            wrong.append(Wrong(row.number, name, text, words))
            continue
        try:
            value = cells.value_of(one, text)
        except cells.BadCell as bad:
            wrong.append(Wrong(row.number, name, text[:200], bad.say))
            continue
        if one.is_listed:
            head = one.path[: one.path.index(LIST)]
            entry = entries.setdefault(".".join(head), {})
            _put(entry, one.path[len(head) + 1 :], value)
        else:
            _put(data, one.path, value)
    for name, entry in entries.items():
        _finish(plan, name, entry, number)
        _listed(data, name.split(".")).append(entry)
    if not is_listed:
        _usual(plan, data, ())


def _put(target: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        target = target.setdefault(name, {})
    target[path[-1]] = value


def _listed(data: dict[str, Any], path: Sequence[str]) -> list[Any]:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    found: list[Any] = data.setdefault(path[-1], [])
    return found


def _finish(plan: Plan, name: str, entry: dict[str, Any], number: int) -> None:
    """Complete an entry of a list: the line's number, units and currencies nobody wrote down."""
    if f"{name}{LIST}.line_id" in plan.fields:
        entry.setdefault("line_id", str(number))
    _usual(plan, entry, (*name.split("."), LIST))


def _usual(plan: Plan, value: dict[str, Any], path: tuple[str, ...]) -> None:
    for name, inner in list(value.items()):
        if isinstance(inner, dict):
            _usual(plan, inner, (*path, name))
    for one in plan.fields.values():
        if one.usual and one.path[:-1] == path and "value" in value:
            value.setdefault(one.path[-1], one.usual)


def _absent(plan: Plan, row: Row) -> list[Wrong]:
    """Say which required cells are empty."""
    words = say("这里不能空着", "This cannot be empty")
    return [
        Wrong(row.number, name, "", words)
        for name, one in plan.fields.items()
        if one.is_required
        and not one.is_listed
        and (name in plan.columns or name in plan.fixed)
        and not plan.text_of(name, row)
    ]


def _key(plan: Plan, data: Mapping[str, Any]) -> str:
    """Return what tells an event apart: its natural key, else all that it says."""
    values = [_read(data, name.split(".")) for name in plan.key_names]
    if values and all(value not in (None, "") for value in values):
        said = documents.dump([plan.event_type.name, *values])
    else:
        said = documents.dump([plan.event_type.name, data], sort_keys=True)
    return f"sheet:{plan.event_type.name}:{hashlib.sha256(said).hexdigest()[:40]}"


def judged(plan: Plan, one: Made) -> Made:
    """Add what the event type's own schema finds wrong with an event."""
    if not one.wrong:
        one.wrong += [
            Wrong(one.first_row, "", error["pointer"], not_fitting(error))
            for error in event_types.explain(plan.event_type, one.data)[:5]
        ]
    return one


def not_fitting(error: Mapping[str, Any]) -> Say:
    """Return what an event type's schema finds, in a sentence."""
    words = error.get("message", "")
    return say(f"不符合事件类型的要求：{words}", f"This does not fit the event type: {words}")


def _read(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
