"""Rollouts: asked for, watched, cancelled; `rollout_turns` moves them on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from connectors import connection_uses, flows
from connectors.tables import Run
from identity import audit
from identity.principals import Principal
from kernel import clock, queue, tenancy
from kernel.database import store_now
from kernel.errors import N_, Conflict
from kernel.ids import new_id
from kernel.rows import insert_ignore
from marketplace import offers, rollout_ends, rollout_words
from marketplace.offers import Offer
from marketplace.rollout_steps import KINDS
from marketplace.tables import FINISHED, Installation, Rollout, RolloutStep

TASK = "marketplace.advance_rollouts"
WAITING_RUNS = ("due", "leased", "waiting", "parked")
StepPlan = dict[str, Any]


def find(session: Session, organization_id: str, rollout_id: str) -> Rollout:
    """Return the organization's rollout; a stranger's is NotFound."""
    return tenancy.find(session, Rollout, organization_id, rollout_id)


def steps_of(session: Session, rollout: Rollout) -> list[RolloutStep]:
    """Return a rollout's steps in order."""
    return rollout_ends.steps_of(session, rollout)


def find_or_none(session: Session, organization_id: str, rollout_id: str | None) -> Rollout | None:
    """Return a rollout that may have been named or not."""
    return None if rollout_id is None else session.get(Rollout, (organization_id, rollout_id))


def under_way(session: Session, organization_id: str, claim_key: str) -> Rollout | None:
    """Return the open rollout of this name, if there is one."""
    statement = Rollout.of(organization_id).where(col(Rollout.claim_key) == claim_key)
    return session.execute(statement).scalar_one_or_none()


def recent(session: Session, organization_id: str, limit: int = 8) -> list[Rollout]:
    """Return the last few rollouts, newest first."""
    statement = Rollout.of(organization_id).order_by(col(Rollout.id).desc()).limit(limit)
    return list(session.execute(statement).scalars())


# --- asking --------------------------------------------------------------------------------------


def install_bundle(session: Session, by: Principal, bundle_key: str) -> Rollout:
    """Ask for a bundle; a second click gets the rollout that the first one started.

    Raises NotFound, or Conflict with why it cannot be installed now.
    """
    return _install(session, by, offers.of_bundle(session, bundle_key))


def install_app(session: Session, by: Principal, app_key: str) -> Rollout:
    """Ask for one app; same rules as for a bundle."""
    return _install(session, by, offers.of_app(session, app_key))


def _install(session: Session, by: Principal, offer: Offer) -> Rollout:
    rollout, is_new = _open(
        session,
        by,
        claim_key=offer.claim_key,
        direction="install",
        bundle_key=offer.bundle_key,
        app_key=offer.app_key,
        title=dict(offer.title),
    )
    if not is_new:
        if rollout.direction != "install":
            raise Conflict(
                N_("It is being removed at the moment"),
                N_("Please wait until that has ended, then install it again."),
                code="being_removed",
            )
        return rollout
    if is_installed(session, by.organization_id, offer):
        raise Conflict(
            N_("It is installed already"), N_("You find it in your toolbox."), code="installed"
        )
    _add_steps(session, rollout, _plan_install(offer))
    audit.record(session, by, "rollout.requested", rollout.id, detail={"what": offer.claim_key})
    queue.nudge(session, TASK)
    return rollout


def is_installed(session: Session, organization_id: str, offer: Offer) -> bool:
    """Tell whether this very bundle or app is in the organization's toolbox."""
    statement = (
        select(func.count())
        .select_from(Installation)
        .where(
            col(Installation.organization_id) == organization_id,
            col(Installation.live_key).in_([part.app_key for part in offer.parts]),
            col(Installation.state) == "active",
        )
    )
    are_there = int(session.execute(statement).scalar_one())
    if are_there < len(offer.parts):
        return False
    if offer.bundle_key is None:
        return True
    last = session.execute(
        Rollout.of(organization_id)
        .where(col(Rollout.bundle_key) == offer.bundle_key, col(Rollout.state).in_(FINISHED))
        .order_by(col(Rollout.id).desc())
        .limit(1)
    ).scalar_one_or_none()
    return last is not None and last.state == "active"


