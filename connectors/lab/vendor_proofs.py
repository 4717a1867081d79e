"""What a call shows to prove itself to a lab vendor, found where the manifest puts it."""

from collections.abc import Mapping

from connectors.engine.auth import BEARER
from connectors.engine.connector import Auth
from connectors.lab.vendor_calls import Call


def is_only_signed(way: Auth) -> bool:
    """Tell whether nothing but a signature proves the caller, which the lab cannot check."""
    return way.kind == "sign" and not way.has_token


def shown(way: Auth, call: Call) -> str | None:
    """Return the secret a call shows for a way to sign in, or None."""
    headers = way.headers
    if way.kind == "basic":
        headers = {"Authorization": "Basic ${field.password}"}
    elif way.kind == "oauth2_client" and not (headers or way.query):
        headers = BEARER
    query, form, body = dict(way.query), {**way.form, **way.json}, {}
    for placed in way.at.values():
        headers = {**placed.headers, **headers}
        query |= {name: text for name, text in placed.query.items() if name not in query}
    if form and isinstance(call.body, dict):
        body = {name: str(value) for name, value in call.body.items()}
    return (
        _credential(headers, call.headers)
        or _credential(query, call.query)
        or _credential(form, body)
    )


def _credential(stated: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    """Return the secret that came in the place the manifest says, or None."""
    for name, text in stated.items():
        before, _, after = text.partition("${")
        value = given.get(name.lower(), given.get(name, ""))
        if value.startswith(before) and "}" in after and len(value) > len(before):
            return value[len(before) :]
    return None
