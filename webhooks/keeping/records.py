"""Records: an event with everything that hangs on it, taken out of the tables or written down.

What other packages hang on events joins through FOLLOWERS, filled by the composition root.
"""

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlmodel import Session

from kernel import documents
from webhooks.keeping import rules
from webhooks.tables import ATTEMPT, DELIVERY, EVENT

STATES = ("routed", "rejected", "quarantined")  # of an event that has come to rest
_MOVING = ("due", "leased", "waiting")
_TIMES = ("occurred_at", "received_at", "created_at")
# Only a restored event's row is so much younger than the event.
_RESTORED = timedelta(hours=12)
_BATCH = 100
# What is left of a try's details when their time is over.
ATTEMPT_BARE: dict[str, Any] = {
    "request_headers": {},
    "response_headers": {},
    "response_body": b"",
}


@dataclass(slots=True)
class Standing:
    """How far what hangs on an event has come; `prints` change with every move."""

    is_moving: bool = False
    is_parked: bool = False
    prints: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, state: str, *row: Any) -> None:
        """Take one more row into account."""
        self.is_moving |= state in _MOVING
        self.is_parked |= state == "parked"
        self.prints.append((state, *row))


Standings = dict[str, Standing]
Rows = dict[str, list[dict[str, Any]]]  # event id → what hangs on it


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Whose details go: of what came to rest before `before`, by a rule of so many days."""

    before: datetime
    now: datetime
    days: int
    most: int  # rows at once


@dataclass(frozen=True)
class Follower:
    """Rows of another package that go where their events go.

    `look` adds to the standings and locks the rows when told to, `collect` reads them whole,
    `drop` deletes them and returns how many; `columns` are those a table for people has.

    `forget` takes the details of at most so many rows away that came to rest before a moment,
    notes that they were kept for so many days, and returns how many rows that were; `bare` does
    the same to a collected row.
    """

    name: str
    look: Callable[[Session, str, Sequence[str], Standings, bool], None]
    collect: Callable[[Session, str, Sequence[str]], Rows]
    drop: Callable[[Session, str, Sequence[str]], int]
    columns: Sequence[str]
    forget: Callable[[Session, str, Forgetting], int]
    bare: Callable[[dict[str, Any], Forgetting], None]


FOLLOWERS: list[Follower] = []


def standings(
    session: Session, organization_id: str, ids: Sequence[str], *, lock: bool = False
) -> Standings:
    """Tell of each event, and of all that hangs on it, where it stands; `lock` holds it there."""
    found: Standings = {}
    for some in _batches(ids):
        wanted = select(EVENT.c.id, EVENT.c.state, EVENT.c.replay_nonce, EVENT.c.failure_count)
        rows = wanted.where(EVENT.c.organization_id == organization_id, EVENT.c.id.in_(some))
        for row in session.execute(_held(rows.order_by(EVENT.c.id), lock)):
            standing = found.setdefault(row.id, Standing())
            standing.prints.append(tuple(row))
            standing.is_moving = row.state not in STATES
            standing.is_parked = row.state == "quarantined"
        _look_at_deliveries(session, organization_id, some, found, lock)
        for follower in FOLLOWERS:
            follower.look(session, organization_id, some, found, lock)
    return found


def _held(wanted: Any, lock: bool) -> Any:  # noqa: FBT001
    return wanted.with_for_update() if lock else wanted


def _look_at_deliveries(
    session: Session,
    organization_id: str,
    ids: Sequence[str],
    found: Standings,
    lock: bool,  # noqa: FBT001
) -> None:
    wanted = select(
        DELIVERY.c.event_id, DELIVERY.c.state, DELIVERY.c.id, DELIVERY.c.attempt_count,
        DELIVERY.c.lease_epoch, DELIVERY.c.crash_count,
    )  # fmt: skip
    mine = wanted.where(DELIVERY.c.organization_id == organization_id, DELIVERY.c.event_id.in_(ids))
    for row in session.execute(_held(mine.order_by(DELIVERY.c.id), lock)):
        found[row.event_id].add(*row[1:])


def collect(session: Session, organization_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Read events with all that hangs on them, in the order of their ids, ready to be written."""
    wanted = select(EVENT).where(EVENT.c.organization_id == organization_id, EVENT.c.id.in_(ids))
    events = [dict(row) for row in session.execute(wanted.order_by(EVENT.c.id)).mappings()]
    deliveries = _deliveries(session, organization_id, ids)
    hanging = {one.name: one.collect(session, organization_id, ids) for one in FOLLOWERS}
    return [
        {
            "event": plain(event),
            "restored": event["created_at"] - event["received_at"] > _RESTORED,
            "deliveries": deliveries.get(event["id"], []),
            **{name: rows.get(event["id"], []) for name, rows in hanging.items()},
        }
        for event in events
    ]


