"""Acts: what operators did to whom, written into the trail of the organization it was done to.

So the people of that organization see it too, and the hub's own trail is all of these entries.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select
from sqlmodel import Session, col

from identity import audit, organizations, suspensions
from identity.principals import Principal
from identity.tables import AuditEntry, Organization
from kernel.errors import N_, FieldError, Invalid
from webhooks import limits

audit.name_actions(
    {
        "organization.suspended": N_("suspended the organization"),
        "organization.resumed": N_("resumed the organization"),
        "organization.quota_changed": N_("changed the organization's quotas"),
        "organization.weight_changed": N_("changed the organization's weight"),
    }
)
# What only those who run the hub can do, on its pages or at its command line.
OPERATOR_ACTS = (
    "organization.suspended",
    "organization.resumed",
    "organization.quota_changed",
    "organization.weight_changed",
    "organization.kind_changed",
    "vendor.admitted",
    "vendor.refused",
    "release.approved",
    "release.refused",
    "account.closed",
    "account.opened",
    "password.reset",
)
LIGHTEST, HEAVIEST = 1, 100


def suspend(session: Session, who: Principal, organization_id: str, reason: str) -> Organization:
    """Suspend a tenant; see identity.suspensions."""
    found = suspensions.suspend(session, organization_id, reason)
    said = {"reason": found.suspended_because}
    _note(session, who, "organization.suspended", organization_id, said)
    return found


def resume(session: Session, who: Principal, organization_id: str) -> Organization:
    """Let a tenant in again."""
    found = suspensions.resume(session, organization_id)
    _note(session, who, "organization.resumed", organization_id, None)
    return found


def set_limits(
    session: Session, who: Principal, organization_id: str, numbers: Mapping[str, int | None]
) -> limits.Limits:
    """Set a tenant's quotas; None goes back to the settings. Raises NotFound, Invalid."""
    organizations.find(session, organization_id)
    kept = {name: numbers.get(name) for name in limits.NAMES}
    before = limits.own_numbers(session, organization_id, organization_id)
    found = limits.set_for_organization(session, organization_id, kept)
    if kept != before:
        _note(session, who, "organization.quota_changed", organization_id, kept)
    return found


def set_weight(session: Session, who: Principal, organization_id: str, weight: int) -> Organization:
    """Set how much of the hub a tenant gets when many wait, 1 to 100. Raises NotFound, Invalid."""
    if not LIGHTEST <= weight <= HEAVIEST:
        message = N_("Use a whole number from 1 to 100")
        errors: list[FieldError] = [{"pointer": "/weight", "message": message}]
        raise Invalid(errors=errors)
    found = organizations.find(session, organization_id)
    before, found.weight = found.weight, weight
    session.add(found)
    if before != weight:
        said = {"before": before, "weight": weight}
        _note(session, who, "organization.weight_changed", organization_id, said)
    return found


def _note(
    session: Session,
    who: Principal,
    action: str,
    organization_id: str,
    detail: Mapping[str, Any] | None,
) -> None:
    audit.record(
        session, who, action, organization_id, organization_id=organization_id, detail=detail
    )


def listing(
    *, action: str = "", actor: str = "", tenant: str = "", since: datetime | None = None
) -> "Select[Any]":
    """Select operators' acts over every organization: all, or those that fit; pages order them.

    `actor` is a piece of a name or an id; `tenant` an organization's id, or what was decided on.
    """
    statement = select(AuditEntry)
    known = [action] if action in OPERATOR_ACTS else list(OPERATOR_ACTS)
    statement = statement.where(col(AuditEntry.action).in_(known))
    if actor:
        named = col(AuditEntry.actor_name).contains(actor, autoescape=True)
        statement = statement.where(or_(named, col(AuditEntry.actor_id) == actor))
    if tenant:
        mine = col(AuditEntry.organization_id) == tenant
        statement = statement.where(or_(mine, col(AuditEntry.object_id) == tenant))
    if since is not None:
        statement = statement.where(col(AuditEntry.at) >= since)
    return statement


def names_of(session: Session, organization_ids: set[str]) -> dict[str, str]:
    """Return what organizations are called."""
    rows = session.execute(
        select(col(Organization.id), col(Organization.name)).where(
            col(Organization.id).in_(organization_ids)
        )
    )
    return {row[0]: row[1] for row in rows}
