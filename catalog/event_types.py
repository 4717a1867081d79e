"""The vocabulary: event types of the house, of connectors and of an organization itself."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sqlmodel import Session, col

from catalog import dialects, json_schemas
from catalog.tables import CustomEventType
from catalog.terms import Term, said
from kernel import clock, tenancy
from kernel.errors import N_, Conflict, FieldError, Invalid, NotFound

FOLDER = Path(__file__).parent / "event_types"
SHAPES = "shapes.json#/$defs/"
NAME = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$"
MAX_TYPES = 500  # of one organization's own


@dataclass(frozen=True)
class EventType:
    """A past-tense fact's name, version and JSON Schema (self-contained), with one sample."""

    name: str
    version: int
    title: dict[str, str]
    schema: dict[str, Any] = field(repr=False, compare=False)
    sample: Any = field(repr=False, compare=False)
    sub_scenario: str | None = None
    natural_key: tuple[str, ...] = ()  # JSON pointers to fields that are always there
    key_if_given: tuple[str, ...] = ()  # further parts of the key, where an event has them
    terms: tuple[Term, ...] = ()
    term_source: str = ""
    origin: str = "canonical"  # canonical | connector | custom | hub
    digest: str = ""

    def __post_init__(self) -> None:
        """Fill in the schema's digest, the key of its compiled validator."""
        if not self.digest:
            object.__setattr__(self, "digest", json_schemas.digest_of(self.schema))


# Connectors declare event types of their own; the composition root adds where to ask for them.
PROVIDERS: list[Callable[[], Iterable[EventType]]] = []


@dataclass(frozen=True)
class Receiver:
    """Something of an organization that gets events of a type: an endpoint or a flow."""

    kind: str  # endpoint | flow
    name: str
    href: str
    state: str
    permission: str  # whoever lacks it is not told


# Who gets a type's events in an organization; the packages that send them on add themselves.
RECEIVERS: list[Callable[[Session, str, str], Iterable[Receiver]]] = []


def receivers(session: Session, organization_id: str, name: str) -> list[Receiver]:
    """Name everything of an organization that gets events of this type."""
    return [one for ask in RECEIVERS for one in ask(session, organization_id, name)]


@dataclass(frozen=True)
class Speaker:
    """Something of the catalogue that tells events of a type."""

    kind: str  # app | connector
    name: dict[str, str]
    href: str
    how: str = ""  # a key of words.VIA, empty when it is declared
    proof: str = "declared"  # declared by its maker | planned in a bundle and never run


# Who tells events of a type, whatever the organization; the packages above add themselves.
SPEAKERS: list[Callable[[str], Iterable[Speaker]]] = []


# --- the house's own -----------------------------------------------------------------------------


@cache
def shapes() -> dict[str, Any]:
    """Return the shared shapes (money, party, line, …) by name."""
    found: dict[str, Any] = json.loads((FOLDER / "shapes.json").read_text("utf-8"))["$defs"]
    return found


def self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """Copy the shared shapes a schema refers to into its own `$defs`, so that it stands alone.

    Raises Conflict when the schema defines something else under a shape's name.
    """
    used: set[str] = set()
    rewritten: dict[str, Any] = _rewrite(schema, used)
    todo = list(used)
    while todo:
        name = todo.pop()
        inner: set[str] = set()
        _rewrite(_as_shared(shapes().get(name, {})), inner)
        todo += inner - used
        used |= inner
    if used:
        own = dict(rewritten.get("$defs", {}))
        for name in sorted(used & shapes().keys()):
            if own.setdefault(name, shapes()[name]) != shapes()[name]:
                raise Conflict(N_("“%(name)s” is the name of a shared shape"), name=name)
        rewritten["$defs"] = own
    return rewritten


