"""Endpoints: addresses of the organization where events go out to."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session

from catalog import findings
from catalog.event_types import Receiver
from identity import audit
from kernel import addresses, clock, outbox, queue, vault
from kernel.errors import N_, Conflict, FieldError, Invalid, NotFound
from kernel.ids import new_id
from kernel.tenancy import find
from webhooks import circuits, conditions, lanes, own_headers, payloads, signing, type_rules
from webhooks.fan_out import matches
from webhooks.parcels import secret_context
from webhooks.tables import DELIVERY, ENDPOINT, Endpoint

OVERLAP_HOURS = 24
MOST_OVERLAP_HOURS = 7 * 24
MOST_OLD_SECRETS = 10
MAX_PATTERNS = 100
MOST_IN_FLIGHT = 32
# Failing without one success for this long means that nobody looks after the target any more.
GIVE_UP_AFTER = timedelta(days=5)
_WAITING = ("due", "waiting")
_MAY = "endpoints:read"

# here, because a worker that knows no routes writes it down too
audit.name_actions({"endpoint.disabled": N_("switched an endpoint off")})


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
    signature: str = "hmac",
    headers: Sequence[Mapping[str, Any]] = (),
    condition: str | None = None,
    large_payloads: str = "reference",
    subscriber_id: str | None = None,
    max_in_flight: int | None = None,
    ordering: str = "none",
) -> Endpoint:
    """Add an address that `check_url` let pass, with a signing secret of its own."""
    endpoint = Endpoint(
        organization_id=organization_id,
        id=new_id("ep"),
        url=url,
        description=description.strip()[:500],
        event_types=checked_types(event_types),
        secret_sealed="",
        large_payloads=payloads.checked_way(large_payloads),
        subscriber_id=subscriber_id,
    )
    _take_secret(endpoint, signature, secret)
    endpoint.headers = own_headers.to_rows(headers, organization_id, endpoint.id)
    endpoint.condition = conditions.checked(condition)
    endpoint.max_in_flight = _limit(max_in_flight)
    endpoint.ordering = _known(ordering)
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
    headers: Sequence[Mapping[str, Any]] | None = None,
    condition: str | None = None,
    large_payloads: str | None = None,
    max_in_flight: int | None = None,
    ordering: str | None = None,
) -> Endpoint:
    """Change what is given and leave the rest; a new url must have passed `check_url`.

    `max_in_flight` 0 leaves the limit to the hub again.
    """
    endpoint = get(session, organization_id, endpoint_id)
    if url is not None:
        endpoint.url = url
    if event_types is not None:
        endpoint.event_types = checked_types(event_types)
    if description is not None:
        endpoint.description = description.strip()[:500]
    if headers is not None:
        endpoint.headers = own_headers.to_rows(
            headers, organization_id, endpoint_id, endpoint.headers
        )
    if condition is not None:
        endpoint.condition = conditions.checked(condition)
    if large_payloads is not None:
        endpoint.large_payloads = payloads.checked_way(large_payloads)
    if max_in_flight is not None:
        endpoint.max_in_flight = _limit(max_in_flight)
    if ordering is not None and ordering != endpoint.ordering:
        _order(session, organization_id, endpoint_id, _known(ordering))
    return endpoint


def _order(session: Session, organization_id: str, endpoint_id: str, ordering: str) -> None:
    """Change the ordering, also of what is already on its way."""
    endpoint, key = locked(session, organization_id, endpoint_id), (organization_id, endpoint_id)
    endpoint.ordering = ordering
    session.flush()
    if ordering == "none":
        lanes.leave(session, key)
    else:
        lanes.join(session, key, ordering)
    if endpoint.state == "active" and endpoint.circuit != "open":
        circuits.refill(session, key)
        session.refresh(endpoint)


def _known(ordering: str) -> str:
    if ordering not in lanes.ORDERINGS:
        message = N_("Choose none, endpoint or subject")
        raise Invalid(errors=[{"pointer": "/ordering", "message": message}])
    return ordering


def _limit(max_in_flight: int | None) -> int | None:
    if max_in_flight is not None and not 0 <= max_in_flight <= MOST_IN_FLIGHT:
        message = N_("Choose 1 to 32 requests, or 0 to leave it to the hub")
        raise Invalid(errors=[{"pointer": "/max_in_flight", "message": message}])
    return max_in_flight or None


def checked_types(event_types: Sequence[str]) -> list[str]:
    """Clean a subscription: names, `order.*` or `*`, each once; raises Invalid."""
    found = list(dict.fromkeys(text.strip() for text in event_types if text.strip()))
    errors: list[FieldError] = [
        {
            "pointer": f"/event_types/{number}",
            "message": N_("Write a type such as order.paid, a family such as order.*, or *"),
        }
        for number, pattern in enumerate(found)
        if pattern != "*" and not type_rules.is_name(pattern.removesuffix(".*"))
    ]
    if not found or len(found) > MAX_PATTERNS:
        errors.append({"pointer": "/event_types", "message": N_("Choose 1 to 100 event types")})
    if errors:
        raise Invalid(errors=errors)
    return found


def get(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Return the organization's endpoint; raises NotFound, also for one that was deleted."""
    found = find(session, Endpoint, organization_id, endpoint_id)
    if found.state == "deleted":
        raise NotFound
    return found


