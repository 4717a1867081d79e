"""The JSON routes of the connector library and the flow templates."""

from typing import Any

from flask import Blueprint

from connectors import nightly_proofs, schemas
from connectors.engine import flow_templates, loader
from connectors.engine.connector import Connector
from identity.guard import require
from kernel.database import EVERY, reading
from kernel.web import operation

blueprint = Blueprint("library", __name__)


@blueprint.get("/connectors")
@require("connections:read")
@operation(summary="List the connectors", returns=schemas.ConnectorOut, many=True)
def list_connectors() -> Any:
    """Return the whole library by key."""
    return [_brief(connector) for connector in loader.library().values()]


@blueprint.get("/connectors/<key>")
@require("connections:read")
@operation(summary="Read a connector", returns=schemas.ConnectorDetailOut)
def read_connector(key: str) -> Any:
    """Return a connector with its settings, ways to sign in, triggers and actions."""
    connector = loader.find(key)
    return {
        **_brief(connector),
        "settings": connector.settings,
        "auth": [
            {
                "id": way.id,
                "kind": way.kind,
                "title": way.title,
                "confidence": way.confidence,
                "source": way.source,
                "fields": [
                    schemas.FieldOut.model_validate({"name": name, **_field(field)})
                    for name, field in way.fields.items()
                ],
            }
            for way in connector.auth
        ],
        "triggers": [
            schemas.TriggerOut.model_validate(one, from_attributes=True)
            for one in connector.triggers.values()
        ],
        "actions": [
            schemas.ActionOut.model_validate(one, from_attributes=True)
            for one in connector.actions.values()
        ],
        "readme": connector.readme,
    }


@blueprint.get("/flow-templates")
@require("flows:read")
@operation(summary="List the flow templates", returns=schemas.TemplateOut, many=True)
def list_templates() -> Any:
    """Return every ready-made flow, with how its last rehearsal went."""
    with reading(EVERY) as session:
        proved = nightly_proofs.all_of(session)
    return [
        schemas.TemplateOut.model_validate(
            {
                **{name: getattr(one, name) for name in ("key", "title", "summary", "sample")},
                "connectors": list(one.connectors),
                "proof": schemas.ProofOut.model_validate(proved[one.key], from_attributes=True)
                if one.key in proved
                else None,
            }
        )
        for one in flow_templates.all().values()
    ]


def _brief(connector: Connector) -> dict[str, Any]:
    names = ("key", "version", "title", "summary", "slots", "confidence", "source")
    return {name: getattr(connector, name) for name in names}


def _field(field: Any) -> dict[str, Any]:
    return {name: getattr(field, name) for name in ("title", "is_secret", "is_optional")}
