"""The audit trail: who did what, when and from where; entries are added and never changed."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Select, event
from sqlmodel import Session, col

from identity.principals import Principal
from identity.tables import AuditEntry
from kernel import clock
from kernel.errors import N_

# Every action's name and the words people read; other packages add theirs with name_actions.
ACTIONS: Final[dict[str, str]] = {
    "organization.created": N_("created the organization"),
    "organization.changed": N_("changed the organization's details"),
    "organization.kind_changed": N_("changed what the organization is on the hub"),
    "member.joined": N_("joined the organization"),
    "member.role_changed": N_("changed a member's role"),
    "member.removed": N_("removed a member"),
    "member.left": N_("left the organization"),
    "invitation.created": N_("invited somebody"),
    "invitation.revoked": N_("withdrew an invitation"),
    "api_key.created": N_("created an API key"),
    "api_key.revoked": N_("revoked an API key"),
    "session.started": N_("signed in"),
    "session.ended": N_("signed out"),
    "session.all_ended": N_("signed out everywhere else"),
    "account.closed": N_("closed a person's account from the command line"),
    "account.opened": N_("opened a person's account again from the command line"),
    "password.changed": N_("changed their password"),
    "password.reset": N_("reset a password from the command line"),
}


def name_actions(actions: Mapping[str, str]) -> None:
    """Add another package's actions; a name means one thing in the whole house."""
    for name, words in actions.items():
        if ACTIONS.setdefault(name, words) != words:
            raise ValueError(f"the action {name} already means: {ACTIONS[name]}")


def record(
    session: Session,
    by: Principal | None,
    action: str,
    object_id: str | None = None,
    *,
    organization_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Write one entry in the caller's transaction.

    `by` is who acts; None is the system, which then names the organization. Never put a secret
    into `detail`.
    """
    if action not in ACTIONS:
        raise ValueError(f"name the action {action!r} in identity.audit first")
    owner = organization_id or (by.organization_id if by else None)
    if owner is None:
        raise ValueError("an entry belongs to an organization")
    entry = AuditEntry(
        organization_id=owner,
        actor_kind=by.kind if by else "system",
        actor_id=by.actor_id if by else None,
        actor_name=(by.name if by else "")[:120],
        action=action,
        object_id=object_id,
        at=clock.now(),
        ip=by.address if by else None,
        detail=dict(detail) if detail else None,
    )
    session.add(entry)
    return entry


def entries(
    organization_id: str, *, action: str | None = None, actor_id: str | None = None
) -> "Select[AuditEntry]":
    """Select an organization's entries, all or of one action or actor; pages order them."""
    statement = AuditEntry.of(organization_id)
    if action:
        statement = statement.where(col(AuditEntry.action) == action)
    if actor_id:
        statement = statement.where(col(AuditEntry.actor_id) == actor_id)
    return statement


def _refuse(*_: Any) -> None:
    raise RuntimeError("the audit trail is append only")


event.listen(AuditEntry, "before_update", _refuse)
event.listen(AuditEntry, "before_delete", _refuse)
