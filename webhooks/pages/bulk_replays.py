"""Bulk replays as pages: how far one is, and a way to stop it."""

from datetime import timedelta
from typing import Any

from identity import audit
from identity.guard import principal, require
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import Problem
from webhooks import bulk_replays, deletions
from webhooks.pages.drawing import blueprint, draw, go, typed, wanted_types
from webhooks.pages.endpoints import SINCE, draw_endpoint


@blueprint.post("/endpoints/<endpoint_id>/bulk-replays")
@require("deliveries:replay")
def start_bulk_replay(endpoint_id: str) -> Any:
    """Send many events of a time once more, a few first."""
    who = principal()
    hours = int(typed("bulk_hours")) if typed("bulk_hours") in SINCE else 24
    try:
        with transaction(who.organization_id) as session:
            row = bulk_replays.begin(
                session,
                who.organization_id,
                endpoint_id,
                since=clock.now() - timedelta(hours=hours),
                event_types=wanted_types(typed("bulk_types", 5000)),
                only_failed=typed("only_failed") == "1",
            )
            audit.record(session, who, "bulk_replay.started", row.id)
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/bulk-replays/{row.id}", "bulk_started")


@blueprint.get("/bulk-replays/<bulk_replay_id>")
@require("deliveries:read")
def show_bulk_replay(bulk_replay_id: str) -> Any:
    """Show how far it is."""
    return _draw("bulk_replay.html", bulk_replay_id)


@blueprint.get("/bulk-replays/<bulk_replay_id>/live")
@require("deliveries:read")
def show_bulk_replay_live(bulk_replay_id: str) -> Any:
    """Give the part of the page that changes."""
    return _draw("bulk_replay_live.html", bulk_replay_id)


def _draw(template: str, bulk_replay_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        row = bulk_replays.get(session, who.organization_id, bulk_replay_id)
        endpoint = deletions.remembered(session, who.organization_id, row.endpoint_id)
        figures = bulk_replays.progress(session, row)
    return draw(template, problem=problem, row=row, endpoint=endpoint, figures=figures)


@blueprint.post("/bulk-replays/<bulk_replay_id>/cancel")
@require("deliveries:replay")
def cancel_bulk_replay(bulk_replay_id: str) -> Any:
    """Send nothing more of it."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            bulk_replays.cancel(session, who.organization_id, bulk_replay_id)
            audit.record(session, who, "bulk_replay.cancelled", bulk_replay_id)
    except Problem as problem:
        return _draw("bulk_replay.html", bulk_replay_id, problem)
    return go(f"/bulk-replays/{bulk_replay_id}", "bulk_cancelled")
