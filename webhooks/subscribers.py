"""Subscribers: partners without an account, and the endpoints that are theirs alone.

Whatever is not an endpoint of the visiting subscriber looks as if it never was.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import func, select
from sqlmodel import Session

from identity.principals import Principal
from identity.throttle import Limit
from kernel.errors import N_, Conflict, FieldError, Invalid, NotFound
from webhooks import deliveries as all_deliveries
from webhooks import endpoints
from webhooks.fan_out import matches
from webhooks.tables import (
    DELIVERY,
    ENDPOINT,
    PORTAL_LINK,
    Delivery,
    Endpoint,
    PortalLink,
)

SHOWN_BYTES: Final = 4096
_IS_THERE: Any = ENDPOINT.c.state != "deleted"


def actor(link: PortalLink, address: str | None = None) -> Principal:
    """Return who acts in a portal, for the audit trail; it holds no permission at all."""
    return Principal(
        organization_id=link.organization_id,
        user_id=None,
        member_id=None,
        role="",
        kind="subscriber",
        permissions=frozenset(),
        name=link.subscriber_name,
        subscriber_id=link.subscriber_id,
        address=address,
    )


def limits(link: PortalLink) -> list[Limit]:
    """Say what a deed that calls out or starts work counts against: thirty in an hour are free."""
    return [Limit(f"portal:{link.subscriber_id}", 30, 60)]


def listing(link: PortalLink) -> Any:
    """Select the subscriber's endpoints, newest first."""
    return (
        Endpoint.of(link.organization_id)
        .where(ENDPOINT.c.subscriber_id == link.subscriber_id, _IS_THERE)
        .order_by(ENDPOINT.c.id.desc())
    )


def endpoint(session: Session, link: PortalLink, endpoint_id: str) -> Endpoint:
    """Return the subscriber's endpoint; raises NotFound for anybody else's."""
    found = endpoints.get(session, link.organization_id, endpoint_id)
    if found.subscriber_id != link.subscriber_id:
        raise NotFound
    return found


def delivery(session: Session, link: PortalLink, delivery_id: str) -> tuple[Delivery, Endpoint]:
    """Return a delivery to one of the subscriber's endpoints; raises NotFound for any other."""
    found = all_deliveries.get(session, link.organization_id, delivery_id)
    return found, endpoint(session, link, found.endpoint_id)


def deliveries(link: PortalLink, endpoint_id: str, state: str = "") -> Any:
    """Select the deliveries to an endpoint that was found to be the subscriber's."""
    return all_deliveries.listing(link.organization_id, endpoint_id, state)


def register(
    session: Session,
    link: PortalLink,
    *,
    url: str,
    event_types: Sequence[str],
    description: str = "",
    signature: str = "hmac",
) -> Endpoint:
    """Add an endpoint within what the link allows; the url must have passed `check_url`."""
    # whoever adds another one at the same time waits for us, so that both are counted
    session.execute(
        select(PORTAL_LINK.c.id)
        .where(
            PORTAL_LINK.c.organization_id == link.organization_id,
            PORTAL_LINK.c.subscriber_id == link.subscriber_id,
        )
        .order_by(PORTAL_LINK.c.id)
        .with_for_update()
    ).all()
    number = session.execute(
        select(func.count()).where(
            ENDPOINT.c.organization_id == link.organization_id,
            ENDPOINT.c.subscriber_id == link.subscriber_id,
            _IS_THERE,
        )
    ).scalar_one()
    if number >= link.max_endpoints:
        raise Conflict(
            detail=N_("You have %(number)s endpoints, which is as many as you may have"),
            number=number,
        )
    return endpoints.register(
        session,
        link.organization_id,
        url=url,
        event_types=_allowed(link, event_types),
        description=description,
        signature=signature,
        subscriber_id=link.subscriber_id,
    )


def change(
    session: Session,
    link: PortalLink,
    endpoint_id: str,
    *,
    url: str,
    event_types: Sequence[str],
    description: str,
) -> Endpoint:
    """Change one of the subscriber's endpoints; the url must have passed `check_url`."""
    endpoint(session, link, endpoint_id)
    return endpoints.change(
        session,
        link.organization_id,
        endpoint_id,
        url=url,
        event_types=_allowed(link, event_types),
        description=description,
    )


def _allowed(link: PortalLink, event_types: Sequence[str]) -> list[str]:
    chosen = endpoints.checked_types(event_types)
    errors: list[FieldError] = [
        {
            "pointer": "/event_types",
            "message": N_("Choose among the events that are offered to you"),
        }
        for pattern in chosen
        if not is_within(link.event_types, pattern)
    ]
    if errors:
        raise Invalid(errors=errors[:1])
    return chosen


def is_within(allowed: Iterable[str], pattern: str) -> bool:
    """Tell whether a type or family of types is covered by what is allowed."""
    if pattern == "*":
        return "*" in allowed
    return matches(allowed, pattern)


def check_narrower(
    session: Session, organization_id: str, subscriber_id: str, allowed: Sequence[str]
) -> None:
    """Refuse to allow a subscriber less than its endpoints get: that would change nothing."""
    found = Endpoint.of(organization_id).where(ENDPOINT.c.subscriber_id == subscriber_id, _IS_THERE)
    for one in session.execute(found).scalars():
        if any(not is_within(allowed, pattern) for pattern in one.event_types):
            raise Conflict(
                detail=N_(
                    "The subscriber's endpoint %(url)s gets events that this link does not allow."
                    " Change its events first"
                ),
                url=one.url,
            )


def count_of_deliveries(session: Session, link: PortalLink) -> dict[str, dict[str, int]]:
    """Return how many deliveries wait at each of the subscriber's endpoints, by state."""
    theirs = select(ENDPOINT.c.id).where(
        ENDPOINT.c.organization_id == link.organization_id,
        ENDPOINT.c.subscriber_id == link.subscriber_id,
    )
    return all_deliveries.counts(session, link.organization_id, DELIVERY.c.endpoint_id.in_(theirs))
