"""The JSON API of connectors, connections, polls, missing events, flows, runs and approvals."""

from flask import Blueprint

from connectors.incidents import routes as incidents
from connectors.publishing import routes as publishing
from connectors.routes import (
    approvals,
    connections,
    flows,
    library,
    polls,
    reconciliations,
    runs,
    sheets,
    streams,
)

blueprint = Blueprint("connectors_api", __name__, url_prefix="/api/v1")
for part in (
    library,
    connections,
    polls,
    reconciliations,
    flows,
    runs,
    approvals,
    incidents,
    publishing,
    sheets,
    streams,
):
    blueprint.register_blueprint(part.blueprint)
