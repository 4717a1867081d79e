"""Approvals: runs ask people, one of them decides, once, and the run goes on.

A decision stands in the approval and in the note of the run's step; it is written in one commit
with the run's wake-up, so that a run that was decided on never waits for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Select, func, select, text, update
from sqlmodel import Session, col

from connectors import approval_addresses
from connectors.errors import NotNow, Unfit, finding
from connectors.keys import Key
from connectors.tables import APPROVAL, Approval, Flow, Run, Step
from kernel import outbox, queue, tenancy
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import N_, Forbidden
from kernel.rows import insert_rows

DRAIN = "webhooks.drain"
MAX_COMMENT = 1_000
MOST_OPEN = 500  # open ones of an organization that are looked through for a person's
AT_ONCE = 50
DECISIONS = {"approve": "approved", "refuse": "refused"}
NEWS = ("approval.asked", "approval.reminded", "approval.decided")


@dataclass(frozen=True)
class Judge:
    """A person of the organization as approvals know them."""

    user_id: str
    member_id: str
    role: str
    name: str


def write_down(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put new questions down, in the commit that lets their runs rest."""
    if not rows:
        return
    every = {"comment": None, "decided_by": None, "decided_name": None, "decided_at": None}
    insert_rows(session.connection(), APPROVAL, [{**row, **every} for row in rows])
    for row in rows:
        _tell(session, "approval.asked", row)


def _tell(session: Session, news: str, row: Mapping[str, Any], **more: Any) -> None:
    """Emit an event, so that a flow or an endpoint can carry it to where people look."""
    data = {
        "approval_id": row["id"],
        "flow_id": row["flow_id"],
        "run_id": row["run_id"],
        "title": row["title"],
        "text": row["text"],
        "deadline_at": row["deadline_at"].isoformat(),
        "path": f"/approvals/{row['id']}",
        "link": approval_addresses.address_of(row["organization_id"], row["id"]),
        **more,
    }
    outbox.emit(session, row["organization_id"], news, data, row["id"])


# --- looks ---------------------------------------------------------------------------------------


def find(session: Session, organization_id: str, approval_id: str) -> Approval:
    """Return the organization's approval; a stranger's is NotFound."""
    return tenancy.find(session, Approval, organization_id, approval_id)


def may_decide(approval: Approval, judge: Judge | None) -> bool:
    """Tell whether a person is asked. Owners always are, so that nothing waits for one who left."""
    if judge is None:
        return False
    asked = judge.member_id in approval.members or judge.role in approval.roles
    return asked or judge.role == "owner"


def select_all(organization_id: str, states: Sequence[str] = ()) -> Select[Any]:
    """Select an organization's approvals; pages order them."""
    statement = Approval.of(organization_id)
    return statement.where(col(Approval.state).in_(list(states))) if states else statement


def open_for(session: Session, organization_id: str, judge: Judge | None) -> list[Approval]:
    """List the open approvals that a person is asked to decide, the nearest deadline first."""
    statement = select_all(organization_id, ("open",)).order_by(
        col(Approval.deadline_at), col(Approval.id)
    )
    found = session.execute(statement.limit(MOST_OPEN)).scalars()
    return [one for one in found if may_decide(one, judge)]


def of_run(session: Session, organization_id: str, run_id: str) -> dict[int, Approval]:
    """Return a run's approvals by the position of their step, the latest of each."""
    statement = Approval.of(organization_id).where(col(Approval.run_id) == run_id)
    found = session.execute(statement.order_by(col(Approval.id))).scalars()
    return {one.position: one for one in found}


