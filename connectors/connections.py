"""Connections: an organization's authorised use of an app, with its secrets in the vault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import case, select, update
from sqlmodel import Session, col

from connectors import connection_uses, credentials, names, order_lanes
from connectors.engine import loader
from connectors.engine.connector import Auth, ConnectionValues, Connector
from connectors.errors import InUse, Unfit, finding
from connectors.health import expiries
from connectors.publishing import shelf
from connectors.tables import CONNECTION, RECONCILIATION, Connection, Run
from kernel import documents, ids, log, queue, tenancy, vault
from kernel.columns import one_of
from kernel.database import store_now
from kernel.errors import N_, NotFound

check_addresses = credentials.check_addresses
_PAIRS = (("username", "password"), ("client_id", "client_secret"))
_logger = log.get_logger(__name__)


@dataclass(frozen=True)
class Open:
    """A connection with its vault opened, for the calls of one batch."""

    connection: Connection
    connector: Connector
    values: ConnectionValues
    secrets: tuple[str, ...]  # texts that must never be stored or shown

    @property
    def is_usable(self) -> bool:
        """Tell whether calls may go out through it."""
        return self.connection.state == "ready" and self.connection.paused_at is None


def create(
    session: Session,
    organization_id: str,
    connector_key: str,
    *,
    name: str | Mapping[str, str] | None = None,
    auth: str | None = None,
    fields: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    installation_id: str | None = None,
) -> Connection:
    """Connect an app: check the settings and the fields, seal the secrets, store the rest.

    Raises NotFound for an unknown connector and Unfit for values that do not fit.
    """
    connector = shelf.offered(connector_key)
    chosen = dict(settings or {})
    findings = credentials.check_settings(connector, chosen)
    way = credentials.auth_of(connector, auth)
    given = {key: value for key, value in (fields or {}).items() if value != ""}
    findings += credentials.check_fields(way, given, auth)
    if findings:
        raise Unfit(findings)
    named: Any = dict(name) if isinstance(name, Mapping) else (name or "").strip()
    named = named or dict(connector.title)
    connection = Connection(
        organization_id=organization_id,
        id=ids.new_id("con"),
        connector_key=connector.key,
        name=named,
        auth=way.id if way else None,
        settings=chosen,
        installation_id=installation_id,
    )
    _store_fields(connection, way, given)
    session.add(connection)
    names.read_back(session, connection)
    return connection


def find(session: Session, organization_id: str, connection_id: str) -> Connection:
    """Return the organization's connection; a stranger's is NotFound."""
    return tenancy.find(session, Connection, organization_id, connection_id)


def all_of(
    session: Session,
    organization_id: str,
    connector_key: str | None = None,
    installation_id: str | None = None,
) -> list[Connection]:
    """List the organization's connections that are not revoked, the newest first."""
    statement = Connection.of(organization_id).where(col(Connection.state) != "revoked")
    if connector_key:
        statement = statement.where(col(Connection.connector_key) == connector_key)
    if installation_id:
        statement = statement.where(col(Connection.installation_id) == installation_id)
    return list(session.execute(statement.order_by(col(Connection.id).desc())).scalars())


