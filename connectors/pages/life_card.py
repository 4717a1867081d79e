"""What a connection's page says of its life: health, budgets, ends, links to reconnect."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from connectors import source_ties
from connectors.budgets import gauges
from connectors.health import expiries, looks
from connectors.reconnecting import links
from connectors.subscriptions import ordering
from connectors.tables import Connection
from kernel.database import store_now
from kernel.errors import N_
from webhooks import figures

# The words for kinds of errors, as people know them from runs.
CAUSES = {
    "data": N_("content refused"),
    "auth": N_("sign-in refused"),
    "config": N_("wrong set-up"),
    "down": N_("app not reachable"),
    "limit": N_("asked for a slower pace"),
    "unknown": N_("outcome unknown"),
}
KINDS = {
    "ok": (N_("went well"), "good"),
    "failed": (N_("failed"), "bad"),
    "waited": (N_("held back here"), "quiet"),
}
DEEDS = {
    "created": N_("set up at the app"),
    "adopted": N_("found at the app, set up before"),
    "missing": N_("was missing at the app"),
    "renewed": N_("renewed"),
    "replaced": N_("replaced by a new one"),
    "deleted": N_("deleted at the app"),
    "double_removed": N_("deleted a second one"),
    "ghost_removed": N_("deleted one that led nowhere"),
    "left_to_you": N_("could not be deleted; delete it at the app"),
}
TITLE = N_("Calls in the last 24 hours")


@dataclass(slots=True)
class _Span:
    """An hour as charts take it."""

    start: datetime
    counts: dict[str, int]
    refused: int = 0


def shown(session: Session, connection: Connection) -> dict[str, Any]:
    """Return what the cards of a connection's page draw."""
    health, now = looks.of(session, connection), store_now(session)
    found = links.listing(session, connection.organization_id, connection.id)
    spans = [
        _Span(hour["start"], {name: hour[name] for name in KINDS})
        for hour in looks.by_hour(health.hours, now)
    ]
    peak, columns = figures.columns(spans, tuple(KINDS))  # type: ignore[arg-type]
    sums = {name: sum(span.counts[name] for span in spans) for name in KINDS}
    return {
        "health": health,
        "cause_words": CAUSES,
        "gauges": gauges.of(session, connection),
        "calls": {"key": "calls", "title": TITLE, "peak": peak, "columns": columns, "sums": sums},
        "call_kinds": KINDS,
        "end_words": expiries.WORDS,
        "links": found,
        "unheard": source_ties.unheard(session, connection.organization_id, connection.id),
        "webhooks": ordering.offers(session, connection),
        "webhook_deeds": DEEDS,
        "link_states": {one.id: links.state_of(one) for one in found},
    }
