"""How a rollout is doing, as people and programs are shown it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col

from kernel import clock
from marketplace import rollout_ends
from marketplace.tables import FINISHED, Installation, Rollout, RolloutStep

SLOW_FACTOR = 2  # beyond twice its budget a step is said to take longer than usual


@dataclass(frozen=True)
class StepProgress:
    """One step as it is shown."""

    kind: str
    app_key: str | None
    title: Any
    state: str
    say: Any
    attempt_count: int
    seconds: float | None
    is_slow: bool


@dataclass(frozen=True)
class Progress:
    """A rollout as it is shown."""

    id: str
    direction: str
    bundle_key: str | None
    app_key: str | None
    title: Any
    state: str
    is_finished: bool
    is_cancelling: bool
    problem: Any
    notes: list[Any]
    steps: list[StepProgress]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    requested_by_name: str

    @property
    def is_slow(self) -> bool:
        """Tell whether any step takes longer than usual."""
        return any(step.is_slow for step in self.steps)

    @property
    def may_cancel(self) -> bool:
        """Tell whether stopping it still means something."""
        going = not self.is_finished and self.state != "compensating"
        return self.direction == "install" and going and not self.is_cancelling


def of(session: Session, rollout: Rollout) -> Progress:
    """Return a rollout with its steps."""
    now = clock.now()
    return Progress(
        id=rollout.id,
        direction=rollout.direction,
        bundle_key=rollout.bundle_key,
        app_key=rollout.app_key,
        title=rollout.title,
        state=rollout.state,
        is_finished=rollout.state in FINISHED,
        is_cancelling=rollout.cancel_requested_at is not None and rollout.state not in FINISHED,
        problem=rollout.problem,
        notes=list(rollout.notes or []),
        steps=[_step(step, now) for step in rollout_ends.steps_of(session, rollout)],
        created_at=rollout.created_at,
        started_at=rollout.started_at,
        finished_at=rollout.finished_at,
        seconds=_seconds(rollout.started_at, rollout.finished_at, now),
        requested_by_name=rollout.requested_by_name,
    )


def _step(step: RolloutStep, now: datetime) -> StepProgress:
    seconds = _seconds(step.started_at, step.finished_at, now)
    is_slow = (
        step.state == "running"
        and seconds is not None
        and seconds > SLOW_FACTOR * step.budget_seconds
    )
    return StepProgress(
        kind=step.kind,
        app_key=step.app_key,
        title=step.title,
        state=step.state,
        say=step.say,
        attempt_count=step.attempt_count,
        seconds=seconds,
        is_slow=is_slow,
    )


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    return None if start is None else max(0.0, round(((end or now) - start).total_seconds(), 2))


def installed_by(session: Session, rollout: Rollout) -> list[Installation]:
    """Return the apps that a finished install leaves in the toolbox, the reused ones included."""
    ids = {s.installation_id for s in rollout_ends.steps_of(session, rollout) if s.installation_id}
    statement = Installation.of(rollout.organization_id).where(
        col(Installation.id).in_(ids), col(Installation.state) == "active"
    )
    return list(session.execute(statement.order_by(col(Installation.id))).scalars())


def flow_ids(session: Session, rollout: Rollout) -> list[str]:
    """Return the flows that an install built."""
    return [
        str(step.state_kept["flow_id"])
        for step in rollout_ends.steps_of(session, rollout)
        if step.kind == "wire" and (step.state_kept or {}).get("flow_id")
    ]
