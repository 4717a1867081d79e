"""The pages of approvals: what asks me, one question, the decision."""

from typing import Any

from flask import request

from connectors import approval_addresses, approval_links, approvals
from connectors.judges import judge_of, may_see
from connectors.pages.drawing import blueprint, draw, go, typed
from connectors.tables import Approval
from identity import audit, members
from identity.guard import principal, principal_or_none, public, require
from identity.roles import ROLE_TITLES
from identity.tables import Organization
from kernel.database import reading, transaction
from kernel.errors import NotFound, Problem
from kernel.web import page_of

VIEWS = {"others": ("open",), "decided": ("approved", "refused", "withdrawn")}


@blueprint.get("/approvals")
@require("approvals:decide")
def list_approvals() -> Any:
    """Show what asks the reader, what asks others, and what was decided."""
    who, view = principal(), request.args.get("view", "")
    with reading(who.organization_id) as session:
        mine = approvals.open_for(session, who.organization_id, judge_of(who))
        page = None
        if view in VIEWS:
            chosen = approvals.select_all(who.organization_id, VIEWS[view])
            cursor = request.args.get("cursor")
            page = page_of(session, chosen, Approval.id, cursor=cursor, limit=30)
        shown = [one for one in page.items if may_see(who, one)] if page else mine
        names = approvals.flow_names(session, who.organization_id, shown)
    return draw(
        "approvals.html",
        view=view,
        shown=shown,
        names=names,
        mine=len(mine),
        next_cursor=page.next_cursor if page else None,
    )


@blueprint.get("/approvals/<approval_id>")
@require("approvals:decide")
def show_approval(approval_id: str) -> Any:
    """Show a question, who is asked, and what was decided."""
    return _draw_one(approval_id)


@blueprint.post("/approvals/<approval_id>/decide")
@require("approvals:decide")
def decide_approval(approval_id: str) -> Any:
    """Take the reader's decision."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            if not may_see(who, approvals.find(session, who.organization_id, approval_id)):
                raise NotFound
            made = approvals.decide(
                session,
                who.organization_id,
                approval_id,
                typed("decision"),
                judge_of(who),
                request.form.get("comment", ""),
            )
            audit.record(session, who, f"approval.{made.state}", approval_id)
    except NotFound:
        raise
    except Problem as problem:
        return _draw_one(approval_id, problem)
    return go(f"/approvals/{approval_id}", done="decided")


@blueprint.get("/decide/<token>")
@public
def show_by_link(token: str) -> Any:
    """Show the question a link leads to; looking decides nothing, as programs look too."""
    return _draw_by_link(token)


@blueprint.post("/decide/<token>")
@public
def decide_by_link(token: str) -> Any:
    """Take the decision of the person in whose name the link decides."""
    key = approval_addresses.key_of(token)
    try:
        with transaction(key[0]) as session:
            made = approval_links.decide(
                session, key, typed("decision"), request.form.get("comment", "")
            )
            detail = {"by": made.decided_name, "how": "link"}
            audit.record(
                session, None, f"approval.{made.state}", made.id, organization_id=key[0],
                detail=detail,
            )  # fmt: skip
    except NotFound:
        raise
    except Problem as problem:
        return _draw_by_link(token, problem)
    return go(f"/decide/{token}", done="decided")


def _draw_by_link(token: str, problem: Problem | None = None) -> Any:
    key, who = approval_addresses.key_of(token), principal_or_none()
    if who is not None and who.organization_id == key[0]:
        return go(f"/approvals/{key[1]}")
    with reading(key[0]) as session:
        found = approval_links.look_up(session, key)
        judge = approval_links.who_decides(session, found)
        if judge is None:
            return go("/sign-in", next=f"/approvals/{key[1]}")
        organization = session.get_one(Organization, key[0])
        page = draw(
            "approval_link.html",
            problem=problem,
            found=found,
            judge=judge,
            organization_name=organization.name,
        )
    # not no-referrer: with that, browsers hide from us that our own form comes from here
    page.headers["Referrer-Policy"] = "same-origin"
    page.headers["Cache-Control"] = "no-store"
    return page


def _draw_one(approval_id: str, problem: Problem | None = None) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        found = approvals.find(session, who.organization_id, approval_id)
        if not may_see(who, found):
            raise NotFound
        names = approvals.flow_names(session, who.organization_id, [found])
        seats = members.list_seats(session, who.organization_id)
        others = [
            one
            for one in approvals.open_for(session, who.organization_id, judge_of(who))
            if one.id != approval_id
        ]
    return draw(
        "approval.html",
        problem=problem,
        found=found,
        flow_name=names.get(found.flow_id, found.flow_id),
        may_decide=found.state == "open" and approvals.may_decide(found, judge_of(who)),
        asked_roles=[ROLE_TITLES[role] for role in found.roles if role in ROLE_TITLES],
        asked_people=[seat.name for seat in seats if seat.id in found.members],
        next_one=others[0] if others else None,
    )
