"""Secrets at rest: each value has its own data key, which a key-encryption key wraps.

A token reads `v1.<key id>.<wrapped data key>.<nonce and ciphertext>`. Both layers are
AES-256-GCM and both are bound to the context, `organization|table|row|column`, so a token copied
into another row does not open. Changing the operator's key re-wraps 32 bytes for each value and
leaves the ciphertext alone. A data key seals one value once; under one key-encryption key random
nonces are safe for four thousand million wraps. Nothing is cached: opening costs microseconds, and
a data key that lives no longer than the call cannot leak later.
"""

import base64
import binascii
import functools
import re
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel.settings import settings

VERSION = "v1"
_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 12, 16
_WRAPPED_BYTES = _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class VaultError(Exception):
    """A secret cannot be sealed or opened; never says what the secret is."""


class UnknownKey(VaultError):  # noqa: N818 - names what is wrong
    """The token was sealed with a key this hub does not hold (any more)."""


class _Token(NamedTuple):
    key_id: str
    wrapped: bytes
    sealed: bytes


def seal(plaintext: bytes | str, context: str) -> str:
    """Encrypt a value under the current key, bound to `organization|table|row|column`."""
    try:
        content = plaintext.encode() if isinstance(plaintext, str) else bytes(plaintext)
    except UnicodeEncodeError:
        # the original error carries the text with it
        raise VaultError("the secret is not valid Unicode text") from None
    data_key = secrets.token_bytes(_KEY_BYTES)
    sealed = _encrypt(AESGCM(data_key), content, f"{VERSION}.{context}")
    return _wrap(data_key, sealed, context)


def open_sealed(token: str, context: str) -> bytes:
    """Decrypt a value; raises VaultError when the token, its context or our keys do not fit."""
    found = _read(token)
    data_key = _unwrap(found, context)
    return _decrypt(AESGCM(data_key), found.sealed, f"{VERSION}.{context}", found.key_id)


def rewrap(token: str, context: str) -> str:
    """Return the token under the current key; the same token when it already is."""
    found = _read(token)
    if found.key_id == next(iter(_ring())):
        return token
    return _wrap(_unwrap(found, context), found.sealed, context)


def key_id_of(token: str) -> str:
    """Return which key-encryption key a token needs."""
    return _read(token).key_id


def _ring() -> dict[str, AESGCM]:
    return _ciphers(tuple(settings().keys.items()))


@functools.lru_cache(maxsize=4)
def _ciphers(keys: tuple[tuple[str, bytes], ...]) -> dict[str, AESGCM]:
    for key_id, key in keys:
        if not _KEY_ID.fullmatch(key_id) or len(key) != _KEY_BYTES:
            raise VaultError(
                f"secret key {key_id[:64]!r} must have an id of letters, digits, - and _ "
                f"and {_KEY_BYTES} bytes in base64"
            )
    return {key_id: AESGCM(key) for key_id, key in keys}


def _wrap(data_key: bytes, sealed: bytes, context: str) -> str:
    key_id, cipher = next(iter(_ring().items()))
    wrapped = _encrypt(cipher, data_key, f"{VERSION}.{key_id}.{context}")
    return f"{VERSION}.{key_id}.{_to_text(wrapped)}.{_to_text(sealed)}"


def _unwrap(token: _Token, context: str) -> bytes:
    cipher = _ring().get(token.key_id)
    if cipher is None:
        raise UnknownKey(
            f"sealed with key {token.key_id!r}, which is not among the hub's secret keys; "
            "put that key back into the settings, behind the current one"
        )
    return _decrypt(cipher, token.wrapped, f"{VERSION}.{token.key_id}.{context}", token.key_id)


def _encrypt(cipher: AESGCM, content: bytes, bound_to: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, content, bound_to.encode())


def _decrypt(cipher: AESGCM, content: bytes, bound_to: str, key_id: str) -> bytes:
    nonce, ciphertext = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
    try:
        return cipher.decrypt(nonce, ciphertext, bound_to.encode())
    except InvalidTag:
        raise VaultError(
            f"a secret sealed with key {key_id!r} does not open: it was changed, it belongs to "
            "another place, or the key is not the one it was sealed with"
        ) from None


def _read(token: str) -> _Token:
    parts = token.split(".")
    if len(parts) != 4 or parts[0] != VERSION or not _KEY_ID.fullmatch(parts[1]):
        raise VaultError("this is not a sealed secret")
    found = _Token(parts[1], _from_text(parts[2]), _from_text(parts[3]))
    if len(found.wrapped) != _WRAPPED_BYTES or len(found.sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise VaultError("this is not a whole sealed secret")
    return found


def _to_text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _from_text(text: str) -> bytes:
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise VaultError("this is not a sealed secret") from None
    if _to_text(content) != text:  # spare bits: one value has one spelling
        raise VaultError("this is not a sealed secret")
    return content
