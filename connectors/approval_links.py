"""Approval links: an address that leads from a chat or a mail straight to one question.

It names the approval and cannot be made up. Opening it decides nothing: programs open addresses
too. It is of no more use once somebody has decided, or the time is over. Who may decide is said by
the flow: whoever signs in and is asked (`sign_in`), or whoever has the link, in the name of the one
person that is asked (`named`).
"""

from typing import Any

from sqlmodel import Session

from connectors import approvals
from connectors.approvals import Judge
from connectors.errors import NotNow
from connectors.keys import Key
from connectors.tables import Approval
from identity import members, suspensions
from kernel.errors import N_, NotFound


def look_up(session: Session, key: Key) -> Approval:
    """Return the question behind a link; raises Suspended, NotFound once it is deleted."""
    if suspensions.is_suspended(session, key[0]):
        raise suspensions.Suspended
    return approvals.find(session, *key)


def who_decides(session: Session, approval: Approval) -> Judge | None:
    """Return the person in whose name a link decides; None where one has to sign in."""
    if approval.by_link != "named" or len(approval.members) != 1 or approval.roles:
        return None
    try:
        seat = members.find_seat(session, approval.organization_id, approval.members[0])
    except NotFound:
        return None  # they have left; an owner decides in the hub
    return Judge(seat.user_id, seat.id, seat.role, seat.name)


def decide(session: Session, key: Key, decision: str, comment: str) -> Approval:
    """Take a decision in the name of the person that the link was made for, once.

    Raises NotNow where one has to sign in, or when it was decided.
    """
    approval = look_up(session, key)
    judge = who_decides(session, approval)
    if judge is None:
        raise NotNow(N_("Sign in to decide this"))
    return approvals.decide(session, key[0], key[1], decision, judge, comment)


_PARTS = (
    "approval_id", "flow_id", "run_id", "title", "text", "deadline_at", "path", "link",
)  # fmt: skip
# What flows that approvals start can rely on.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": list(_PARTS),
    "properties": {name: {"type": "string"} for name in _PARTS},
}