def connectors_by_id(session: Session, organization_id: str) -> dict[str, str]:
    """Return the connector key of each connection that a flow may use."""
    statement = select(col(Connection.id), col(Connection.connector_key)).where(
        col(Connection.organization_id) == organization_id, col(Connection.state) != "revoked"
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def open_connection(connection: Connection) -> Open:
    """Open a connection's vault; raises NotFound when its connector is gone."""
    connector = loader.find(connection.connector_key)
    secret = _unseal(connection, "fields_sealed", connection.fields_sealed) or {}
    token = _unseal(connection, "token_sealed", connection.token_sealed)
    fields = {**connection.public_fields, **secret}
    hidden = [*secret.values(), *(token or {}).values()]
    # together they travel as one text in base64
    hidden += [f"{fields[a]}:{fields[b]}" for a, b in _PAIRS if {a, b} <= fields.keys()]
    return Open(
        connection=connection,
        connector=connector,
        values=ConnectionValues(
            settings=connection.settings,
            auth=connection.auth,
            fields=fields,
            token=token,
        ),
        secrets=tuple(text for text in hidden if isinstance(text, str)),
    )


_BATCH = select(CONNECTION).where(
    one_of(CONNECTION.c.organization_id, "tenants"), one_of(CONNECTION.c.id, "ids")
)


def open_many(session: Session, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Open]:
    """Open the connections of a batch of runs of any tenants, by (organization, connection).

    One whose connector or key is gone is left out.
    """
    found: dict[tuple[str, str], Open] = {}
    names = {
        "tenants": sorted({organization_id for organization_id, _ in keys}),
        "ids": sorted({connection_id for _, connection_id in keys}),
    }
    for row in session.connection().execute(_BATCH, names):
        connection = cast("Connection", row)  # a row has the same attributes and costs a third
        try:
            found[connection.organization_id, connection.id] = open_connection(connection)
        except (NotFound, vault.VaultError) as error:
            _logger.warning("connection_unreadable", id=connection.id, error=str(error)[:200])
    return found


def change_credentials(
    session: Session,
    organization_id: str,
    connection_id: str,
    *,
    fields: Mapping[str, str],
    auth: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Reconnect with new credentials; wake the runs that wait for it and return how many.

    A secret field that is left empty keeps its value, as the form cannot show it again.
    """
    connection = find(session, organization_id, connection_id)
    connector = loader.find(connection.connector_key)
    way = credentials.auth_of(connector, auth or connection.auth)
    old = _unseal(connection, "fields_sealed", connection.fields_sealed) or {}
    before = {**connection.public_fields, **old} if way and way.id == connection.auth else {}
    given = {**before, **{name: value for name, value in fields.items() if value != ""}}
    chosen = dict(settings) if settings is not None else dict(connection.settings)
    findings = credentials.check_settings(connector, chosen) + credentials.check_fields(
        way, given, auth
    )
    if findings:
        raise Unfit(findings)
    connection.auth = way.id if way else None
    connection.settings = chosen
    forget_token(connection)
    _store_fields(connection, way, given)
    return make_ready(session, connection)


def change(
    session: Session,
    organization_id: str,
    connection_id: str,
    *,
    name: str | None = None,
    auth: str | None = None,
    fields: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Connection:
    """Rename a connection, reconnect it, or both; what is left out stays."""
    connection = find(session, organization_id, connection_id)
    if name is not None:
        rename(session, organization_id, connection_id, name)
    if fields is not None or settings is not None or auth is not None:
        change_credentials(
            session,
            organization_id,
            connection_id,
            fields=fields or {},
            auth=auth,
            settings=settings,
        )
    return connection


def forget_token(connection: Connection) -> None:
    """Drop what was fetched with earlier credentials."""
    connection.token_sealed = connection.consent_sealed = None
    connection.token_expires_at = connection.token_renew_at = None
    connection.grant_expires_at = connection.account = None
    connection.refresh_at = connection.refresh_failed_at = None
    connection.refresh_failures = 0


def make_ready(session: Session, connection: Connection) -> int:
    """Clear a connection's trouble and wake the runs that were parked for it."""
    woken = _wake(session, connection)
    connection.state, connection.problem = "ready", None
    session.add(connection)
    # looks for missing events that stopped for it go on, too
    session.execute(
        update(RECONCILIATION)
        .where(
            RECONCILIATION.c.organization_id == connection.organization_id,
            RECONCILIATION.c.connection_id == connection.id,
            RECONCILIATION.c.problem.is_not(None),
        )
        .values(next_at=store_now(session))
    )
    if woken:
        queue.nudge(session, "webhooks.drain")
    return woken


def _wake(session: Session, connection: Connection) -> int:
    """Let the runs go on that were parked for a connection; those of an order in their turn."""
    parked = (
        col(Run.organization_id) == connection.organization_id,
        col(Run.state) == "parked",
        col(Run.cause) == "auth",
        col(Run.lane) == connection.id,
    )
    is_ordered = col(Run.order_key).is_not(None)
    with session.no_autoflush:  # flows are locked before connections
        flows = session.execute(select(col(Run.flow_id)).where(*parked, is_ordered).distinct())
        order_lanes.lock(session, [(connection.organization_id, row[0]) for row in flows])
    woken = session.execute(
        update(Run)
        .where(*parked)
        .values(
            state=case((is_ordered, "waiting"), else_="due"),
            next_at=case((is_ordered, None), else_=store_now(session)),
            attempt_count=0,
            cause=None,
            say=None,
            detail=None,
            incident_id=None,
            finished_at=None,
        )
        .returning(col(Run.organization_id), col(Run.flow_id), col(Run.order_key))
        .execution_options(synchronize_session=False)
    ).all()
    order_lanes.settle(session, [(row[0], row[1], row[2]) for row in woken if row[2] is not None])
    return len(woken)


def rename(session: Session, organization_id: str, connection_id: str, name: str) -> Connection:
    """Give a connection another name."""
    connection = find(session, organization_id, connection_id)
    if not name.strip():
        raise Unfit([finding("/name", "请填写名称", "Please give it a name")])
    connection.name = name.strip()[:120]
    session.add(connection)
    return connection


def note_end(
    session: Session, organization_id: str, connection_id: str, at: datetime | None
) -> Connection:
    """Write down when a key ends, as a person has read it in the app; None: it does not."""
    connection = find(session, organization_id, connection_id)
    connection.credentials_end_at = at
    settle_ends(connection)
    session.add(connection)
    return connection


def settle_ends(connection: Connection) -> None:
    """Note anew what of a connection ends first."""
    opened = open_connection(connection)
    way = opened.connector.auth_by_id(connection.auth)
    expiries.settle(connection, way, opened.values.fields)


def check_unused(
    session: Session, organization_id: str, connection_id: str, *, force: bool = False
) -> Connection:
    """Return a connection that no active flow uses, or any if forced; raises InUse."""
    connection = find(session, organization_id, connection_id)
    users = [
        flow
        for flow in connection_uses.flows_using(session, organization_id, connection_id)
        if flow.state == "active"
    ]
    if users and not force:
        raise InUse(
            N_("Flows that are switched on still use this connection: %(names)s"),
            N_("Pause them or give them another connection first; nothing was changed."),
            names=", ".join(flow.name for flow in users[:5]),
        )
    return connection


def revoke(
    session: Session, organization_id: str, connection_id: str, *, force: bool = False
) -> Connection:
    """Forget a connection's secrets for good; refused while active flows use it, unless forced."""
    connection = check_unused(session, organization_id, connection_id, force=force)
    connection.state, connection.problem = "revoked", None
    connection.fields_sealed = None
    forget_token(connection)
    connection.public_fields, connection.credentials_end_at = {}, None
    expiries.settle(connection, None, {})
    session.add(connection)
    return connection


def record_check(
    session: Session,
    connection: Connection,
    problem: Mapping[str, Any] | None,
    at: datetime,
) -> int:
    """Write down what a test found; a good one wakes the runs that waited for the connection."""
    connection.checked_at = at
    if problem is None:
        return make_ready(session, connection)
    connection.problem = dict(problem)
    if problem.get("cause") in ("auth", "config"):
        connection.state = "needs_attention"
    session.add(connection)
    return 0


def _store_fields(connection: Connection, way: Auth | None, given: Mapping[str, str]) -> None:
    known = way.fields if way else {}
    connection.public_fields = {
        name: value for name, value in given.items() if name in known and not known[name].is_secret
    }
    secret = {
        name: value for name, value in given.items() if name in known and known[name].is_secret
    }
    connection.fields_sealed = seal(connection, "fields_sealed", secret) if secret else None
    expiries.settle(connection, way, given)


def seal(connection: Connection, column: str, value: Mapping[str, Any]) -> str:
    """Seal a value for one column of one connection."""
    return vault.seal(documents.dump(value), _context(connection, column))


def unseal(connection: Connection, column: str) -> dict[str, Any] | None:
    """Open what was sealed for a column of a connection."""
    return _unseal(connection, column, getattr(connection, column))


def _unseal(connection: Connection, column: str, sealed: str | None) -> dict[str, Any] | None:
    if sealed is None:
        return None
    opened: dict[str, Any] = documents.parse(_opened(sealed, _context(connection, column)))
    return opened


@lru_cache(maxsize=2048)
def _opened(sealed: str, context: str) -> bytes:
    return vault.open_sealed(sealed, context)


def _context(connection: Connection, column: str) -> str:
    return f"{connection.organization_id}|connection|{connection.id}|{column}"
