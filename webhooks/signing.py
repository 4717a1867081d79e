"""Signatures: pure checks of who sent raw bytes, and the signing of what we send.

Header names are lower case. A secret is the text its owner sees; several are several chances,
so that a rotated secret goes on working for a while. Every comparison takes constant time.
"""

import base64
import binascii
import hashlib
import hmac
import secrets as randomness
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kernel.errors import N_, Invalid
from webhooks.errors import BadSignature

TOLERANCE_SECONDS = 300
MAX_SIGNATURES = 20
_DIGESTS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good signature vouches for: the sender's id of the message and when it was sent."""

    dedupe_id: str | None = None
    sent_at: datetime | None = None


Scheme = Callable[[bytes, Mapping[str, str], Sequence[str], Mapping[str, Any], datetime], Verified]


def verify(
    scheme: str,
    raw: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    options: Mapping[str, Any],
    now: datetime,
) -> Verified:
    """Check `raw` under the scheme; raises BadSignature, also for a scheme nobody knows."""
    check = SCHEMES.get(scheme)
    if check is None or (scheme != "none" and not secrets):
        raise BadSignature(code="scheme_unknown")
    return check(raw, headers, secrets, options, now)


def _standard_webhooks(
    raw: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    options: Mapping[str, Any],
    now: datetime,
) -> Verified:
    is_svix = "svix-id" in headers and "webhook-id" not in headers
    prefix = "svix" if is_svix else "webhook"
    message_id = _header(headers, f"{prefix}-id")
    stamp = _header(headers, f"{prefix}-timestamp")
    given = _header(headers, f"{prefix}-signature")
    sent_at = _fresh(stamp, options, now)
    if "." in message_id:
        # the signed text joins its parts with dots, so a dot inside would make it ambiguous
        raise BadSignature
    signed = b".".join((message_id.encode(), stamp.encode(), raw))
    signatures = [part.partition(",") for part in given.split(" ")[:MAX_SIGNATURES]]
    found = False
    for secret in secrets:
        if secret.startswith("whpk_"):
            found |= _any_ed25519(secret, signed, [s for v, _, s in signatures if v == "v1a"])
        else:
            digest = hmac.digest(_key(secret), signed, "sha256")
            expected = base64.b64encode(digest)
            for version, _, signature in signatures:
                found |= version == "v1" and _same(expected, signature)
    if not found:
        raise BadSignature
    return Verified(message_id, sent_at)


def _any_ed25519(public_key: str, signed: bytes, signatures: Sequence[str]) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key[5:], validate=True))
    except (binascii.Error, ValueError):
        return False
    found = False
    for signature in signatures:
        try:
            key.verify(base64.b64decode(signature, validate=True), signed)
            found = True
        except (InvalidSignature, binascii.Error, ValueError):
            continue
    return found


def _github(
    raw: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    options: Mapping[str, Any],  # noqa: ARG001
    now: datetime,  # noqa: ARG001
) -> Verified:
    given = _header(headers, "x-hub-signature-256")
    found = False
    for secret in secrets:
        key = _not_empty(secret.encode())
        expected = "sha256=" + hmac.digest(key, raw, "sha256").hex()
        found |= _same(expected.encode(), given)
    if not found:
        raise BadSignature
    return Verified(headers.get("x-github-delivery"))


def _hmac(
    raw: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    options: Mapping[str, Any],
    now: datetime,
) -> Verified:
    """HMAC as most vendors do it; the options say which header, digest, encoding and time."""
    algorithm = options.get("algorithm", "sha256")
    if algorithm not in _DIGESTS:
        raise BadSignature(code="scheme_unknown")
    given = _header(headers, str(options.get("header", "x-signature")).lower())
    stamp, sent_at = "", None
    if options.get("style") == "stripe":
        stamp, candidates = _stripe_parts(given)
        sent_at = _fresh(stamp, options, now)
    else:
        prefix = str(options.get("prefix", ""))
        if not given.startswith(prefix):
            raise BadSignature
        candidates = [given[len(prefix) :]]
        if options.get("timestamp_header"):
            stamp = _header(headers, str(options["timestamp_header"]).lower())
            sent_at = _fresh(stamp, options, now)
    message_id = headers.get(str(options.get("id_header", "")).lower())
    signed = _signed_text(options, stamp, message_id or "", raw)
    found = False
    for secret in secrets:
        digest = hmac.digest(_plain_key(secret, options), signed, algorithm)
        expected = (
            base64.b64encode(digest)
            if options.get("encoding") == "base64"
            else digest.hex().encode()
        )
        for candidate in candidates:
            found |= _same(expected, candidate)
    if not found:
        raise BadSignature
    return Verified(message_id, sent_at)


def _stripe_parts(given: str) -> tuple[str, list[str]]:
    """Read `t=…,v1=…,v1=…`; a second `t` is refused, for it could be the one that is not signed."""
    pairs = [part.strip().partition("=") for part in given.split(",")[: MAX_SIGNATURES + 1]]
    stamps = [value for name, _, value in pairs if name == "t"]
    if len(stamps) != 1:
        raise BadSignature
    return stamps[0], [value for name, _, value in pairs if name == "v1"]


def _signed_text(options: Mapping[str, Any], stamp: str, message_id: str, raw: bytes) -> bytes:
    template = str(options.get("signed") or ("{timestamp}.{body}" if stamp else "{body}"))
    before, marker, after = template.partition("{body}")
    if not marker or (stamp and "{timestamp}" not in template):
        # a signature that leaves out the body or its time proves nothing about them
        raise BadSignature(code="scheme_unknown")

    def fill(text: str) -> bytes:
        return text.replace("{timestamp}", stamp).replace("{id}", message_id).encode()

    return fill(before) + raw + fill(after)


