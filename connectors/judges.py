"""Judges: whoever acts now, as approvals know them."""

from connectors import approvals
from connectors.approvals import Judge
from connectors.tables import Approval
from identity.principals import Principal


def judge_of(who: Principal) -> Judge | None:
    """Return the person who acts; None for a key, which is nobody who could be asked."""
    if who.kind != "member" or not who.user_id or not who.member_id:
        return None
    return Judge(who.user_id, who.member_id, who.role, who.name or who.email)


def may_see(who: Principal, approval: Approval) -> bool:
    """Tell whether somebody may read an approval: who is asked, and who may see runs."""
    return who.may("runs:read") or approvals.may_decide(approval, judge_of(who))
