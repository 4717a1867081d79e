"""Removing an app: what it means first, then the go-ahead."""

from typing import Any

from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import Problem
from marketplace import installations, rollouts
from marketplace.pages.drawing import blueprint, draw, go, typed


@blueprint.get("/installations/<installation_id>/remove")
@require("apps:install")
def confirm_removal(installation_id: str) -> Any:
    """Show what removing an app stops, keeps and closes; a link has a form of its own."""
    if _is_link(installation_id):
        return go(f"/toolbox/links/{installation_id}")
    return _draw(installation_id)


@blueprint.post("/installations/<installation_id>/remove")
@require("apps:install")
def remove(installation_id: str) -> Any:
    """Remove an app; runs that still wait need a tick of their own."""
    if _is_link(installation_id):
        return go(f"/toolbox/links/{installation_id}")
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            there = installations.find(session, who.organization_id, installation_id)
            started = rollouts.remove_installation(
                session, who, there, is_confirmed=typed("is_confirmed") == "1"
            )
    except Problem as problem:
        if problem.status == 404:
            raise
        return _draw(installation_id, problem)
    return go(f"/rollouts/{started.id}")


def _is_link(installation_id: str) -> bool:
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return installations.find(session, organization_id, installation_id).kind == "external"


def _draw(installation_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        there = installations.find(session, who.organization_id, installation_id)
        values: dict[str, Any] = {
            "waiting": rollouts.runs_waiting(session, who.organization_id, [there]),
            "surroundings": installations.surroundings(session, there),
        }
    return draw("remove.html", installation=there, problem=problem, **values)