def bare(record: dict[str, Any], forgetting: Forgetting) -> None:
    """Take out of a record what was sent and got: nobody would do it in the archive's files."""
    for delivery in record["deliveries"]:
        for attempt in delivery["attempts"]:
            attempt.update(plain(ATTEMPT_BARE))
    for follower in FOLLOWERS:
        for row in record[follower.name]:
            follower.bare(row, forgetting)


def _deliveries(session: Session, organization_id: str, ids: Sequence[str]) -> Rows:
    wanted = select(DELIVERY).where(
        DELIVERY.c.organization_id == organization_id, DELIVERY.c.event_id.in_(ids)
    )
    found: Rows = defaultdict(list)
    by_id: dict[str, dict[str, Any]] = {}
    for row in session.execute(wanted.order_by(DELIVERY.c.id)).mappings():
        by_id[row["id"]] = {**plain(dict(row)), "attempts": []}
        found[row["event_id"]].append(by_id[row["id"]])
    for some in _batches(list(by_id)):
        tries = select(ATTEMPT).where(
            ATTEMPT.c.organization_id == organization_id, ATTEMPT.c.delivery_id.in_(some)
        )
        for row in session.execute(tries.order_by(ATTEMPT.c.id)).mappings():
            by_id[row["delivery_id"]]["attempts"].append(plain(dict(row)))
    return found


def drop(session: Session, organization_id: str, ids: Sequence[str], now: datetime) -> None:
    """Delete events and all that hangs on them; keep the dedupe keys that must be remembered."""
    for some in _batches(ids):
        for follower in FOLLOWERS:
            follower.drop(session, organization_id, some)
        of_them = select(DELIVERY.c.id).where(
            DELIVERY.c.organization_id == organization_id, DELIVERY.c.event_id.in_(some)
        )
        session.execute(
            delete(ATTEMPT).where(
                ATTEMPT.c.organization_id == organization_id, ATTEMPT.c.delivery_id.in_(of_them)
            )
        )
        session.execute(
            delete(DELIVERY).where(
                DELIVERY.c.organization_id == organization_id, DELIVERY.c.event_id.in_(some)
            )
        )
        mine = (EVENT.c.organization_id == organization_id) & EVENT.c.id.in_(some)
        since = now - rules.KEYS_KEPT
        session.execute(
            update(EVENT)
            .where(mine, EVENT.c.received_at >= since)
            .values(state="archived", body=b"", headers={}, problem=None, subject=None)
        )
        session.execute(delete(EVENT).where(mine, EVENT.c.received_at < since))


def count_deliveries(records: Iterable[Mapping[str, Any]]) -> int:
    """Count the deliveries of some records."""
    return sum(len(record["deliveries"]) for record in records)


def count_runs(records: Iterable[Mapping[str, Any]]) -> int:
    """Count what of other packages hangs on some records."""
    return sum(len(record.get(one.name, ())) for record in records for one in FOLLOWERS)


# --- on paper ------------------------------------------------------------------------------------


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row into JSON: times as text, bytes as base64, all else as it is."""
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return value


def event_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's event as its row was: with bytes and times."""
    event = dict(record["event"])
    event["body"] = base64.b64decode(event["body"])
    for name in _TIMES:
        event[name] = datetime.fromisoformat(event[name])
    return event


def line(record: Mapping[str, Any]) -> bytes:
    """Write a record as one line."""
    return documents.dump(dict(record)) + b"\n"


def parse(text: bytes) -> dict[str, Any]:
    """Read a line back."""
    record: dict[str, Any] = documents.parse(text, max_bytes=1 << 28, max_depth=220)
    return record


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
