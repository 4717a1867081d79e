"""Turns: a rollout moves on by claim → commit → prepare → commit → call → record, under a lease.

Whatever stops a turn, a later one finds the rollout by its row and repeats the step with the same
effect key. Attempts are counted before the work, so that a step that kills its worker ends too.
"""

import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, text
from sqlmodel import Session, col

from connectors.engine.findings import EngineError
from identity import suspensions
from kernel import log
from kernel.database import EVERY, StoreUnavailable, store_now, transaction
from kernel.errors import Problem
from marketplace import rollout_ends, rollout_words
from marketplace.rollout_kinds import (
    Again,
    Call,
    Done,
    Kind,
    Refused,
    Result,
    Work,
    prepare_nothing,
)
from marketplace.rollout_steps import KINDS
from marketplace.tables import FINISHED, OPEN, Installation, Rollout, RolloutStep

LEASE_SECONDS = 30  # longer than the one or two calls of a turn may take
LADDER_SECONDS = (1, 3, 9)  # waits after the first, second, third try; then the step has failed
MAX_ATTEMPTS = len(LADDER_SECONDS) + 1
LONGEST_WAIT_SECONDS = 20
MAX_TURNS = 500
_logger = log.get_logger(__name__)


@dataclass(frozen=True)
class Turn:
    """What a worker holds after its claim."""

    organization_id: str
    rollout_id: str
    worker: str
    epoch: int
    step_id: str | None  # None: the claim itself brought the rollout to its end
    kind: str
    is_undo: bool


def advance_rollouts(worker: str | None = None) -> int:
    """Take turns until nothing is due and return how many were taken."""
    worker = worker or f"{platform.node()}:{os.getpid()}:{threading.get_ident()}"
    for count in range(MAX_TURNS):
        turn = claim(worker)
        if turn is None:
            return count
        try:
            take(turn)
        except StoreUnavailable:
            return count  # the lease runs out and somebody goes on once the store is back
        except Exception:  # our bug: it counted as an attempt and is tried again soon
            _logger.exception("rollout_turn_failed", rollout=turn.rollout_id)
            _let_go(turn)
    return MAX_TURNS


def claim(worker: str) -> Turn | None:
    """Lease the rollout that has waited longest and choose its next step; None: nothing is due."""
    with transaction(EVERY) as session:
        now = store_now(session)
        rollout = session.execute(
            select(Rollout)
            .where(
                text(OPEN),
                col(Rollout.next_at) <= now,
                col(Rollout.organization_id).not_in(suspensions.suspended_ids()),
                or_(col(Rollout.lease_until).is_(None), col(Rollout.lease_until) < now),
            )
            .order_by(col(Rollout.next_at))
            .limit(1)
            .with_for_update(skip_locked=True)
        ).scalar_one_or_none()
        if rollout is None:
            return None
        rollout.lease_owner, rollout.lease_epoch = worker, rollout.lease_epoch + 1
        rollout.lease_until = now + timedelta(seconds=LEASE_SECONDS)
        rollout.started_at = rollout.started_at or now
        rollout.attempt_count += 1
        if rollout.cancel_requested_at and rollout.direction == "install":
            rollout_ends.begin_undo(session, rollout, rollout_words.problem("cancelled"))
        step = _choose(session, rollout)
        if step is None:
            rollout_ends.finish(session, rollout)
        return Turn(
            rollout.organization_id,
            rollout.id,
            worker,
            rollout.lease_epoch,
            step.id if step else None,
            step.kind if step else "",
            is_undo=_is_undo(rollout),
        )


def _is_undo(rollout: Rollout) -> bool:
    return rollout.direction == "install" and rollout.state in ("compensating", "absent")


def _choose(session: Session, rollout: Rollout) -> RolloutStep | None:
    """Pick the next step, counting the attempt; steps that kill their workers are passed."""
    if not _is_undo(rollout):
        step = rollout_ends.next_forward(session, rollout)
        if step is None:
            return None
        if step.attempt_count < MAX_ATTEMPTS:
            _start(session, rollout, step)
            return step
        if rollout.direction == "uninstall":
            _give_up(session, rollout, step)
            return _choose(session, rollout)
        step.state = "failed"
        rollout_ends.begin_undo(session, rollout, rollout_words.problem("crashed"))
    while step := rollout_ends.next_backward(session, rollout):
        if KINDS[step.kind].undo_settle is None:
            rollout_ends.mark_undone(session, step, None)
        elif step.attempt_count >= MAX_ATTEMPTS:
            _give_up(session, rollout, step)
        else:
            step.attempt_count += 1
            step.state = "undoing" if step.state != "failed" else "failed"
            return step
    return None


def _start(session: Session, rollout: Rollout, step: RolloutStep) -> None:
    step.attempt_count += 1
    step.state = "running"
    step.started_at = step.started_at or store_now(session)
    rollout.state = KINDS[step.kind].state


def take(turn: Turn) -> None:
    """Prepare, call and record the turn's step."""
    if turn.step_id is None:
        return
    call: Call | None = None
    kind = KINDS[turn.kind]
    prepare = kind.undo_prepare if turn.is_undo else kind.prepare
    try:
        if prepare is not prepare_nothing:
            with transaction(turn.organization_id) as session:
                work = _held(session, turn)
                if work is None:
                    return
                call = prepare(work)
        outcome = call() if call else None
        with transaction(turn.organization_id) as session:
            work = _held(session, turn)
            if work is None:
                return
            _apply(work, turn, _settle(work, turn, kind, outcome))
    except StoreUnavailable:
        raise
    except Problem as problem:
        reasons = "; ".join(found["message"] for found in problem.errors) or problem.plain()
        _record_refusal(turn, {"zh": reasons[:300], "en": reasons[:300]})
    except EngineError as problem:
        _record_refusal(turn, problem.say)


