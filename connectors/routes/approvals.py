"""The JSON routes of approvals."""

from typing import Any

from flask import Blueprint, request

from connectors import approval_schemas, approvals
from connectors.judges import judge_of, may_see
from connectors.tables import Approval
from identity import audit
from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.errors import NotFound
from kernel.web import Page, operation, page_of

blueprint = Blueprint("approvals", __name__)


@blueprint.get("/approvals")
@require("approvals:decide")
@operation(summary="List the approvals", returns=approval_schemas.ApprovalOut, many=True)
def list_approvals() -> Any:
    """Return approvals, the newest first; `state` filters. Without the right to see runs a page
    holds only those that ask you.
    """
    who, given = principal(), request.args
    chosen = approvals.select_all(who.organization_id, given.getlist("state"))
    limit = given.get("limit", 50, type=int)
    with reading(who.organization_id) as session:
        page = page_of(session, chosen, Approval.id, cursor=given.get("cursor"), limit=limit)
    return Page([one for one in page.items if may_see(who, one)], page.next_cursor)


@blueprint.get("/approvals/<approval_id>")
@require("approvals:decide")
@operation(summary="Read an approval", returns=approval_schemas.ApprovalOut)
def read_approval(approval_id: str) -> Any:
    """Return what is asked, who is asked and what was decided."""
    who = principal()
    with reading(who.organization_id) as session:
        found = approvals.find(session, who.organization_id, approval_id)
    if not may_see(who, found):
        raise NotFound
    return found


@blueprint.post("/approvals/<approval_id>/decide")
@require("approvals:decide")
@operation(
    summary="Decide an approval",
    body=approval_schemas.DecisionIn,
    returns=approval_schemas.ApprovalOut,
)
def decide_approval(approval_id: str, body: approval_schemas.DecisionIn) -> Any:
    """Approve or refuse; only a person who is asked may, and only the first decision counts."""
    who = principal()
    with transaction(who.organization_id) as session:
        if not may_see(who, approvals.find(session, who.organization_id, approval_id)):
            raise NotFound
        made = approvals.decide(
            session, who.organization_id, approval_id, body.decision, judge_of(who), body.comment
        )
        audit.record(session, who, f"approval.{made.state}", approval_id)
        return made
