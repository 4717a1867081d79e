"""What a connection's page says of the triggers that its app can be asked for."""

from datetime import datetime
from typing import Any

from sqlmodel import Session

from connectors import polls, reconciliations
from connectors.polls import Offer
from connectors.tables import Connection
from kernel.database import store_now
from kernel.errors import N_

# How often an app can be asked, in seconds, and how that is said.
INTERVALS = (
    (60, N_("every minute")),
    (120, N_("every two minutes")),
    (300, N_("every five minutes")),
    (900, N_("every quarter of an hour")),
    (3600, N_("every hour")),
    (21_600, N_("every six hours")),
    (86_400, N_("once a day")),
)
# How far back the first look goes, in hours.
BACK = (
    (0, N_("only what changes from now on")),
    (24, N_("also the last day")),
    (168, N_("also the last seven days")),
    (720, N_("also the last thirty days")),
)


def shown(session: Session, connection: Connection) -> list[dict[str, Any]]:
    """Return what the card says of each trigger that the app can be asked for."""
    now = store_now(session)
    return [_shown(one, now) for one in polls.offers(session, connection)]


def _shown(one: Offer, now: datetime) -> dict[str, Any]:
    assert one.trigger.every is not None
    assert one.trigger.reconcile is not None
    plan, least = one.trigger.reconcile, one.trigger.every.least_seconds
    own = one.every_seconds
    words = dict(INTERVALS)
    fitting = [seconds for seconds in words if seconds >= least]
    return {
        "offer": one,
        "status": reconciliations.status(one.look, now) if one.look else None,
        "intervals": [(s, words.get(s)) for s in sorted({*fitting, own})],
        "back": [(hours, word) for hours, word in BACK if hours <= plan.keeps_hours],
        "input": plan.input.get("properties", {}),
        "needed": plan.input.get("required", []),
    }
