"""The pages of connectors: library, connections, flows, their editor, runs, and so on."""

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
