"""Recording a round: what a batch of runs did goes down in one commit, late writers are refused."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session, col

from connectors.claims import LEASE_SECONDS
from connectors.masking import keep
from connectors.stepping import Moving, Note
from connectors.tables import RUN, STEP, Connection
from kernel import clock
from kernel.columns import one_of
from kernel.database import store_now, write

_RESTING = {"succeeded", "skipped", "parked"}


def record(worker_id: str, movings: Sequence[Moving]) -> list[Moving]:
    """Write down a round and return the runs that were still this worker's and go on."""
    if not movings:
        return []
    held = write(lambda session: _record(session, worker_id, movings))
    for moving in held:
        for note in moving.notes.values():
            note.is_new = note.is_changed = False
    return [moving for moving in held if moving.state == "leased"]


def _record(session: Session, worker_id: str, movings: Sequence[Moving]) -> list[Moving]:
    now = store_now(session)
    held = _held(session, worker_id, movings)
    if not held:
        return []
    _write_notes(session, held)
    for values, ids, tenants in _alike(held, now):
        session.connection().execute(_UPDATE_RUNS, {**values, "ids": ids, "tenants": tenants})
    _mark_connections(session, held)
    return held


_STILL_OURS = select(RUN.c.organization_id, RUN.c.id, RUN.c.lease_epoch).where(
    one_of(RUN.c.organization_id, "tenants"),
    one_of(RUN.c.id, "ids"),
    RUN.c.state == "leased",
    RUN.c.lease_owner == bindparam("worker"),
)
_HELD = {"sqlite": _STILL_OURS, "postgresql": _STILL_OURS.with_for_update()}


def _held(session: Session, worker_id: str, movings: Sequence[Moving]) -> list[Moving]:
    """Return those whose lease is still ours: same owner, same epoch."""
    keys = {
        "tenants": sorted({moving.organization_id for moving in movings}),
        "ids": [moving.id for moving in movings],
        "worker": worker_id,
    }
    statement = _HELD[session.get_bind().dialect.name]
    epochs = {(row[0], row[1]): row[2] for row in session.connection().execute(statement, keys)}
    return [
        moving
        for moving in movings
        if epochs.get((moving.organization_id, moving.id)) == moving.lease_epoch
    ]


def _row(moving: Moving, now: datetime) -> dict[str, Any]:
    is_leased = moving.state == "leased"
    is_resting = moving.state in _RESTING
    return {
        "state": moving.state,
        "lane": moving.lane,
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
    held: Sequence[Moving], now: datetime
) -> list[tuple[dict[str, Any], list[str], list[str]]]:
    """Put runs together that came to rest alike: most of a batch is one statement then."""
    groups: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {}
    for moving in held:
        values = _row(moving, now)
        _, ids, tenants = groups.setdefault(repr(values), (values, [], []))
        ids.append(moving.id)
        tenants.append(moving.organization_id)
    return list(groups.values())


_RUN_COLUMNS = (
    "state",
    "lane",
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
_UPDATE_RUNS = (
    update(RUN)
    .where(one_of(RUN.c.organization_id, "tenants"), one_of(RUN.c.id, "ids"))
    .values({name: bindparam(name) for name in _RUN_COLUMNS})
)
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


_INSERT_STEPS = insert(STEP)
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
        connection.execute(_INSERT_STEPS, new)
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
    else:
        row["input"] = keep(note.input, ())
    return row


def _mark_connections(session: Session, held: Sequence[Moving]) -> None:
    """A refused sign-in is the connection's trouble, not only this run's: say so once."""
    refused: dict[tuple[str, str], Moving] = {}
    for moving in held:
        if moving.state == "parked" and moving.cause == "auth" and moving.step.connection:
            refused[moving.organization_id, moving.step.connection] = moving
    for (organization_id, connection_id), moving in refused.items():
        session.execute(
            update(Connection)
            .where(
                col(Connection.organization_id) == organization_id,
                col(Connection.id) == connection_id,
                col(Connection.state) == "ready",
            )
            .values(
                state="needs_attention",
                problem={"cause": "auth", "say": moving.say, "detail": moving.detail},
            )
            .execution_options(synchronize_session=False)
        )
