"""The JSON API of connectors, connections, flows and runs."""

from flask import Blueprint

from connectors.routes import connections, flows, library, runs

blueprint = Blueprint("connectors_api", __name__, url_prefix="/api/v1")
for part in (library, connections, flows, runs):
    blueprint.register_blueprint(part.blueprint)
