"""Publishing to test, and from test to live."""

from typing import Any

from sqlalchemy import delete, select
from sqlmodel import Session, col

from connectors import flow_diffs, flow_documents, flows
from connectors.errors import NotNow
from connectors.flow_diffs import Change
from connectors.stages.environments import TEST
from connectors.stages.tables import IN_TEST, FlowInTest
from connectors.tables import Flow, FlowVersion
from kernel import tenancy
from kernel.errors import N_, NotFound


def in_test(session: Session, organization_id: str, flow_id: str) -> FlowInTest | None:
    """Return which version of a flow runs in test, None when it does not."""
    return session.get(FlowInTest, (organization_id, flow_id))


def publish(
    session: Session, organization_id: str, flow_id: str, published_by: str | None = None
) -> FlowVersion:
    """Make the draft a version that runs in test; what runs live does not change.

    The draft stays, so that it can be edited on or be published live. Raises Unfit for what is not
    finished, or names a connection that is not for testing.
    """
    flow = flows.find(session, organization_id, flow_id)
    document = flows.document_of(session, flow)
    version = flows.make_version(session, flow, document, TEST, published_by)
    trigger = version.document["trigger"]
    stage = in_test(session, organization_id, flow_id)
    if stage is None:
        stage = FlowInTest(organization_id=organization_id, id=flow_id, published_version=0)
    stage.published_version, stage.state = version.number, "active"
    stage.listens_to = trigger.get("event") or None
    stage.listens_version = trigger.get("version")
    stage.listens_source_id = trigger.get("source")
    stage.listens_connection_id = trigger.get("connection")
    stage.lane = flow_documents.recipe(version.document).lane_at(0, flow_id)
    session.add(stage)
    return version


def stop(session: Session, organization_id: str, flow_id: str) -> Flow:
    """Let a flow start no more runs in test; those under way come to their end."""
    flow = flows.find(session, organization_id, flow_id)
    if in_test(session, organization_id, flow_id) is None:
        raise NotNow(N_("This flow does not run in test"))
    session.execute(
        delete(IN_TEST).where(IN_TEST.c.organization_id == organization_id, IN_TEST.c.id == flow_id)
    )
    return flow


def promote(
    session: Session, organization_id: str, flow_id: str, published_by: str | None = None
) -> FlowVersion:
    """Publish live what runs in test, over the connections of the live environment.

    The draft goes when it is what was tested, and stays when somebody has changed it since.
    """
    tested = _tested(session, organization_id, flow_id)
    return flows.publish(session, organization_id, flow_id, published_by, written_of(tested))


def changes(session: Session, organization_id: str, flow_id: str) -> list[Change]:
    """Return what a promotion would change for live runs, step by step.

    Everything is new when nothing runs live yet.
    """
    flow = flows.find(session, organization_id, flow_id)
    after = written_of(_tested(session, organization_id, flow_id))
    before: dict[str, Any] = flow_documents.empty()
    if flow.published_version is not None:
        live = flows.version(session, organization_id, flow_id, flow.published_version)
        before = written_of(live)
    return flow_diffs.changes(before, after)


def written_of(version: FlowVersion) -> dict[str, Any]:
    """Return a version as it was written, before an environment's connections were put in."""
    return version.written if version.written is not None else version.document


def _tested(session: Session, organization_id: str, flow_id: str) -> FlowVersion:
    flows.find(session, organization_id, flow_id)
    stage = in_test(session, organization_id, flow_id)
    if stage is None:
        raise NotNow(
            N_("This flow does not run in test"),
            N_("Publish it to test first; then what was tested can go live."),
        )
    return flows.version(session, organization_id, flow_id, stage.published_version)


def stages_of(session: Session, organization_id: str) -> dict[str, int]:
    """Return the version that runs in test of each flow that does."""
    statement = select(col(FlowInTest.id), col(FlowInTest.published_version)).where(
        col(FlowInTest.organization_id) == organization_id
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def version_in(session: Session, organization_id: str, flow: Flow, environment: str | None) -> int:
    """Return the version that a new run of a flow has in an environment; raises NotFound."""
    if environment != TEST:
        if flow.published_version is None:
            raise NotFound
        return flow.published_version
    return tenancy.find(session, FlowInTest, organization_id, flow.id).published_version
