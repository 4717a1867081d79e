"""The JSON API of webhooks and the doors at /in/<token> and /payloads/<token>."""

from flask import Blueprint, Flask

from webhooks.routes import (
    asyncapi,
    bulk_replays,
    door,
    endpoints,
    events,
    keeping,
    payloads,
    portals,
    sources,
    usage,
    wishes,
)

blueprint = Blueprint("webhooks_api", __name__, url_prefix="/api/v1")
for part in (
    sources,
    events,
    endpoints,
    bulk_replays,
    usage,
    asyncapi,
    portals,
    keeping,
    wishes,
):
    blueprint.register_blueprint(part.blueprint)


def install(app: Flask) -> None:
    """Add the doors that are no part of the API."""
    app.register_blueprint(door.blueprint)
    app.register_blueprint(payloads.blueprint)
