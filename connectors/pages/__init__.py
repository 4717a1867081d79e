"""The pages of connectors: library, connections, missing events, flows, their editor, runs."""

from connectors.pages import connections, editor, flows, library, reconciliations, runs
from connectors.pages.drawing import blueprint

__all__ = ["blueprint", "connections", "editor", "flows", "library", "reconciliations", "runs"]
