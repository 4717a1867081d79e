"""Trying what was entered through a link before it counts: the app is asked, nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from connectors import connection_checks, connections, credentials, tokens
from connectors.connection_checks import Tried
from connectors.connections import Open
from connectors.engine import requests
from connectors.engine.connector import Auth
from connectors.errors import Unfit, finding
from connectors.reconnecting.links import Guest


@dataclass(frozen=True, slots=True)
class Entered:
    """What a guest entered, whole: public values that were left out stay as they are."""

    way: Auth
    fields: Mapping[str, str]


def read(guest: Guest, given: Mapping[str, str]) -> Entered:
    """Take what a guest entered; every secret has to be given anew. Raises Unfit."""
    opened = connections.open_connection(guest.connection)
    way = opened.connector.auth_by_id(guest.connection.auth)
    if way is None or not way.fields:
        words = ("这个连接不需要填写凭据", "This connection needs no credentials")
        raise Unfit([finding("", *words)])
    fields = {
        **guest.connection.public_fields,
        **{name: value for name, value in given.items() if value != ""},
    }
    findings = credentials.check_fields(way, fields, None)
    if findings:
        raise Unfit(findings)
    return Entered(way, fields)


def attempt(guest: Guest, entered: Entered) -> Tried:
    """Ask the app with what was entered. Outside a transaction."""
    opened = connections.open_connection(guest.connection)
    hidden = tuple(entered.fields[n] for n, f in entered.way.fields.items()
                   if f.is_secret and n in entered.fields)  # fmt: skip
    values = replace(opened.values, fields=dict(entered.fields), token=None)
    candidate = Open(guest.connection, opened.connector, values, (*opened.secrets, *hidden))
    if tokens.has_token(candidate):
        found = tokens.fetch(candidate, requests.token_steps(entered.way), {})
        if isinstance(found, tokens.NoToken):
            return Tried(connection_checks.problem_of(found.answer, found.secrets))
        hidden = (*candidate.secrets, *found.texts.values())
        values = replace(values, token=dict(found.texts))
        candidate = Open(guest.connection, opened.connector, values, hidden)
    if connection_checks.STEP not in candidate.connector.lifecycle:
        return Tried()
    answer = connection_checks.call(candidate, is_counted=False)
    problem = connection_checks.problem_of(answer, candidate.secrets)
    return Tried(problem, connection_checks.account_in(answer))
