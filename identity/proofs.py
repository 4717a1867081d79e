"""Secrets that prove something: made at random, kept as digests, compared in constant time."""

import hashlib
import hmac
import secrets

from kernel.settings import settings

_ID_LENGTH = 26  # the part of an id after its prefix


def new_secret() -> str:
    """Return 256 random bits as 43 url-safe characters."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return the only form in which a secret is stored: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def seal_owner(prefix: str, organization_id: str) -> str:
    """Return a new secret that names its organization, so that it is looked up in one tenant."""
    return f"{prefix}{organization_id.partition('_')[2]}{new_secret()}"


def owner_of(prefix: str, secret: str) -> str | None:
    """Name the organization a secret speaks of, or None when it is not of this kind."""
    rest = secret.removeprefix(prefix)
    if rest == secret or len(rest) != _ID_LENGTH + 43 or not rest.isascii():
        return None
    return f"org_{rest[:_ID_LENGTH]}"


def sign(purpose: str, text: str) -> str:
    """Return a keyed mark under the present key that only this hub can make."""
    key = next(iter(settings().keys.values()))
    return _mark(key, purpose, text)


def sign_lastingly(purpose: str, text: str) -> str:
    """Return a mark under the oldest key held: a newer key does not change it.

    It changes when that key is dropped, from when on the earlier mark counts for nothing.
    """
    *_, key = settings().keys.values()
    return _mark(key, purpose, text)


def is_signed(purpose: str, text: str, mark: str) -> bool:
    """Say whether the mark was made here for this purpose and text, under any key still held."""
    found = [
        hmac.compare_digest(_mark(key, purpose, text).encode(), mark.encode())
        for key in settings().keys.values()
    ]
    return any(found)


def _mark(key: bytes, purpose: str, text: str) -> str:
    # a key of its own for each purpose: the vault's key itself never signs anything
    purpose_key = hmac.digest(key, f"identity.{purpose}".encode(), "sha256")
    return hmac.digest(purpose_key, text.encode(), "sha256").hex()
