"""Order lanes: runs of a flow whose events have the same value under its order key go one by one.

Only the head of a lane, the first by event that has not come to its end, has a time or a lease;
those behind it wait without one. A head that waits for its retry holds them, and so does one that
is parked, until its owner retries or skips it. Whoever ends one lets the next go in the same
commit. One that has begun is not passed by an earlier event that came late: that goes next.

Whoever adds to a lane, takes from it or lets its next one go has locked the flow's row first.
Claiming needs no such lock, as a lane never has two that may be claimed.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlmodel import Session, col

from connectors import order_keys
from connectors.errors import NotNow
from connectors.keys import Key
from connectors.tables import RUN, Flow, Run
from kernel import documents
from kernel.columns import Moment, one_of
from kernel.database import store_now
from kernel.errors import N_
from webhooks.ready import ReadyEvent
from webhooks.tables import EVENT

Lane = tuple[str, str, str]  # organization, flow, value of the order key
MOST_MOVED = 2_000  # runs that are put on other lanes by what their events hold
COUNTED = 1_000

# word for word as the partial indexes have them
_OPEN = "order_key IS NOT NULL AND state IN ('due', 'waiting', 'leased', 'parked')"
_BUSY = "order_key IS NOT NULL AND (state = 'leased' OR next_at IS NOT NULL)"
_IN_LANE = "organization_id = given.tenant AND flow_id = given.flow AND order_key = given.value"
_HEAD = f"FROM run WHERE {_IN_LANE} AND {_OPEN} ORDER BY event_id, id LIMIT 1"
_GIVEN = {
    "postgresql": "unnest(CAST(:tenants AS text[]), CAST(:flows AS text[]),"
    " CAST(:values AS text[])) AS given(tenant, flow, value)",
    "sqlite": "(SELECT json_extract(one.value, '$[0]') AS tenant, json_extract(one.value, '$[1]')"
    " AS flow, json_extract(one.value, '$[2]') AS value FROM json_each(:lanes) AS one) AS given",
}
# Runs are named by a list that is worked out first, and what else is asked of them is written so
# that no other index answers it: without statistics PostgreSQL would read all that wait.
_STATE = {"postgresql": "state || ''", "sqlite": "state"}
_AMONG = {
    "postgresql": "organization_id = ANY(CAST(:owners AS text[])) AND id = ANY(ARRAY({}))",
    "sqlite": "organization_id IN (SELECT value FROM json_each(:owners)) AND id IN ({})",
}


def _statement(dialect: str, change: str, which: str) -> Any:
    among_these = _AMONG[dialect].format(which.format(given=_GIVEN[dialect]))
    change = change.format(state=_STATE[dialect])
    return text(f"UPDATE run {change} AND {among_these} RETURNING organization_id, id")


# Takes the time from what has not begun and is not the head: something came in front of it.
_DEMOTE = {
    dialect: _statement(
        dialect,
        "SET state = 'waiting', next_at = NULL"
        " WHERE {state} IN ('due', 'waiting') AND started_at IS NULL",
        "SELECT early.id FROM {given}, run AS early WHERE early.organization_id = given.tenant"  # noqa: S608
        " AND early.flow_id = given.flow AND early.order_key = given.value"
        " AND early.order_key IS NOT NULL AND (early.state = 'leased' OR early.next_at IS NOT NULL)"
        f" AND early.id <> (SELECT id {_HEAD})",
    )
    for dialect in _GIVEN
}
# Gives the head a time, unless it has one or another of its lane is at work.
_PROMOTE = {
    dialect: _statement(
        dialect,
        "SET state = 'due', next_at = :now WHERE {state} = 'waiting'",
        f"SELECT (SELECT id {_HEAD}) FROM {{given}}"  # noqa: S608
        f" WHERE NOT EXISTS (SELECT 1 FROM run WHERE {_IN_LANE} AND {_BUSY})",
    ).bindparams(bindparam("now", type_=Moment))
    for dialect in _GIVEN
}
_FRONTS = {
    dialect: text(
        f"SELECT given.tenant, given.flow, given.value, (SELECT event_id {_HEAD}) FROM {given}"  # noqa: S608 - our own words
    )
    for dialect, given in _GIVEN.items()
}


def _given(session: Session, lanes: Iterable[Lane]) -> tuple[str, dict[str, Any]]:
    """Return the database's name and lanes as its statements take them."""
    dialect = session.get_bind().dialect.name
    chosen = sorted(set(lanes))
    if dialect == "sqlite":
        return dialect, {"lanes": documents.dump(chosen).decode()}
    names = ("tenants", "flows", "values")
    return dialect, {name: [lane[n] for lane in chosen] for n, name in enumerate(names)}


