"""What people do with vendors' connectors, each with its transaction and its line in the trail."""

from typing import Any

from connectors import connections
from connectors.publishing import archives, bench, editions, shelf, upgrades
from connectors.publishing.archives import Files
from connectors.publishing.tables import ConnectorEdition
from connectors.tables import Connection, Flow
from identity import audit
from identity.principals import Principal
from kernel.database import EVERY, transaction
from kernel.errors import N_, Forbidden, Unavailable


def upload(who: Principal, files: Files, edition_id: str | None = None) -> ConnectorEdition:
    """Take a folder to be checked."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        edition = editions.upload(session, vendor, files, edition_id)
        audit.record(session, who, "edition.uploaded", edition.id)
        return edition


def begin(who: Principal, name: str, openapi: bytes | None) -> tuple[Files, list[dict[str, Any]]]:
    """Make the folder of a new connector, from an OpenAPI document when there is one.

    Returns its files, and what could not be taken or is wrong, in both languages.
    """
    with transaction(EVERY) as session:
        editions.publisher(session, who.organization_id)  # nobody else has the machine work
    request = {"do": "begin", "name": name, "openapi": openapi.hex() if openapi else None}
    try:
        made = bench.ask_now(request)
    except bench.Broke as broke:
        raise Unavailable(N_("The document is too large or too complex to be read")) from broke
    notes = made.get("left_out") or [one["say"] for one in made.get("findings", [])]
    return {name: bytes.fromhex(body) for name, body in made.get("files", {}).items()}, notes


def rehearse(
    who: Principal, edition_id: str, action: str, value: Any, answer: str | None
) -> dict[str, Any]:
    """Show what an action of our edition would send, and what it makes of a recorded answer."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        raw = bytes(editions.find_own(session, vendor, edition_id).archive)
    files = {name: body.hex() for name, body in archives.read(raw).items()}
    request = {"do": "rehearse", "files": files, "action": action, "input": value, "answer": answer}
    try:
        return bench.ask_now(request)
    except bench.Broke as broke:
        raise Unavailable(N_("The folder is too large or too complex to be tried")) from broke


def write_file(who: Principal, edition_id: str, name: str, text: str) -> ConnectorEdition:
    """Change a file of an open edition."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        edition = editions.write_file(session, vendor, edition_id, name, text)
        audit.record(session, who, "edition.uploaded", edition.id, detail={"file": name})
        return edition


def submit(who: Principal, edition_id: str) -> ConnectorEdition:
    """Send an edition to review."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        edition = editions.submit(session, vendor, edition_id, who.actor_id)
        detail = {"key": editions.key_of(edition)}
        audit.record(session, who, "edition.submitted", edition.id, detail=detail)
        return edition


def change_state(who: Principal, edition_id: str, state: str, reason: str) -> ConnectorEdition:
    """Deprecate or withdraw one of our editions, or offer it again; recalling is an operator's."""
    if state == "recalled":
        raise Forbidden(N_("Only an operator of the hub recalls a version"))
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        edition = editions.find_own(session, vendor, edition_id)
        edition = editions.change_state(session, edition, state, reason)
        audit.record(session, who, "edition.changed", edition.id, detail={"state": state})
    shelf.forget()
    return edition


def delete(who: Principal, edition_id: str) -> None:
    """Throw a draft away."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, who.organization_id)
        editions.delete(session, vendor, edition_id)
        audit.record(session, who, "edition.deleted", edition_id)


def decide(who: Principal, edition_id: str, decision: str, reason: str) -> ConnectorEdition:
    """Publish or refuse an edition in review."""
    with transaction(EVERY) as session:
        edition = editions.decide(session, edition_id, decision, reason, who.actor_id)
        action = "edition.published" if edition.state == "published" else "edition.refused"
        detail = {"key": editions.key_of(edition)}
        audit.record(session, who, action, edition.id, detail=detail)
    shelf.forget()
    return edition


def recall(who: Principal, edition_id: str, reason: str) -> ConnectorEdition:
    """Stop a version everywhere."""
    with transaction(EVERY) as session:
        edition = editions.find(session, edition_id)
        edition = editions.change_state(session, edition, "recalled", reason)
        audit.record(session, who, "edition.changed", edition.id, detail={"state": "recalled"})
    shelf.forget()
    return edition


def upgrade(who: Principal, connection_id: str) -> tuple[Connection, list[Flow]]:
    """Move a connection and its flows to the newest version."""
    with transaction(who.organization_id) as session:
        moved = upgrades.upgrade(session, who.organization_id, connection_id, who.actor_id)
        connection = connections.find(session, who.organization_id, connection_id)
        detail = {"connector": connection.connector_key, "flows": [one.id for one in moved]}
        audit.record(session, who, "connection.upgraded", connection_id, detail=detail)
        return connection, moved
