"""Waits: who waits for an event, what has arrived, and how they find each other.

Both sides write first and look afterwards, each in a commit of its own: a run writes down that it
waits and then looks for what has arrived; an event's arrival is stored along with it, and then
whoever waits is woken. So one of the two always sees the other, whatever happens at once.
Looks over every organization: the sweep wakes what a lost process left asleep.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlmodel import Session, col

from connectors import flow_trees
from connectors.keys import Key
from connectors.moving import Deed, Moving
from connectors.resting import matching
from connectors.resting.tables import ARRIVAL, AWAITED, WAIT, AwaitedType
from connectors.seen import seen_as
from connectors.tables import RUN, Run
from kernel import ids, queue
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import Problem
from kernel.rows import insert_ignore, insert_rows
from webhooks.events import TASK
from webhooks.tables import EVENT

MOST_SEEN = 50  # arrivals of one correlation that a run looks at, the latest
WOKEN_AT_ONCE = 200
TOLD_AT_ONCE = 100
_SEEN = ("id", "type", "version", "subject", "occurred_at", "origin", "body")


# --- which types are awaited ---------------------------------------------------------------------


def listen(session: Session, organization_id: str, flow_id: str, document: Any) -> None:
    """From now on note the events that a flow's new version waits for.

    Those of earlier versions are noted as long as the flow is there: runs of theirs may wait.
    """
    now = store_now(session)
    wanted = {
        (place.step["event_type"], str(place.step["match"]["path"]).strip())
        for place in flow_trees.walk(document)
        if place.step["kind"] == "wait"
    }
    rows = [
        {
            "organization_id": organization_id,
            "id": ids.new_id("awt"),
            "created_at": now,
            "flow_id": flow_id,
            "event_type": event_type,
            "path": path,
        }
        for event_type, path in sorted(wanted)
    ]
    if rows:
        unique = ("organization_id", "event_type", "path", "flow_id")
        insert_ignore(session, AwaitedType, rows, unique)


def forget_flow(session: Session, organization_id: str, flow_id: str) -> None:
    """Nobody waits in this flow any more: it was put away."""
    for table in (AWAITED, WAIT):
        mine = table.c.organization_id == organization_id
        session.execute(delete(table).where(mine, table.c.flow_id == flow_id))


def arrivals(
    event: Any, awaited: Iterable[tuple[str, str]], now: datetime, environment: str = "live"
) -> list[dict[str, Any]]:
    """Return the rows of an event's arrival; `awaited` are (type, path), of this type or others."""
    paths = sorted({path for event_type, path in awaited if event_type == event.type})
    if not paths:
        return []
    try:
        seen = seen_as(event)
    except Problem:
        return []  # its body cannot be read, so nothing of it can be compared
    found = []
    for path in paths:
        match_hash = matching.hash_of(event.type, path, matching.read(path, seen), environment)
        if match_hash is not None:
            found.append(
                {
                    "organization_id": event.organization_id,
                    "id": ids.new_id("arr"),
                    "created_at": now,
                    "event_id": event.id,
                    "event_type": event.type,
                    "match_hash": match_hash,
                    "state": "new",
                }
            )
    return found


# --- the run's side: deeds -----------------------------------------------------------------------


def begin(session: Session, moving: Moving, deed: Deed) -> bool:
    """Write down that a run waits."""
    row = {
        "organization_id": moving.organization_id,
        "id": deed.given["wait_id"],
        "created_at": store_now(session),
        "flow_id": moving.flow_id,
        "run_id": moving.id,
        "position": moving.position,
        "event_type": deed.given["event_type"],
        "match_hash": deed.given["match_hash"],
        "until": deed.given["until"],
    }
    insert_rows(session.connection(), WAIT, [row])
    queue.nudge(session, TASK)
    return True