def listing(organization_id: str) -> Any:
    """Select the organization's endpoints, for a page of them."""
    return Endpoint.of(organization_id).where(ENDPOINT.c.state != "deleted")


def secret_of(endpoint: Endpoint) -> str | None:
    """Return the shared secret as its owner sees it; None for ed25519, whose key never leaves."""
    if endpoint.signature == "ed25519":
        return None
    context = secret_context(endpoint.organization_id, endpoint.id)
    return vault.open_sealed(endpoint.secret_sealed, context).decode()


def signing_until(endpoint: Endpoint) -> list[datetime]:
    """Return until when each rotated-out secret goes on signing, latest first."""
    times = [datetime.fromisoformat(one["until"]) for one in endpoint.old_secrets]
    return [until for until in times if until > clock.now()]


def rotate_secret(
    session: Session,
    organization_id: str,
    endpoint_id: str,
    *,
    overlap_hours: int = OVERLAP_HOURS,
    signature: str | None = None,
) -> Endpoint:
    """Sign with a new secret, also of the other kind; the old ones sign too until their end.

    No overlap at all is for a secret that got out: then every old one ends at once.
    """
    endpoint = get(session, organization_id, endpoint_id)
    now = clock.now()
    kept = [one for one in endpoint.old_secrets if datetime.fromisoformat(one["until"]) > now]
    if not 0 <= overlap_hours <= MOST_OVERLAP_HOURS:
        message = N_("Choose 0 to 168 hours")
        raise Invalid(errors=[{"pointer": "/overlap_hours", "message": message}])
    if overlap_hours and len(kept) >= MOST_OLD_SECRETS:
        raise Conflict(
            detail=N_(
                "Ten old secrets still sign, and no more are kept. Nothing was changed. Wait until"
                " one ends, or choose an overlap of 0 to end them all now"
            )
        )
    until = (now + timedelta(hours=overlap_hours)).isoformat()
    old = [{"sealed": endpoint.secret_sealed, "until": until}, *kept]
    endpoint.old_secrets = old if overlap_hours else []
    _take_secret(endpoint, signature or endpoint.signature)
    return endpoint


def _take_secret(endpoint: Endpoint, signature: str, secret: str | None = None) -> None:
    is_pair = signature == "ed25519"
    made = secret or (signing.new_private_key() if is_pair else signing.new_secret())
    context = secret_context(endpoint.organization_id, endpoint.id)
    endpoint.signature = signature
    endpoint.secret_sealed = vault.seal(made, context)
    endpoint.public_key = signing.public_key_of(made) if is_pair else None


def locked(
    session: Session, organization_id: str, endpoint_id: str, *, even_deleted: bool = False
) -> Endpoint:
    """Return the endpoint as it is now, and let nobody else change it before the commit.

    Whoever moves an endpoint's deliveries does this first: two who lock an endpoint and its
    deliveries in different orders would wait for each other for ever.
    """
    found = session.get(
        Endpoint,
        (organization_id, endpoint_id),
        with_for_update={"key_share": True},
        populate_existing=True,
    )
    if found is None or (found.state == "deleted" and not even_deleted):
        raise NotFound
    return found