def _open(
    session: Session, by: Principal, *, claim_key: str, **values: Any
) -> tuple[Rollout, bool]:
    """Make the one open rollout of this name, or return the one that is open already."""
    now = store_now(session)
    row = {
        "organization_id": by.organization_id,
        "id": new_id("rol"),
        "created_at": now,
        "claim_key": claim_key,
        "state": "requested",
        "next_at": now,
        "lease_epoch": 0,
        "attempt_count": 0,
        "notes": [],
        "requested_by": by.actor_id,
        "requested_by_name": by.name[:120],
        **values,
    }
    made = insert_ignore(session, Rollout, [row], ["organization_id", "claim_key"])
    rollout = session.execute(
        Rollout.of(by.organization_id).where(col(Rollout.claim_key) == claim_key)
    ).scalar_one()
    return rollout, bool(made)


def _add_steps(session: Session, rollout: Rollout, plan: Sequence[StepPlan]) -> None:
    for position, step in enumerate(plan):
        session.add(
            RolloutStep(
                organization_id=rollout.organization_id,
                rollout_id=rollout.id,
                position=position,
                budget_seconds=KINDS[step["kind"]].budget_seconds,
                **step,
            )
        )


def _plan_install(offer: Offer) -> list[StepPlan]:
    """Lay the steps of an install out: first all accounts, then the news, then the flows."""
    ids = {part.app_key: new_id("ins") for part in offer.parts}
    by_connector = {part.connector.key: part for part in offer.parts}
    plan: list[StepPlan] = [{"kind": "validate", "title": rollout_words.title("validate")}]
    for part in offer.parts:
        kept = {
            "installation_id": ids[part.app_key],
            "connector": part.connector.key,
            "connection": dict(part.settings),
            "release_id": part.release_id,
            "slot": part.slot,
        }
        plan.append(_step("provision", part, ids, state_kept=kept))
    plan += [_step("connect", part, ids) for part in offer.parts]
    plan += [
        # a vendor sends all its news to one address; the trigger says how to read and verify it
        _step("subscribe", part, ids, part_key=part.triggers[0])
        for part in offer.parts
        if part.triggers and "subscribe" in part.connector.lifecycle
    ]
    for kind in ("wire", "test"):
        for recipe in offer.recipes:
            starts = by_connector.get(str(recipe.document["trigger"].get("connector")))
            plan.append(
                {
                    "kind": kind,
                    "part_key": recipe.key,
                    "installation_id": ids[starts.app_key] if starts else None,
                    "title": rollout_words.title(kind, part=recipe.title),
                }
            )
    plan.append({"kind": "activate", "title": rollout_words.title("activate")})
    return plan


def _step(kind: str, part: offers.Part, ids: Mapping[str, str], **values: Any) -> StepPlan:
    return {
        "kind": kind,
        "app_key": part.app_key,
        "installation_id": ids[part.app_key],
        "title": rollout_words.title(kind, app=part.title),
        **values,
    }


# --- cancelling and removing ---------------------------------------------------------------------


def cancel(
    session: Session, by: Principal, rollout_id: str, *, is_confirmed: bool = False
) -> Rollout:
    """Stop an install and undo it; one that has ended well is removed again.

    Returns the rollout to watch: the same one, or the removal that undoes a finished install.
    Raises Conflict for a removal, which cannot be stopped half-way.
    """
    rollout = session.execute(
        Rollout.of(by.organization_id).where(col(Rollout.id) == rollout_id).with_for_update()
    ).scalar_one_or_none() or find(session, by.organization_id, rollout_id)
    if rollout.state == "absent":
        return rollout
    if rollout.direction == "uninstall":
        raise Conflict(
            N_("A removal cannot be stopped half-way"),
            N_("It ends by itself in a moment; afterwards you can install again."),
            code="removal_under_way",
        )
    if rollout.state == "active":
        return remove_rollout(session, by, rollout, is_confirmed=is_confirmed)
    if rollout.cancel_requested_at is None:
        rollout.cancel_requested_at = store_now(session)
        rollout.next_at = store_now(session)
        audit.record(session, by, "rollout.cancelled", rollout.id)
    queue.nudge(session, TASK)
    return rollout


