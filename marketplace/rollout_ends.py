"""How rollouts walk and end: the next step either way, turning round, `active` and `absent`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from identity import audit
from kernel import outbox
from kernel.database import store_now
from kernel.errors import N_
from marketplace.tables import Installation, Rollout, RolloutStep

audit.name_actions(
    {
        "rollout.requested": N_("asked for an installation"),
        "rollout.cancelled": N_("cancelled an installation"),
        "rollout.removal_requested": N_("asked to remove an installation"),
        "installation.created": N_("installed an app"),
        "installation.removed": N_("removed an app"),
        "installation.linked": N_("added a link to the toolbox"),
        "installation.changed": N_("changed a link in the toolbox"),
        "installation.unlinked": N_("took a link out of the toolbox"),
        "rollout.undone": N_("undid an installation that did not work out"),
    }
)


def steps_of(session: Session, rollout: Rollout) -> list[RolloutStep]:
    """Return a rollout's steps in order."""
    return list(
        session.execute(
            RolloutStep.of(rollout.organization_id)
            .where(col(RolloutStep.rollout_id) == rollout.id)
            .order_by(col(RolloutStep.position))
        ).scalars()
    )


def next_forward(session: Session, rollout: Rollout) -> RolloutStep | None:
    """Return the first step that is not over."""
    steps = steps_of(session, rollout)
    return next((step for step in steps if step.state in ("waiting", "running")), None)


def next_backward(session: Session, rollout: Rollout) -> RolloutStep | None:
    """Return the last step that was begun and is not undone."""
    for step in reversed(steps_of(session, rollout)):
        if step.state in ("done", "running", "undoing"):
            return step
        if step.state == "failed" and not (step.state_kept or {}).get("is_undone"):
            return step
    return None


def mark_undone(session: Session, step: RolloutStep, say: Mapping[str, str] | None) -> None:
    """Note that nothing is left of a step; a failed one goes on showing why it failed."""
    if step.state == "failed":
        step.state_kept = {**(step.state_kept or {}), "is_undone": True}
    else:
        step.state = "undone"
        step.say = dict(say) if say else None
        step.finished_at = store_now(session)
    # an undone step needs nothing in memory any more; the choice of the next one reads it back
    session.flush()


def begin_undo(session: Session, rollout: Rollout, problem: Mapping[str, str]) -> None:
    """Turn a rollout round: from here on everything that was done is undone, last first."""
    if rollout.state == "compensating":
        return
    rollout.state = "compensating"
    rollout.problem = dict(problem)
    for step in steps_of(session, rollout):
        step.attempt_count = 0  # the undo has its own ladder
        if step.state == "waiting":
            step.state = "skipped"
    session.flush()  # the walk back selects by these states


def add_note(rollout: Rollout, note: Mapping[str, Any]) -> None:
    """Add a note about what a vendor may still hold; one per app and kind."""
    kept = rollout.notes or []
    if not any(n["code"] == note["code"] and n["app_key"] == note["app_key"] for n in kept):
        rollout.notes = [*kept, dict(note)]


def finish(session: Session, rollout: Rollout) -> None:
    """End a rollout: `active` after its last step, `absent` after an undo or a removal."""
    is_active = rollout.direction == "install" and rollout.state != "compensating"
    rollout.state = "active" if is_active else "absent"
    rollout.claim_key = rollout.lease_owner = rollout.lease_until = rollout.next_at = None
    rollout.finished_at = store_now(session)
    if is_active:
        return
    for installation in _of_rollout(session, rollout):
        # a removal that a bug cut short still ends here, never as a ghost in the toolbox
        end_installation(session, installation)
    if rollout.direction == "install":
        audit.record(
            session,
            None,
            "rollout.undone",
            rollout.id,
            organization_id=rollout.organization_id,
            detail={"problem": (rollout.problem or {}).get("code")},
        )


def _of_rollout(session: Session, rollout: Rollout) -> list[Installation]:
    ids = {step.installation_id for step in steps_of(session, rollout) if step.installation_id}
    found = session.execute(
        select(Installation).where(
            col(Installation.organization_id) == rollout.organization_id,
            col(Installation.id).in_(ids),
            col(Installation.state).in_(("installing", "uninstalling")),
        )
    ).scalars()
    return list(found)


def end_installation(session: Session, installation: Installation) -> None:
    """Make an installation absent; what was active is news for others."""
    if installation.state == "absent":
        return
    was_active = installation.installed_at is not None
    installation.state, installation.live_key = "absent", None
    installation.uninstalled_at = store_now(session)
    if was_active:
        tell(session, installation, "installation.removed")


def tell(session: Session, installation: Installation, news: str) -> None:
    """Emit a domain event about an installation and write it into the audit trail."""
    data = {
        "installation_id": installation.id,
        "app_key": installation.app_key,
        "release_id": installation.release_id,
        "bundle_key": installation.bundle_key,
    }
    outbox.emit(session, installation.organization_id, news, data, subject=installation.id)
    audit.record(
        session,
        None,
        news,
        installation.id,
        organization_id=installation.organization_id,
        detail={"app_key": installation.app_key},
    )