def _owners(dialect: str, lanes: Iterable[Lane]) -> Any:
    owners = sorted({lane[0] for lane in lanes})
    return documents.dump(owners).decode() if dialect == "sqlite" else owners


_FLOWS = (
    select(
        col(Flow.organization_id),
        col(Flow.id),
        col(Flow.state),
        col(Flow.published_version),
        col(Flow.lane),
        col(Flow.order_key),
        col(Flow.listens_to),
        col(Flow.listens_version),
        col(Flow.listens_source_id),
        col(Flow.listens_connection_id),
        col(Flow.deleted_at),
    )
    .where(one_of(Flow.organization_id, "tenants"), one_of(Flow.id, "ids"))
    .order_by(col(Flow.organization_id), col(Flow.id))
    .with_for_update(key_share=True)
)


def lock(session: Session, flows: Collection[Key]) -> dict[Key, Any]:
    """Lock flows, and return them as they are now; nobody else changes their lanes before the
    commit. New versions, which only refer to the row, need not wait.
    """
    if not flows:
        return {}
    wanted = {"tenants": sorted({key[0] for key in flows}), "ids": sorted({k[1] for k in flows})}
    rows = session.connection().execute(_FLOWS, wanted)
    return {(row.organization_id, row.id): row for row in rows}


def settle(session: Session, lanes: Iterable[Lane]) -> list[Key]:
    """Give the heads of lanes of locked flows a time where nothing else of the lane is at work.

    Returns the keys of the runs that may be claimed now and could not before.
    """
    chosen = set(lanes)
    if not chosen:
        return []
    dialect, given = _given(session, chosen)
    given["owners"] = _owners(dialect, chosen)
    connection = session.connection()
    connection.execute(_DEMOTE[dialect], given)
    now = {"now": store_now(session)}
    return [(row[0], row[1]) for row in connection.execute(_PROMOTE[dialect], given | now)]


_OLDEST_NEW = select(EVENT.c.organization_id, func.min(EVENT.c.id)).where(
    one_of(EVENT.c.organization_id, "tenants"), text("event.state = 'new'")
)
_OLDEST_NEW = _OLDEST_NEW.group_by(EVENT.c.organization_id)


@dataclass(slots=True)
class LinedUp:
    """What is to be known of new runs when they go in."""

    behind: set[Lane] = field(default_factory=set)  # lanes whose first has one in front already
    blocked: set[str] = field(default_factory=set)  # heads that would pass an event not yet routed


def line_up(session: Session, pairs: Sequence[tuple[dict[str, Any], ReadyEvent]]) -> LinedUp:
    """Let new runs of locked flows wait that are not the first of their lane.

    `pairs` are in the order of their events; their rows are changed.
    """
    # the look for new events comes first: what their router wrote is then seen, or they are
    rows = session.connection().execute(
        _OLDEST_NEW, {"tenants": sorted({row["organization_id"] for row, _ in pairs})}
    )
    oldest = {row[0]: row[1] for row in rows}
    dialect, given = _given(session, {lane_of(row) for row, _ in pairs})
    fronts = {
        (row[0], row[1], row[2]): row[3]
        for row in session.connection().execute(_FRONTS[dialect], given)
    }
    seen: set[Lane] = set()
    found = LinedUp()
    for row, event in pairs:
        lane = lane_of(row)
        front = fronts[lane]
        if lane in seen or front is not None:
            row.update(state="waiting", next_at=None)
        elif event.id > oldest.get(event.organization_id, event.id):
            found.blocked.add(row["id"])
        if lane not in seen and front is not None and front < event.id:
            found.behind.add(lane)
        seen.add(lane)
    return found


