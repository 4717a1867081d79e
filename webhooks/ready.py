"""Ready events: which are routed next, fairly over tenants.

Taking marks them routed in the caller's transaction, which also writes what they cause: when it
fails they are as new as before. Whom a router refused waits alone and is set aside in the end.
So is what ends the process that routes it: a wary process notes first, in a commit of its own, what
it is going to route, and who is found with such a note is routed alone from then on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, literal, select, text, update
from sqlmodel import Session

from identity import suspensions
from kernel.columns import Document
from kernel.database import store_now
from kernel.errors import N_
from webhooks import shares
from webhooks.tables import EVENT

BATCH = 50
MAX_FAILURES = 3
HELD_AT_ONCE = 500
AGAIN_AFTER = timedelta(seconds=60)
# A note of a process that is gone counts as a failure after this; routing takes much less.
NOTED = timedelta(seconds=10)
_TENANTS = 200

# Jumps from tenant to tenant along the partial index instead of reading every ready row.
_WITH_EVENTS = text(
    "WITH RECURSIVE tenant(id) AS ("
    " SELECT min(organization_id) FROM event WHERE state = 'new' AND organization_id > :after"
    " UNION ALL SELECT (SELECT min(organization_id) FROM event"
    " WHERE state = 'new' AND organization_id > tenant.id) FROM tenant WHERE tenant.id IS NOT NULL"
    # no join: it might give them in another order, and the next look begins behind the last one
    ") SELECT tenant.id, COALESCE("
    # nothing for whoever is suspended: its events are held
    "(SELECT CASE state WHEN 'suspended' THEN 0 ELSE weight END"
    " FROM organization WHERE organization.id = tenant.id), 10)"
    " FROM tenant WHERE tenant.id IS NOT NULL LIMIT :most"
)


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """A stored event that is being routed now."""

    organization_id: str
    id: str
    source_id: str | None
    origin: str
    type: str
    version: int | None
    subject: str | None
    occurred_at: datetime
    received_at: datetime
    content_type: str
    body: bytes
    replay_nonce: str

    def columns(self) -> dict[str, Any]:
        """Return the event as a row."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = [field.name for field in fields(ReadyEvent)]


def of_rows(rows: Sequence[Mapping[str, Any]]) -> list[ReadyEvent]:
    """Return stored rows as events that are being routed now, oldest first."""
    found = [ReadyEvent(*[row[name] for name in _NAMES]) for row in rows]
    found.sort(key=lambda event: event.id)
    return found


_COLUMNS = [EVENT.c[name] for name in _NAMES]
_FIRST = (
    "SELECT id FROM event WHERE organization_id = :tenant AND state = 'new' AND failure_count = 0 "
    "ORDER BY id LIMIT :most"
)


def _taking(which: str) -> Any:
    routed = "state = 'routed', problem = NULL, next_at = NULL, failure_count = 0"
    columns = ", ".join(_NAMES)
    words = f"UPDATE event SET {routed} WHERE organization_id = :tenant AND {which} "  # noqa: S608
    words += f"RETURNING {columns}"
    return text(words).columns(*_COLUMNS)


# an array is worked out once; a sub-select that locks might be worked out again for every row
_TAKE = {
    "sqlite": _taking(f"id IN ({_FIRST})"),
    "postgresql": _taking(f"id = ANY(ARRAY({_FIRST} FOR UPDATE SKIP LOCKED))"),
}
_TAKE_ONE = _taking("id = :id AND state = 'new'")
_TAKE_NOTED = _taking("id = :id AND state = 'waiting' AND failure_count = :count")
# in the index's order: PostgreSQL would else read the table, hoping to meet one soon
_NEW = text(
    "SELECT organization_id, id FROM event WHERE state = 'new' AND organization_id NOT IN "
    "(SELECT id FROM organization WHERE state <> 'active' AND state = 'suspended') "
    "ORDER BY organization_id, id LIMIT :most"
)


