"""Portals: what an organization lets a subscriber do, and how the subscriber gets in.

A link says who the subscriber is and what it may choose. Out of a link come addresses that each
work once: the first browser to open one gets a session of twelve hours. Both secrets name their
organization, so that they are looked up in one tenant, and are kept as digests alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlmodel import Session, col

from identity import proofs
from identity.suspensions import Suspended
from identity.tables import Organization
from kernel import clock
from kernel.errors import N_, Conflict, FieldError, Forbidden, Invalid, NotFound
from kernel.ids import new_id
from kernel.settings import settings
from kernel.tenancy import find
from webhooks import endpoints, subscribers
from webhooks.tables import ENDPOINT, PORTAL_LINK, PORTAL_VISIT, PortalLink, PortalVisit

ADDRESS: Final = "ypl_"  # of an address that works once
SESSION: Final = "ypv_"  # of a browser that has opened one
VISIT_HOURS: Final = 12
MOST_MINUTES: Final = 7 * 24 * 60
MOST_DAYS: Final = 730
MOST_ENDPOINTS: Final = 50
MOST_ORIGINS: Final = 10
_ORIGIN = re.compile(r"https://(?!-)[a-z0-9.-]{1,253}(:[0-9]{1,5})?")
# a developer's own machine, which has no certificate
_NEAR_ORIGIN = re.compile(r"http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LEAST_CONTRAST = 4.5  # of white letters on the colour


class PortalClosed(Forbidden):
    """A subscriber's visit has ended, or was never begun."""

    code = "portal_closed"
    default_title = N_("This portal is closed")


@dataclass(frozen=True, slots=True)
class Visit:
    """A subscriber at work: through which link, for whom."""

    id: str
    link: PortalLink
    organization_name: str

    @property
    def organization_id(self) -> str:
        """The tenant whose events these are."""
        return self.link.organization_id


def create(
    session: Session,
    organization_id: str,
    *,
    subscriber_name: str,
    event_types: Sequence[str],
    expires_at: datetime,
    origins: Sequence[str] = (),
    max_endpoints: int = 5,
    colour: str | None = None,
    subscriber_id: str | None = None,
) -> PortalLink:
    """Let a subscriber in, a new one or one who has a link already; raises Invalid or Conflict."""
    now = clock.now()
    errors: list[FieldError] = []
    if not subscriber_name.strip():
        errors.append({"pointer": "/subscriber_name", "message": N_("This is needed here")})
    if not now < expires_at <= now + timedelta(days=MOST_DAYS):
        message = N_("Choose a time within the next two years")
        errors.append({"pointer": "/expires_at", "message": message})
    if not 1 <= max_endpoints <= MOST_ENDPOINTS:
        errors.append({"pointer": "/max_endpoints", "message": N_("Choose 1 to 50")})
    errors += _origin_errors(origins) + _colour_errors(colour or "")
    if errors:
        raise Invalid(errors=errors)
    allowed = endpoints.checked_types(event_types)
    if subscriber_id is not None:
        _check_known(session, organization_id, subscriber_id)
        subscribers.check_narrower(session, organization_id, subscriber_id, allowed)
    link = PortalLink(
        organization_id=organization_id,
        id=new_id("plk"),
        subscriber_id=subscriber_id or new_id("sub"),
        subscriber_name=subscriber_name.strip()[:120],
        event_types=allowed,
        origins=list(dict.fromkeys(origins)),
        max_endpoints=max_endpoints,
        colour=colour or None,
        expires_at=expires_at,
    )
    session.add(link)
    session.flush()
    return link


def _origin_errors(origins: Sequence[str]) -> list[FieldError]:
    errors: list[FieldError] = [
        {
            "pointer": f"/origins/{number}",
            "message": N_("Write a website's origin such as https://portal.example.com"),
        }
        for number, origin in enumerate(origins)
        if not (_ORIGIN.fullmatch(origin) or _NEAR_ORIGIN.fullmatch(origin))
    ]
    if len(origins) > MOST_ORIGINS:
        errors.append({"pointer": "/origins", "message": N_("At most 10 websites")})
    return errors


