"""Recording a round: what a batch of runs did goes down in one commit, late writers are refused."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, update
from sqlmodel import Session, col

from connectors import approvals, claims, laps, order_lanes
from connectors.claims import LEASE_SECONDS
from connectors.keys import Key
from connectors.masking import keep
from connectors.resting import calls, deeds
from connectors.stepping import Moving, Note
from connectors.tables import RUN, STEP, Connection
from kernel import clock, queue
from kernel.columns import one_of
from kernel.database import store_now, write, write_once
from kernel.rows import Rows, change_and_add, insert_rows
from webhooks import events, usage

_OVER = {"succeeded", "skipped"}
_RESTING = {*_OVER, "parked"}
_COUNTED = {"succeeded": {"ran": 1}, "skipped": {"ran": 1}, "parked": {"stuck": 1}}


def record(worker_id: str, movings: Sequence[Moving]) -> list[Moving]:
    """Write down a round and return the runs that were still this worker's and go on."""
    return record_and_take(worker_id, movings, takes=False)[0]


def record_and_take(
    worker_id: str, movings: Sequence[Moving], *, takes: bool
) -> tuple[list[Moving], list[Any]]:
    """Write down a round, and let those go on that waited in order behind runs that ended.

    Returns the runs that were still this worker's and go on, and, if it `takes` more, the rows of
    those that were let go and are leased to it now.
    """
    if not movings:
        return [], []
    handed: list[Any] = []
    if _is_plain(movings):
        held = _write_plainly(worker_id, movings)
    else:
        held, handed = _write_all(worker_id, movings, _in_order(movings), takes=takes)
    if len(held) < len(movings):
        # either the lease was lost, or its flow was given an order meanwhile
        ours = {moving.id for moving in held}
        missed = [moving for moving in movings if moving.id not in ours]
        flows = {(moving.organization_id, moving.flow_id) for moving in missed}
        more, also = _write_all(worker_id, missed, flows, takes=takes)
        held, handed = [*held, *more], [*handed, *also]
    for moving in held:
        if moving.state in _COUNTED:
            usage.add(moving.organization_id, None, **_COUNTED[moving.state])
        moving.asks.clear()
        moving.refused.clear()
        if moving.deeds:
            deeds.forget_silent(moving)
        for note in moving.notes.values():
            note.is_new = note.is_changed = False
        if moving.loops:
            laps.forget_past(moving)
    return [moving for moving in held if moving.state == "leased"], handed


def _is_plain(movings: Sequence[Moving]) -> bool:
    """Tell whether there is nothing to write but runs in no order and new steps."""
    return not any(
        moving.cause == "auth"
        or moving.order_key is not None
        or moving.asks
        or moving.deeds
        or moving.refused
        or moving.kin.parent_id is not None
        or any(n.is_changed and not n.is_new for n in moving.notes.values())
        for moving in movings
    )


def _in_order(movings: Sequence[Moving]) -> set[Key]:
    return {(one.organization_id, one.flow_id) for one in movings if one.order_key is not None}


def _write_plainly(worker_id: str, movings: Sequence[Moving]) -> list[Moving]:
    """Write runs that came to rest alike down with their steps, in one statement each time."""

    def work(session: Session) -> set[str]:
        ours: set[str] = set()
        for values, group in _alike(worker_id, movings, store_now(session)):
            steps = [_new_step(m, n) for m in group for n in m.notes.values() if n.is_new]
            added = Rows(STEP, steps, of="run_id")
            rows = change_and_add(session.connection(), _update_of(values), values, added)
            ours.update(row[0] for row in rows)
        return ours

    ours = write_once(work)
    return [moving for moving in movings if moving.id in ours]


def _write_all(
    worker_id: str, movings: Sequence[Moving], flows: Collection[Key], *, takes: bool
) -> tuple[list[Moving], list[Any]]:
    """Write everything down in one commit; `flows` are those whose lanes may change by it."""

    def work(session: Session) -> tuple[list[Moving], list[Any]]:
        order_lanes.lock(session, flows)
        held, lanes = _move_on(session, worker_id, movings, flows)
        if held:
            deeds.carry_out(session, held)
            calls.write_results(session, held)
            _write_notes(session, held)
            approvals.write_down(session, [row for moving in held for row in moving.asks])
            _mark_connections(session, held)
        return held, _let_go(session, worker_id, lanes, takes=takes)

    return write(work)


def _let_go(
    session: Session, worker_id: str, lanes: Collection[order_lanes.Lane], *, takes: bool
) -> list[Any]:
    """Give the next of each lane a time, and take it at once or ring for whoever does."""
    free = order_lanes.settle(session, lanes) if lanes else []
    if not free:
        return []
    if takes:
        return claims.take(session, worker_id, free)
    queue.nudge(session, events.TASK)
    return []


def _move_on(
    session: Session, worker_id: str, movings: Sequence[Moving], flows: Collection[Key]
) -> tuple[list[Moving], set[order_lanes.Lane]]:
    """Update the runs whose lease is still ours, by owner and epoch.

    Returns those, and the lanes that some of them no longer are at work in.
    """
    ours: set[str] = set()
    lanes: set[order_lanes.Lane] = set()
    now = store_now(session)
    locked = [one for one in movings if (one.organization_id, one.flow_id) in flows]
    others = [one for one in movings if (one.organization_id, one.flow_id) not in flows]
    for some, is_locked in ((others, False), (locked, True)):
        for values, _ in _alike(worker_id, some, now):
            update_of = _update_of(values, is_locked=is_locked)
            for run_id, *lane in session.connection().execute(update_of, values):
                ours.add(run_id)
                if lane[2] is not None and values["state"] in _RESTING:
                    lanes.add((lane[0], lane[1], lane[2]))
    return [moving for moving in movings if moving.id in ours], lanes


