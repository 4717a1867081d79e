"""Doors for an app's events: a webhook source that belongs to a connection's trigger."""

from dataclasses import dataclass

from sqlmodel import Session

from connectors import polls, reconciliations
from connectors.engine import loader, triggers
from connectors.tables import Connection
from kernel.errors import NotFound
from webhooks import sources


@dataclass(frozen=True)
class OpenedSource:
    """Where the app shall send, and the secret it may choose to sign with."""

    source_id: str
    url: str
    secret: str | None


def open_source(session: Session, connection: Connection, trigger_key: str) -> OpenedSource:
    """Open the address that a connection's app sends this trigger's events to."""
    connector = loader.find(connection.connector_key)
    trigger = connector.triggers.get(trigger_key)
    if trigger is None:
        raise NotFound
    if trigger.every:
        look = polls.start(session, connection.organization_id, connection.id, trigger_key)
        return OpenedSource(look.id, "", None)
    config = triggers.source_config(connector, trigger_key)
    source = sources.create(
        session,
        connection.organization_id,
        name=f"{connection.name} · {trigger.title['zh']}",
        scheme=config["scheme"],
        scheme_options=config["scheme_options"],
        rules=config["type_rules"],
        connection_id=connection.id,
        connector_key=connector.key,
        trigger_key=trigger_key,
    )
    session.flush()  # the look for missing events is written beside it
    reconciliations.watch(session, source)
    return OpenedSource(source.id, sources.url_of(source), sources.secret_of(source))
