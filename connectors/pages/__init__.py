"""The pages of connectors: library, connections, polls, missing events, flows, runs, and so on."""

from connectors.incidents import pages as incidents
from connectors.pages import (
    approvals,
    canvas,
    connections,
    consents,
    editor,
    flows,
    library,
    polls,
    reconciliations,
    runs,
    sheets,
    streams,
)
from connectors.pages.drawing import blueprint
from connectors.publishing import pages as publishing

__all__ = [
    "approvals",
    "blueprint",
    "canvas",
    "connections",
    "consents",
    "editor",
    "flows",
    "incidents",
    "library",
    "polls",
    "publishing",
    "reconciliations",
    "runs",
    "sheets",
    "streams",
]
