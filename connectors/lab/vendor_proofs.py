"""What a call shows to prove itself to a lab vendor, found where the manifest puts it."""

from collections.abc import Mapping

from connectors.engine.auth import BEARER
from connectors.engine.connector import Auth, Placement
from connectors.lab.vendor_calls import Call


def is_only_signed(way: Auth) -> bool:
    """Tell whether nothing but a signature proves the caller, which the lab cannot check."""
    return way.kind == "sign" and not way.has_token


def shown(way: Auth, call: Call) -> str | None:
    """Return the secret a call shows for a way to sign in, or None."""
    places = [Placement(way.headers, way.query, way.form, way.json), *way.at.values()]
    if way.kind == "basic":
        places = [Placement({"Authorization": "Basic ${field.password}"})]
    elif way.kind == "oauth2_client" and not (way.headers or way.query):
        places = [Placement(BEARER)]
    if way.sign is not None:
        places += [way.sign.before, way.sign.put]
    body: dict[str, str] = {}
    if any(one.form or one.json for one in places) and isinstance(call.body, dict):
        body = {name: str(value) for name, value in call.body.items()}
    for one in places:
        found = (
            _credential(one.headers, call.headers)
            or _credential(one.query, call.query)
            or _credential({**one.form, **one.json}, body)
        )
        if found:
            return found
    return None


def _credential(stated: Mapping[str, str], given: Mapping[str, str]) -> str | None:
    """Return the secret that came in the place the manifest says, or None."""
    for name, text in stated.items():
        before, _, after = text.partition("${")
        value = given.get(name.lower(), given.get(name, ""))
        if value.startswith(before) and "}" in after and len(value) > len(before):
            return value[len(before) :]
    return None
