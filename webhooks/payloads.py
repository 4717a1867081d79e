"""Payloads: data too large for a message, fetched from an address that the message names.

The address stays the same for all tries of an event at an endpoint, as their body must. It works
while the delivery is on its way and 96 hours after its last try, which is longer than the whole
ladder of retries; nobody has to look after it, because nothing of it is stored but a count.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlmodel import Session

from identity import proofs, suspensions
from kernel import clock
from kernel.errors import N_, FieldError, Invalid, NotFound
from kernel.settings import settings
from kernel.tenancy import find
from webhooks.tables import ATTEMPT, DELIVERY, Event

LIMIT_BYTES = 256 * 1024
KEPT_FOR = timedelta(hours=96)
WAYS = ("reference", "inline")
PATH = "/payloads/"
_ID = "[0-9A-HJKMNP-TV-Z]{26}"
_TOKEN = re.compile(f"({_ID})({_ID})({_ID})([0-9a-f]{{64}})")
_UNDER_WAY = ("due", "leased", "waiting")


class Key(NamedTuple):
    """Whose event went to which endpoint."""

    organization_id: str
    event_id: str
    endpoint_id: str


def is_referred(body: bytes, endpoint: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint gets an address instead of this data."""
    return len(body) > LIMIT_BYTES and endpoint["large_payloads"] == "reference"


def checked_way(way: str) -> str:
    """Return how large data goes out; raises Invalid for what is neither way."""
    if way not in WAYS:
        message = N_("Choose reference or inline")
        errors: list[FieldError] = [{"pointer": "/large_payloads", "message": message}]
        raise Invalid(errors=errors)
    return way


def reference(key: Key, body: bytes) -> dict[str, str]:
    """Return what stands in the envelope for data that is fetched."""
    return {
        "dataref": f"{settings().base_url.rstrip('/')}{PATH}{token_of(key)}",
        "datasha256": hashlib.sha256(body).hexdigest(),
    }


def token_of(key: Key) -> str:
    """Return the secret part of an address; it names what it is for and cannot be made up."""
    named = "".join(part.partition("_")[2] for part in key)
    return named + proofs.sign_lastingly("payload", named)


def key_of(token: str) -> Key:
    """Read an address's secret part; raises NotFound for one that this hub did not make."""
    found = _TOKEN.fullmatch(token)
    if found is None or not proofs.is_signed("payload", token[:-64], found[4]):
        raise NotFound
    return Key(f"org_{found[1]}", f"evt_{found[2]}", f"ep_{found[3]}")


def look_up(session: Session, key: Key) -> Event:
    """Return the event behind an address; raises NotFound once it has run out, Suspended."""
    if suspensions.is_suspended(session, key.organization_id):
        raise suspensions.Suspended
    deliveries = session.execute(
        select(DELIVERY.c.id, DELIVERY.c.state, DELIVERY.c.created_at).where(*_same(key))
    ).all()
    if not deliveries:
        raise NotFound
    if all(state not in _UNDER_WAY for _, state, _ in deliveries):
        tried = session.execute(
            select(func.max(ATTEMPT.c.started_at)).where(
                ATTEMPT.c.organization_id == key.organization_id,
                ATTEMPT.c.delivery_id.in_([row_id for row_id, _, _ in deliveries]),
            )
        ).scalar()
        moments = [made_at for _, _, made_at in deliveries] + ([tried] if tried else [])
        if clock.now() - max(moments) > KEPT_FOR:
            raise NotFound(N_("This address has run out"))
    return find(session, Event, key.organization_id, key.event_id)


def count_fetch(session: Session, key: Key) -> None:
    """Note that the data was fetched, with its newest delivery."""
    newest = select(func.max(DELIVERY.c.id)).where(*_same(key)).scalar_subquery()
    session.execute(
        update(DELIVERY)
        .where(DELIVERY.c.organization_id == key.organization_id, DELIVERY.c.id == newest)
        .values(fetch_count=func.coalesce(DELIVERY.c.fetch_count, 0) + 1, fetched_at=clock.now())
    )


def _same(key: Key) -> tuple[Any, ...]:
    return (
        DELIVERY.c.organization_id == key.organization_id,
        DELIVERY.c.event_id == key.event_id,
        DELIVERY.c.endpoint_id == key.endpoint_id,
    )
