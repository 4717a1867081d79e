"""The card on a connection's page about how its app departs from the connector."""

from flask import render_template
from markupsafe import Markup

from connectors.drifting import drifts
from connectors.tables import Connection
from kernel.database import reading
from kernel.errors import N_

# What a kind of departure is called.
KINDS = {
    "new": N_("new field"),
    "missing": N_("missing field"),
    "other": N_("another kind of value"),
    "code": N_("unknown code"),
}


def card(connection: Connection) -> str:
    """Draw the card; nothing for a connection whose app keeps to its connector."""
    with reading(connection.organization_id) as session:
        found = drifts.of_connection(session, connection.organization_id, connection.id)
    if not found:
        return ""
    drawn = render_template(
        "connectors/drifts.html", connection=connection, drifts=found, kinds=KINDS
    )
    return Markup(drawn)  # noqa: S704 - a template of ours, which escapes what it is given
