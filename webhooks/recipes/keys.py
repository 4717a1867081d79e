"""Keys as people paste them: with or without armour, public, private or a certificate."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from webhooks.recipes.values import Refused, broken

MIN_BITS, MAX_BITS = 1024, 8192
KEY_IS = ("text", "base64", "base64_43", "hex", "sha256_of")
MAX_KEY_BYTES = 32 * 1024
_HEAD = re.compile(rb"-----BEGIN [A-Z0-9 ]{1,40}-----")
_FOOT = re.compile(rb"-----END [A-Z0-9 ]{1,40}-----")

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def plain_key(given: bytes, way: str) -> bytes:
    """Read a symmetric key; the one that everybody knows, the empty one, is refused."""
    try:
        if way == "text":
            key = given
        elif way == "base64":
            key = base64.b64decode(given, validate=True)
        elif way == "base64_43":
            # what is left over in the last of 43 characters says nothing
            key = base64.b64decode(given + b"=", validate=True) if len(given) == 43 else b""
        elif way == "hex":
            key = bytes.fromhex(given.decode("ascii"))
        elif way == "sha256_of":
            key = hashlib.sha256(given).digest() if given else b""
        else:
            raise broken(f"没有 {way} 这种密钥写法", f"There is no way {way} to write a key")
    except (binascii.Error, ValueError):
        raise _unreadable() from None
    if not key:
        raise _unreadable()
    return key


def _unreadable() -> Refused:
    return broken("密钥为空或无法读取", "The key is empty or cannot be read")


@lru_cache(maxsize=256)
def private_key(given: bytes) -> rsa.RSAPrivateKey:
    """Read an RSA private key, PKCS#1 or PKCS#8; raises Refused."""
    try:
        key = serialization.load_der_private_key(_der(given), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise _unreadable() from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise broken("需要 RSA 私钥", "An RSA private key is needed")
    _check_size(key.key_size)
    return key


@lru_cache(maxsize=256)
def public_key(given: bytes) -> PublicKey:
    """Read a public key (or that of a certificate); raises Refused."""
    try:
        der = _der(given)
    except (ValueError, binascii.Error):
        raise _unreadable() from None
    ways: tuple[Callable[[bytes], object], ...] = (
        serialization.load_der_public_key,
        lambda raw: x509.load_der_x509_certificate(raw).public_key(),
        ed25519.Ed25519PublicKey.from_public_bytes,
    )
    for way in ways:
        try:
            key = way(der)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, rsa.RSAPublicKey):
            _check_size(key.key_size)
        if isinstance(key, PublicKey):
            return key
    raise _unreadable()


def _check_size(bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise broken(
            f"RSA 密钥须为 {MIN_BITS} 到 {MAX_BITS} 位",
            f"An RSA key must have {MIN_BITS} to {MAX_BITS} bits",
        )


def _der(given: bytes) -> bytes:
    if len(given) > MAX_KEY_BYTES:
        raise _unreadable()
    head = _HEAD.search(given)
    foot = _FOOT.search(given, head.end()) if head else None
    inside = given[head.end() : foot.start()] if head and foot else given
    return base64.b64decode(b"".join(inside.split()), validate=True)
