"""The JSON routes of identity."""

from typing import Any

from flask import Blueprint, request
from flask_babel import gettext

from identity import api_keys, audit, entrance, invitations, members, organizations, schemas, users
from identity.guard import principal, public, require
from identity.tables import AuditEntry
from kernel.database import reading, transaction
from kernel.errors import N_, Forbidden
from kernel.settings import settings
from kernel.web import Page, operation, page_of

blueprint = Blueprint("identity_api", __name__, url_prefix="/api/v1")


@blueprint.post("/sign-up")
@public(csrf=False)
@operation(
    summary="Create an organization, its owner and a first API key",
    body=schemas.SignUpIn,
    returns=schemas.SignUpOut,
    status=201,
)
def sign_up(body: schemas.SignUpIn) -> Any:
    """Create an organization; the answer holds an API key of its owner, shown this once."""

    def first_key(session: Any, made: organizations.SignedUp) -> str:
        who = made.user.id
        key, secret = api_keys.mint(
            session, made.organization, name=gettext("First key"), role="owner", created_by=who
        )
        by = entrance.acting(made.user, made.member, request.remote_addr)
        audit.record(session, by, "api_key.created", key.id, detail={"role": key.role})
        return secret

    visitor = entrance.Visitor(request.remote_addr or "")
    made, secret = entrance.sign_up(visitor, also=first_key, **body.model_dump())
    return {
        "organization": schemas.OrganizationOut.model_validate(
            made.organization, from_attributes=True
        ),
        "user": schemas.UserOut.model_validate(made.user, from_attributes=True),
        "api_key": secret,
    }


@blueprint.get("/me")
@require()
@operation(summary="Say who is asking and what they may do", returns=schemas.MeOut)
def me() -> Any:
    """Describe the present principal."""
    return _me()


@blueprint.patch("/me")
@require()
@operation(
    summary="Change one's own name and language", body=schemas.MePatch, returns=schemas.MeOut
)
def change_me(body: schemas.MePatch) -> Any:
    """Change the person behind the session; a key is nobody's self."""
    who = principal()
    if who.kind != "member" or who.user_id is None:
        raise Forbidden(detail=N_("An API key cannot change a person."))
    with transaction(who.organization_id) as session:
        user = users.change(session, who.user_id, **body.model_dump(exclude_unset=True))
    return {**_me(), "name": user.name, "language": user.language}


@blueprint.get("/organization")
@require("organization:read")
@operation(summary="Read the organization", returns=schemas.OrganizationOut)
def read_organization() -> Any:
    """Return the organization one acts in."""
    with reading(principal().organization_id) as session:
        return organizations.find(session, principal().organization_id)


@blueprint.patch("/organization")
@require("organization:write")
@operation(
    summary="Change the organization",
    body=schemas.OrganizationPatch,
    returns=schemas.OrganizationOut,
)
def change_organization(body: schemas.OrganizationPatch) -> Any:
    """Change what is given and leave the rest."""
    who, changes = principal(), body.model_dump(exclude_unset=True)
    with transaction(who.organization_id) as session:
        changed = organizations.change(session, who.organization_id, **changes)
        audit.record(session, who, "organization.changed", changed.id, detail=changes)
        return changed


@blueprint.get("/members")
@require("members:read")
@operation(summary="List the members", returns=schemas.SeatOut, many=True)
def list_members() -> Any:
    """Return every active seat."""
    with reading(principal().organization_id) as session:
        return members.list_seats(session, principal().organization_id)


@blueprint.patch("/members/<member_id>")
@require("members:write")
@operation(summary="Change a member's role", body=schemas.RoleIn, returns=schemas.SeatOut)
def change_member(member_id: str, body: schemas.RoleIn) -> Any:
    """Give a seat another role."""
    who = principal()
    with transaction(who.organization_id) as session:
        members.change_role(
            session,
            who.organization_id,
            member_id,
            body.role,
            actor_role=who.role,
            actor_permissions=who.permissions,
        )
        audit.record(session, who, "member.role_changed", member_id, detail={"role": body.role})
        return members.find_seat(session, who.organization_id, member_id)


