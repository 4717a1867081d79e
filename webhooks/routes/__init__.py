"""The JSON API of webhooks and the door at /in/<token>."""

from flask import Blueprint, Flask

from webhooks.routes import door, endpoints, events, sources

blueprint = Blueprint("webhooks_api", __name__, url_prefix="/api/v1")
for part in (sources, events, endpoints):
    blueprint.register_blueprint(part.blueprint)


def install(app: Flask) -> None:
    """Add the door, which is no part of the API."""
    app.register_blueprint(door.blueprint)