def _colour_errors(colour: str) -> list[FieldError]:
    if not colour:
        return []
    if not _COLOUR.fullmatch(colour):
        message = N_("Write a colour such as #0b6273")
    elif _contrast_to_white(colour) < _LEAST_CONTRAST:
        message = N_("White letters cannot be read on this colour; choose a darker one")
    else:
        return []
    return [{"pointer": "/colour", "message": message}]


def _contrast_to_white(colour: str) -> float:
    """Return the contrast as WCAG 2 counts it, 1 to 21."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def _check_known(session: Session, organization_id: str, subscriber_id: str) -> None:
    known = PortalLink.of(organization_id).where(PORTAL_LINK.c.subscriber_id == subscriber_id)
    if session.execute(known.limit(1)).first() is None:
        message = N_("There is no such subscriber")
        raise Invalid(errors=[{"pointer": "/subscriber_id", "message": message}])


def get(session: Session, organization_id: str, link_id: str) -> PortalLink:
    """Return the organization's link; raises NotFound."""
    return find(session, PortalLink, organization_id, link_id)


def listing(organization_id: str) -> Any:
    """Select the organization's links, for a page of them."""
    return PortalLink.of(organization_id)


def endpoint_counts(session: Session, organization_id: str) -> dict[str, int]:
    """Return how many endpoints each subscriber of the organization has."""
    found = session.execute(
        select(ENDPOINT.c.subscriber_id, func.count())
        .where(
            ENDPOINT.c.organization_id == organization_id,
            ENDPOINT.c.subscriber_id.is_not(None),
            ENDPOINT.c.state != "deleted",
        )
        .group_by(ENDPOINT.c.subscriber_id)
    )
    return {row[0]: row[1] for row in found}


def names(session: Session, organization_id: str) -> dict[str, str]:
    """Return what each subscriber of the organization is called, by the newest link."""
    columns = PORTAL_LINK.c
    found = session.execute(
        select(columns.subscriber_id, columns.subscriber_name)
        .where(columns.organization_id == organization_id)
        .order_by(columns.id)
    )
    return {row[0]: row[1] for row in found}


def state_of(link: PortalLink) -> str:
    """Say whether a link is `active`, `expired` or `revoked`."""
    if link.revoked_at is not None:
        return "revoked"
    return "active" if link.expires_at > clock.now() else "expired"


def revoke(session: Session, organization_id: str, link_id: str) -> PortalLink:
    """End a link with every address and session of it; its endpoints stay as they are."""
    link = get(session, organization_id, link_id)
    link.revoked_at = link.revoked_at or clock.now()
    session.execute(
        delete(PORTAL_VISIT).where(
            PORTAL_VISIT.c.organization_id == organization_id, PORTAL_VISIT.c.link_id == link_id
        )
    )
    return link


# --- getting in ----------------------------------------------------------------------------------


def offer(
    session: Session, organization_id: str, link_id: str, minutes: int
) -> tuple[str, datetime]:
    """Return an address that works once, and until when; raises Conflict for a link that ended."""
    link = get(session, organization_id, link_id)
    if state_of(link) != "active":
        raise Conflict(detail=N_("This link has ended; make a new one for the same subscriber"))
    if not 1 <= minutes <= MOST_MINUTES:
        message = N_("Choose 1 minute to 7 days")
        raise Invalid(errors=[{"pointer": "/minutes", "message": message}])
    secret = proofs.seal_owner(ADDRESS, organization_id)
    until = min(clock.now() + timedelta(minutes=minutes), link.expires_at)
    session.add(
        PortalVisit(
            organization_id=organization_id,
            id=new_id("pvt"),
            link_id=link_id,
            secret_digest=proofs.digest(secret),
            expires_at=until,
        )
    )
    return f"{settings().base_url.rstrip('/')}/portal/enter/{secret}", until


