"""Events: the one door where every fact enters the hub, and the looks back at what came in."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from kernel import clock, documents, queue
from kernel.errors import N_, Conflict
from kernel.ids import new_id
from kernel.rows import Rows, insert_together
from kernel.tenancy import find
from webhooks.errors import Archived
from webhooks.tables import DELIVERY, EVENT, Delivery, Event

TASK = "webhooks.drain"
# A rejected event must not stand in the way of the same event sent again in good order.
_ASIDE = "rejected:"
_KEY_LENGTH = 300


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact that is not stored yet; `body` is the JSON of its data, exactly as it came."""

    type: str
    body: bytes
    version: int | None = None
    subject: str | None = None
    dedupe_key: str | None = None  # None: nothing identifies it, so it is always new
    occurred_at: datetime | None = None  # None: now
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    problem: dict[str, Any] | None = None  # set: stored as rejected, with what is wrong


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the door answers for one NewEvent: the id of its row, old or new."""

    id: str
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """Events that came in together for one organization."""

    organization_id: str
    source_id: str | None
    events: Sequence[NewEvent]
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Something an event caused elsewhere in the hub, for its page."""

    label: str
    href: str
    state: str
    at: datetime | None = None


# Who else can tell where an event went: called with session, organization id and event id.
# Filled by the composition root.
TRACES: list[Callable[[Session, str, str], list[Trace]]] = []


def accept(
    session: Session,
    organization_id: str,
    source_id: str | None,
    events: Sequence[NewEvent],
    origin: str | None = None,
) -> list[Accepted]:
    """Store events that are not known yet and give one Accepted each, in order.

    `origin` scopes the dedupe keys: the source by default, else e.g. a connection id or "api".
    """
    return accept_all(session, [Arrival(organization_id, source_id, events, origin)])[0]


def accept_all(session: Session, arrivals: Sequence[Arrival]) -> list[list[Accepted]]:
    """Store several arrivals, also of several organizations, with one statement."""
    letters = rows_of(arrivals, "new")
    stored = as_rows(letters)
    inserted = set(insert_together(session.connection(), [stored]))
    if any(row["id"] in inserted and row["state"] == "new" for row in stored.rows):
        queue.nudge(session, TASK)
    return answers(session, letters, inserted)


def rows_of(arrivals: Sequence[Arrival], state: str) -> list[list[dict[str, Any]]]:
    """Return the rows of each arrival's events, the good ones in that state."""
    now = clock.now()
    return [
        [
            _row(
                arrival.organization_id,
                arrival.source_id,
                arrival.origin or arrival.source_id or "api",
                event,
                now,
                state,
            )
            for event in arrival.events
        ]
        for arrival in arrivals
    ]


def as_rows(letters: Sequence[Sequence[dict[str, Any]]]) -> Rows:
    """Put the rows of several arrivals together; what is known by its dedupe key stays out."""
    rows = [row for some in letters for row in some]
    # one order for everybody, so that two batches with the same keys cannot lock each other out
    rows.sort(key=_key)
    return Rows(EVENT, rows, ("organization_id", "origin", "dedupe_key"))


def answers(
    session: Session, letters: Sequence[Sequence[dict[str, Any]]], inserted: Collection[str]
) -> list[list[Accepted]]:
    """Say for each arrival what became of its events: stored, or known before."""
    old = [row for some in letters for row in some if row["id"] not in inserted]
    known = _ids_of(session, old)
    return [
        [
            Accepted(row["id"], is_duplicate=False)
            if row["id"] in inserted
            else Accepted(known[_key(row)], is_duplicate=True)
            for row in some
        ]
        for some in letters
    ]


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["organization_id"], row["origin"], row["dedupe_key"]


def _ids_of(session: Session, rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], str]:
    """Find the rows that were there before, by their dedupe keys."""
    if not rows:
        return {}
    columns = (EVENT.c.organization_id, EVENT.c.origin, EVENT.c.dedupe_key)
    found = session.execute(
        select(*columns, EVENT.c.id).where(
            EVENT.c.organization_id.in_({row["organization_id"] for row in rows}),
            EVENT.c.origin.in_({row["origin"] for row in rows}),
            EVENT.c.dedupe_key.in_({row["dedupe_key"] for row in rows}),
        )
    )
    return {(row[0], row[1], row[2]): row[3] for row in found}


def known(session: Session, organization_id: str, origin: str, keys: Sequence[str]) -> set[str]:
    """Return which of these dedupe keys came before, in good order or not."""
    if not keys:
        return set()
    looked_for = {key[:_KEY_LENGTH]: key for key in keys}
    looked_for |= {(_ASIDE + key)[:_KEY_LENGTH]: key for key in keys}
    found = session.execute(
        select(EVENT.c.dedupe_key).where(
            EVENT.c.organization_id == organization_id,
            EVENT.c.origin == origin,
            EVENT.c.dedupe_key.in_(looked_for),
        )
    )
    return {looked_for[row[0]] for row in found}


