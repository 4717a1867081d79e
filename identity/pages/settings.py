"""The organization's pages: its details, its people, its keys, its audit trail."""

from datetime import timedelta
from typing import Any

from flask import request

from identity import api_keys, audit, invitations, members, organizations, roles
from identity.guard import principal, require
from identity.pages.door import renew_secret
from identity.pages.drawing import blueprint, draw, go, typed
from identity.tables import AuditEntry
from kernel import clock
from kernel.database import reading, transaction
from kernel.errors import N_, Invalid, Problem
from kernel.settings import settings
from kernel.web import page_of

_LIFETIMES = {"30": 30, "90": 90, "365": 365, "0": None}


@blueprint.get("/settings")
@require("organization:read")
def organization() -> Any:
    """Show the organization's details."""
    return _draw_organization()


@blueprint.post("/settings")
@require("organization:write")
def change_organization() -> Any:
    """Change the organization's details."""
    who = principal()
    changes = {name: typed(name) for name in ("name", "slug", "industry", "size")}
    try:
        with transaction(who.organization_id) as session:
            organizations.change(session, who.organization_id, **changes)
            audit.record(session, who, "organization.changed", who.organization_id, detail=changes)
    except Problem as problem:
        return _draw_organization(problem)
    return go("/settings?done=saved")


@blueprint.get("/settings/members")
@require("members:read")
def list_members() -> Any:
    """Show who belongs to the organization and who is invited."""
    return _draw_members()


@blueprint.post("/settings/invitations")
@require("members:write")
def invite() -> Any:
    """Invite somebody and show the link, this once, for copying."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            offer, secret = invitations.invite(
                session,
                who.organization_id,
                email=typed("email"),
                role=typed("role"),
                actor_role=who.role,
                actor_id=who.user_id,
                actor_permissions=who.permissions,
            )
            audit.record(session, who, "invitation.created", offer.id, detail={"role": offer.role})
    except Problem as problem:
        return _draw_members(problem)
    return _draw_members(link=invitations.link(settings().base_url, secret), invited=typed("email"))


@blueprint.post("/settings/invitations/<invitation_id>/revoke")
@require("members:write")
def revoke_invitation(invitation_id: str) -> Any:
    """Withdraw an invitation."""
    who = principal()
    with transaction(who.organization_id) as session:
        invitations.revoke(session, who.organization_id, invitation_id)
        audit.record(session, who, "invitation.revoked", invitation_id)
    return go("/settings/members?done=revoked")


@blueprint.post("/settings/members/<member_id>/role")
@require("members:write")
def change_role(member_id: str) -> Any:
    """Give a member another role."""
    who, role = principal(), typed("role")
    try:
        with transaction(who.organization_id) as session:
            members.change_role(
                session,
                who.organization_id,
                member_id,
                role,
                actor_role=who.role,
                actor_permissions=who.permissions,
            )
            audit.record(session, who, "member.role_changed", member_id, detail={"role": role})
    except Problem as problem:
        return _draw_members(problem)
    return go("/settings/members?done=role")


@blueprint.post("/settings/members/<member_id>/remove")
@require("members:write")
def remove_member(member_id: str) -> Any:
    """Take a member's seat away."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            members.remove(session, who.organization_id, member_id, actor_role=who.role)
            audit.record(session, who, "member.removed", member_id)
    except Problem as problem:
        return _draw_members(problem)
    return go("/settings/members?done=removed")


@blueprint.post("/settings/leave")
@require()
def leave() -> Any:
    """Give one's own seat up."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            members.leave(session, who.organization_id, who.member_id or "")
            audit.record(session, who, "member.left", who.member_id)
    except Problem as problem:
        return _draw_organization(problem)
    return renew_secret(go("/organizations"))


@blueprint.get("/settings/api-keys")
@require("api_keys:read")
def list_api_keys() -> Any:
    """Show the working keys without their secrets."""
    return _draw_api_keys()


@blueprint.get("/settings/api-keys/new")
@require("api_keys:write", fresh=True)
def new_api_key() -> Any:
    """Show the form for a new key."""
    return draw("api_key_new.html", **_choices())


@blueprint.post("/settings/api-keys")
@require("api_keys:write", fresh=True)
def mint_api_key() -> Any:
    """Make a key and show its secret, this once."""
    who = principal()
    try:
        with transaction(who.organization_id) as session:
            key, secret = api_keys.mint(
                session,
                organizations.find(session, who.organization_id),
                name=typed("name"),
                role=typed("role"),
                permissions=request.form.getlist("permissions") or None,
                expires_at=_expiry(typed("days")),
                created_by=who.user_id,
                actor_role=who.role,
                actor_permissions=who.permissions,
            )
            audit.record(session, who, "api_key.created", key.id, detail={"role": key.role})
    except Problem as problem:
        return draw("api_key_new.html", problem=problem, **_choices())
    return _draw_api_keys(made=key, secret=secret)


@blueprint.post("/settings/api-keys/<key_id>/revoke")
@require("api_keys:write")
def revoke_api_key(key_id: str) -> Any:
    """Stop a key at once."""
    who = principal()
    with transaction(who.organization_id) as session:
        api_keys.revoke(session, who.organization_id, key_id)
        audit.record(session, who, "api_key.revoked", key_id)
    return go("/settings/api-keys?done=revoked")


@blueprint.get("/settings/audit")
@require("audit:read")
def list_audit() -> Any:
    """Show who did what, newest first."""
    action = request.args.get("action", "")
    statement = audit.entries(principal().organization_id, action=action or None)
    with reading(principal().organization_id) as session:
        page = page_of(session, statement, AuditEntry.id, cursor=request.args.get("cursor"))
    return draw("audit.html", page=page, actions=audit.ACTIONS, action=action)


def _expiry(days: str) -> Any:
    if days not in _LIFETIMES:
        message = N_("Please choose how long the key shall work.")
        raise Invalid(detail=message, errors=[{"pointer": "/days", "message": message}])
    lifetime = _LIFETIMES[days]
    return clock.now() + timedelta(days=lifetime) if lifetime else None


def _choices() -> dict[str, Any]:
    who = principal()
    offered = [
        role
        for role in roles.ROLES
        if (role != "owner" or who.role == "owner")
        and roles.permissions_of(role, is_vendor=who.is_vendor, is_operator=who.is_operator)
        <= who.permissions
    ]
    return {"offered": offered, "held": [p for p in roles.PERMISSIONS if who.may(p)]}


def _draw_organization(problem: Problem | None = None) -> Any:
    with reading(principal().organization_id) as session:
        found = organizations.find(session, principal().organization_id)
    return draw("settings.html", problem=problem, organization=found, sizes=organizations.SIZES)


def _draw_members(problem: Problem | None = None, **values: Any) -> Any:
    who = principal()
    with reading(who.organization_id) as session:
        seats = members.list_seats(session, who.organization_id)
        offers = invitations.list_open(session, who.organization_id)
    offered = [role for role in roles.ROLES if roles.may_assign(who.role, role)]
    return draw(
        "members.html",
        problem=problem,
        seats=seats,
        offers=offers,
        offered=offered,
        readable_at="/settings/members",
        **values,
    )


def _draw_api_keys(**values: Any) -> Any:
    with reading(principal().organization_id) as session:
        keys = api_keys.list_working(session, principal().organization_id)
    return draw("api_keys.html", keys=keys, **values)
