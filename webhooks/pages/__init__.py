"""The pages of events, sources and endpoints."""

from webhooks.pages import deliveries, endpoints, events, sources
from webhooks.pages.drawing import blueprint

__all__ = ["blueprint", "deliveries", "endpoints", "events", "sources"]
