"""Recording what a turn of a reconciliation learned, and when the next one comes."""

import random
from datetime import datetime, timedelta

from sqlmodel import Session

from connectors import reconcile_claims, reconciliations
from connectors.engine.findings import say
from connectors.looking import Looking
from connectors.reconcile_claims import Turn
from connectors.tables import Reconciliation
from kernel.database import store_now

SOON = timedelta(seconds=60)
LONGEST_WAIT = timedelta(hours=6)
_OUR_FAULT = say("平台内部出错，稍后自动再试", "Something went wrong in the hub; it tries again")


def record(session: Session, turn: Turn, looking: Looking) -> None:
    """Write down what a turn learned, unless the row is somebody else's by now."""
    row = reconcile_claims.held(session, turn)
    if row is None:
        return
    now = store_now(session)
    is_wanted = row.look_at != turn.row.look_at  # somebody asked for another look meanwhile
    row.cursor, row.missing, row.token = looking.cursor, looking.kept_missing(), looking.token
    row.skew_seconds = int(looking.skew.total_seconds())
    row.found_count += looking.found
    row.asked_count += looking.asked
    row.fetched_count += looking.fetched
    row.failed_count += looking.failed
    row.progress = None if looking.is_done or looking.is_final else looking.progress
    if looking.is_done and looking.progress is not None:
        told = {name: looking.progress[name] for name in ("found", "fetched", "failed", "pages")}
        row.last, row.last_at = told, now
        if row.look_at <= datetime.fromisoformat(looking.progress["began_at"]):
            # else somebody asked for a look after this one began, turns ago perhaps
            row.look_at = now + (_soon(row) if looking.is_cut else _interval(row))
    row.problem = dict(looking.problem) if looking.problem else None
    row.failure_count = row.failure_count + 1 if looking.problem else 0
    row.next_at = row.look_at if is_wanted else _next_turn(row, looking, now)
    _free(row, now)


def _next_turn(row: Reconciliation, looking: Looking, now: datetime) -> datetime:
    """Return when to go on: with the list, with what is missing, or with the next look."""
    if looking.after_seconds is not None:
        return now + timedelta(seconds=max(1, looking.after_seconds))
    if looking.problem is not None:
        doubled: timedelta = reconciliations.interval_of(row) * 2 ** min(row.failure_count - 1, 10)
        return now + min(doubled, LONGEST_WAIT)
    soonest = now + reconcile_claims.REST
    if row.progress is not None:
        return soonest
    return max(soonest, min(row.look_at, looking.next_ask() or row.look_at))


def _interval(row: Reconciliation) -> timedelta:
    spread = random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
    return reconciliations.interval_of(row) * spread


def _soon(row: Reconciliation) -> timedelta:
    return reconcile_claims.REST if row.every_seconds else SOON


def _free(row: Reconciliation, now: datetime) -> None:
    row.state, row.lease_owner, row.lease_until, row.called_at = "waiting", None, None, now


def let_go(session: Session, turn: Turn) -> None:
    """Give a turn back that our own mistake ended."""
    row = reconcile_claims.held(session, turn)
    if row is None:
        return
    now = store_now(session)
    row.failure_count += 1
    row.problem = {"cause": "unknown", "say": dict(_OUR_FAULT), "detail": None}
    row.next_at = now + SOON * min(row.failure_count, 60)
    _free(row, now)


def forget(session: Session, turn: Turn) -> None:
    """Look no more: the source is closed, or its app cannot be asked."""
    row = reconcile_claims.held(session, turn)
    if row is not None:
        session.delete(row)
