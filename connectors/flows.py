"""Flows: drafts are edited, published versions run; a version never changes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlmodel import Session, col

from catalog import event_types
from connectors import (
    approvals,
    flow_documents,
    flow_shapes,
    names,
    order_keys,
    order_lanes,
)
from connectors.engine import flow_templates
from connectors.errors import InUse, NotNow, Unfit, finding
from connectors.flow_problems import check, event_schema
from connectors.resting import callables, calls, waits
from connectors.stages import environments
from connectors.stages.tables import IN_TEST
from connectors.tables import Flow, FlowVersion, Run
from kernel import documents, ids, queue, tenancy
from kernel.database import store_now
from kernel.errors import N_, NotFound

__all__ = ["check", "event_schema"]

MAX_DOCUMENT_BYTES = 256 * 1024
UNFINISHED = ("due", "leased", "waiting", "parked")


def create(
    session: Session,
    organization_id: str,
    name: str | Mapping[str, str],
    document: Mapping[str, Any] | None = None,
    *,
    template_key: str | None = None,
    installation_id: str | None = None,
) -> Flow:
    """Start a flow as a draft; it does nothing before it is published."""
    named: Any = name.strip()[:120] if isinstance(name, str) else dict(name)
    if not named:
        raise Unfit([finding("/name", "请给流程起个名字", "Please give the flow a name")])
    flow = Flow(
        organization_id=organization_id,
        id=ids.new_id("flw"),
        name=named,
        draft=_readable(document or flow_documents.empty()),
        template_key=template_key,
        installation_id=installation_id,
    )
    session.add(flow)
    names.read_back(session, flow)
    return flow


def create_from_template(
    session: Session,
    organization_id: str,
    template_key: str,
    chosen: Mapping[str, str],
    *,
    name: str | None = None,
    installation_id: str | None = None,
) -> Flow:
    """Start a flow from a template; `chosen` gives a connection id for each connector."""
    template = flow_templates.all().get(template_key)
    if template is None:
        raise NotFound
    document = flow_documents.from_template(template.document, chosen)
    return create(
        session,
        organization_id,
        name or dict(template.title),
        document,
        template_key=template_key,
        installation_id=installation_id,
    )


def find(session: Session, organization_id: str, flow_id: str) -> Flow:
    """Return the organization's flow; a stranger's or a deleted one is NotFound."""
    flow = tenancy.find(session, Flow, organization_id, flow_id)
    if flow.deleted_at is not None:
        raise NotFound
    return flow


def all_of(
    session: Session, organization_id: str, installation_id: str | None = None
) -> list[Flow]:
    """List the organization's flows, the newest first."""
    statement = Flow.of(organization_id).where(col(Flow.deleted_at).is_(None))
    if installation_id:
        statement = statement.where(col(Flow.installation_id) == installation_id)
    return list(session.execute(statement.order_by(col(Flow.id).desc())).scalars())


def rename(session: Session, organization_id: str, flow_id: str, name: str) -> Flow:
    """Give a flow another name."""
    flow = find(session, organization_id, flow_id)
    if not name.strip():
        raise Unfit([finding("/name", "请给流程起个名字", "Please give the flow a name")])
    flow.name = name.strip()[:120]
    session.add(flow)
    return flow


def document_of(session: Session, flow: Flow) -> dict[str, Any]:
    """Return what is edited: the draft, else the published document."""
    if flow.draft is not None:
        return flow.draft
    if flow.published_version is None:
        return flow_documents.empty()
    return version(session, flow.organization_id, flow.id, flow.published_version).document


def save_draft(
    session: Session,
    organization_id: str,
    flow_id: str,
    document: Any,
    revision: int | None = None,
) -> list[dict[str, Any]]:
    """Save a draft and return what still keeps it from being published.

    A draft may be unfinished, but not unreadable (Unfit). `revision` is the one that was edited;
    a newer one in the store is a conflict, and nothing is overwritten.
    """
    flow = find(session, organization_id, flow_id)
    if revision is not None and revision != flow.draft_revision:
        raise NotNow(
            N_("Somebody else changed this flow meanwhile"),
            N_("Nothing was overwritten. Load the page again and repeat your change."),
            code="stale_revision",
        )
    flow.draft = _readable(document)
    flow.draft_revision += 1
    session.add(flow)
    return check(session, organization_id, flow.draft, flow_id)


