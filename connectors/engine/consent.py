"""Where a person agrees in an app (OAuth 2 with a code): the address their browser is sent to."""

import base64
import hashlib
from urllib.parse import quote, urlencode

from connectors.engine import auth, templates, urls
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import Auth, ConnectionValues, Connector
from connectors.engine.functions import EvaluationError

_ROOTS = frozenset({"field", "settings"})


def address(
    connector: Connector,
    way: Auth,
    connection: ConnectionValues,
    *,
    redirect_uri: str,
    state: str,
    verifier: str,
) -> str:
    """Return the app's page that asks for consent; raises CannotBuild for what is not filled in."""
    assert way.authorize is not None
    auth.check_fields(way, connection)
    stated = way.authorize
    activation = {"field": connection.fields, "settings": connection.settings}
    base = urls.base_of(connector, stated.url, connection.settings)
    try:
        given = {
            name: templates.parse(text, _ROOTS).write(activation, str)
            for name, text in stated.params.items()
        }
    except EvaluationError as lost:
        raise CannotBuild("config", lost.say, "/authorize") from lost
    parameters = {
        "response_type": "code",
        stated.client: connection.fields.get("client_id", ""),
        "redirect_uri": redirect_uri,
        **given,
        "state": state,
    }
    if stated.pkce:
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        parameters |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    return f"{base.text}?{urlencode(parameters, quote_via=quote)}"