def _rewrite(value: Any, used: set[str]) -> Any:
    if isinstance(value, list):
        return [_rewrite(item, used) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {key: _rewrite(item, used) for key, item in value.items()}
    reference = copy.get("$ref")
    if isinstance(reference, str) and reference.startswith(SHAPES):
        name = reference.removeprefix(SHAPES)
        if name in shapes():
            used.add(name)
            copy["$ref"] = f"#/$defs/{name}"
    return copy


def _as_shared(shape: Any) -> Any:
    """Write a shape's references to its neighbours the way event types write them."""
    if isinstance(shape, list):
        return [_as_shared(item) for item in shape]
    if isinstance(shape, dict):
        return {
            key: SHAPES + item.removeprefix("#/$defs/") if key == "$ref" else _as_shared(item)
            for key, item in shape.items()
        }
    return shape


@cache
def built_in() -> dict[tuple[str, int], EventType]:
    """Return the canonical event types by name and version."""
    found = {}
    for path in sorted(FOLDER.glob("*.v*.json")):
        raw = json.loads(path.read_text("utf-8"))
        raw["schema"] = self_contained(raw["schema"])
        for several in ("natural_key", "key_if_given"):
            raw[several] = tuple(raw.get(several, ()))
        raw["terms"] = tuple(Term(**one) for one in raw["terms"])
        raw["term_source"] = said(raw["terms"])
        found[raw["name"], raw["version"]] = EventType(**raw)
    return found


@cache
def _newest() -> dict[str, EventType]:
    return {name: event_type for (name, _), event_type in sorted(built_in().items())}


# --- asking --------------------------------------------------------------------------------------


def find(
    session: Session | None, organization_id: str | None, name: str, version: int | None = None
) -> EventType:
    """Return an event type, the newest version unless one is named; unknown names are NotFound."""
    found = lookup(session, organization_id, name, version)
    if found is None:
        raise NotFound(N_("There is no event type “%(name)s”"), name=name)
    return found


def lookup(
    session: Session | None, organization_id: str | None, name: str, version: int | None = None
) -> EventType | None:
    """Return an event type or None: the house's, then the organization's own, then connectors'.

    An organization may hold a connector's events to a stricter schema than the connector does.
    """
    house = _newest().get(name) if version is None else built_in().get((name, version))
    if house is not None:
        return house
    own = _own(session, organization_id, name, version)
    if own is not None:
        return own
    declared = [t for t in _declared() if t.name == name and version in (None, t.version)]
    return max(declared, key=lambda event_type: event_type.version) if declared else None


def _own(
    session: Session | None, organization_id: str | None, name: str, version: int | None
) -> EventType | None:
    if session is None or organization_id is None:
        return None
    statement = CustomEventType.of(organization_id).where(col(CustomEventType.name) == name)
    if version is not None:
        statement = statement.where(col(CustomEventType.version) == version)
    else:
        statement = statement.where(col(CustomEventType.retired_at).is_(None))
    statement = statement.order_by(col(CustomEventType.version).desc()).limit(1)
    row = session.execute(statement).scalar_one_or_none()
    return from_row(row) if row else None


def all_types(session: Session | None, organization_id: str | None) -> list[EventType]:
    """Return the newest version of every event type this organization may use, by name."""
    found: dict[str, EventType] = {}
    for event_type in sorted(_declared(), key=lambda declared: declared.version):
        found[event_type.name] = event_type
    found.update({own.name: own for own in own_types(session, organization_id)})
    found.update(_newest())
    return [found[name] for name in sorted(found)]


def all_versions(session: Session | None, organization_id: str | None) -> list[EventType]:
    """Return every version in use of every event type this organization may get, by name."""
    found = {(declared.name, declared.version): declared for declared in _declared()}
    if session is not None and organization_id is not None:
        statement = CustomEventType.of(organization_id)
        rows = session.execute(statement.where(col(CustomEventType.retired_at).is_(None)))
        found.update({(row.name, row.version): from_row(row) for row in rows.scalars()})
    found.update(built_in())
    return [found[key] for key in sorted(found)]


def versions(session: Session | None, organization_id: str | None, name: str) -> list[EventType]:
    """Return every version of a type by number, also those out of use; events still carry them."""
    found = {one.version: one for one in _declared() if one.name == name}
    if session is not None and organization_id is not None:
        statement = CustomEventType.of(organization_id).where(col(CustomEventType.name) == name)
        rows = session.execute(statement).scalars()
        found.update({row.version: from_row(row) for row in rows})
    found.update({number: one for (house, number), one in built_in().items() if house == name})
    return [found[number] for number in sorted(found)]


def own_types(session: Session | None, organization_id: str | None) -> list[EventType]:
    """Return the newest versions of the organization's own event types."""
    if session is None or organization_id is None:
        return []
    statement = (
        CustomEventType.of(organization_id)
        .where(col(CustomEventType.retired_at).is_(None))
        .order_by(col(CustomEventType.name), col(CustomEventType.version))
    )
    rows = session.execute(statement).scalars()
    return list({row.name: from_row(row) for row in rows}.values())


def _declared() -> Iterable[EventType]:
    for provider in PROVIDERS:
        yield from provider()


def validator(event_type: EventType) -> json_schemas.Validator:
    """Return `callable(value) -> [{"pointer", "message"}]`, compiled once per schema."""
    return json_schemas.validator_of(event_type.schema, event_type.digest)


def explain(event_type: EventType, value: Any) -> list[FieldError]:
    """Say what is wrong with a value, in plain words with JSON pointers."""
    return json_schemas.explain(event_type.schema, value)


# --- an organization's own -----------------------------------------------------------------------


def define(
    session: Session,
    organization_id: str,
    *,
    name: str,
    title: dict[str, str],
    schema: dict[str, Any],
    sample: Any = None,
    natural_key: Iterable[str] = (),
) -> CustomEventType:
    """Write a new event type, or the next version of one; refuses what is unsafe or untrue."""
    if name in _newest():
        raise Conflict(N_("“%(name)s” already has a meaning on this hub"), name=name)
    schema = self_contained(dialects.modern(schema))
    problems = json_schemas.check(schema)
    if problems:
        raise Invalid(N_("The schema cannot be used"), errors=problems)
    problems = json_schemas.validator_of(schema)(sample) if sample is not None else []
    if problems:
        raise Invalid(N_("The sample does not fit the schema"), errors=problems)
    rows = list(session.execute(CustomEventType.of(organization_id)).scalars())
    if len(rows) >= MAX_TYPES:
        raise Conflict(N_("An organization may have %(limit)s event types"), limit=MAX_TYPES)
    last = max((row.version for row in rows if row.name == name), default=0)
    row = CustomEventType(
        organization_id=organization_id,
        name=name,
        version=last + 1,
        title=title,
        json_schema=schema,
        sample=sample,
        natural_key=list(natural_key),
    )
    session.add(row)
    return row


def retire(session: Session, organization_id: str, type_id: str) -> CustomEventType:
    """Take a version out of use; events that carry it keep their meaning."""
    row = tenancy.find(session, CustomEventType, organization_id, type_id)
    row.retired_at = row.retired_at or clock.now()
    session.add(row)
    return row


def from_row(row: CustomEventType) -> EventType:
    """Shape an organization's own row like every other event type."""
    return EventType(
        name=row.name,
        version=row.version,
        title=row.title,
        schema=row.json_schema,
        sample=row.sample,
        natural_key=tuple(row.natural_key),
        origin="custom",
    )
