"""Which event types the connectors of the library tell."""

from collections.abc import Iterator

from catalog.event_types import Speaker
from connectors.engine import loader


def speakers(name: str) -> Iterator[Speaker]:
    """Name the connectors with a trigger for an event type."""
    for connector in loader.library().values():
        if any(_tells(trigger.event, name) for trigger in connector.triggers.values()):
            yield Speaker("connector", dict(connector.title), f"/connectors/{connector.key}")


def _tells(event: str, name: str) -> bool:
    """Tell whether a trigger's event (exact, or `family.*`) covers a type."""
    return event == name or (event.endswith(".*") and name.startswith(event[:-1]))