def _settle(work: Work, turn: Turn, kind: Kind, outcome: Any) -> Result:
    if turn.is_undo:
        assert kind.undo_settle is not None
        return kind.undo_settle(work, outcome)
    if work.step.kind == "activate" and work.rollout.cancel_requested_at:
        return Refused(rollout_words.problem("cancelled"))
    return kind.settle(work, outcome)


def _held(session: Session, turn: Turn) -> Work | None:
    """Lock the rollout if the lease is still ours; None when somebody else has gone on."""
    rollout = session.execute(
        Rollout.of(turn.organization_id)
        .where(
            col(Rollout.id) == turn.rollout_id,
            col(Rollout.lease_owner) == turn.worker,
            col(Rollout.lease_epoch) == turn.epoch,
            col(Rollout.state).not_in(FINISHED),
        )
        .with_for_update()
    ).scalar_one_or_none()
    if rollout is None:
        return None
    step = session.get_one(RolloutStep, (turn.organization_id, turn.step_id))
    installation = (
        session.get(Installation, (turn.organization_id, step.installation_id))
        if step.installation_id
        else None
    )
    return Work(session, rollout, step, installation)


def _apply(work: Work, turn: Turn, result: Result) -> None:
    """Write a result down, free the lease and say when to go on."""
    now = store_now(work.session)
    rollout, step = work.rollout, work.step
    wait_seconds = 0
    if isinstance(result, Done) and turn.is_undo:
        rollout_ends.mark_undone(work.session, step, result.say)
    elif isinstance(result, Done):
        step.state = "skipped" if result.is_skipped else "done"
        step.say, step.finished_at = result.say, now
    elif isinstance(result, Again):
        wait_seconds = _wait_or_fail(work, turn, result)
    elif turn.is_undo or rollout.direction == "uninstall":
        # an undo is never refused: what the vendor will not do is finished on our side
        _give_up(work.session, rollout, step)
    else:
        _fail(work, result.problem)
    _free(rollout)
    rollout.next_at = now + timedelta(seconds=wait_seconds)
    if (
        rollout.state not in ("compensating", "absent")
        and isinstance(result, Done)
        and step.kind == "activate"
    ):
        rollout_ends.finish(work.session, rollout)


def _wait_or_fail(work: Work, turn: Turn, result: Again) -> int:
    step = work.step
    if result.is_progress:
        step.attempt_count = 0
        step.say = result.say
        return 0
    if step.attempt_count < MAX_ATTEMPTS:
        reason = result.say
        step.say = rollout_words.say("retrying", reason=reason, attempt=step.attempt_count + 1)
        wait = LADDER_SECONDS[step.attempt_count - 1]
        return min(max(wait, result.after_seconds or 0), LONGEST_WAIT_SECONDS)
    if turn.is_undo or work.rollout.direction == "uninstall":
        _give_up(work.session, work.rollout, step)
    else:
        _fail(work, result.problem or rollout_words.problem("vendor_down", app=work.app_title))
    return 0


def _fail(work: Work, problem: Mapping[str, str]) -> None:
    work.step.state = "failed"
    work.step.say = {"zh": problem["zh"], "en": problem["en"]}
    work.step.finished_at = store_now(work.session)
    rollout_ends.begin_undo(work.session, work.rollout, dict(problem))


def _give_up(session: Session, rollout: Rollout, step: RolloutStep) -> None:
    """Finish an undo on our side; even when our own clearing-up breaks, the rollout goes on."""
    installation = (
        session.get(Installation, (rollout.organization_id, step.installation_id))
        if step.installation_id
        else None
    )
    work = Work(session, rollout, step, installation)
    give_up = KINDS[step.kind].give_up
    try:
        # a savepoint, so that a clearing-up that breaks leaves the transaction usable
        with session.begin_nested():
            if give_up is not None:
                give_up(work)
    except Exception:  # an undo may not strand, whatever our bug is
        _logger.exception("rollout_clear_up_failed", rollout=rollout.id)
        rollout_ends.add_note(
            rollout, rollout_words.note("ours_left", step.app_key, app=work.app_title)
        )
    if rollout.direction == "uninstall":
        step.state, step.finished_at = "done", store_now(session)
    else:
        rollout_ends.mark_undone(session, step, None)


def _record_refusal(turn: Turn, reason: Mapping[str, str]) -> None:
    """Write down that our own checks refused the step."""
    with transaction(turn.organization_id) as session:
        work = _held(session, turn)
        if work is None:
            return
        _apply(work, turn, Refused(rollout_words.problem("refused_here", reason=reason)))


def _let_go(turn: Turn) -> None:
    """Free the lease after an unforeseen error, so that the next try need not wait for its end."""
    with transaction(turn.organization_id) as session:
        work = _held(session, turn)
        if work is not None:
            _free(work.rollout)
            work.rollout.next_at = store_now(session) + timedelta(seconds=LADDER_SECONDS[0])


def _free(rollout: Rollout) -> None:
    rollout.lease_owner = rollout.lease_until = None
