"""Watching: what passes by is looked at now and then, in memory, and costs no statement.

An answer that does not fit is always noted; one that fits, and events, are looked at once in a
while for what is new. A sweep writes down what was seen (connectors.drifting.drifts).
"""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from connectors.connections import Open
from connectors.engine import departures
from connectors.engine.answers import Answer
from connectors.engine.departures import Departure
from webhooks.fan_out import Planned, Routed
from webhooks.ready import ReadyEvent

EVERY_SECONDS = 600.0  # between two looks at the same action, or at the same type of a source
MOST_NOTED = 500  # departures kept in memory until the sweep
MOST_EVENTS = 50
_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Seen:
    """Departures of one answer: whose, and of which part of the connector."""

    organization_id: str
    connection_id: str
    part: str
    part_key: str
    found: tuple[Departure, ...]


@dataclass(frozen=True, slots=True)
class Passing:
    """An event to be looked at by the sweep."""

    organization_id: str
    source_id: str
    type: str
    body: bytes


_guard = threading.Lock()
_noted: list[Seen] = []
_passing: list[Passing] = []
_looked: dict[tuple[str, str, str], float] = {}


def _forget() -> None:
    """Start empty after a fork."""
    global _guard
    _guard = threading.Lock()
    _noted.clear()
    _passing.clear()
    _looked.clear()


os.register_at_fork(after_in_child=_forget)


def _is_due(key: tuple[str, str, str]) -> bool:
    now = time.monotonic()
    before = _looked.get(key)
    if before is not None and now - before < EVERY_SECONDS:
        return False
    with _guard:
        if len(_looked) >= _KNOWN:
            _looked.clear()
        _looked[key] = now
    return True


def answer(ready: Open, action_key: str, told: Answer) -> None:
    """Look at an answer: always at one that does not fit, else once in a while."""
    if told.kind != "ok" and not told.is_drift:
        return
    row = ready.connection
    if not told.is_drift and not _is_due((row.id, "action", action_key)):
        return
    action = ready.connector.actions.get(action_key)
    if action is None:
        return
    schema = action.batch.output if action.batch is not None else action.output
    found = departures.of(schema, told.output) if told.output is not None else []
    if told.is_drift and not found:
        found = [Departure("missing", told.detail[:300])]
    note(row.organization_id, row.id, "action", action_key, found)


def note(
    organization_id: str, connection_id: str, part: str, key: str, found: Sequence[Departure]
) -> None:
    """Keep departures in mind until the sweep; when there are too many the newest are let go."""
    if not found:
        return
    with _guard:
        if len(_noted) < MOST_NOTED:
            _noted.append(Seen(organization_id, connection_id, part, key, tuple(found)))


def plan(session: Session, events: Sequence[ReadyEvent], routed: Routed) -> Planned | None:  # noqa: ARG001
    """Set an event of each type and source aside once in a while, to be looked at later."""
    for event in events:
        if event.source_id and _is_due((event.source_id, "trigger", event.type)):
            with _guard:
                if len(_passing) < MOST_EVENTS:
                    _passing.append(
                        Passing(event.organization_id, event.source_id, event.type, event.body)
                    )
    return None


def take() -> tuple[list[Seen], list[Passing]]:
    """Return what was kept in mind, and forget it."""
    with _guard:
        noted, passing = list(_noted), list(_passing)
        _noted.clear()
        _passing.clear()
    return noted, passing


def forget_looks() -> None:
    """Let everything be looked at anew."""
    with _guard:
        _looked.clear()
