"""Dedupe keys: what makes two arrivals at one source the same event."""

import hashlib

from webhooks import signing
from webhooks.addresses import OpenSource
from webhooks.envelopes import Envelope


def key_of(
    source: OpenSource,
    message_id: str | None,
    envelope: Envelope,
    body: bytes,
    place: int | None,
) -> str | None:
    """Name an arrival by its own id, its message's, or its bytes; None when it is always new.

    `place` is where it stands in a message that carries a list.
    """
    wish = source.scheme_options.get("dedupe", "auto")
    if wish == "never":
        return None
    key = None
    if wish == "body":
        key = _digest_key(body)
    elif envelope.id and not (message_id and _is_message_first(source, envelope)):
        # the length keeps "a" + "bc" and "ab" + "c" apart
        scope = envelope.source or ""
        return short(f"id:{len(scope)}:{scope}:{envelope.id}")
    elif message_id:
        key = short(f"message:{message_id}")
    elif source.scheme == "recipe" or (
        source.scheme == "hmac"
        and not signing.has_fresh_times(source.scheme, source.scheme_options)
    ):
        # nothing else stops a recorded message from being sent again
        key = _digest_key(body)
    return key if key is None or place is None else f"{key}#{place}"


def _is_message_first(source: OpenSource, envelope: Envelope) -> bool:
    """Tell whether the sender's own id of the message says more than an `id` in plain JSON.

    That one is often the id of the thing the message is about, the same in every message about it.
    """
    if source.scheme == "recipe":
        return True  # the recipe says what makes a message the same
    is_told = envelope.is_wrapped or bool(source.type_rules.get("id_pointer"))
    return source.scheme == "standard_webhooks" and not is_told


def _digest_key(body: bytes) -> str:
    return f"body:{hashlib.sha256(body).hexdigest()}"


def short(key: str) -> str:
    """Keep a key as it is, or its digest when a database could not hold it as text."""
    if len(key) <= 200 and key.isprintable():
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
