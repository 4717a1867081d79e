"""Endpoints: addresses of the organization where events go out to."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlmodel import Session

from catalog import findings
from kernel import addresses, clock, outbox, queue, vault
from kernel.errors import N_, FieldError, Invalid
from kernel.ids import new_id
from kernel.tenancy import find
from webhooks import signing, type_rules
from webhooks.parcels import Parcel, cloud_event, secret_context, target_of
from webhooks.tables import DELIVERY, ENDPOINT, Attempt, Delivery, Endpoint

OVERLAP = timedelta(hours=24)
TEST_TYPE = "endpoint.tested"
MAX_PATTERNS = 100
_WAITING = ("due", "waiting")


def check_url(url: str) -> None:
    """Refuse an address that is not http(s) or not public; looks names up, so call it before a
    transaction. Raises Invalid with a pointer to `/url`.
    """
    try:
        addresses.check_url(url)
    except Invalid as error:
        message = error.detail or error.title
        raise Invalid(
            error.title,
            error.detail,
            errors=error.errors
            or [{"pointer": "/url", "message": findings.say(message, **error.params)}],
            **error.params,
        ) from error


def register(
    session: Session,
    organization_id: str,
    *,
    url: str,
    event_types: Sequence[str],
    description: str = "",
    secret: str | None = None,
) -> Endpoint:
    """Add an address that `check_url` let pass, with a signing secret of its own."""
    endpoint = Endpoint(
        organization_id=organization_id,
        id=new_id("ep"),
        url=url,
        description=description.strip()[:500],
        event_types=_patterns(event_types),
        secret_sealed="",
    )
    endpoint.secret_sealed = _seal(endpoint, secret or signing.new_secret())
    session.add(endpoint)
    return endpoint


def change(
    session: Session,
    organization_id: str,
    endpoint_id: str,
    *,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    description: str | None = None,
) -> Endpoint:
    """Change what is given and leave the rest; a new url must have passed `check_url`."""
    endpoint = get(session, organization_id, endpoint_id)
    if url is not None:
        endpoint.url = url
    if event_types is not None:
        endpoint.event_types = _patterns(event_types)
    if description is not None:
        endpoint.description = description.strip()[:500]
    return endpoint


def _patterns(event_types: Sequence[str]) -> list[str]:
    """Clean a subscription: names, `order.*` or `*`, each once."""
    patterns = list(dict.fromkeys(text.strip() for text in event_types if text.strip()))
    errors: list[FieldError] = [
        {
            "pointer": f"/event_types/{number}",
            "message": N_("Write a type such as order.paid, a family such as order.*, or *"),
        }
        for number, pattern in enumerate(patterns)
        if pattern != "*" and not type_rules.is_name(pattern.removesuffix(".*"))
    ]
    if not patterns or len(patterns) > MAX_PATTERNS:
        errors.append({"pointer": "/event_types", "message": N_("Choose 1 to 100 event types")})
    if errors:
        raise Invalid(errors=errors)
    return patterns


def get(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Return the organization's endpoint; raises NotFound."""
    return find(session, Endpoint, organization_id, endpoint_id)


def listing(organization_id: str) -> Any:
    """Select the organization's endpoints, for a page of them."""
    return Endpoint.of(organization_id)


def secret_of(endpoint: Endpoint) -> str:
    """Return the signing secret as its owner sees it."""
    context = secret_context(endpoint.organization_id, endpoint.id)
    return vault.open_sealed(endpoint.secret_sealed, context).decode()


