"""Completions: what people see of them, fetching again, and going along with their events."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col

from connectors.completing import claims
from connectors.completing.tables import COMPLETION, Completion
from connectors.errors import NotNow
from kernel import queue, tenancy
from kernel.database import store_now, write
from kernel.errors import N_
from webhooks import events
from webhooks.events import Trace
from webhooks.keeping.records import Follower, Forgetting, Rows, Standings, plain

_SEEN_AS = {"done": "succeeded", "dead": "parked"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the completions of a source stand."""

    waiting: int
    dead: int
    done: int


def listing(organization_id: str, *, state: str | None = None, source_id: str | None = None) -> Any:
    """Select the organization's completions, newest first by id, for a page of them."""
    statement = Completion.of(organization_id)
    if state:
        states = ("due", "waiting", "leased") if state == "waiting" else (state,)
        statement = statement.where(COMPLETION.c.state.in_(states))
    if source_id:
        statement = statement.where(COMPLETION.c.source_id == source_id)
    return statement


def find(session: Session, organization_id: str, completion_id: str) -> Completion:
    """Return one completion; a stranger's is NotFound."""
    return tenancy.find(session, Completion, organization_id, completion_id)


def standing(session: Session, organization_id: str, source_id: str) -> Standing:
    """Count a source's completions."""
    statement = (
        select(COMPLETION.c.state, func.count())
        .where(COMPLETION.c.organization_id == organization_id, COMPLETION.c.source_id == source_id)
        .group_by(COMPLETION.c.state)
    )
    counts = {row[0]: row[1] for row in session.execute(statement)}
    waiting = sum(counts.get(state, 0) for state in ("due", "waiting", "leased"))
    return Standing(waiting, counts.get("dead", 0), counts.get("done", 0))


def fetch_again(session: Session, organization_id: str, completion_id: str) -> Completion:
    """Try a completion anew that stopped, or at once one that waits; raises NotNow."""
    row = find(session, organization_id, completion_id)
    if row.state not in ("dead", "waiting"):
        raise NotNow(N_("This event is complete, or is being completed right now"))
    row.state, row.next_at, row.attempt_count, row.crash_count = "due", store_now(session), 0, 0
    row.finished_at = None
    session.add(row)
    session.flush()
    queue.nudge(session, events.TASK)
    return row


def fetch_all_again(session: Session, organization_id: str, source_id: str) -> int:
    """Try everything of a source anew that stopped; returns how many that were."""
    found: Any = session.execute(
        update(COMPLETION)
        .where(
            COMPLETION.c.organization_id == organization_id,
            COMPLETION.c.source_id == source_id,
            COMPLETION.c.state == "dead",
        )
        .values(
            state="due",
            next_at=store_now(session),
            attempt_count=0,
            crash_count=0,
            finished_at=None,
        )
    )
    if found.rowcount:
        queue.nudge(session, events.TASK)
    return int(found.rowcount)


def traces(session: Session, organization_id: str, event_id: str) -> list[Trace]:
    """Tell an event's page what was made of it."""
    statement = Completion.of(organization_id).where(col(Completion.event_id) == event_id)
    found: list[Trace] = []
    for row in session.execute(statement).scalars():
        state = _SEEN_AS.get(row.state, "waiting")
        href = f"/sources/{row.source_id}#completing"
        found.append(Trace(N_("Completed from the app"), href, state, row.finished_at))
        found += [Trace(made, f"/events/{made}", "succeeded", row.finished_at) for made in row.made]
    return found


def sweep() -> int:
    """Delete what has been done for a while; claiming itself gives leases back that ran out."""
    return write(claims.forget_old)


# --- with their events ---------------------------------------------------------------------------


def _look(
    session: Session,
    organization_id: str,
    event_ids: Sequence[str],
    found: Standings,
    lock: bool,  # noqa: FBT001
) -> None:
    wanted = select(
        COMPLETION.c.event_id, COMPLETION.c.state, COMPLETION.c.id, COMPLETION.c.lease_epoch
    ).where(claims.of_events(organization_id, event_ids))
    held = wanted.order_by(COMPLETION.c.id)
    for row in session.execute(held.with_for_update() if lock else held):
        state = "parked" if row.state == "dead" else row.state
        found[row.event_id].add(state, *row[2:])


def _collect(session: Session, organization_id: str, event_ids: Sequence[str]) -> Rows:
    found: Rows = defaultdict(list)
    wanted = select(COMPLETION).where(claims.of_events(organization_id, event_ids))
    for row in session.execute(wanted.order_by(COMPLETION.c.id)).mappings():
        found[row["event_id"]].append(plain(dict(row)))
    return found


def _drop(session: Session, organization_id: str, event_ids: Sequence[str]) -> int:
    gone: Any = session.execute(
        delete(COMPLETION).where(claims.of_events(organization_id, event_ids))
    )
    return int(gone.rowcount)


def _forget(session: Session, organization_id: str, forgetting: Forgetting) -> int:  # noqa: ARG001
    return 0  # they hold no details of their own, only words about what stopped


def _bare(row: dict[str, Any], forgetting: Forgetting) -> None:  # noqa: ARG001
    if row.get("problem"):
        row["problem"] = {**row["problem"], "detail": None}


COLUMNS = ("id", "state", "created_at", "finished_at")
FOLLOWER = Follower("completions", _look, _collect, _drop, COLUMNS, _forget, _bare)
