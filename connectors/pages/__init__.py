"""The pages of connectors: library, connections, polls, missing events, flows, runs, and so on."""

from connectors.completing import pages as completing
from connectors.drifting import pages as drifts
from connectors.incidents import pages as incidents
from connectors.lookups import pages as lookups
from connectors.pages import (
    approvals,
    canvas,
    connections,
    consents,
    editor,
    flows,
    library,
    life,
    polls,
    reconciliations,
    reconnect,
    reconnect_links,
    runs,
    sheets,
    source_ties,
    stages,
    stores,
    streams,
    webhook_card,
)
from connectors.pages.drawing import blueprint
from connectors.publishing import pages as publishing

__all__ = [
    "approvals",
    "blueprint",
    "canvas",
    "completing",
    "connections",
    "consents",
    "drifts",
    "editor",
    "flows",
    "incidents",
    "library",
    "life",
    "lookups",
    "polls",
    "publishing",
    "reconciliations",
    "reconnect",
    "reconnect_links",
    "runs",
    "sheets",
    "source_ties",
    "stages",
    "stores",
    "streams",
    "webhook_card",
]