def publish(
    session: Session,
    organization_id: str,
    flow_id: str,
    published_by: str | None = None,
    document: Mapping[str, Any] | None = None,
) -> FlowVersion:
    """Make the draft a new version and switch the flow on; running runs keep their version.

    With a `document` that is published, and a draft that differs from it stays.
    """
    order_lanes.lock(session, [(organization_id, flow_id)])
    flow = find(session, organization_id, flow_id)
    wanted = document_of(session, flow) if document is None else document
    published = make_version(session, flow, wanted, environments.LIVE, published_by)
    order_before = flow.order_key
    _listen(flow, published)
    flow.state = "active"
    if document is None or flow.draft == document:
        flow.draft = None
    session.add(flow)
    if order_lanes.follow(session, flow, order_before):
        queue.nudge(session, "webhooks.drain")
    return published


def make_version(
    session: Session,
    flow: Flow,
    written: Mapping[str, Any],
    environment: str,
    published_by: str | None,
) -> FlowVersion:
    """Check a document as an environment would run it, and keep it as a version.

    Raises Unfit with all that keeps it from being published there.
    """
    owner = flow.organization_id
    document: Mapping[str, Any] = environments.bound(written, environment)
    findings = check(session, owner, document, flow.id, environment)
    findings += environments.check(session, owner, document, environment)
    if findings:
        raise Unfit(findings, N_("The flow is not finished yet"))
    called = callables.by_name(session, owner, document, environment)
    pinned = callables.pinned(document, called)
    published = FlowVersion(
        organization_id=owner,
        id=ids.new_id("flv"),
        flow_id=flow.id,
        number=newest(session, owner, flow.id) + 1,
        document=pinned,
        written=None if environments.bound(written, environment) == written else dict(written),
        environment=environment,
        published_by=published_by,
        published_at=store_now(session),
    )
    session.add(published)
    session.flush()  # whoever points at a version finds it there
    waits.listen(session, owner, flow.id, pinned)
    return published


def _listen(flow: Flow, published: FlowVersion) -> None:
    trigger = published.document["trigger"]
    flow.published_version = published.number
    flow.listens_to = trigger.get("event") or None
    flow.listens_version = trigger.get("version")
    flow.listens_source_id = trigger.get("source")
    flow.listens_connection_id = trigger.get("connection")
    flow.order_key = order_keys.of_trigger(trigger)
    flow.lane = flow_documents.recipe(published.document).lane_at(0, flow.id)


def pause(session: Session, organization_id: str, flow_id: str) -> Flow:
    """Stop starting new runs; those that run go on."""
    flow = find(session, organization_id, flow_id)
    if flow.state != "active":
        raise NotNow(N_("Only a flow that is switched on can be paused"))
    flow.state = "paused"
    session.add(flow)
    return flow


def resume(session: Session, organization_id: str, flow_id: str) -> Flow:
    """Start new runs again, with the version that was published last."""
    flow = find(session, organization_id, flow_id)
    if flow.state != "paused":
        raise NotNow(N_("Only a paused flow can be resumed"))
    flow.state = "active"
    session.add(flow)
    return flow


def delete(session: Session, organization_id: str, flow_id: str, *, force: bool = False) -> Flow:
    """Put a flow away; its finished runs stay readable.

    Refused while runs wait for something, unless forced: then they are cancelled.
    """
    order_lanes.lock(session, [(organization_id, flow_id)])
    flow = find(session, organization_id, flow_id)
    waiting = unfinished(session, organization_id, flow_id)
    if waiting and not force:
        raise InUse(
            N_("%(count)s runs of this flow are not finished"),
            N_("Finish or cancel them first; the flow was not deleted."),
            count=waiting,
        )
    now = store_now(session)
    waits.forget_flow(session, organization_id, flow_id)
    mine = IN_TEST.c.organization_id == organization_id
    session.execute(sql_delete(IN_TEST).where(mine, IN_TEST.c.id == flow_id))
    if waiting:
        approvals.withdraw_all(session, organization_id, flow_id)
        gone = session.execute(
            update(Run)
            .where(
                col(Run.organization_id) == organization_id,
                col(Run.flow_id) == flow_id,
                col(Run.state).in_(UNFINISHED),
            )
            .values(
                state="cancelled",
                finished_at=now,
                next_at=None,
                lease_until=None,
                lease_epoch=col(Run.lease_epoch) + 1,
            )
            .returning(col(Run.id))
            .execution_options(synchronize_session=False)
        )
        calls.cancel_below(session, organization_id, list(gone.scalars()))
    flow.state, flow.deleted_at = "paused", now
    session.add(flow)
    return flow