def look(session: Session, moving: Moving, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what has arrived for a run that waits, the earliest first, as expressions see it."""
    wanted = (
        select(*[EVENT.c[name] for name in _SEEN])
        .join(
            ARRIVAL,
            (ARRIVAL.c.organization_id == EVENT.c.organization_id)
            & (ARRIVAL.c.event_id == EVENT.c.id),
        )
        .where(
            ARRIVAL.c.organization_id == moving.organization_id,
            ARRIVAL.c.match_hash == known["match"],
            ARRIVAL.c.event_id != moving.event_id,
        )
    )
    if moving.step.settings.get("since") == "step":
        wanted = wanted.where(ARRIVAL.c.created_at >= datetime.fromisoformat(known["since"]))
    else:
        # ids of events tell their order; whatever came behind the run's own event counts
        wanted = wanted.where(ARRIVAL.c.event_id > moving.event_id)
    latest = wanted.order_by(ARRIVAL.c.event_id.desc()).limit(MOST_SEEN)
    rows = {row.id: row for row in session.connection().execute(latest)}
    found = []
    for _, row in sorted(rows.items()):
        try:
            found.append(seen_as(row))
        except Problem:
            continue
    return found


def end(session: Session, moving: Moving, deed: Deed) -> bool:
    """Take back that a run waits."""
    mine = WAIT.c.organization_id == moving.organization_id
    session.execute(delete(WAIT).where(mine, WAIT.c.id == deed.given["wait_id"]))
    return True


def withdraw(session: Session, organization_id: str, run_ids: Collection[str]) -> None:
    """Take back what runs that were ended still wait for."""
    mine = WAIT.c.organization_id == organization_id
    session.execute(delete(WAIT).where(mine, WAIT.c.run_id.in_(list(run_ids))))


# --- the event's side ----------------------------------------------------------------------------


def tell(fresh: Sequence[Mapping[str, Any]]) -> int:
    """Wake the runs that wait for these arrivals, after they were committed; returns how many."""
    return sum(_tell((row["organization_id"], row["id"]), row["match_hash"]) for row in fresh)


def sweep() -> int:
    """Tell of arrivals that whoever stored them did not tell of."""
    with reading(EVERY) as session:
        wanted = select(ARRIVAL.c.organization_id, ARRIVAL.c.id, ARRIVAL.c.match_hash)
        wanted = wanted.where(text("event_arrival.state = 'new'"))
        rows = session.execute(wanted.order_by(ARRIVAL.c.created_at).limit(TOLD_AT_ONCE)).all()
    return sum(_tell((row[0], row[1]), row[2]) for row in rows)


def _tell(key: Key, match_hash: str) -> int:
    count, after = 0, ""
    while True:
        some = write(partial(_wake, owner=key[0], match_hash=match_hash, after=after))
        count += len(some)
        if len(some) < WOKEN_AT_ONCE:
            break
        after = some[-1]
    write(partial(_note_told, key=key))
    return count


def _note_told(session: Session, key: Key) -> None:
    mine = (ARRIVAL.c.organization_id == key[0]) & (ARRIVAL.c.id == key[1])
    session.execute(update(ARRIVAL).where(mine).values(state="told"))


def _wake(session: Session, owner: str, match_hash: str, after: str) -> list[str]:
    """Let some of those who wait look; returns the ids of their waits."""
    wanted = select(WAIT.c.id, WAIT.c.run_id, WAIT.c.position).where(
        WAIT.c.organization_id == owner, WAIT.c.match_hash == match_hash, WAIT.c.id > after
    )
    found = session.execute(wanted.order_by(WAIT.c.id).limit(WOKEN_AT_ONCE)).all()
    if found:
        places: dict[int, list[str]] = {}
        for row in found:
            places.setdefault(row.position, []).append(row.run_id)
        woken = [wake_at(session, owner, run_ids, at) for at, run_ids in sorted(places.items())]
        if any(woken):
            queue.nudge(session, TASK)
    return [row.id for row in found]


def wake_at(session: Session, organization_id: str, run_ids: list[str], position: int) -> int:
    """Let runs go on that rest at a position; returns how many.

    Whoever has a lease on one meanwhile has only looked and found nothing: it never goes past such
    a step before that is written down. So the lease is taken away, and it looks again.
    """
    now = store_now(session)
    changed: Any = session.execute(
        update(Run)
        .where(
            col(Run.organization_id) == organization_id,
            col(Run.id).in_(sorted(run_ids)),
            col(Run.state).in_(("waiting", "due", "leased")),
            col(Run.next_step) == position,
        )
        .values(
            state="due",
            next_at=now,
            cause=None,
            say=None,
            detail=None,
            lease_owner=None,
            lease_until=None,
            lease_epoch=col(Run.lease_epoch) + 1,
        )
        .execution_options(synchronize_session=False)
    )
    return int(changed.rowcount)


# --- keeping -------------------------------------------------------------------------------------


def drop(session: Session, organization_id: str, event_ids: Sequence[str]) -> None:
    """Delete the arrivals of some events, and what their runs wait for."""
    mine = ARRIVAL.c.organization_id == organization_id
    session.execute(delete(ARRIVAL).where(mine, ARRIVAL.c.event_id.in_(list(event_ids))))
    runs = select(RUN.c.id).where(
        RUN.c.organization_id == organization_id, RUN.c.event_id.in_(list(event_ids))
    )
    waiting = WAIT.c.organization_id == organization_id
    session.execute(delete(WAIT).where(waiting, WAIT.c.run_id.in_(runs)))