def rotate_secret(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Sign with a new secret; for a day the old one signs too, so that nobody is cut off."""
    endpoint = get(session, organization_id, endpoint_id)
    endpoint.previous_secret_sealed = endpoint.secret_sealed
    endpoint.previous_secret_until = clock.now() + OVERLAP
    endpoint.secret_sealed = _seal(endpoint, signing.new_secret())
    return endpoint


def pause(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Hold deliveries back; they collect and wait until the endpoint is resumed."""
    endpoint = get(session, organization_id, endpoint_id)
    endpoint.state = "paused"
    _move(session, endpoint, _WAITING, {"state": "waiting", "next_at": None})
    return endpoint


def resume(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Send again, first of all what has collected."""
    endpoint = get(session, organization_id, endpoint_id)
    endpoint.state = "active"
    endpoint.disabled_reason = None
    endpoint.failing_since = None
    _move(session, endpoint, _WAITING, {"state": "due", "next_at": clock.now()})
    queue.nudge(session, "webhooks.drain")
    return endpoint


def disable(
    session: Session, organization_id: str, endpoint_id: str, reason: str = "by_hand"
) -> Endpoint:
    """Stop sending for good and park what waits; tells the organization with an event."""
    endpoint = get(session, organization_id, endpoint_id)
    if endpoint.state == "disabled":
        return endpoint
    endpoint.state = "disabled"
    endpoint.disabled_reason = reason
    _move(
        session,
        endpoint,
        _WAITING,
        {"state": "parked", "next_at": None, "last_problem": "endpoint_disabled"},
    )
    news = {"endpoint": endpoint_id, "reason": reason}
    outbox.emit(session, organization_id, "endpoint.disabled", news, subject=endpoint_id)
    return endpoint


def _move(
    session: Session, endpoint: Endpoint, states: Sequence[str], values: dict[str, Any]
) -> None:
    session.execute(
        update(DELIVERY)
        .where(
            DELIVERY.c.organization_id == endpoint.organization_id,
            DELIVERY.c.endpoint_id == endpoint.id,
            DELIVERY.c.state.in_(states),
        )
        .values(**values)
    )


def test_parcel(endpoint: Endpoint) -> Parcel:
    """Pack a test event for one endpoint; it is sent at once and never stored."""
    event_id = new_id("evt")
    event = {
        "id": event_id,
        "origin": "hub",
        "type": TEST_TYPE,
        "occurred_at": clock.now(),
        "content_type": "application/json",
        "subject": endpoint.id,
        "version": None,
        "body": b'{"message":"Hello from Yangfan"}',
    }
    return Parcel(
        organization_id=endpoint.organization_id,
        delivery_id="",
        event_id=event_id,
        target=target_of(endpoint.model_dump(), clock.now()),
        body=cloud_event(event),
        attempt_no=1,
        ladder_step=1,
        lease_owner="",
    )


def deliveries(
    organization_id: str, endpoint_id: str | None = None, state: str | None = None
) -> Any:
    """Select deliveries that fit every given filter, for a page of them."""
    statement = Delivery.of(organization_id)
    if endpoint_id:
        statement = statement.where(DELIVERY.c.endpoint_id == endpoint_id)
    if state:
        states = ("due", "leased") if state == "due" else (state,)
        statement = statement.where(DELIVERY.c.state.in_(states))
    return statement


def delivery(session: Session, organization_id: str, delivery_id: str) -> Delivery:
    """Return the organization's delivery; raises NotFound."""
    return find(session, Delivery, organization_id, delivery_id)


def attempts_of(session: Session, organization_id: str, delivery_id: str) -> list[Attempt]:
    """Return a delivery's attempts, latest first."""
    columns = Attempt.__table__.c  # type: ignore[attr-defined]
    statement = Attempt.of(organization_id).where(columns.delivery_id == delivery_id)
    return list(session.execute(statement.order_by(columns.number.desc())).scalars())


def counts(session: Session, organization_id: str) -> dict[str, dict[str, int]]:
    """Return how many deliveries each endpoint has in each state that needs somebody's eye."""
    found = session.execute(
        select(DELIVERY.c.endpoint_id, DELIVERY.c.state, func.count())
        .where(
            DELIVERY.c.organization_id == organization_id,
            DELIVERY.c.state.in_(("due", "leased", "waiting", "parked")),
        )
        .group_by(DELIVERY.c.endpoint_id, DELIVERY.c.state)
    )
    numbers: dict[str, dict[str, int]] = {}
    for endpoint_id, state, number in found:
        numbers.setdefault(endpoint_id, {})[state] = number
    return numbers


def urls(session: Session, organization_id: str) -> list[Any]:
    """Return the id and url of every endpoint of the organization."""
    statement = select(ENDPOINT.c.id, ENDPOINT.c.url)
    return list(
        session.execute(statement.where(ENDPOINT.c.organization_id == organization_id)).mappings()
    )


def _seal(endpoint: Endpoint, secret: str) -> str:
    return vault.seal(secret, secret_context(endpoint.organization_id, endpoint.id))