def pause(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Hold deliveries back; they collect and wait until the endpoint is resumed."""
    endpoint = locked(session, organization_id, endpoint_id)
    endpoint.state = "paused"
    _forget_circuit(endpoint)
    session.flush()
    _move(session, endpoint, _WAITING, {"state": "waiting", "next_at": None})
    return endpoint


def resume(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Send again, first of all what has collected, the oldest first and not all at once."""
    endpoint = locked(session, organization_id, endpoint_id)
    endpoint.state = "active"
    endpoint.disabled_reason = None
    endpoint.disabled_at = None
    endpoint.failing_since = None
    session.flush()
    circuits.close(session, (organization_id, endpoint_id))
    queue.nudge(session, "webhooks.drain")
    session.refresh(endpoint)
    return endpoint


def try_now(session: Session, organization_id: str, endpoint_id: str) -> Endpoint:
    """Send one held delivery at once to see whether the target is back; raises Conflict."""
    endpoint = locked(session, organization_id, endpoint_id)
    if endpoint.state != "active" or endpoint.circuit != "open":
        raise Conflict(detail=N_("Nothing is held back for this endpoint at present"))
    circuits.probe(session, (organization_id, endpoint_id), endpoint)
    session.refresh(endpoint)
    return endpoint


def reason_to_stop(row: Any, answers: Sequence[circuits.Answer], now: datetime) -> str | None:
    """Say why an endpoint shall get nothing more, after these tries; None: it goes on."""
    if row.state in ("disabled", "deleted"):
        return None
    if any(answer.is_gone for answer in answers):
        return "gone"
    is_ill = any(one.is_blamed for one in answers) and not any(one.is_good for one in answers)
    since = row.failing_since
    return "failing" if is_ill and since is not None and now - since > GIVE_UP_AFTER else None


def give_up(session: Session, organization_id: str, endpoint_id: str, reason: str) -> None:
    """Disable an endpoint on the hub's own account, and leave a trace of it for people."""
    disable(session, organization_id, endpoint_id, reason)
    said = {"reason": reason}
    audit.record(
        session, None, "endpoint.disabled", endpoint_id,
        organization_id=organization_id, detail=said,
    )  # fmt: skip


def disable(
    session: Session, organization_id: str, endpoint_id: str, reason: str = "by_hand"
) -> Endpoint:
    """Stop sending for good and park what waits; tells the organization with an event."""
    endpoint = locked(session, organization_id, endpoint_id)
    if endpoint.state == "disabled":
        return endpoint
    endpoint.state = "disabled"
    endpoint.disabled_reason = reason
    endpoint.disabled_at = clock.now()
    _forget_circuit(endpoint)
    session.flush()
    _move(
        session,
        endpoint,
        _WAITING,
        {"state": "parked", "next_at": None, "last_problem": "endpoint_disabled"},
    )
    if endpoint.ordering != "none":
        lanes.leave(session, (organization_id, endpoint_id))
    news = {"endpoint": endpoint_id, "reason": reason}
    outbox.emit(session, organization_id, "endpoint.disabled", news, subject=endpoint_id)
    return endpoint


def _forget_circuit(endpoint: Endpoint) -> None:
    """Probe nothing while nothing is sent; resuming begins with a closed circuit."""
    for name, value in circuits.CLOSED.items():
        setattr(endpoint, name, value)


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


def urls(session: Session, organization_id: str) -> list[Any]:
    """Return the id and url of every endpoint of the organization."""
    statement = select(ENDPOINT.c.id, ENDPOINT.c.url)
    return list(
        session.execute(statement.where(ENDPOINT.c.organization_id == organization_id)).mappings()
    )


def receivers(session: Session, organization_id: str, name: str) -> list[Receiver]:
    """Name the endpoints of the organization that get events of this type."""
    statement = Endpoint.of(organization_id).order_by(ENDPOINT.c.id)
    return [
        Receiver("endpoint", one.description or one.url, f"/endpoints/{one.id}", one.state, _MAY)
        for one in session.execute(statement).scalars()
        if one.state not in ("disabled", "deleted") and matches(one.event_types, name)
    ]