def flow_names(session: Session, organization_id: str, found: Sequence[Approval]) -> dict[str, str]:
    """Return the names of the flows that ask."""
    wanted = {one.flow_id for one in found}
    statement = select(col(Flow.id), col(Flow.name)).where(
        col(Flow.organization_id) == organization_id, col(Flow.id).in_(wanted)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def count_open(session: Session, organization_id: str) -> int:
    """Count the organization's open approvals."""
    statement = (
        select(func.count())
        .select_from(Approval)
        .where(col(Approval.organization_id) == organization_id, col(Approval.state) == "open")
    )
    return int(session.execute(statement).scalar_one())


# --- decisions -----------------------------------------------------------------------------------


def decide(
    session: Session,
    organization_id: str,
    approval_id: str,
    decision: str,
    judge: Judge | None,
    comment: str = "",
) -> Approval:
    """Take a person's decision, `approve` or `refuse`, and let the run go on.

    Raises Forbidden for one who is not asked, NotNow when it was decided already.
    """
    approval = find(session, organization_id, approval_id)
    if not may_decide(approval, judge):
        raise Forbidden(
            N_("You are not asked to decide this"),
            N_("Those who are asked stand beside it; an owner of the organization may, too."),
        )
    if decision not in DECISIONS:
        sentence = ("请选择同意或不同意", "Choose to approve or to refuse")
        raise Unfit([finding("/decision", *sentence)])
    comment = comment.replace("\0", "").strip()
    if len(comment) > MAX_COMMENT:
        long = (f"说明不能超过 {MAX_COMMENT} 个字", f"At most {MAX_COMMENT} characters")
        raise Unfit([finding("/comment", *long)])
    return _settle(session, approval, DECISIONS[decision], judge, comment)


def _settle(
    session: Session, approval: Approval, state: str, judge: Judge | None, comment: str
) -> Approval:
    """Write a decision down, once: whoever comes second learns of the first."""
    run = _hold(session, approval)
    now = store_now(session)
    if approval.state != "open" or run is None:
        raise _decided(approval)
    if judge is not None and approval.deadline_at <= now:
        raise NotNow(
            N_("The deadline is over, so nobody can decide this any more"),
            N_("The flow goes on in a moment as it says for this case."),
        )
    approval.state, approval.decided_at, approval.next_at = state, now, None
    approval.comment = comment or None
    if judge is not None:
        approval.decided_by, approval.decided_name = judge.user_id, judge.name[:120]
    session.add(approval)
    _note(session, approval, now)
    if run.state != "parked":  # set aside for another reason, it goes on when it is retried
        # whoever has a lease on it meanwhile only looked that nothing was decided yet
        run.state, run.next_at, run.lease_epoch = "due", now, run.lease_epoch + 1
        run.lease_owner = run.lease_until = run.cause = run.say = run.detail = None
        session.add(run)
    by = {"decision": state, "by": approval.decided_name, "comment": approval.comment}
    _tell(session, "approval.decided", approval.model_dump(), **by)
    queue.nudge(session, DRAIN)
    return approval


def _hold(session: Session, approval: Approval) -> Run | None:
    """Lock the run and then its approval; returns the run if it still stands at this one."""
    statement = Run.of(approval.organization_id).where(col(Run.id) == approval.run_id)
    run: Run | None = session.execute(statement.with_for_update()).scalar_one_or_none()
    session.refresh(approval, with_for_update=True)
    if run is None or run.state not in ("waiting", "due", "leased", "parked"):
        return None
    return run if run.next_step == approval.position else None


def _note(session: Session, approval: Approval, now: datetime) -> None:
    """Write the decision where the run reads it."""
    statement = Step.of(approval.organization_id).where(
        col(Step.run_id) == approval.run_id, col(Step.position) == approval.position
    )
    step: Step = session.execute(statement).scalar_one()
    step.output = {
        **(step.output or {}),
        "decision": approval.state,
        "by": approval.decided_name or "",  # texts, so that sentences may hold them
        "comment": approval.comment or "",
        "at": now.isoformat(),
        "how": "person" if approval.decided_by else "deadline",
    }
    session.add(step)


def _decided(approval: Approval) -> NotNow:
    if approval.state == "withdrawn" or approval.state == "open":
        return NotNow(
            N_("This is not asked any more"), N_("Its run was ended. There is nothing to decide.")
        )
    if approval.decided_by is None:
        return NotNow(
            N_("The deadline has passed"),
            N_("What the flow does then was done. Run the event again if it should be asked anew."),
        )
    return NotNow(
        N_("%(name)s has decided this already"),
        N_("The first decision counts; yours was not taken. It stands on this page."),
        name=approval.decided_name or approval.decided_by,
    )


def withdraw(session: Session, organization_id: str, run_ids: Sequence[str]) -> None:
    """Take back what runs that were ended still ask."""
    _withdraw(session, organization_id, col(Approval.run_id).in_(list(run_ids)))


def withdraw_all(session: Session, organization_id: str, flow_id: str) -> None:
    """Take back what the runs of a flow that is put away still ask."""
    _withdraw(session, organization_id, col(Approval.flow_id) == flow_id)


def _withdraw(session: Session, organization_id: str, which: Any) -> None:
    session.execute(
        update(Approval)
        .where(
            col(Approval.organization_id) == organization_id,
            which,
            col(Approval.state) == "open",
        )
        .values(state="withdrawn", next_at=None)
        .execution_options(synchronize_session="fetch")
    )


# --- deadlines and reminders ---------------------------------------------------------------------

_DUE = (
    select(APPROVAL.c.organization_id, APPROVAL.c.id, APPROVAL.c.next_at)
    .where(text("approval.state = 'open'"))  # word for word as the partial index has it
    .order_by(APPROVAL.c.next_at)
    .limit(AT_ONCE)
)


def sweep() -> int:
    """Remind of what is open for long, and decide what is past its deadline; returns how many."""
    with reading(EVERY) as session:
        now = store_now(session)
        found = session.execute(_DUE.where(APPROVAL.c.next_at <= now)).all()
    return sum(write(partial(_take_turn, key=(row[0], row[1]))) for row in found)


def _take_turn(session: Session, key: Key) -> int:
    organization_id, approval_id = key
    approval = find(session, organization_id, approval_id)
    run, now = _hold(session, approval), store_now(session)
    if approval.state != "open" or approval.next_at is None or approval.next_at > now:
        return 0
    if run is None:
        withdraw(session, organization_id, [approval.run_id])
        return 0
    if approval.deadline_at <= now:
        _settle(session, approval, DECISIONS[approval.at_deadline], None, "")
    else:
        approval.reminded_at, approval.next_at = now, approval.deadline_at
        session.add(approval)
        _tell(session, "approval.reminded", approval.model_dump())
    return 1