def lane_of(row: Any) -> Lane:
    """Return the lane of a run's row."""
    return row["organization_id"], row["flow_id"], row["order_key"]


# --- another order -------------------------------------------------------------------------------

_ALL_HEADS = text(
    "UPDATE run SET state = 'due', next_at = :now WHERE organization_id = :tenant AND id IN ("  # noqa: S608
    "SELECT id FROM (SELECT id, state, next_at,"
    " row_number() OVER (PARTITION BY order_key ORDER BY event_id, id) AS place,"
    " max(CASE WHEN state = 'leased' OR next_at IS NOT NULL THEN 1 ELSE 0 END)"
    " OVER (PARTITION BY order_key) AS is_busy"
    f" FROM run WHERE organization_id = :tenant AND flow_id = :flow AND {_OPEN}) AS ranked"
    " WHERE place = 1 AND is_busy = 0 AND state = 'waiting' AND next_at IS NULL)"
).bindparams(bindparam("now", type_=Moment))
_LEAVE = text(
    "UPDATE run SET order_key = NULL,"  # noqa: S608
    " next_at = CASE WHEN state = 'waiting' AND next_at IS NULL THEN :now ELSE next_at END,"
    " state = CASE WHEN state = 'waiting' AND next_at IS NULL THEN 'due' ELSE state END"
    f" WHERE organization_id = :tenant AND flow_id = :flow AND {_OPEN}"
).bindparams(bindparam("now", type_=Moment))
_JOIN = (
    "UPDATE run SET order_key = {value},"
    " next_at = CASE WHEN state IN ('due', 'waiting') THEN NULL ELSE next_at END,"
    " state = CASE WHEN state = 'due' THEN 'waiting' ELSE state END"
    " WHERE organization_id = :tenant AND {which}"
    " AND (state IN ('due', 'waiting', 'leased') OR state = 'parked' AND order_key IS NOT NULL)"
)
_JOIN_ALL = text(
    _JOIN.format(
        value="CASE WHEN :by_subject THEN COALESCE((SELECT event.subject FROM event"
        " WHERE event.organization_id = run.organization_id AND event.id = run.event_id), '')"
        " ELSE '' END",
        which="flow_id = :flow",
    )
)
_JOIN_ONE = text(_JOIN.format(value=":value", which="id = :id"))


def let_heads_go(session: Session, organization_id: str, flow_id: str) -> int:
    """Give the heads of all lanes of a locked flow a time where they wait without; how many."""
    named = {"tenant": organization_id, "flow": flow_id, "now": store_now(session)}
    return int(session.connection().execute(_ALL_HEADS, named).rowcount)


def follow(session: Session, flow: Flow, before: str | None) -> bool:
    """Put the unfinished runs of a locked flow on the lanes of its new order key, if it is one.

    What is at work goes on; the others go on by their events' order. What was parked while there
    was no order holds nobody. Tells whether anything may have been let go. Raises NotNow when so
    many runs wait that their events would take too long to read.
    """
    if flow.order_key == before:
        return False
    named = {"tenant": flow.organization_id, "flow": flow.id}
    connection = session.connection()
    if flow.order_key is None:
        connection.execute(_LEAVE, named | {"now": store_now(session)})
        return True
    if flow.order_key in order_keys.WORDS:
        by_subject = flow.order_key == order_keys.SUBJECT
        connection.execute(_JOIN_ALL, named | {"by_subject": by_subject})
    else:
        moved = _read_values(session, flow)
        if moved:
            connection.execute(_JOIN_ONE, moved)
    let_heads_go(session, flow.organization_id, flow.id)
    return True