def unfinished(session: Session, organization_id: str, flow_id: str) -> int:
    """Count the flow's runs that have not come to an end."""
    statement = (
        select(func.count())
        .select_from(Run)
        .where(
            col(Run.organization_id) == organization_id,
            col(Run.flow_id) == flow_id,
            col(Run.state).in_(UNFINISHED),
        )
    )
    return int(session.execute(statement).scalar_one())


def version(session: Session, organization_id: str, flow_id: str, number: int) -> FlowVersion:
    """Return one published version."""
    statement = FlowVersion.of(organization_id).where(
        col(FlowVersion.flow_id) == flow_id, col(FlowVersion.number) == number
    )
    found: FlowVersion | None = session.execute(statement).scalar_one_or_none()
    if found is None:
        raise NotFound
    return found


def newest(session: Session, organization_id: str, flow_id: str) -> int:
    """Return the number of the version that was published last, wherever; 0 for none."""
    statement = select(func.max(col(FlowVersion.number))).where(
        col(FlowVersion.organization_id) == organization_id, col(FlowVersion.flow_id) == flow_id
    )
    return int(session.execute(statement).scalar_one() or 0)


def versions(session: Session, organization_id: str, flow_id: str) -> list[FlowVersion]:
    """List a flow's published versions, the newest first."""
    statement = FlowVersion.of(organization_id).where(col(FlowVersion.flow_id) == flow_id)
    return list(session.execute(statement.order_by(col(FlowVersion.number).desc())).scalars())


def restore_version(session: Session, organization_id: str, flow_id: str, number: int) -> Flow:
    """Make an earlier version the draft again; it runs once it is published."""
    flow = find(session, organization_id, flow_id)
    flow.draft = version(session, organization_id, flow_id, number).document
    flow.draft_revision += 1
    session.add(flow)
    return flow


def figures(session: Session, organization_id: str, since: datetime) -> dict[str, dict[str, Any]]:
    """Return each flow's runs since a moment, counted by state, and when the last one began."""
    statement = (
        select(col(Run.flow_id), col(Run.state), func.count(), func.max(col(Run.created_at)))
        .where(col(Run.organization_id) == organization_id, col(Run.created_at) >= since)
        .group_by(col(Run.flow_id), col(Run.state))
    )
    found: dict[str, dict[str, Any]] = {}
    for flow_id, state, count, last in session.execute(statement):
        entry = found.setdefault(flow_id, {"total": 0, "last_run_at": None})
        entry[state] = count
        entry["total"] += count
        entry["last_run_at"] = max(filter(None, (entry["last_run_at"], last)))
    return found


def _readable(document: Any) -> dict[str, Any]:
    """Refuse a draft that no editor could show."""
    findings = flow_shapes.check_shape(document)
    if findings:
        raise Unfit(findings, N_("The flow cannot be read"))
    if len(documents.dump(document)) > MAX_DOCUMENT_BYTES:
        raise Unfit([finding("", "流程超过 256 KB", "The flow is larger than 256 kB")])
    plain: dict[str, Any] = dict(document)
    return plain


def receivers(session: Session, organization_id: str, name: str) -> list[event_types.Receiver]:
    """Name the published flows of the organization that listen to events of this type."""
    statement = Flow.of(organization_id).where(
        col(Flow.listens_to) == name, col(Flow.deleted_at).is_(None), col(Flow.state) != "draft"
    )
    return [
        event_types.Receiver("flow", one.name, f"/flows/{one.id}", one.state, "flows:read")
        for one in session.execute(statement.order_by(col(Flow.id))).scalars()
    ]
