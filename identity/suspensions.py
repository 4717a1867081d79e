"""Suspensions: an organization may use nothing, and what it has waiting is held and not lost.

A suspended organization's sources refuse events, its people and keys are let in nowhere, and what
waits (events, deliveries, runs) loses its time to go on. Resuming gives it back, a portion at a
time, however often a process dies meanwhile: the organization is `resuming` until all of it went.

Looks over every organization: the sweep holds what still comes up and lets go what may go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select, text, update
from sqlmodel import Session

from identity.tables import Organization
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import N_, Conflict, FieldError, Forbidden, Invalid, NotFound
from kernel.settings import settings

PORTION = 500
_TURNS = 200
_ORGANIZATIONS_AT_ONCE = 50
LONGEST_REASON = 500
_ORGANIZATION: Any = Organization.__table__  # type: ignore[attr-defined]

# Moves up to so many of an organization's rows; returns how many.
Move = Callable[[Session, str, int], int]


@dataclass(frozen=True)
class Hold:
    """One kind of thing that waits: how it is held, and how it is let go."""

    name: str
    hold: Move
    let_go: Move


# Filled by the composition root, in the order in which things are held and let go.
HOLDS: list[Hold] = []


class Suspended(Forbidden):
    """The organization is suspended; nothing was stored or changed."""

    code = "organization_suspended"
    default_title = N_("This organization is suspended; nothing was stored or changed")

    def __init__(self) -> None:
        """Say whom to ask."""
        contact = settings().operator_contact
        if contact:
            super().__init__(
                detail=N_("Ask the people who run this hub: %(contact)s"), contact=contact
            )
        else:
            super().__init__(detail=N_("Ask the people who run this hub."))


def suspend(session: Session, organization_id: str, reason: str) -> Organization:
    """Suspend an organization for a reason that its members read, and hold a first portion.

    Raises NotFound, Invalid without a reason, Conflict for one that runs the hub or is suspended.
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > LONGEST_REASON:
        message = N_("Say why in 1 to 500 characters; the members of the organization read it.")
        errors: list[FieldError] = [{"pointer": "/reason", "message": message}]
        raise Invalid(detail=message, errors=errors)
    organization = _locked(session, organization_id)
    if organization.is_operator:
        raise Conflict(detail=N_("An organization that runs the hub cannot be suspended."))
    if organization.state == "suspended":
        raise Conflict(detail=N_("This organization is suspended already."))
    organization.state, organization.suspended_at = "suspended", store_now(session)
    organization.suspended_because = reason
    session.add(organization)
    session.flush()
    for kind in HOLDS:
        kind.hold(session, organization_id, PORTION)
    return organization


def resume(session: Session, organization_id: str) -> Organization:
    """Let an organization in again; what is held goes on bit by bit. Raises NotFound, Conflict."""
    organization = _locked(session, organization_id)
    if organization.state != "suspended":
        raise Conflict(detail=N_("This organization is not suspended."))
    organization.state, organization.suspended_at = "resuming", None
    organization.suspended_because = None
    session.add(organization)
    session.flush()
    return organization


def _locked(session: Session, organization_id: str) -> Organization:
    found = session.get(
        Organization,
        organization_id,
        with_for_update={"key_share": True},
        populate_existing=True,
    )
    if found is None:
        raise NotFound
    return found


def suspended_ids() -> Any:
    """Select the organizations that are suspended; the index holds only these few."""
    held = text("organization.state <> 'active'")  # word for word as the partial index has it
    return select(_ORGANIZATION.c.id).where(held, _ORGANIZATION.c.state == "suspended")


def is_suspended(session: Session, organization_id: str) -> bool:
    """Tell whether an organization is suspended."""
    found = suspended_ids().where(_ORGANIZATION.c.id == organization_id)
    return session.execute(found).first() is not None


def is_held(session: Session, organization_id: str) -> bool:
    """Tell whether an organization is suspended, and let nobody resume it before the commit.

    Whoever holds something of it looks here first: what is held after it was resumed would wait
    for ever.
    """
    found = suspended_ids().where(_ORGANIZATION.c.id == organization_id)
    return session.execute(found.with_for_update(read=True)).first() is not None


def sweep() -> int:
    """Hold what came up of suspended organizations, let go what resumed ones have waiting."""
    with reading(EVERY) as session:
        found = session.execute(
            select(_ORGANIZATION.c.id, _ORGANIZATION.c.state)
            .where(text("state <> 'active'"))
            .limit(_ORGANIZATIONS_AT_ONCE)
        ).all()
    return sum(_move_on(organization_id, state) for organization_id, state in found)


def _move_on(organization_id: str, state: str) -> int:
    moved = 0
    for _ in range(_TURNS):
        turn = hold_turn if state == "suspended" else let_go_turn
        count = write(partial(turn, organization_id=organization_id))
        if not count:
            break
        moved += count
    return moved


def hold_turn(session: Session, organization_id: str) -> int:
    """Hold a portion of what a suspended organization has waiting; returns how many rows."""
    if not is_held(session, organization_id):
        return 0
    return sum(kind.hold(session, organization_id, PORTION) for kind in HOLDS)


def let_go_turn(session: Session, organization_id: str) -> int:
    """Let a portion of what a resumed organization has waiting go; without any it is active.

    One kind after the other: what has to go in order asks which events are still to be routed.
    """
    organization = _locked(session, organization_id)
    if organization.state != "resuming":
        return 0
    for kind in HOLDS:
        if count := kind.let_go(session, organization_id, PORTION):
            return count
    session.execute(
        update(_ORGANIZATION).where(_ORGANIZATION.c.id == organization_id).values(state="active")
    )
    return 0