@blueprint.delete("/members/<member_id>")
@require("members:write")
@operation(summary="Remove a member", status=204)
def remove_member(member_id: str) -> None:
    """Take a seat away."""
    who = principal()
    with transaction(who.organization_id) as session:
        members.remove(session, who.organization_id, member_id, actor_role=who.role)
        audit.record(session, who, "member.removed", member_id)


@blueprint.get("/invitations")
@require("members:read")
@operation(summary="List open invitations", returns=schemas.InvitationOut, many=True)
def list_invitations() -> Any:
    """Return the invitations that wait for an answer."""
    with reading(principal().organization_id) as session:
        return invitations.list_open(session, principal().organization_id)


@blueprint.post("/invitations")
@require("members:write")
@operation(
    summary="Invite somebody",
    body=schemas.InvitationIn,
    returns=schemas.InvitationMadeOut,
    status=201,
)
def invite(body: schemas.InvitationIn) -> Any:
    """Offer a seat; the link is shown this once."""
    who = principal()
    with transaction(who.organization_id) as session:
        invitation, secret = invitations.invite(
            session,
            who.organization_id,
            email=body.email,
            role=body.role,
            actor_role=who.role,
            actor_id=who.user_id,
            actor_permissions=who.permissions,
        )
        audit.record(session, who, "invitation.created", invitation.id, detail={"role": body.role})
        shown = schemas.InvitationOut.model_validate(invitation, from_attributes=True)
    return {**shown.model_dump(), "link": f"{settings().base_url.rstrip('/')}/invitations/{secret}"}


@blueprint.delete("/invitations/<invitation_id>")
@require("members:write")
@operation(summary="Withdraw an invitation", status=204)
def revoke_invitation(invitation_id: str) -> None:
    """Make an invitation's link stop working."""
    who = principal()
    with transaction(who.organization_id) as session:
        invitations.revoke(session, who.organization_id, invitation_id)
        audit.record(session, who, "invitation.revoked", invitation_id)


@blueprint.get("/api-keys")
@require("api_keys:read")
@operation(summary="List working API keys", returns=schemas.ApiKeyOut, many=True)
def list_api_keys() -> Any:
    """Return the keys without their secrets."""
    with reading(principal().organization_id) as session:
        return api_keys.list_working(session, principal().organization_id)


@blueprint.post("/api-keys")
@require("api_keys:write", fresh=True)
@operation(
    summary="Make an API key", body=schemas.ApiKeyIn, returns=schemas.ApiKeyMadeOut, status=201
)
def mint_api_key(body: schemas.ApiKeyIn) -> Any:
    """Make a key; its secret is shown this once."""
    who = principal()
    with transaction(who.organization_id) as session:
        key, secret = api_keys.mint(
            session,
            organizations.find(session, who.organization_id),
            **body.model_dump(),
            created_by=who.user_id,
            actor_role=who.role,
            actor_permissions=who.permissions,
        )
        audit.record(session, who, "api_key.created", key.id, detail={"role": key.role})
        shown = schemas.ApiKeyOut.model_validate(key, from_attributes=True)
    return {**shown.model_dump(), "secret": secret}


@blueprint.delete("/api-keys/<key_id>")
@require("api_keys:write")
@operation(summary="Revoke an API key", status=204)
def revoke_api_key(key_id: str) -> None:
    """Stop a key at once."""
    who = principal()
    with transaction(who.organization_id) as session:
        api_keys.revoke(session, who.organization_id, key_id)
        audit.record(session, who, "api_key.revoked", key_id)


@blueprint.get("/audit")
@require("audit:read")
@operation(summary="Read the audit trail", returns=schemas.AuditEntryOut, many=True)
def list_audit() -> Page:
    """Return a page of the trail, newest first."""
    statement = audit.entries(
        principal().organization_id,
        action=request.args.get("action"),
        actor_id=request.args.get("actor_id"),
    )
    with reading(principal().organization_id) as session:
        return page_of(
            session,
            statement,
            AuditEntry.id,
            cursor=request.args.get("cursor"),
            limit=request.args.get("limit", 50, type=int),
        )


def _me() -> dict[str, Any]:
    who = principal()
    shown = {name: getattr(who, name) for name in schemas.MeOut.model_fields}
    return {**shown, "permissions": sorted(who.permissions)}