def _row(moving: Moving, now: datetime) -> dict[str, Any]:
    is_leased = moving.state == "leased"
    is_resting = moving.state in _RESTING
    # one that is over waits in no lane any more, and so needs no statement of its lane's own
    lane = {} if moving.state in _OVER else {"lane": moving.lane}
    return {
        **lane,
        "state": moving.state,
        "next_step": moving.position,
        "next_at": None
        if is_leased or is_resting
        else now + timedelta(seconds=moving.wait_seconds),
        "attempt_count": moving.attempt_count,
        "lease_until": now + timedelta(seconds=LEASE_SECONDS) if is_leased else None,
        # an answer that was taken proves that the work did not kill its worker
        "crash_count": moving.crash_count if moving.state in ("leased", "due") else 0,
        "cause": None if is_leased else moving.cause,
        "say": None if is_leased or moving.say is None else dict(moving.say),
        "detail": None if is_leased else moving.detail,
        "finished_at": now if is_resting else None,
    }


def _alike(
    worker_id: str, movings: Sequence[Moving], now: datetime
) -> list[tuple[dict[str, Any], list[Moving]]]:
    """Put runs together that came to rest alike: most of a batch is one statement then.

    Gives the parameters of the update with the runs they are for.
    """
    groups: dict[str, tuple[dict[str, Any], list[Moving]]] = {}
    for moving in movings:
        values = {**_row(moving, now), "worker": worker_id, "epoch": moving.lease_epoch}
        groups.setdefault(repr(values), (values, []))[1].append(moving)
    for values, group in groups.values():
        values["tenants"] = sorted({moving.organization_id for moving in group})
        values["ids"] = [moving.id for moving in group]
    return list(groups.values())


_RUN_COLUMNS = (
    "state",
    "next_step",
    "next_at",
    "attempt_count",
    "lease_until",
    "crash_count",
    "cause",
    "say",
    "detail",
    "finished_at",
)
_HELD = (
    update(RUN)
    .where(
        one_of(RUN.c.organization_id, "tenants"),
        one_of(RUN.c.id, "ids"),
        RUN.c.state == "leased",
        RUN.c.lease_owner == bindparam("worker"),
        RUN.c.lease_epoch == bindparam("epoch"),
    )
    .returning(RUN.c.id, RUN.c.organization_id, RUN.c.flow_id, RUN.c.order_key)
)
_FINISH_ANY = _HELD.values({name: bindparam(name) for name in _RUN_COLUMNS})
_MOVE_ANY = _FINISH_ANY.values(lane=bindparam("lane"))
# a flow that was given an order meanwhile has to be locked first
_FINISH_RUNS, _MOVE_RUNS = (
    one.where(RUN.c.order_key.is_(None)) for one in (_FINISH_ANY, _MOVE_ANY)
)


def _update_of(values: Mapping[str, Any], *, is_locked: bool = False) -> Any:
    if is_locked:
        return _MOVE_ANY if "lane" in values else _FINISH_ANY
    return _MOVE_RUNS if "lane" in values else _FINISH_RUNS


_NOTE_COLUMNS = (
    "state",
    "attempt_count",
    "input",
    "output",
    "problem",
    "effect_key",
    "started_at",
    "finished_at",
    "elapsed_ms",
    "status",
)


_UPDATE_STEPS = (
    update(STEP)
    .where(
        STEP.c.organization_id == bindparam("key_organization"), STEP.c.id == bindparam("key_id")
    )
    .values({name: bindparam(name) for name in _NOTE_COLUMNS})
)


def _write_notes(session: Session, held: Sequence[Moving]) -> None:
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for moving in held:
        for note in moving.notes.values():
            if note.is_new:
                new.append(_new_step(moving, note))
            elif note.is_changed:
                changed.append(
                    {"key_organization": moving.organization_id, "key_id": note.id, **_kept(note)}
                )
    connection = session.connection()
    if new:
        insert_rows(connection, STEP, new)
    if changed:
        connection.execute(_UPDATE_STEPS, changed)


def _new_step(moving: Moving, note: Note) -> dict[str, Any]:
    return {
        "organization_id": moving.organization_id,
        "id": note.id,
        "created_at": note.started_at or clock.now(),
        "run_id": moving.id,
        "position": note.position,
        "key": note.key,
        "kind": note.kind,
        **_kept(note),
    }


def _kept(note: Note) -> dict[str, Any]:
    row = {name: getattr(note, name) for name in _NOTE_COLUMNS}
    if note.kind != "action":  # an action's data was bounded when its answer was taken
        row["output"] = keep(note.output, ())
        row["input"] = None if note.input is None else keep(note.input, ())
    else:
        row["input"] = keep(note.input, ())
    return row


def _mark_connections(session: Session, held: Sequence[Moving]) -> None:
    """A refused sign-in is the connection's trouble, not only this run's: say so once."""
    refused: dict[tuple[str, str], tuple[Any, str | None]] = {}
    for moving in held:
        owner = moving.organization_id
        if moving.state == "parked" and moving.cause == "auth" and moving.step.connection:
            refused[owner, moving.step.connection] = (moving.say, moving.detail)
        for connection_id, say, detail in moving.refused:
            refused[owner, connection_id] = (say, detail)
    for (organization_id, connection_id), (say, detail) in refused.items():
        session.execute(
            update(Connection)
            .where(
                col(Connection.organization_id) == organization_id,
                col(Connection.id) == connection_id,
                col(Connection.state) == "ready",
            )
            .values(
                state="needs_attention",
                problem={"cause": "auth", "say": say, "detail": detail},
            )
            .execution_options(synchronize_session=False)
        )
