"""The pages of connectors: library, connections, flows and their editor, runs."""

from connectors.pages import connections, editor, flows, library, runs
from connectors.pages.drawing import blueprint

__all__ = ["blueprint", "connections", "editor", "flows", "library", "runs"]
