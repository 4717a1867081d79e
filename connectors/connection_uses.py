"""Which flows hang on which connection."""

from sqlalchemy import select
from sqlmodel import Session, col

from connectors import flow_documents
from connectors.tables import Flow, FlowVersion


def flows_using(session: Session, organization_id: str, connection_id: str) -> list[Flow]:
    """List the flows whose draft or published version names the connection."""
    named = _connections_by_flow(session, organization_id)
    wanted = [flow_id for flow_id, found in named.items() if connection_id in found]
    statement = Flow.of(organization_id).where(col(Flow.id).in_(wanted))
    return list(session.execute(statement.order_by(col(Flow.id))).scalars())


def _connections_by_flow(session: Session, organization_id: str) -> dict[str, set[str]]:
    drafts = select(col(Flow.id), col(Flow.draft)).where(
        col(Flow.organization_id) == organization_id, col(Flow.deleted_at).is_(None)
    )
    named = {
        flow_id: set(flow_documents.connections_in(draft or {}))
        for flow_id, draft in session.execute(drafts)
    }
    published = (
        select(col(FlowVersion.flow_id), col(FlowVersion.document))
        .join(
            Flow,
            (col(Flow.organization_id) == col(FlowVersion.organization_id))
            & (col(Flow.id) == col(FlowVersion.flow_id))
            & (col(Flow.published_version) == col(FlowVersion.number)),
        )
        .where(col(FlowVersion.organization_id) == organization_id)
    )
    for flow_id, document in session.execute(published):
        if flow_id in named:
            named[flow_id].update(flow_documents.connections_in(document))
    return named


def use_counts(session: Session, organization_id: str) -> dict[str, int]:
    """Count, for each connection, the flows that are not deleted and name it."""
    counted: dict[str, int] = {}
    for named in _connections_by_flow(session, organization_id).values():
        for connection_id in named:
            counted[connection_id] = counted.get(connection_id, 0) + 1
    return counted