def _token(
    raw: bytes,  # noqa: ARG001
    headers: Mapping[str, str],
    secrets: Sequence[str],
    options: Mapping[str, Any],
    now: datetime,  # noqa: ARG001
) -> Verified:
    given = _header(headers, str(options.get("header", "authorization")).lower())
    prefix = str(options.get("prefix", ""))
    found = False
    for secret in secrets:
        found |= bool(secret) and _same((prefix + secret).encode(), given)
    if not found:
        raise BadSignature
    return Verified(headers.get(str(options.get("id_header", "")).lower()))


def _none(
    raw: bytes,  # noqa: ARG001
    headers: Mapping[str, str],
    secrets: Sequence[str],  # noqa: ARG001
    options: Mapping[str, Any],
    now: datetime,  # noqa: ARG001
) -> Verified:
    """No proof at all; only for sources whose owner chose it and sees it called weak."""
    return Verified(headers.get(str(options.get("id_header", "")).lower()))


SCHEMES: Mapping[str, Scheme] = {
    "standard_webhooks": _standard_webhooks,
    "github": _github,
    "hmac": _hmac,
    "token": _token,
    "none": _none,
}


def message_id(scheme: str, headers: Mapping[str, str], options: Mapping[str, Any]) -> str | None:
    """Return the sender's id of a message where the scheme has it, without any proof."""
    named = {"standard_webhooks": "webhook-id", "github": "x-github-delivery"}
    name = named.get(scheme) or str(options.get("id_header", ""))
    return headers.get(name.lower()) or None


def has_fresh_times(scheme: str, options: Mapping[str, Any]) -> bool:
    """Tell whether the scheme refuses an old message that somebody recorded and sends again."""
    return scheme == "standard_webhooks" or (
        scheme == "hmac"
        and (options.get("style") == "stripe" or bool(options.get("timestamp_header")))
    )


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise BadSignature(
            detail=N_("The header %(header)s is missing"), code="signature_missing", header=name
        )
    return value


def _fresh(stamp: str, options: Mapping[str, Any], now: datetime) -> datetime:
    """Read unix seconds (or milliseconds) and refuse what is too old or from the future."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 13):
        raise BadSignature(detail=N_("Its time cannot be read"), code="signature_stale")
    seconds = int(stamp) / 1000 if len(stamp) > 11 else int(stamp)
    tolerance = min(int(options.get("tolerance_seconds", TOLERANCE_SECONDS)), 3600)
    if abs(now.timestamp() - seconds) > tolerance:
        raise BadSignature(
            detail=N_("It was signed more than %(seconds)s seconds away from our clock"),
            code="signature_stale",
            seconds=tolerance,
        )
    return datetime.fromtimestamp(seconds, UTC)


def _same(expected: bytes, given: str) -> bool:
    return hmac.compare_digest(expected, given.encode("utf-8", "surrogateescape"))


def _key(secret: str) -> bytes:
    """Read a Standard Webhooks secret: `whsec_` and base64, with or without the prefix."""
    text = secret.removeprefix("whsec_")
    try:
        return _not_empty(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return _not_empty(text.encode())


def _not_empty(key: bytes) -> bytes:
    """Refuse the key that everybody knows."""
    if not key:
        raise BadSignature(code="scheme_unknown")
    return key


def check_secret(scheme: str, secret: str, options: Mapping[str, Any]) -> None:
    """Refuse a secret that no message could be checked with; raises Invalid."""
    try:
        if scheme == "standard_webhooks" and secret.startswith("whpk_"):
            Ed25519PublicKey.from_public_bytes(base64.b64decode(secret[5:], validate=True))
        elif scheme == "standard_webhooks":
            _key(secret)
        elif scheme == "hmac":
            _plain_key(secret, options)
        elif not secret.strip():
            raise BadSignature
    except (BadSignature, ValueError) as error:
        message = N_("This secret is empty or cannot be read")
        raise Invalid(errors=[{"pointer": "/secret", "message": message}]) from error


def _plain_key(secret: str, options: Mapping[str, Any]) -> bytes:
    encoding = options.get("secret_encoding")
    try:
        if encoding == "base64":
            return _not_empty(base64.b64decode(secret, validate=True))
        if encoding == "hex":
            return _not_empty(bytes.fromhex(secret))
    except ValueError as error:
        raise BadSignature from error
    return _not_empty(secret.encode())


def new_secret() -> str:
    """Make a signing secret: `whsec_` and 32 random bytes."""
    return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()


def new_private_key() -> str:
    """Make an ed25519 signing key: `whsk_` and the private half followed by the public one."""
    key = Ed25519PrivateKey.generate()
    halves = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    return "whsk_" + base64.b64encode(halves).decode()


@lru_cache(maxsize=1024)
def _private_key(secret: str) -> Ed25519PrivateKey:
    halves = base64.b64decode(secret.removeprefix("whsk_"), validate=True)
    return Ed25519PrivateKey.from_private_bytes(halves[:32])


def public_key_of(secret: str) -> str:
    """Return the half of a `whsk_` key that receivers check with, as `whpk_` and base64."""
    raw = _private_key(secret).public_key().public_bytes_raw()
    return "whpk_" + base64.b64encode(raw).decode()


def public_pem(public_key: str) -> bytes:
    """Write a `whpk_` key the way most programs read one, as PEM."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(message_id: str, raw: bytes, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the Standard Webhooks headers for `raw`, with one signature per secret or key."""
    stamp = str(int(now.timestamp()))
    signed = b".".join((message_id.encode(), stamp.encode(), raw))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    if secret.startswith("whsk_"):
        return "v1a," + base64.b64encode(_private_key(secret).sign(signed)).decode()
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
