"""What goes along with every message of an endpoint, as parts of its page."""

from functools import partial
from typing import Any

from flask import Response

from identity.guard import principal, require
from kernel.database import reading
from kernel.errors import N_, Conflict, Problem
from webhooks import certificates, endpoints, own_headers, signing
from webhooks.pages.drawing import blueprint, go, typed
from webhooks.pages.endpoints import act, draw_endpoint


@blueprint.post("/endpoints/<endpoint_id>/rotate-secret")
@require("endpoints:write")
def rotate_endpoint_secret(endpoint_id: str) -> Any:
    """Sign with a new secret and show it."""
    hours, signature = typed("overlap_hours"), typed("signature")
    verb = partial(
        endpoints.rotate_secret,
        overlap_hours=int(hours) if hours.isascii() and hours.isdigit() else 24,
        signature=signature if signature in ("hmac", "ed25519") else None,
    )
    try:
        act(endpoint_id, verb, "endpoint.secret_rotated")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return draw_endpoint(endpoint_id, is_open=True)


@blueprint.get("/endpoints/<endpoint_id>/public-key.pem")
@require("endpoints:read")
def download_public_key(endpoint_id: str) -> Response:
    """Give the public key as a file."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        key = endpoints.get(session, organization_id, endpoint_id).public_key
    if key is None:
        raise Conflict(detail=N_("This endpoint signs with a shared secret; it has no public key"))
    answer = Response(signing.public_pem(key), mimetype="application/x-pem-file")
    answer.headers["Content-Disposition"] = f'attachment; filename="{endpoint_id}.pem"'
    return answer


@blueprint.post("/endpoints/<endpoint_id>/headers")
@require("endpoints:write")
def set_endpoint_header(endpoint_id: str) -> Any:
    """Add a header or replace the one of that name."""
    header = {
        "name": typed("name"),
        "value": typed("value", 2001),
        "is_secret": typed("is_secret") == "1",
    }
    try:
        act(endpoint_id, partial(own_headers.give, header=header), "endpoint.changed")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "header_saved")


@blueprint.post("/endpoints/<endpoint_id>/headers/remove")
@require("endpoints:write")
def remove_endpoint_header(endpoint_id: str) -> Any:
    """Send a header no more."""
    act(endpoint_id, partial(own_headers.take_away, name=typed("name")), "endpoint.changed")
    return go(f"/endpoints/{endpoint_id}", "header_removed")


@blueprint.post("/endpoints/<endpoint_id>/certificate")
@require("endpoints:write")
def set_endpoint_certificate(endpoint_id: str) -> Any:
    """Show a client certificate to the target."""
    verb = partial(
        certificates.give, chain=typed("certificate", 40_000), key=typed("private_key", 20_000)
    )
    try:
        act(endpoint_id, verb, "endpoint.certificate_changed")
    except Problem as problem:
        return draw_endpoint(endpoint_id, problem)
    return go(f"/endpoints/{endpoint_id}", "certificate_saved")


@blueprint.post("/endpoints/<endpoint_id>/certificate/remove")
@require("endpoints:write")
def remove_endpoint_certificate(endpoint_id: str) -> Any:
    """Show it no more."""
    act(endpoint_id, certificates.take_away, "endpoint.certificate_changed")
    return go(f"/endpoints/{endpoint_id}", "certificate_removed")
