"""Runs: what flows have done, for lists, pages and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select, text
from sqlmodel import Session, col

from connectors import approvals, flow_documents, order_lanes
from connectors.flow_paths import step_of
from connectors.flow_trees import CATCHING
from connectors.keys import among
from connectors.resting import calls
from connectors.tables import Approval, Flow, FlowVersion, Run, Step
from kernel import tenancy
from kernel.errors import N_
from webhooks.events import Trace
from webhooks.tables import Event

STATES = ("due", "leased", "waiting", "succeeded", "skipped", "parked", "cancelled")
MOVING = ("due", "leased", "waiting")
CAUSES = ("data", "auth", "config", "down", "limit", "unknown", "quarantined")

# For each cause: what is safe, who must act, what to do. English message ids.
EXPLANATIONS: dict[str, tuple[str, str, str]] = {
    "data": (
        N_("The event is kept. The app did not take this content, and nothing was written there."),
        N_("Somebody who knows this order or record"),
        N_("Correct the content below and go on, or correct it in the app and retry."),
    ),
    "auth": (
        N_("The event is kept, and so are all others that wait for this connection."),
        N_("Whoever may sign in to the app"),
        N_("Reconnect: the waiting runs then go on by themselves, each exactly once."),
    ),
    "config": (
        N_("The event is kept, and nothing was written in the app by this step."),
        N_("Whoever looks after this flow"),
        N_("Correct the flow or the connection, then go on from this step."),
    ),
    "down": (
        N_("The event is kept. Repeating is safe: the app recognises what it has done already."),
        N_("The app's vendor; you only need to wait"),
        N_("Retry once the app answers again. All that stopped for it can be retried together."),
    ),
    "limit": (
        N_("The event is kept. The app asked for fewer calls."),
        N_("Whoever holds the contract with the app"),
        N_("Retry later, or ask the vendor for a higher limit."),
    ),
    "unknown": (
        N_("The event is kept. We stopped on purpose, because repeating could do it twice."),
        N_("Somebody who can look into the app"),
        N_("Look into the app: then take the step as done, or ask for it once more."),
    ),
    "quarantined": (
        N_("The event is kept. Other runs go on as usual."),
        N_("The hub's operator"),
        N_("Tell the operator the run's number. After the cure, go on from this step."),
    ),
}


@dataclass(frozen=True)
class Detail:
    """A run with all that a page shows of it."""

    run: Run
    flow: Flow
    event: Event | None
    document: dict[str, Any]  # of the version that runs
    recipe: flow_documents.Recipe
    steps: dict[int, Step]  # by position
    approvals: dict[int, Approval]  # by position
    waits_for: Run | None  # the run that goes before it, in an order
    behind: int  # how many runs wait for it, in an order
    called: dict[int, Run]  # the runs it called, by position
    has_error_path: bool  # stopped, and its flow says what to do then


def select_runs(
    organization_id: str,
    *,
    flow_id: str | None = None,
    states: Sequence[str] = (),
    event_id: str | None = None,
    event_type: str | None = None,
    cause: str | None = None,
    incident_id: str | None = None,
) -> Select[Any]:
    """Select an organization's runs by what a list may be filtered by; pages order them."""
    statement = Run.of(organization_id)
    if flow_id:
        statement = statement.where(col(Run.flow_id) == flow_id)
    if states:
        statement = statement.where(col(Run.state).in_(list(states)))
    if event_id:
        statement = statement.where(col(Run.event_id) == event_id)
    if event_type:
        statement = statement.where(col(Run.event_type) == event_type)
    if cause:
        statement = statement.where(col(Run.cause) == cause)
    if incident_id:
        statement = statement.where(col(Run.incident_id) == incident_id)
    return statement


def find(session: Session, organization_id: str, run_id: str) -> Run:
    """Return the organization's run; a stranger's is NotFound."""
    return tenancy.find(session, Run, organization_id, run_id)


