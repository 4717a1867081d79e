"""Upgrades: a connection and the flows that use it moved to a newer version of its connector.

All of it in one commit, or nothing: a flow that would not fit the newer version holds the upgrade
up, and is named. Runs under way go on by the version that they began with.
"""

import copy
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select, update
from sqlmodel import Session, col

from connectors import connections, flow_documents, flow_trees, flows
from connectors.engine import loader
from connectors.errors import NotNow, Unfit
from connectors.lab import differences
from connectors.lab.differences import Difference
from connectors.publishing import editions
from connectors.tables import Connection, Flow, FlowVersion
from kernel.errors import N_
from webhooks.tables import SOURCE


@dataclass(frozen=True)
class Offer:
    """A newer version of a connection's connector, and what is different in it."""

    key: str
    version: str
    changes: list[Difference]
    reason: str | None  # why the present version is deprecated or withdrawn, if it is
    state: str  # of the present version

    @property
    def breaks(self) -> bool:
        """Tell whether flows may have to be changed for it."""
        return any(one.is_breaking for one in self.changes)


def offer_for(session: Session, connection: Connection) -> Offer | None:
    """Return the newer version that a connection could move to; None when it has the newest."""
    key = connection.connector_key
    if loader.ELSEWHERE not in key:
        return None
    new, present = editions.newest(session, key), editions.by_key(session, key)
    if new is None or editions.key_of(new) == key:
        return None
    if editions.version_key(new.version) <= editions.version_key(key.partition("@")[2]):
        return None
    old, fresh = loader.known(key), loader.known(editions.key_of(new))
    if fresh is None:
        return None
    return Offer(
        editions.key_of(new),
        new.version,
        differences.compare(old, fresh) if old is not None else [],
        present.reason if present is not None else None,
        present.state if present is not None else "recalled",
    )


def upgrade(
    session: Session, organization_id: str, connection_id: str, by: str | None
) -> list[Flow]:
    """Move a connection and its flows to the newest version; returns the flows that were moved.

    Raises NotNow without a newer version, Unfit with what in which flow does not fit it.
    """
    connection = connections.find(session, organization_id, connection_id)
    offer = offer_for(session, connection)
    if offer is None:
        raise NotNow(N_("There is no newer version to move to"))
    connection.connector_key = offer.key
    session.add(connection)
    session.flush()
    moved, wrong = [], []
    for flow in _flows(session, organization_id):
        found = _move(session, flow, connection_id, offer.key, by)
        if found is None:
            continue
        moved.append(flow)
        wrong += [{**one, "pointer": f"/flows/{flow.id}{one['pointer']}"} for one in found]
    if wrong:
        raise Unfit(wrong, N_("A flow does not fit the newer version"))
    session.execute(
        update(SOURCE)
        .where(SOURCE.c.organization_id == organization_id, SOURCE.c.connection_id == connection_id)
        .values(connector_key=offer.key)
    )
    return moved


def _flows(session: Session, organization_id: str) -> list[Flow]:
    statement = Flow.of(organization_id).where(
        col(Flow.deleted_at).is_(None),
        or_(col(Flow.draft).is_not(None), col(Flow.published_version).is_not(None)),
    )
    return list(session.execute(statement.order_by(col(Flow.id)).with_for_update()).scalars())


def _move(
    session: Session, flow: Flow, connection_id: str, key: str, by: str | None
) -> list[dict[str, Any]] | None:
    """Write a flow's documents for the newer version; None when it does not use the connection.

    Returns what does not fit. A draft stays a draft, what runs gets a version of its own.
    """
    organization_id, found, is_used = flow.organization_id, [], False
    draft = _moved(flow.draft, connection_id, key) if flow.draft else None
    published = _published(session, flow)
    runs = _moved(published, connection_id, key) if published else None
    if runs is not None:
        is_used = True
        problems = flows.check(session, organization_id, runs)
        found += problems
        if not problems:
            flow.draft = runs
            session.add(flow)
            session.flush()
            flows.publish(session, organization_id, flow.id, by)
    if draft is not None:
        is_used = True
        flow.draft, flow.draft_revision = draft, flow.draft_revision + 1
        session.add(flow)
    return found if is_used else None


def _published(session: Session, flow: Flow) -> dict[str, Any] | None:
    if flow.published_version is None:
        return None
    statement = select(col(FlowVersion.document)).where(
        col(FlowVersion.organization_id) == flow.organization_id,
        col(FlowVersion.flow_id) == flow.id,
        col(FlowVersion.number) == flow.published_version,
    )
    found: dict[str, Any] | None = session.execute(statement).scalar_one_or_none()
    return found


def _moved(document: dict[str, Any], connection_id: str, key: str) -> dict[str, Any] | None:
    """Return a document with another connector where it uses a connection; None if it does not."""
    if connection_id not in flow_documents.connections_in(document):
        return None
    made = copy.deepcopy(document)
    for part in (made["trigger"], *(place.step for place in flow_trees.walk(made))):
        if part.get("connection") == connection_id:
            part["connector"] = key
    return made