def organization_of(secret: str, kind: str = ADDRESS) -> str:
    """Name the organization whose address this could be; raises NotFound."""
    found = proofs.owner_of(kind, secret)
    if found is None:
        raise NotFound
    return found


def look_up(session: Session, secret: str) -> Visit:
    """Show where an address leads without using it up; raises NotFound when it no longer works."""
    return _found(session, organization_of(secret), secret, is_opened=False)


def enter(session: Session, secret: str) -> tuple[Visit, str, datetime]:
    """Use an address up; returns the visit with its session's secret and end.

    Raises NotFound: of two browsers with the same address one gets in.
    """
    organization_id = organization_of(secret)
    visit = look_up(session, secret)
    own = proofs.seal_owner(SESSION, organization_id)
    now = clock.now()
    until = min(now + timedelta(hours=VISIT_HOURS), visit.link.expires_at)
    changed = session.execute(
        update(PORTAL_VISIT)
        .where(
            PORTAL_VISIT.c.organization_id == organization_id,
            PORTAL_VISIT.c.id == visit.id,
            PORTAL_VISIT.c.secret_digest == proofs.digest(secret),
        )
        .values(secret_digest=proofs.digest(own), opened_at=now, expires_at=until)
        .returning(PORTAL_VISIT.c.id)
    ).all()
    if not changed:
        raise NotFound
    return visit, own, until


def visit_of(session: Session, organization_id: str, secret: str) -> Visit:
    """Return the visit a browser's session stands for; raises PortalClosed."""
    try:
        return _found(session, organization_id, secret, is_opened=True)
    except NotFound as error:
        raise PortalClosed(detail=_ASK) from error


_ASK = N_("Your endpoints go on getting events. Ask whoever gave you the link for a new one.")


def _found(session: Session, organization_id: str, secret: str, *, is_opened: bool) -> Visit:
    now = clock.now()
    opened = PORTAL_VISIT.c.opened_at
    row = session.execute(
        select(PORTAL_VISIT.c.id, PortalLink, col(Organization.name), col(Organization.state))
        .select_from(PORTAL_VISIT)
        .join(
            PortalLink,
            (PORTAL_LINK.c.organization_id == PORTAL_VISIT.c.organization_id)
            & (PORTAL_LINK.c.id == PORTAL_VISIT.c.link_id),
        )
        .join(Organization, col(Organization.id) == PORTAL_VISIT.c.organization_id)
        .where(
            PORTAL_VISIT.c.organization_id == organization_id,
            PORTAL_VISIT.c.secret_digest == proofs.digest(secret),
            PORTAL_VISIT.c.expires_at > now,
            opened.is_not(None) if is_opened else opened.is_(None),
            PORTAL_LINK.c.revoked_at.is_(None),
            PORTAL_LINK.c.expires_at > now,
        )
    ).first()
    if row is None:
        raise NotFound(N_("This link has been used or has run out"), _ASK)
    if row[3] == "suspended":
        raise Suspended
    return Visit(*row[:3])


def check_origin(link: PortalLink, origin: str) -> None:
    """Refuse a page of a website that the link does not name; raises Forbidden."""
    if origin not in link.origins:
        raise Forbidden(
            N_("This website may not open this portal"),
            N_("Whoever gave you the link must name your website in it; the token is not used up."),
            code="portal_origin",
        )


def leave(session: Session, visit: Visit) -> None:
    """End a visit."""
    session.execute(
        delete(PORTAL_VISIT).where(
            PORTAL_VISIT.c.organization_id == visit.organization_id, PORTAL_VISIT.c.id == visit.id
        )
    )


def forget_old(session: Session) -> int:
    """Drop the addresses and sessions of every organization that have run out; says how many."""
    dropped = session.execute(
        delete(PORTAL_VISIT)
        .where(PORTAL_VISIT.c.expires_at < clock.now())
        .returning(PORTAL_VISIT.c.id)
    )
    return len(dropped.all())
