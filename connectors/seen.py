"""Seen: an event as expressions see it."""

from typing import Any

from kernel import documents


def seen_as(event: Any) -> dict[str, Any]:
    """Return an event as expressions see it; raises Malformed when its body is no JSON."""
    return {
        "id": event.id,
        "type": event.type,
        "version": event.version,
        "subject": event.subject,
        "time": event.occurred_at.isoformat(),
        "source": event.origin,
        "data": documents.parse(event.body),
    }