def take(session: Session, limit: int = BATCH) -> list[ReadyEvent]:
    """Take up to `limit` new events, by the weights of their tenants, oldest first."""
    connection = session.connection()
    tenants = _waiting(connection)
    for tenant in [tenant for tenant, weight in tenants.items() if not weight]:
        del tenants[tenant]
        if suspensions.is_held(session, tenant):
            hold(session, tenant)
    if not tenants:
        return []
    taking = _TAKE[connection.dialect.name]
    found = [
        ReadyEvent(*row)
        for tenant, share in shares.pick(tenants, limit).items()
        for row in connection.execute(taking, {"tenant": tenant, "most": share})
    ]
    found.sort(key=lambda event: event.id)
    return found


_start_after = ""  # where the next look begins, so that the first by name do not hide the others


def _waiting(connection: Any) -> dict[str, int]:
    """Return organizations with new events and their weights: a few hundred, the next each time."""
    global _start_after
    found: dict[str, int] = {}
    for after in dict.fromkeys((_start_after, "")):
        wanted = {"after": after, "most": _TENANTS - len(found)}
        rows = connection.execute(_WITH_EVENTS, wanted)
        found.update((row[0], row[1]) for row in rows)
        if len(found) >= _TENANTS:
            break
    _start_after = list(found)[-1] if len(found) >= _TENANTS else ""
    return found


_HOLD = text(
    "UPDATE event SET state = 'waiting', next_at = NULL WHERE organization_id = :tenant"
    " AND id IN (SELECT id FROM event WHERE organization_id = :tenant AND state = 'new'"
    " ORDER BY id LIMIT :most) AND state = 'new'"
)
_LET_GO = text(
    "UPDATE event SET state = 'new' WHERE organization_id = :tenant"
    " AND id IN (SELECT id FROM event WHERE state = 'waiting' AND next_at IS NULL"
    " AND organization_id = :tenant ORDER BY id LIMIT :most) AND state = 'waiting'"
)


def hold(session: Session, organization_id: str, most: int = HELD_AT_ONCE) -> int:
    """Hold new events of a suspended organization: they wait without a time; returns how many."""
    wanted = {"tenant": organization_id, "most": most}
    return int(session.connection().execute(_HOLD, wanted).rowcount)


def let_go(session: Session, organization_id: str, most: int = HELD_AT_ONCE) -> int:
    """Make held events of an organization new again, the oldest first; returns how many."""
    wanted = {"tenant": organization_id, "most": most}
    return int(session.connection().execute(_LET_GO, wanted).rowcount)


def peek(session: Session, limit: int = BATCH) -> list[tuple[str, str]]:
    """Name some new events by their keys."""
    return [(row[0], row[1]) for row in session.connection().execute(_NEW, {"most": limit})]


