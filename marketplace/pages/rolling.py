"""Installing: what will happen, the go-ahead, and the live page of a rollout."""

from collections.abc import Callable
from typing import Any

from sqlmodel import Session

from identity.guard import principal, require
from identity.principals import Principal
from kernel.database import reading, transaction
from kernel.errors import Problem
from kernel.web import localized
from marketplace import offers, rollout_progress, rollouts
from marketplace.offers import Offer, Part, Recipe
from marketplace.pages.drawing import blueprint, draw, go, typed
from marketplace.tables import Rollout

_Install = Callable[[Session, Principal, str], Rollout]
_Find = Callable[[Session, str], Offer]


@blueprint.get("/bundles/<key>/install")
@require("apps:install")
def confirm_bundle(key: str) -> Any:
    """Show who gets what before a bundle is installed."""
    return _draw_offer(key, offers.of_bundle)


@blueprint.post("/bundles/<key>/install")
@require("apps:install")
def install_bundle(key: str) -> Any:
    """Install a bundle after the go-ahead; without it, show what would happen."""
    return _install(key, offers.of_bundle, rollouts.install_bundle)


@blueprint.get("/apps/<key>/install")
@require("apps:install")
def confirm_app(key: str) -> Any:
    """Show who gets what before an app is installed."""
    return _draw_offer(key, offers.of_app)


@blueprint.post("/apps/<key>/install")
@require("apps:install")
def install_app(key: str) -> Any:
    """Install an app after the go-ahead; without it, show what would happen."""
    return _install(key, offers.of_app, rollouts.install_app)


@blueprint.get("/rollouts/<rollout_id>")
@require("installations:read")
def show_rollout(rollout_id: str) -> Any:
    """Show how a rollout is doing, live."""
    return _draw_rollout("rollout.html", rollout_id)


@blueprint.get("/rollouts/<rollout_id>/progress")
@require("installations:read")
def show_progress(rollout_id: str) -> Any:
    """Return the part of the page that is asked for again every second until the end."""
    return _draw_rollout("rollout_live.html", rollout_id)


@blueprint.post("/rollouts/<rollout_id>/cancel")
@require("apps:install")
def cancel_rollout(rollout_id: str) -> Any:
    """Stop or undo an install; what waits for a confirmation is asked on a page of its own."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            found = rollouts.cancel(
                session, who, rollout_id, is_confirmed=typed("is_confirmed") == "1"
            )
    except Problem as problem:
        if problem.code != "runs_waiting":
            raise
        return draw("confirm_cancel.html", rollout_id=rollout_id, problem=problem)
    return go(f"/rollouts/{found.id}")


def _install(key: str, find: _Find, start: _Install) -> Any:
    if typed("is_agreed") != "1":
        return _draw_offer(key, find)
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            rollout = start(session, who, key)
    except Problem as problem:
        if problem.status == 404:
            raise
        return _draw_offer(key, find, problem)
    return go(f"/rollouts/{rollout.id}")


def _draw_offer(key: str, find: _Find, problem: Problem | None = None) -> Any:
    who = principal()
    offer, is_installed, running = None, False, None
    try:
        with reading(who.organization_id) as session:
            offer = find(session, key)
            is_installed = rollouts.is_installed(session, who.organization_id, offer)
            running = rollouts.under_way(session, who.organization_id, offer.claim_key)
    except Problem as refusal:
        if refusal.status == 404:
            raise
        refused_now, problem = problem, problem or refusal
    else:
        refused_now = problem
    return draw(
        "install.html",
        key=key,
        offer=offer,
        is_installed=is_installed,
        running=running,
        pictures={r.key: _picture(offer, r) for r in offer.recipes} if offer else {},
        problem=problem,
        # merely looking at what cannot be installed is no mistake of the reader's
        status=refused_now.status if refused_now else 200,
    )


def _picture(offer: Offer, recipe: Recipe) -> list[dict[str, Any]]:
    """Return a recipe's steps as the flow picture takes them, in the reader's language."""
    parts = {part.connector.key: part for part in offer.parts}
    trigger = recipe.document["trigger"]
    steps = []
    start = parts.get(str(trigger.get("connector")))
    if start is not None:
        news = start.connector.triggers.get(str(trigger.get("trigger")))
        steps.append(_box(start, "trigger", news.title if news else trigger["event"]))
    for step in recipe.document.get("steps") or []:
        part = parts.get(str(step.get("connector")))
        if step.get("kind") == "action" and part is not None:
            action = part.connector.actions.get(str(step.get("action")))
            steps.append(_box(part, "action", step.get("title") or (action and action.title)))
    return steps


def _box(part: Part, kind: str, title: Any) -> dict[str, Any]:
    return {
        "app": localized(part.title),
        "title": localized(title),
        "kind": kind,
        "slot": part.slot,
    }


def _draw_rollout(template: str, rollout_id: str) -> Any:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        rollout = rollouts.find(session, organization_id, rollout_id)
        rollouts.wake_if_due(rollout)
        values: dict[str, Any] = {
            "rollout": rollout_progress.of(session, rollout),
            "installed": rollout_progress.installed_by(session, rollout),
            "flow_ids": rollout_progress.flow_ids(session, rollout),
        }
    return draw(template, **values)
