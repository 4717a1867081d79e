"""Where packages that must not know each other meet: what goes up goes through these lists."""

from collections.abc import Iterable
from functools import cache

from flask import Flask

from catalog import event_types
from catalog.event_types import EventType
from connectors.engine import loader
from connectors.engine.connector import Connector, Trigger


def install(_app: Flask) -> None:
    """Fill the hook lists, once however many apps are made."""
    install_providers()


def install_providers() -> None:
    """Let the vocabulary know the event types that connectors declare."""
    if declared_types not in event_types.PROVIDERS:
        event_types.PROVIDERS.append(declared_types)


@cache
def declared_types() -> Iterable[EventType]:
    """Give the event types that connectors declare with a schema of their own."""
    return tuple(
        _event_type(connector, trigger)
        for connector in loader.library().values()
        for trigger in connector.triggers.values()
        if trigger.schema and not trigger.event.endswith("*")
    )


def _event_type(connector: Connector, trigger: Trigger) -> EventType:
    return EventType(
        name=trigger.event,
        version=trigger.version,
        title=dict(trigger.title),
        schema=dict(trigger.schema or {}),
        sample=trigger.sample.get("body", {}),
        term_source=connector.title["en"],
        origin="connector",
    )
