"""The two forms of the card on a connection's page about what its app is asked for."""

from datetime import timedelta
from typing import Any

from connectors import polls
from connectors.errors import Unfit, finding
from connectors.pages.connections import draw_one
from connectors.pages.drawing import blueprint, go, typed, typed_under
from identity import audit
from identity.guard import principal, require
from kernel.database import store_now, transaction
from kernel.errors import Problem


@blueprint.post("/connections/<connection_id>/polls")
@require("connections:write")
def start_poll(connection_id: str) -> Any:
    """Ask the app from now on, or otherwise than so far."""
    who = principal()
    try:
        every, back = _whole("every_seconds"), _whole("back_hours")
        with transaction(who.organization_id) as session:
            since = store_now(session) - timedelta(hours=back) if back else None
            look = polls.start(
                session,
                who.organization_id,
                connection_id,
                typed("trigger"),
                values=typed_under("input"),
                every_seconds=every or None,
                since=since,
            )
            audit.record(session, who, "poll.started", look.id)
    except Problem as problem:
        return draw_one(connection_id, problem)
    return go(f"/connections/{connection_id}", done="poll_started")


def _whole(name: str) -> int:
    text = typed(name) or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise Unfit([finding(f"/{name}", "请选择列出的一项", "Choose one of the list")])
    return int(text)


@blueprint.post("/polls/<poll_id>/stop")
@require("connections:write")
def stop_poll(poll_id: str) -> Any:
    """Ask the app no more; what came in stays."""
    who = principal()
    with transaction(who.organization_id) as session:
        source = polls.stop(session, who.organization_id, poll_id)
        back = f"/connections/{source.connection_id}"
        audit.record(session, who, "poll.stopped", poll_id)
    return go(back, done="poll_stopped")
