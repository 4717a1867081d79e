"""Calls to a vendor's lifecycle: open an account, subscribe, and both backwards."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlmodel import Session

from connectors import connections, masking
from connectors.engine import answers, loader, requests
from connectors.engine.answers import Answer
from connectors.engine.connector import ConnectionValues, Connector
from connectors.tables import Connection
from identity.tables import Organization
from kernel import http
from kernel.http import Failure
from marketplace.rollout_kinds import Call, Work
from marketplace.tables import Installation

CALL_SECONDS = 10  # two of them fit into a lease
# Failures that happen before a single byte of the request has left.
_NOT_SENT = frozenset({"refused_address", "dns", "connect", "tls"})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A vendor's answer, and what is known about the request when there was none."""

    answer: Answer
    was_sent: bool  # it may have reached the vendor
    was_answered: bool  # and the vendor said something


def connector_of(installation: Installation) -> Connector:
    """Return the connector that an installation was made with; raises NotFound."""
    return loader.find(str((installation.settings or {}).get("connector") or installation.app_key))


def connection_of(session: Session, installation: Installation) -> Connection | None:
    """Return the installation's connection while it has one."""
    if installation.connection_id is None:
        return None
    return connections.find(session, installation.organization_id, installation.connection_id)


def prepare(
    work: Work, lifecycle: str, *, hook: Mapping[str, str] | None = None, part: str = ""
) -> Call:
    """Build a lifecycle request now (inside the transaction) and return the call to make later."""
    assert work.installation is not None
    connector = connector_of(work.installation)
    facts: dict[str, Any] = {
        "organization": {
            "id": work.organization_id,
            "name": _organization_name(work.session, work.organization_id),
        },
        "installation": {"id": work.installation.id},
        "state": _kept_state(work.installation, part),
        # the same for every repetition of this step: the vendor does it once
        "effect_key": ":".join(filter(None, (work.installation.id, lifecycle, part))),
    }
    if hook:
        facts["hook"] = dict(hook)
    values, secrets = _values(work.session, work.installation)
    request = requests.build_lifecycle(connector, lifecycle, values, facts)
    short = dataclasses.replace(request, timeout_seconds=min(request.timeout_seconds, CALL_SECONDS))
    return partial(_send, connector, lifecycle, short, work.step.attempt_count, secrets)


def _send(
    connector: Connector,
    lifecycle: str,
    request: http.Request,
    attempt_no: int,
    secrets: tuple[str, ...],
) -> Outcome:
    received = http.send(request)
    answer = answers.read_lifecycle(connector, lifecycle, received, attempt_no)
    # a vendor may quote what it was given, and this is shown
    answer = dataclasses.replace(answer, detail=masking.keep(answer.detail, secrets))
    if isinstance(received, Failure):
        return Outcome(answer, was_sent=received.kind not in _NOT_SENT, was_answered=False)
    return Outcome(answer, was_sent=True, was_answered=True)


def _values(
    session: Session, installation: Installation
) -> tuple[ConnectionValues, tuple[str, ...]]:
    """Return what the engine needs for a call, and what of it must never be shown."""
    connection = connection_of(session, installation)
    if connection is not None:
        opened = connections.open_connection(connection)
        return opened.values, opened.secrets
    settings = dict((installation.settings or {}).get("connection") or {})
    return ConnectionValues(settings=settings), ()


def _kept_state(installation: Installation, part: str) -> dict[str, Any]:
    """Return what the vendor's earlier answers gave us to hold for it."""
    kept = installation.settings or {}
    state = dict(kept.get("state") or {})
    state.update((kept.get("subscriptions") or {}).get(part, {}).get("state") or {})
    return state


def _organization_name(session: Session, organization_id: str) -> str:
    organization = session.get(Organization, organization_id)
    return organization.name if organization else ""