def take_one(session: Session, key: tuple[str, str]) -> list[ReadyEvent]:
    """Take one event, if it is still new."""
    rows = session.connection().execute(_TAKE_ONE, {"tenant": key[0], "id": key[1]})
    return [ReadyEvent(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that this process is about to route, and how often somebody began to."""

    organization_id: str
    id: str
    count: int


def note(session: Session, limit: int = BATCH) -> list[Noted]:
    """Note some new events, fairly over tenants, that nobody has failed on."""
    tenants = _waiting(session.connection())
    found: list[Noted] = []
    for tenant, share in shares.pick(tenants, limit).items() if tenants else ():
        fresh = select(EVENT.c.id).where(EVENT.c.organization_id == tenant, _IS_NEW)
        fresh = fresh.where(EVENT.c.failure_count == 0).order_by(EVENT.c.id).limit(share)
        found += _note(session, tenant, fresh.with_for_update(skip_locked=True))
    return found


def note_suspect(session: Session) -> Noted | None:
    """Note one event that somebody failed on; one that was begun too often is set aside.

    None when there is nothing to route now.
    """
    first = select(EVENT.c.organization_id, EVENT.c.id, EVENT.c.failure_count)
    first = first.where(_IS_NEW, EVENT.c.failure_count > 0)
    first = first.order_by(EVENT.c.organization_id, EVENT.c.id).limit(1)
    row = session.execute(first.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    if row[2] < MAX_FAILURES:
        same = select(EVENT.c.id).where(EVENT.c.organization_id == row[0], EVENT.c.id == row[1])
        return _note(session, row[0], same)[0]
    session.execute(
        update(EVENT)
        .where(EVENT.c.organization_id == row[0], EVENT.c.id == row[1], _IS_NEW)
        .values(
            state="quarantined",
            problem=literal({"code": "routing_interrupted", "detail": _INTERRUPTED}, Document),
        )
    )
    return None


_IS_NEW = text("state = 'new'")  # word for word as the partial index has it
_INTERRUPTED = N_("The hub stopped several times while it worked on this event")


def _note(session: Session, tenant: str, which: Any) -> list[Noted]:
    # told apart from the table's own rows, which PostgreSQL would else look up again and again
    ids = session.execute(which).scalars().all()
    rows = session.execute(
        update(EVENT)
        .where(EVENT.c.organization_id == tenant, EVENT.c.id.in_(ids), _IS_NEW)
        .values(
            state="waiting",
            failure_count=EVENT.c.failure_count + 1,
            next_at=store_now(session) + NOTED,
        )
        .returning(EVENT.c.id, EVENT.c.failure_count)
    )
    return [Noted(tenant, row[0], row[1]) for row in rows]


def take_noted(session: Session, noted: Sequence[Noted]) -> list[ReadyEvent]:
    """Take events that were noted, unless somebody else has found the notes too old."""
    found = [
        ReadyEvent(*row)
        for one in noted
        for row in session.connection().execute(
            _TAKE_NOTED, {"tenant": one.organization_id, "id": one.id, "count": one.count}
        )
    ]
    found.sort(key=lambda event: event.id)
    return found


def is_any(session: Session) -> bool:
    """Tell whether any event waits to be routed."""
    return bool(peek(session, 1))


_SOME = select(EVENT.c.received_at).where(text("state = 'new'")).order_by(EVENT.c.organization_id)


def is_left(session: Session, seconds: float) -> bool:
    """Tell whether an event among the first in line has been waiting for so long."""
    first = _SOME.limit(BATCH).subquery()
    oldest = session.execute(select(func.min(first.c.received_at))).scalar()
    return oldest is not None and store_now(session) - oldest > timedelta(seconds=seconds)


def fail(
    session: Session, key: tuple[str, str], problem: dict[str, Any], *, is_noted: bool = False
) -> None:
    """Let an event that could not be routed wait alone; after a few times set it aside."""
    count = EVENT.c.failure_count + (0 if is_noted else 1)  # a note has counted already
    session.execute(
        update(EVENT)
        .where(EVENT.c.organization_id == key[0], EVENT.c.id == key[1])
        .where(EVENT.c.state == ("waiting" if is_noted else "new"))
        .values(
            state=case((count >= MAX_FAILURES, "quarantined"), else_="waiting"),
            problem=literal(problem, Document),
            failure_count=count,
            next_at=store_now(session) + AGAIN_AFTER,
        )
    )


def is_overdue(session: Session) -> bool:
    """Tell whether an event that could not be routed has waited long enough."""
    return session.execute(_due(session).limit(1)).first() is not None


def bring_back(session: Session) -> int:
    """Make events that waited long enough new again; returns how many."""
    keys: Sequence[Any] = session.execute(_due(session).limit(BATCH)).all()
    for organization_id, event_id in keys:
        session.execute(
            update(EVENT)
            .where(EVENT.c.organization_id == organization_id, EVENT.c.id == event_id)
            .where(EVENT.c.state == "waiting")
            .values(state="new")
        )
    return len(keys)


def _due(session: Session) -> Any:
    waiting = text("state = 'waiting'")  # word for word as the partial index has it
    now = store_now(session)
    found = select(EVENT.c.organization_id, EVENT.c.id).where(waiting, EVENT.c.next_at <= now)
    return found.order_by(EVENT.c.next_at)
