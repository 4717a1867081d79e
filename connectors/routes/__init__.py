"""The JSON API of connectors, connections, polls, missing events, flows and runs."""

from flask import Blueprint

from connectors.routes import connections, flows, library, polls, reconciliations, runs

blueprint = Blueprint("connectors_api", __name__, url_prefix="/api/v1")
for part in (library, connections, polls, reconciliations, flows, runs):
    blueprint.register_blueprint(part.blueprint)