def _row(
    organization_id: str,
    source_id: str | None,
    origin: str,
    event: NewEvent,
    now: datetime,
    good: str,
) -> dict[str, Any]:
    event_id = new_id("evt")
    key = event.dedupe_key or event_id
    if event.problem is not None:
        key = _ASIDE + key
    return {
        "organization_id": organization_id,
        "id": event_id,
        "created_at": now,
        "source_id": source_id,
        "origin": origin,
        "type": event.type,
        "version": event.version,
        "subject": event.subject[:500] if event.subject else None,
        "dedupe_key": key[:_KEY_LENGTH],
        "occurred_at": event.occurred_at or now,
        "received_at": now,
        "content_type": event.content_type[:200],
        "headers": event.headers,
        "body": event.body,
        "state": good if event.problem is None else "rejected",
        "problem": event.problem,
        "replay_nonce": "",
        "failure_count": 0,
    }


def emit_domain(
    session: Session,
    organization_id: str,
    event_type: str,
    data: dict[str, Any],
    subject: str | None = None,
) -> str:
    """Take a domain event of the hub itself in; the door behind kernel.outbox."""
    event = NewEvent(type=event_type, body=documents.dump(data), subject=subject)
    return accept(session, organization_id, None, [event], origin="hub")[0].id


def listing(
    organization_id: str,
    *,
    state: str | None = None,
    event_type: str | None = None,
    source_id: str | None = None,
    subject: str | None = None,
) -> Any:
    """Select the organization's events that fit every given filter, for a page of them."""
    # what left for the archive is listed there
    statement = Event.of(organization_id).where(EVENT.c.state != "archived")
    if state:
        states = ("new", "waiting") if state == "new" else (state,)
        statement = statement.where(EVENT.c.state.in_(states))
    if event_type:
        statement = (
            statement.where(EVENT.c.type.startswith(event_type[:-1], autoescape=True))
            if event_type.endswith("*")
            else statement.where(EVENT.c.type == event_type)
        )
    if source_id:
        statement = statement.where(EVENT.c.source_id == source_id)
    if subject:
        statement = statement.where(EVENT.c.subject == subject)
    return statement


def get(session: Session, organization_id: str, event_id: str) -> Event:
    """Return the organization's event; raises NotFound, and Archived for one in the archive."""
    event = find(session, Event, organization_id, event_id)
    if event.state == "archived":
        raise Archived
    return event


def deliveries_of(session: Session, organization_id: str, event_id: str) -> list[Delivery]:
    """Return where the event went, oldest first."""
    statement = Delivery.of(organization_id).where(DELIVERY.c.event_id == event_id)
    return list(session.execute(statement.order_by(DELIVERY.c.id)).scalars())


def replay(session: Session, organization_id: str, event_id: str) -> Event:
    """Route a stored event once more: new deliveries and runs, under the same event id.

    Raises Conflict while it is still on its way or when it was rejected.
    """
    event = get(session, organization_id, event_id)
    if event.state not in {"routed", "quarantined"}:
        raise Conflict(detail=N_("Only an event that was passed on or set aside can be repeated"))
    _set_ready(session, event, replay_nonce=new_id("rpl"))
    return event


def reconsider(session: Session, event: Event, problem: dict[str, Any] | None) -> Event:
    """Let a rejected event in, or renew what is said about it when `problem` is still set.

    Raises Conflict when the same event came in again in good order meanwhile.
    """
    if event.state != "rejected":
        raise Conflict(detail=N_("Only a rejected event can be checked again"))
    if problem is not None:
        event.problem = problem
        return event
    key = event.dedupe_key.removeprefix(_ASIDE)
    twin = session.execute(
        select(EVENT.c.id).where(
            EVENT.c.organization_id == event.organization_id,
            EVENT.c.origin == event.origin,
            EVENT.c.dedupe_key == key,
        )
    ).scalar_one_or_none()
    if twin is not None:
        raise Conflict(
            detail=N_("The sender sent it again in good order: it is event %(event)s"), event=twin
        )
    event.dedupe_key = key
    event.problem = None
    _set_ready(session, event, replay_nonce=event.replay_nonce)
    return event


def _set_ready(session: Session, event: Event, replay_nonce: str) -> None:
    """Hand the event to the next drain; refuses when somebody else just did."""
    changed = session.execute(
        update(EVENT)
        .where(
            EVENT.c.organization_id == event.organization_id,
            EVENT.c.id == event.id,
            EVENT.c.state == event.state,
        )
        .values(
            state="new",
            replay_nonce=replay_nonce,
            failure_count=0,
            problem=None,
            dedupe_key=event.dedupe_key,
        )
        .returning(EVENT.c.id)
    ).all()
    if not changed:
        raise Conflict
    session.refresh(event)
    queue.nudge(session, TASK)