def _read_values(session: Session, flow: Flow) -> list[dict[str, Any]]:
    """Read what the events of a flow's unfinished runs have under its order key."""
    owner = flow.organization_id
    unfinished = (
        RUN.c.organization_id == owner,
        RUN.c.flow_id == flow.id,
        RUN.c.state.in_(("due", "waiting", "leased", "parked")),
    )
    waiting = select(RUN.c.id, RUN.c.event_id).where(*unfinished).limit(MOST_MOVED + 1)
    runs = session.connection().execute(waiting).all()
    if len(runs) > MOST_MOVED:
        raise NotNow(
            N_("More than %(count)s runs of this flow are not finished"),
            N_("Their order can be changed when fewer wait. Nothing was changed."),
            count=MOST_MOVED,
        )
    found = []
    for start in range(0, len(runs), _READ_AT_ONCE):
        some = runs[start : start + _READ_AT_ONCE]
        events = _seen(session, owner, [event_id for _, event_id in some])
        for run_id, event_id in some:
            event = events.get(event_id)
            value = order_keys.value_of(str(flow.order_key), event) if event else ""
            found.append({"tenant": owner, "id": run_id, "value": value})
    return found


_READ_AT_ONCE = 50
_SEEN = ("id", "type", "version", "subject", "occurred_at", "origin", "body")


def _seen(session: Session, organization_id: str, event_ids: Sequence[str]) -> dict[str, Any]:
    """Read events as order keys see them, by id."""
    rows = select(*[EVENT.c[name] for name in _SEEN]).where(
        EVENT.c.organization_id == organization_id, EVENT.c.id.in_(event_ids)
    )
    return {row.id: row for row in session.connection().execute(rows)}


def wait_in_turn(session: Session, run: Run, order_key: str | None) -> None:
    """Put a run of a locked flow with an order on its lane, before it is settled."""
    if order_key is None:
        return
    if run.order_key is None:
        event = _seen(session, run.organization_id, [run.event_id]).get(run.event_id)
        run.order_key = order_keys.value_of(order_key, event) if event else ""
    run.state, run.next_at = "waiting", None


# --- looks ---------------------------------------------------------------------------------------


def in_front(session: Session, run: Run) -> Run | None:
    """Return the run that another one waits for; None when it waits for none."""
    if run.order_key is None or run.state != "waiting" or run.next_at is not None:
        return None
    mine = _open_in_lane(run).where(col(Run.id) != run.id)
    busy = mine.where(text(_BUSY)).order_by(col(Run.event_id)).limit(1)
    found: Run | None = session.execute(busy).scalar_one_or_none()
    if found is None:
        first = mine.order_by(col(Run.event_id), col(Run.id)).limit(1)
        found = session.execute(first).scalar_one_or_none()
    return found


def count_behind(session: Session, run: Run) -> int:
    """Count the runs that wait for this one, up to a bound; 0 for one that holds nobody."""
    if run.order_key is None or run.state not in ("due", "leased", "waiting", "parked"):
        return 0
    held = text("state = 'waiting' AND next_at IS NULL")
    mine = _open_in_lane(run).where(held, col(Run.id) != run.id, col(Run.event_id) >= run.event_id)
    counted = select(func.count()).select_from(mine.limit(COUNTED).subquery())
    return int(session.execute(counted).scalar_one())


def _open_in_lane(run: Run) -> Any:
    return Run.of(run.organization_id).where(
        col(Run.flow_id) == run.flow_id, col(Run.order_key) == run.order_key, text(_OPEN)
    )


def stopped(
    session: Session, organization_id: str, flow_id: str, most: int = 5
) -> list[tuple[Run, int]]:
    """Return the runs of a flow that failed for good and hold others, with how many, the oldest
    first.
    """
    waits = (
        "EXISTS (SELECT 1 FROM run AS behind WHERE behind.organization_id = run.organization_id"
        " AND behind.flow_id = run.flow_id AND behind.order_key = run.order_key"
        " AND behind.order_key IS NOT NULL"
        " AND behind.state IN ('due', 'waiting', 'leased', 'parked') AND behind.state = 'waiting'"
        " AND behind.next_at IS NULL AND behind.event_id >= run.event_id AND behind.id <> run.id)"
    )
    found = Run.of(organization_id).where(
        col(Run.flow_id) == flow_id,
        text("run.state = 'parked' AND run.order_key IS NOT NULL"),
        text(waits),
    )
    held = session.execute(found.order_by(col(Run.id)).limit(most)).scalars()
    return [(run, count_behind(session, run)) for run in held]
