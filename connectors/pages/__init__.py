"""The pages of connectors: library, connections, missing events, flows, their editor, runs, approvals."""

from connectors.pages import (
    approvals,
    connections,
    editor,
    flows,
    library,
    reconciliations,
    runs,
)
from connectors.pages.drawing import blueprint

__all__ = [
    "approvals",
    "blueprint",
    "connections",
    "editor",
    "flows",
    "library",
    "reconciliations",
    "runs",
]
