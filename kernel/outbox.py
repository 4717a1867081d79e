"""Domain events, written in the caller's transaction: fact and news stand or fall together."""

from collections.abc import Callable
from typing import Any

from sqlmodel import Session

# The door the news goes through; the composition root puts webhooks' door here.
Door = Callable[[Session, str, str, dict[str, Any], str | None], str]
DOORS: list[Door] = []


def emit(
    session: Session,
    organization_id: str,
    event_type: str,
    data: dict[str, Any],
    subject: str | None = None,
) -> list[str]:
    """Record a past-tense fact such as `installation.created`; returns the ids of its events."""
    return [door(session, organization_id, event_type, data, subject) for door in DOORS]
