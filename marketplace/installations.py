"""Installations: an organization's apps, set up by the hub or run by the customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Select
from sqlmodel import Session, col

from catalog import apps
from catalog.tables import App
from connectors import connection_uses, connections
from connectors.tables import Connection, Flow
from identity import audit
from identity.principals import Principal
from kernel import tenancy
from kernel.database import store_now
from kernel.errors import N_, Conflict, FieldError, Invalid
from kernel.ids import new_id
from marketplace.tables import Installation
from webhooks.events import listing
from webhooks.tables import Event

SLOTS = ("rnd", "procurement", "production", "logistics", "marketing", "organization")
MAX_NAME_CHARACTERS = 80
MAX_ADDRESS_CHARACTERS = 2000


def find(session: Session, organization_id: str, installation_id: str) -> Installation:
    """Return the organization's installation; a stranger's is NotFound."""
    return tenancy.find(session, Installation, organization_id, installation_id)


def of_organization(
    organization_id: str, *, with_absent: bool = False
) -> "Select[tuple[Installation]]":
    """Select the toolbox's installations, also those that are gone when asked for."""
    statement: Any = Installation.of(organization_id)
    if not with_absent:
        statement = statement.where(col(Installation.state) != "absent")
    return statement  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Surroundings:
    """What hangs on an installation."""

    connection: Connection | None
    flows: list[Flow]
    events: list[Event]


def surroundings(session: Session, installation: Installation) -> Surroundings:
    """Return an installation's connection, the flows that use it and its last events."""
    organization_id = installation.organization_id
    if installation.connection_id is None:
        return Surroundings(None, [], [])
    connection = connections.find(session, organization_id, installation.connection_id)
    found = connection_uses.flows_using(session, organization_id, connection.id)
    events: list[Event] = []
    if installation.source_id:
        statement = listing(organization_id, source_id=installation.source_id)
        events = list(session.execute(statement.order_by(col(Event.id).desc()).limit(8)).scalars())
    return Surroundings(connection, found, events)


def add_link(
    session: Session,
    by: Principal,
    *,
    open_url: str,
    name: str = "",
    slot: str | None = None,
    app_key: str | None = None,
) -> Installation:
    """Put an app that the customer runs into the toolbox, with its own address.

    Without a name the app's own is taken. Raises Invalid with pointers.
    """
    app = _known_app(session, app_key)
    if not name.strip() and app is not None:
        title: Mapping[str, Any] = app.name
    else:
        title = {"zh": name.strip(), "en": name.strip()}
    chosen_slot = slot or (app.slots[0] if app is not None and app.slots else None)
    _check(title, open_url, chosen_slot)
    installation = Installation(
        organization_id=by.organization_id,
        id=new_id("ins"),
        app_key=app.key if app else None,
        kind="external",
        title=dict(title),
        slot=chosen_slot,
        state="active",
        open_url=open_url.strip(),
        installed_at=store_now(session),
    )
    session.add(installation)
    audit.record(session, by, "installation.linked", installation.id)
    return installation


def change_link(
    session: Session,
    by: Principal,
    installation_id: str,
    *,
    name: str,
    open_url: str,
    slot: str | None,
) -> Installation:
    """Change the name, address or slot of an app that the customer runs."""
    installation = _link(session, by.organization_id, installation_id)
    title = {"zh": name.strip(), "en": name.strip()}
    if isinstance(installation.title, Mapping) and name.strip() in installation.title.values():
        title = dict(installation.title)  # unchanged: both languages stay
    _check(title, open_url, slot or None)
    installation.title, installation.open_url = title, open_url.strip()
    installation.slot = slot or None
    session.add(installation)
    audit.record(session, by, "installation.changed", installation.id)
    return installation


def remove_link(session: Session, by: Principal, installation_id: str) -> Installation:
    """Take an app that the customer runs out of the toolbox; the app itself is not touched."""
    installation = _link(session, by.organization_id, installation_id)
    installation.state = "absent"
    installation.uninstalled_at = store_now(session)
    session.add(installation)
    audit.record(session, by, "installation.unlinked", installation.id)
    return installation


def _link(session: Session, organization_id: str, installation_id: str) -> Installation:
    installation = find(session, organization_id, installation_id)
    if installation.kind != "external" or installation.state == "absent":
        raise Conflict(
            N_("This is not a link of your own"),
            N_("Apps that the hub set up are removed with “Uninstall”."),
            code="not_a_link",
        )
    return installation


def _known_app(session: Session, app_key: str | None) -> App | None:
    if not app_key:
        return None
    app = apps.by_keys(session, [app_key]).get(app_key)
    if app is None:
        raise Invalid(
            errors=[{"pointer": "/app_key", "message": N_("There is no such app in the catalogue")}]
        )
    return app


def _check(title: Mapping[str, Any], open_url: str, slot: str | None) -> None:
    errors: list[FieldError] = []
    name = str(title.get("zh") or title.get("en") or "")
    if not name or len(name) > MAX_NAME_CHARACTERS:
        message = N_("Please give it a name of at most 80 characters.")
        errors.append({"pointer": "/name", "message": message})
    if not is_web_address(open_url):
        message = N_("Please give a full address that begins with https:// or http://")
        errors.append({"pointer": "/open_url", "message": message})
    if slot is not None and slot not in SLOTS:
        message = N_("Please choose one of the scenarios offered.")
        errors.append({"pointer": "/slot", "message": message})
    if errors:
        raise Invalid(errors=errors)


def is_web_address(text: str) -> bool:
    """Tell whether a browser may be sent there: http or https with a host and no password."""
    text = text.strip()
    if not text or len(text) > MAX_ADDRESS_CHARACTERS or any(c.isspace() for c in text):
        return False
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port_is_fine
        and parts.username is None
    )
