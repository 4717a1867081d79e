"""Conditions: which events of the wanted types an endpoint gets, by what they say.

An event for which a condition cannot be computed (a field is missing, a text is compared with a
number) is neither sent nor lost: its delivery is set aside with the reason `condition_failed`, and
whoever looks at it sends it by hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from kernel import documents
from kernel.errors import N_, FieldError, Invalid, Problem

MAX_TEXT = 2000
FAILED = "condition_failed"


class NotComputable(Exception):  # noqa: N818 - it is the event that does not fit
    """A condition says neither yes nor no about an event."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language conditions are written in."""

    check: Callable[[str], None]  # raises Invalid with the pointer /condition
    holds: Callable[[str, Mapping[str, Any]], bool]  # raises NotComputable


# Filled by the composition root with the one language there is.
LANGUAGES: list[Language] = []


def checked(text: str | None) -> str | None:
    """Return a condition that can be kept, None for an empty one; raises Invalid."""
    condition = (text or "").strip()
    if not condition:
        return None
    if len(condition) > MAX_TEXT or not LANGUAGES:
        message = N_("A condition has at most 2,000 characters")
        errors: list[FieldError] = [{"pointer": "/condition", "message": message}]
        raise Invalid(errors=errors)
    LANGUAGES[0].check(condition)
    return condition


class View:
    """An event as conditions see it, read once however many endpoints ask."""

    __slots__ = ("_event", "_seen")

    def __init__(self, event: Any) -> None:
        """Read nothing before somebody asks."""
        self._event = event
        self._seen: dict[str, Any] | Problem | None = None

    def seen(self) -> dict[str, Any]:
        """Return what conditions read; raises the same Problem each time for unreadable data."""
        if self._seen is None:
            try:
                self._seen = seen(self._event)
            except Problem as unreadable:
                self._seen = unreadable
        if isinstance(self._seen, Problem):
            raise self._seen
        return self._seen


def lets_through(endpoint: Mapping[str, Any], view: View, row: dict[str, Any]) -> bool:
    """Tell whether an endpoint with a condition gets the event; sets aside what nobody can tell."""
    found = judge(endpoint, view)
    if found is None:
        row |= {"state": "parked", "next_at": None, "last_problem": FAILED}
    return found is not False


def seen(event: Any) -> dict[str, Any]:
    """Return the event as a condition sees it; data that is not JSON is null."""
    is_json = event.content_type == "application/json"
    return {
        "id": event.id,
        "type": event.type,
        "version": event.version,
        "source": event.origin,
        "subject": event.subject,
        "time": event.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": documents.parse(event.body, len(event.body)) if is_json else None,
    }


def judge(endpoint: Mapping[str, Any], view: View) -> bool | None:
    """Tell whether an endpoint gets the event by its condition; None: nobody can tell."""
    if not endpoint["condition"]:
        return True
    try:
        return LANGUAGES[0].holds(endpoint["condition"], view.seen())
    except Exception:  # noqa: BLE001 - one owner's condition may not stop everybody's batch
        return None
