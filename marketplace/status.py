"""What machines ask of the hub: alive, ready, metrics, and the description of its API."""

from flask import Blueprint, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from identity.guard import public
from kernel.database import EVERY, reading
from kernel.errors import Forbidden
from kernel.settings import settings
from kernel.web import json_response, openapi

blueprint = Blueprint("status", __name__)
VERSION = "0.1.0"


@blueprint.get("/healthz")
@public(csrf=False)
def alive() -> Response:
    """Answer as long as the process lives."""
    return json_response({"status": "alive"})


@blueprint.get("/readyz")
@public(csrf=False)
def ready() -> Response:
    """Answer 200 when events can be stored; StoreUnavailable makes it 503."""
    with reading(EVERY) as session:
        session.execute(text("SELECT 1 FROM organization LIMIT 1"))
    return json_response({"status": "ready", "mode": settings().mode, "version": VERSION})


@blueprint.get("/metrics")
@public(csrf=False)
def metrics() -> Response:
    """Give Prometheus its figures: to a bearer of the token, or, without one, to loopback."""
    token = settings().metrics_token
    if token:
        allowed = request.headers.get("Authorization") == f"Bearer {token}"
    else:
        allowed = request.remote_addr in {"127.0.0.1", "::1"}
    if not allowed:
        raise Forbidden
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/api/v1/openapi.json")
@public(csrf=False)
def description() -> Response:
    """Describe the JSON API as OpenAPI 3.1."""
    return json_response(openapi(current_app, VERSION))
