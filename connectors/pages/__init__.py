"""The pages of connectors: library, connections, polls, missing events, flows, editor, runs."""

from connectors.pages import connections, editor, flows, library, polls, reconciliations, runs
from connectors.pages.drawing import blueprint

__all__ = [
    "blueprint",
    "connections",
    "editor",
    "flows",
    "library",
    "polls",
    "reconciliations",
    "runs",
]
