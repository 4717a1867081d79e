"""Consents: a person agrees in an app that the hub may act for them, and what that brings.

The way out and back belongs to one browser session of one member, works once, and not for long.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from connectors import connections, masking, tokens
from connectors.connections import Open
from connectors.engine import consent, grants, requests, templates
from connectors.engine.auth import CannotBuild
from connectors.engine.check_auth import CONSENT
from connectors.engine.connector import Auth
from connectors.engine.grants import Granted
from connectors.errors import NotNow, Say, Unfit
from connectors.tables import Connection
from kernel import clock, http
from kernel.database import transaction
from kernel.errors import N_, Forbidden
from kernel.settings import settings

LASTS = timedelta(minutes=15)
PATH = "/connections/oauth/callback"
_COLUMN = "consent_sealed"


@dataclass(frozen=True)
class Visitor:
    """Whose browser it is: the member's organization, user and session."""

    organization_id: str
    user_id: str | None
    session_id: str | None


@dataclass(frozen=True)
class Begun:
    """A consent that came back to the browser it began in."""

    opened: Open
    way: Auth
    verifier: str


def callback_address() -> str:
    """Return the address that has to be registered with an app as its redirect address."""
    return settings().base_url.rstrip("/") + PATH


def way_of(opened: Open) -> Auth | None:
    """Return the way to sign in if it is one that a person has to agree to."""
    way = opened.connector.auth_by_id(opened.values.auth)
    return way if way is not None and way.authorize is not None else None


def begin(session: Session, who: Visitor, connection_id: str) -> str:
    """Begin a consent and return the app's page to send the browser to.

    Raises NotFound, NotNow for a connection that needs none, Unfit when fields are missing.
    """
    connection = connections.find(session, who.organization_id, connection_id)
    opened = connections.open_connection(connection)
    way = way_of(opened)
    if way is None or connection.state == "revoked" or who.session_id is None:
        raise NotNow(N_("This connection works without signing in at the app"))
    kept = {
        "state": f"{connection.id}.{secrets.token_urlsafe(32)}",
        "verifier": secrets.token_urlsafe(48),
        "user": who.user_id,
        "session": who.session_id,
        "until": (clock.now() + LASTS).isoformat(),
    }
    try:
        address = consent.address(
            opened.connector,
            way,
            opened.values,
            redirect_uri=callback_address(),
            state=str(kept["state"]),
            verifier=str(kept["verifier"]),
        )
    except CannotBuild as cannot:
        raise Unfit([{"pointer": cannot.pointer, "say": dict(cannot.say)}]) from cannot
    connection.consent_sealed = connections.seal(connection, _COLUMN, kept)
    session.add(connection)
    return address


def take(session: Session, who: Visitor, state: str) -> Begun:
    """Take a consent that came back, which works once; raises Forbidden for any other state."""
    connection_id, _, _ = state.partition(".")
    connection = session.get(Connection, (who.organization_id, connection_id), with_for_update=True)
    kept = connections.unseal(connection, _COLUMN) if connection else None
    if connection is None or kept is None or not _is_same(kept, who, state):
        raise Forbidden(
            N_("This sign-in was not begun here, or it was used already"),
            N_("Nothing was changed. Open the connection and choose “Sign in at the app” again."),
        )
    connection.consent_sealed = None
    session.add(connection)
    if clock.now() > datetime.fromisoformat(kept["until"]):
        raise NotNow(
            N_("The sign-in took too long"),
            N_("Nothing was changed. Open the connection and choose “Sign in at the app” again."),
        )
    opened = connections.open_connection(connection)
    way = way_of(opened)
    if way is None or connection.state == "revoked":
        raise NotNow(N_("This connection works without signing in at the app"))
    return Begun(opened, way, str(kept["verifier"]))


def check_issuer(begun: Begun, said: str | None) -> None:
    """Refuse an answer of another app than the one the browser was sent to (RFC 9207).

    For apps that say who they are; raises Forbidden, and the code is not used.
    """
    assert begun.way.authorize is not None
    stated = begun.way.authorize.issuer
    if stated is None:
        return
    values = begun.opened.values
    given = {"field": values.fields, "settings": values.settings}
    wanted = templates.parse(stated, frozenset(given)).write(given, str)
    if not hmac.compare_digest(wanted.encode(), (said or "").encode("utf-8", "replace")):
        raise Forbidden(
            N_("The answer came from another app than the one you were sent to"),
            N_("Nothing was changed. Open the connection and choose “Sign in at the app” again."),
        )


def _is_same(kept: Mapping[str, Any], who: Visitor, state: str) -> bool:
    return (
        hmac.compare_digest(str(kept["state"]).encode(), state.encode("utf-8", "replace"))
        and kept["session"] == who.session_id
        and kept["user"] == who.user_id
    )


@dataclass(frozen=True)
class Brought:
    """What a consent brought: a token, and whose account it is as far as the app told."""

    granted: Granted
    account: dict[str, str] | None


def redeem(begun: Begun, code: str) -> Brought | tokens.NoToken:
    """Turn a code into a token without keeping it. Calls the app: outside a transaction."""
    kept = {"code": code, "redirect_uri": callback_address(), "verifier": begun.verifier}
    found = tokens.fetch(begun.opened, begun.way.steps, kept)
    if isinstance(found, tokens.NoToken):
        return found
    texts = {name: text for name, text in found.texts.items() if name not in CONSENT}
    granted = Granted(texts, found.ends_at, found.grant_ends_at)
    return Brought(granted, _account(begun, granted))


def finish(who: Visitor, begun: Begun, code: str) -> Say | None:
    """Turn a code into a token and keep it; return why not, in words, when the app refuses.

    Calls the app: outside a transaction.
    """
    row = begun.opened.connection
    found = redeem(begun, code)
    if isinstance(found, tokens.NoToken):
        words = dict(found.answer.say or {})
        detail = masking.keep(found.answer.detail, found.secrets) or None
        problem = {"cause": "auth", "say": words, "detail": detail}
        with transaction(who.organization_id) as session:
            connection = connections.find(session, who.organization_id, row.id)
            connections.record_check(session, connection, problem, clock.now())
        return words
    with transaction(who.organization_id) as session:
        connection = connections.find(session, who.organization_id, row.id)
        keep(session, connection, begun.way, found.granted, found.account)
    return None


def keep(
    session: Session,
    connection: Connection,
    way: Auth,
    granted: Granted,
    account: Mapping[str, str] | None,
) -> None:
    """Store what a consent brought; what waited for the connection goes on."""
    for name, value in tokens.values_of(connection, way, granted).items():
        setattr(connection, name, value)
    if granted.grant_ends_at is None:
        # without a way to renew it, the consent ends with its token
        connection.grant_expires_at = None if way.refresh else granted.ends_at
    connection.account = dict(account) if account else None
    connection.checked_at = clock.now()
    connections.settle_ends(connection)
    connections.make_ready(session, connection)


def _account(begun: Begun, granted: Granted) -> dict[str, str] | None:
    identity = begun.way.identity
    if identity is None:
        return None
    values = replace(begun.opened.values, token=granted.texts)
    try:
        request = requests.build_identity(begun.opened.connector, values)
    except CannotBuild:
        return None
    if request is None:
        return grants.account_of(identity, granted.texts)
    outcome = http.send(request)
    return grants.read_identity(begun.opened.connector, identity, outcome)
