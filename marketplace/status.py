"""What machines ask of the hub: alive, ready, metrics, and the description of its API."""

import hmac

from flask import Blueprint, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from identity.guard import public
from kernel.errors import Forbidden
from kernel.settings import VERSION, settings
from kernel.web import json_response, openapi
from marketplace.desk import door, gauges, health

blueprint = Blueprint("status", __name__)
_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


@blueprint.get("/healthz")
@public(csrf=False)
def alive() -> Response:
    """Answer as long as the process lives."""
    return json_response({"status": "alive"})


@blueprint.get("/readyz")
@public(csrf=False)
def ready() -> Response:
    """Answer 200 when events can be stored; StoreUnavailable makes it 503.

    An archive that cannot be written is told and is no reason to turn events away.
    """
    with door.counting() as session:
        found = health.readiness(session)
    return json_response({"status": "ready", **found})


@blueprint.get("/metrics")
@public(csrf=False)
def metrics() -> Response:
    """Give Prometheus its figures: to a bearer of the token, or, without one, to loopback."""
    token = settings().metrics_token
    if token:
        given = request.headers.get("Authorization", "")
        allowed = hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
    else:
        # behind a proxy on this machine everybody seems to come from loopback
        is_passed_on = any(name in request.headers for name in _PASSED_ON)
        allowed = request.remote_addr in {"127.0.0.1", "::1"} and not is_passed_on
    if not allowed:
        raise Forbidden
    figures = generate_latest() + generate_latest(gauges.REGISTRY)
    return Response(figures, content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/api/v1/openapi.json")
@public(csrf=False)
def description() -> Response:
    """Describe the JSON API as OpenAPI 3.1."""
    return json_response(openapi(current_app, VERSION))