def remove_rollout(
    session: Session, by: Principal, rollout: Rollout, *, is_confirmed: bool
) -> Rollout:
    """Remove everything that an install put into the toolbox, and its flows."""
    there = list(
        session.execute(
            Installation.of(by.organization_id).where(
                col(Installation.rollout_id) == rollout.id, col(Installation.state) == "active"
            )
        ).scalars()
    )
    made = {
        (step.state_kept or {}).get("flow_id")
        for step in steps_of(session, rollout)
        if step.kind == "wire"
    }
    own = [flow.id for flow in flows.all_of(session, by.organization_id) if flow.id in made]
    return _remove(
        session,
        by,
        there,
        own,
        is_confirmed=is_confirmed,
        claim_key=offers.claim_key(rollout.bundle_key, rollout.app_key),
        bundle_key=rollout.bundle_key,
        app_key=rollout.app_key,
        title=rollout.title,
    )


def remove_installation(
    session: Session, by: Principal, installation: Installation, *, is_confirmed: bool
) -> Rollout:
    """Remove one app that the hub had set up; flows that need it are paused.

    Raises Conflict while runs wait for it, unless confirmed.
    """
    return _remove(
        session,
        by,
        [installation] if installation.state == "active" else [],
        [],
        is_confirmed=is_confirmed,
        claim_key=f"app:{installation.app_key}",
        app_key=installation.app_key,
        title=installation.title,
    )


def _remove(
    session: Session,
    by: Principal,
    there: Sequence[Installation],
    own_flow_ids: Sequence[str],
    *,
    is_confirmed: bool,
    claim_key: str,
    **values: Any,
) -> Rollout:
    rollout, is_new = _open(session, by, claim_key=claim_key, direction="uninstall", **values)
    if not is_new:
        if rollout.direction == "install":
            return cancel(session, by, rollout.id)
        return rollout
    if not there and not own_flow_ids:
        raise Conflict(N_("It is not installed"), code="not_installed")
    waiting = runs_waiting(session, by.organization_id, there)
    if waiting and not is_confirmed:
        raise Conflict(
            N_("%(count)s runs still wait for this app"),
            N_("If you remove it now they will not be finished. Nothing was removed yet."),
            count=waiting,
            code="runs_waiting",
        )
    for installation in there:
        installation.state = "uninstalling"
        session.add(installation)
    _add_steps(session, rollout, _plan_removal(there, own_flow_ids))
    audit.record(session, by, "rollout.removal_requested", rollout.id, detail={"what": claim_key})
    queue.nudge(session, TASK)
    return rollout


def _plan_removal(there: Sequence[Installation], own_flow_ids: Sequence[str]) -> list[StepPlan]:
    plan: list[StepPlan] = [
        {
            "kind": "stop",
            "title": rollout_words.title("stop"),
            "state_kept": {"own_flow_ids": list(own_flow_ids)},
        }
    ]
    for kind in ("unsubscribe", "release"):
        for installation in there:
            subscriptions = (installation.settings or {}).get("subscriptions") or {}
            parts = list(subscriptions) if kind == "unsubscribe" else [None]
            plan += [
                {
                    "kind": kind,
                    "app_key": installation.app_key,
                    "part_key": part,
                    "installation_id": installation.id,
                    "title": rollout_words.title(kind, app=installation.title),
                }
                for part in parts
            ]
    plan.append({"kind": "remove", "title": rollout_words.title("remove")})
    return plan


def runs_waiting(session: Session, organization_id: str, there: Sequence[Installation]) -> int:
    """Count the runs of flows that use these apps and are not over."""
    flow_ids = {
        flow.id
        for installation in there
        if installation.connection_id
        for flow in connection_uses.flows_using(
            session, organization_id, installation.connection_id
        )
    }
    if not flow_ids:
        return 0
    counted = select(func.count()).where(
        col(Run.organization_id) == organization_id,
        col(Run.flow_id).in_(flow_ids),
        col(Run.state).in_(WAITING_RUNS),
    )
    return int(session.execute(counted).scalar_one())


def wake_if_due(rollout: Rollout) -> None:
    """Ring the bell for a rollout somebody is watching, so that a short wait stays short."""
    if rollout.state not in FINISHED and rollout.next_at and rollout.next_at <= clock.now():
        queue.nudge(None, TASK)