def detail(session: Session, organization_id: str, run_id: str) -> Detail:
    """Return a run with its flow, event, version and steps."""
    run = find(session, organization_id, run_id)
    flow = tenancy.find(session, Flow, organization_id, run.flow_id)
    version = FlowVersion.of(organization_id).where(
        col(FlowVersion.flow_id) == run.flow_id, col(FlowVersion.number) == run.flow_version
    )
    found = session.execute(version).scalar_one()
    document = found.document
    recipe = flow_documents.recipe_of(found.id, document)
    steps = Step.of(organization_id).where(col(Step.run_id) == run_id)
    return Detail(
        run=run,
        flow=flow,
        event=session.get(Event, (organization_id, run.event_id)),
        document=document,
        recipe=recipe,
        steps={step.position: step for step in session.execute(steps).scalars()},
        approvals=approvals.of_run(session, organization_id, run_id),
        waits_for=order_lanes.in_front(session, run),
        behind=order_lanes.count_behind(session, run),
        called=calls.children(session, organization_id, run_id),
        has_error_path=_may_go_error_path(run, recipe),
    )


def _may_go_error_path(run: Run, recipe: flow_documents.Recipe) -> bool:
    if run.state != "parked" or step_of(run.next_step) >= len(recipe.steps):
        return False
    step = recipe.step_at(run.next_step)
    return bool(step.caught_by) and step.kind in CATCHING


def traces(session: Session, organization_id: str, event_id: str) -> list[Trace]:
    """Tell an event's page which runs it started, newest first."""
    statement = Run.of(organization_id).where(col(Run.event_id) == event_id)
    found = list(session.execute(statement.order_by(col(Run.id).desc()).limit(50)).scalars())
    titles = names(session, organization_id, found)
    return [
        Trace(titles.get(run.flow_id, run.id), f"/runs/{run.id}", run.state, run.created_at)
        for run in found
    ]


def names(session: Session, organization_id: str, found: Sequence[Run]) -> dict[str, str]:
    """Return the names of the flows of some runs."""
    wanted = {run.flow_id for run in found}
    statement = select(col(Flow.id), col(Flow.name)).where(
        col(Flow.organization_id) == organization_id, col(Flow.id).in_(wanted)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def subjects(session: Session, organization_id: str, found: Sequence[Run]) -> dict[str, str | None]:
    """Return what the events of some runs are about."""
    wanted = sorted({(organization_id, run.event_id) for run in found})
    statement = select(col(Event.id), col(Event.subject)).where(among(Event, wanted))
    return {row[0]: row[1] for row in session.execute(statement)}


def counts(session: Session, organization_id: str, since: datetime | None = None) -> dict[str, int]:
    """Count the organization's runs by state; those unfinished whenever they began."""
    statement = select(col(Run.state), func.count()).where(
        col(Run.organization_id) == organization_id
    )
    if since is not None:
        statement = statement.where(
            or_(col(Run.created_at) >= since, col(Run.state).in_((*MOVING, "parked")))
        )
    return {row[0]: int(row[1]) for row in session.execute(statement.group_by(col(Run.state)))}


def parked_by_cause(
    session: Session, organization_id: str, flow_id: str | None = None
) -> list[tuple[str, str, int]]:
    """Return (flow, cause, count) of the parked runs, the largest group first."""
    number = func.count().label("number")
    statement = select(col(Run.flow_id), col(Run.cause), number).where(
        col(Run.organization_id) == organization_id, col(Run.state) == "parked"
    )
    if flow_id:
        statement = statement.where(col(Run.flow_id) == flow_id)
    grouped = statement.group_by(col(Run.flow_id), col(Run.cause)).order_by(number.desc())
    return [(row[0], row[1], int(row[2])) for row in session.execute(grouped)]


def count_waiting_for(session: Session, organization_id: str, connection_id: str) -> int:
    """Count the runs that are parked until the connection is renewed."""
    statement = (
        select(func.count())
        .select_from(Run)
        .where(
            col(Run.organization_id) == organization_id,
            col(Run.state) == "parked",
            col(Run.cause) == "auth",
            col(Run.lane) == connection_id,
        )
    )
    return int(session.execute(statement).scalar_one())


# as the index over states has them, one after the other, so that the count can stop early
_WAITING = text(
    "SELECT count(*) FROM (SELECT 1 FROM run"
    " WHERE organization_id = :tenant AND state IN ('due', 'waiting')"
    " AND COALESCE(cause, '') NOT IN ('delay', 'approval', 'wait', 'call') LIMIT :most) AS waiting"
)


def count_waiting(session: Session, organization_id: str, most: int) -> int:
    """Count the runs that have not come to rest and wait for their turn, up to `most`.

    What rests as its flow wants it, for a time or a person, is no work that is left undone.
    """
    found = session.connection().execute(_WAITING, {"tenant": organization_id, "most": most})
    return int(found.scalar_one())
