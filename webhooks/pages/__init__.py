"""The pages of events, sources and endpoints, and the portal of subscribers."""

from webhooks.pages import (
    archive,
    bulk_replays,
    deliveries,
    endpoints,
    events,
    keeping,
    portal,
    portal_links,
    sending,
    sources,
    usage,
    wishes,
)
from webhooks.pages.drawing import blueprint
from webhooks.pages.portal_door import install

__all__ = [
    "archive",
    "blueprint",
    "bulk_replays",
    "deliveries",
    "endpoints",
    "events",
    "install",
    "keeping",
    "portal",
    "portal_links",
    "sending",
    "sources",
    "usage",
    "wishes",
]
