"""The JSON API of connectors, connections, polls, missing events, flows, runs and so on."""

from flask import Blueprint

from connectors.completing import routes as completions
from connectors.drifting import routes as drifts
from connectors.incidents import routes as incidents
from connectors.lookups import routes as lookups
from connectors.publishing import routes as publishing
from connectors.routes import (
    approvals,
    connections,
    flows,
    library,
    life,
    polls,
    reconciliations,
    runs,
    sheets,
    streams,
    webhooks,
)
from connectors.stages import routes as stages
from connectors.stores import routes as stores

blueprint = Blueprint("connectors_api", __name__, url_prefix="/api/v1")
PARTS = (
    library,
    connections,
    life,
    completions,
    drifts,
    lookups,
    polls,
    reconciliations,
    flows,
    runs,
    approvals,
    incidents,
    publishing,
    webhooks,
    stores,
    stages,
    sheets,
    streams,
)
for part in PARTS:
    blueprint.register_blueprint(part.blueprint)
