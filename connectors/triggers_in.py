"""Doors for an app's events: a webhook source that belongs to a connection's trigger."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from connectors import connections, polls, reconciliations
from connectors.engine import deliveries, loader, triggers
from connectors.engine.connector import Connector, Trigger
from connectors.tables import Connection
from kernel.errors import NotFound
from webhooks import sources
from webhooks.offers import Offer

# what proves nothing is no known sender, and is chosen where its weakness is explained
_OFFERED = ("recipe", "hmac", "standard_webhooks", "github", "token")


@dataclass(frozen=True)
class OpenedSource:
    """Where the app shall send, and the secret it may choose to sign with."""

    source_id: str
    url: str
    secret: str | None


def open_source(
    session: Session,
    connection: Connection,
    trigger_key: str,
    filled: Mapping[str, str] | None = None,
) -> OpenedSource:
    """Open the address that a connection's app sends this trigger's events to.

    What its recipe asks for comes from `filled`, else from the connection's fields of the same
    name. Raises NotFound and Invalid.
    """
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
        filled={**_known(connection, trigger), **(filled or {})},
    )
    session.flush()  # the look for missing events is written beside it
    reconciliations.watch(session, source)
    return OpenedSource(source.id, sources.url_of(source), sources.secret_of(source))


def _known(connection: Connection, trigger: Trigger) -> dict[str, str]:
    """Return what the connection already knows of what a trigger's recipe asks for."""
    if not deliveries.uses_recipe(trigger):
        return {}
    asked = trigger.verify.get("options", {}).get("secrets", {})
    values = connections.open_connection(connection).values
    known = {**values.settings, **values.fields}
    return {name: str(known[name]) for name in asked if known.get(name) not in (None, "")}


def offers() -> Sequence[Offer]:
    """Return the apps whose deliveries can be taken as soon as their secrets are known.

    Those of a recipe ask for theirs; for the others one is made, or the app's own is entered.
    """
    return [offer for one in loader.library().values() for offer in _offers_of(one)]


def _offers_of(connector: Connector) -> list[Offer]:
    """Return one offer for each address that an app sends to; triggers may share one."""
    return [
        _offer(connector, keys, is_first=number == 0)
        for number, keys in enumerate(_doors(connector))
    ]


def _doors(connector: Connector) -> list[list[str]]:
    """Return the triggers of each address: those proved alike, whose types are read alike."""
    found: dict[str, list[str]] = {}
    for key, trigger in connector.triggers.items():
        if trigger.every or trigger.verify["scheme"] not in _OFFERED:
            continue
        # a recipe names its types itself
        origin = None if deliveries.uses_recipe(trigger) else trigger.type_from
        found.setdefault(json.dumps([trigger.verify, origin], sort_keys=True), []).append(key)
    return list(found.values())


def _offer(connector: Connector, keys: Sequence[str], *, is_first: bool) -> Offer:
    trigger = connector.triggers[keys[0]]
    config = triggers.source_config(connector, keys[0])
    rules = config["type_rules"]
    if not deliveries.uses_recipe(trigger):
        # where triggers share an address, only what they say alike holds for all that comes there
        others = [triggers.rules_of(connector.triggers[key]) for key in keys]
        rules = {k: v for k, v in rules.items() if all(one.get(k) == v for one in others)}
    is_whole = is_first and (deliveries.uses_recipe(trigger) or "fixed" not in trigger.type_from)
    return Offer(
        key=connector.key if is_first else f"{connector.key}/{keys[0]}",
        title=connector.title if is_whole else _joined(connector, trigger),
        text=connector.summary,
        scheme=config["scheme"],
        scheme_options=config["scheme_options"],
        rules=rules,
        connector_key=connector.key,
        trigger_key=keys[0],
        confidence=trigger.confidence,
    )


def _joined(connector: Connector, trigger: Trigger) -> dict[str, str]:
    return {name: f"{connector.title[name]} · {trigger.title[name]}" for name in ("zh", "en")}
