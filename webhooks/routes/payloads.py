"""GET /payloads/<token>: data that was too large for a message, byte for byte as it came in."""

import hashlib
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from identity.guard import public
from kernel.database import StoreUnavailable, reading, write
from webhooks import payloads

blueprint = Blueprint("payloads", __name__)
# The bytes are a sender's own: whatever they claim to be, no browser may run them as our page.
_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


@blueprint.get(f"{payloads.PATH}<token>")
@public(csrf=False)
def fetch_payload(token: str) -> Response:
    """Give an event's data to whoever has the address; parts of it on request."""
    key = payloads.key_of(token)
    with reading(key.organization_id) as session:
        event = payloads.look_up(session, key)
    response = Response(event.body, content_type=event.content_type)
    response.set_etag(hashlib.sha256(event.body).hexdigest())
    response.headers["Cache-Control"] = "private, no-transform"
    response.headers["Content-Disposition"] = "attachment"
    response.headers["Content-Security-Policy"] = _POLICY
    response.make_conditional(request, accept_ranges=True, complete_length=len(event.body))
    if request.method == "GET" and response.status_code in (200, 206) and _is_from_start():
        _count(key)
    return response


def _is_from_start() -> bool:
    """Tell whether this is a fetch, and not the rest of one that was broken off."""
    parts: Any = request.range
    return parts is None or not parts.ranges or parts.ranges[0][0] == 0


def _count(key: payloads.Key) -> None:
    try:
        write(partial(payloads.count_fetch, key=key), key.organization_id)
    except StoreUnavailable:
        return  # whoever reads shall not wait for a store that takes no writes
