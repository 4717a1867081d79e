"""The JSON routes of vendors' connectors: upload, check, review, offer, upgrade."""

import base64
from typing import Any

from flask import Blueprint

from connectors.errors import Unfit, finding
from connectors.publishing import archives, deeds, editions, schemas
from connectors.publishing.tables import ConnectorEdition
from identity.guard import principal, require
from kernel.database import EVERY, reading, transaction
from kernel.web import operation

blueprint = Blueprint("publishing", __name__)


def _out(edition: ConnectorEdition) -> dict[str, Any]:
    shown = edition.model_dump(exclude={"archive"})
    return {**shown, "key": editions.key_of(edition), "vendor": edition.vendor_key}


@blueprint.get("/connector-editions")
@require("releases:submit")
@operation(summary="List our connectors' versions", returns=schemas.EditionOut, many=True)
def list_editions() -> Any:
    """Return every version of every connector of our organization, the newest first."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, principal().organization_id)
        return [_out(one) for one in editions.of_vendor(session, vendor.id)]


@blueprint.post("/connector-editions")
@require("releases:submit")
@operation(
    summary="Upload a connector",
    body=schemas.EditionIn,
    returns=schemas.EditionOut,
    status=201,
)
def upload_edition(body: schemas.EditionIn) -> Any:
    """Take a connector's folder; it is then checked and tried offline, see `state` and `trial`."""
    return _out(deeds.upload(principal(), archives.read(_unpacked(body.archive))))


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as bad:  # also what is no ASCII
        raise Unfit([finding("/archive", "不是 base64", "This is no base64")]) from bad


@blueprint.get("/connector-editions/<edition_id>")
@require("releases:submit")
@operation(summary="Read a version of our connector", returns=schemas.EditionOut)
def read_edition(edition_id: str) -> Any:
    """Return where it stands, what the check found and what changed."""
    with transaction(EVERY) as session:
        vendor = editions.publisher(session, principal().organization_id)
        return _out(editions.find_own(session, vendor, edition_id))


@blueprint.put("/connector-editions/<edition_id>/files")
@require("releases:submit")
@operation(
    summary="Change a file of an open version",
    body=schemas.EditionFileIn,
    returns=schemas.EditionOut,
)
def write_edition_file(edition_id: str, body: schemas.EditionFileIn) -> Any:
    """Write one text file; the folder is then checked anew."""
    return _out(deeds.write_file(principal(), edition_id, body.file, body.text))


@blueprint.post("/connector-editions/<edition_id>/try")
@require("releases:submit")
@operation(
    summary="Try an action of our connector without the app",
    body=schemas.RehearsalIn,
    returns=schemas.RehearsalOut,
)
def try_edition(edition_id: str, body: schemas.RehearsalIn) -> Any:
    """Return the request as it would be sent, and what a recorded answer comes to; no network."""
    return deeds.rehearse(principal(), edition_id, body.action, body.input, body.answer)


@blueprint.post("/connector-editions/<edition_id>/submit")
@require("releases:submit")
@operation(summary="Send a connector to review", returns=schemas.EditionOut)
def submit_edition(edition_id: str) -> Any:
    """Send a version that passed the check to review; it never changes from now on."""
    return _out(deeds.submit(principal(), edition_id))


@blueprint.post("/connector-editions/<edition_id>/state")
@require("releases:submit")
@operation(
    summary="Deprecate or withdraw a version",
    body=schemas.EditionStateIn,
    returns=schemas.EditionOut,
)
def change_edition_state(edition_id: str, body: schemas.EditionStateIn) -> Any:
    """Say that a version shall not be used any more; what is connected goes on."""
    return _out(deeds.change_state(principal(), edition_id, body.state, body.reason))


@blueprint.delete("/connector-editions/<edition_id>")
@require("releases:submit")
@operation(summary="Throw a draft away", status=204)
def delete_edition(edition_id: str) -> None:
    """Delete a version that was never sent to review."""
    deeds.delete(principal(), edition_id)


@blueprint.get("/connector-reviews")
@require("releases:review")
@operation(summary="List the connectors in review", returns=schemas.EditionOut, many=True)
def list_edition_reviews() -> Any:
    """Return what waits for a reviewer, the oldest first."""
    with reading(EVERY) as session:
        return [_out(edition) for edition, _ in editions.waiting(session)]


@blueprint.post("/connector-reviews/<edition_id>")
@require("releases:review")
@operation(
    summary="Publish or refuse a connector",
    body=schemas.EditionVerdictIn,
    returns=schemas.EditionOut,
)
def decide_edition(edition_id: str, body: schemas.EditionVerdictIn) -> Any:
    """Publish a version in review, or refuse it with a reason."""
    return _out(deeds.decide(principal(), edition_id, body.decision, body.reason))


@blueprint.post("/connector-reviews/<edition_id>/recall")
@require("releases:review")
@operation(
    summary="Recall a published version",
    body=schemas.RecallIn,
    returns=schemas.EditionOut,
)
def recall_edition(edition_id: str, body: schemas.RecallIn) -> Any:
    """Stop a version everywhere: its connections work no more."""
    return _out(deeds.recall(principal(), edition_id, body.reason))


@blueprint.get("/vendor-connectors")
@require("connections:read")
@operation(summary="List vendors' connectors", returns=schemas.OfferedOut, many=True)
def list_offered() -> Any:
    """Return the newest version of every connector that vendors offer."""
    with reading(EVERY) as session:
        return [
            {**_out(edition), "vendor": dict(vendor.name)}
            for edition, vendor in editions.offered(session)
        ]


@blueprint.post("/connections/<connection_id>/upgrade")
@require("connections:write", "flows:write")
@operation(summary="Move a connection to the newest version", returns=schemas.UpgradeOut)
def upgrade_connection(connection_id: str) -> Any:
    """Move a connection and its flows to the newest version of a vendor's connector, or nothing."""
    connection, moved = deeds.upgrade(principal(), connection_id)
    return {
        "connection_id": connection.id,
        "connector_key": connection.connector_key,
        "flow_ids": [one.id for one in moved],
    }
