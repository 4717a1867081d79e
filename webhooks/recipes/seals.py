"""Steps about secrets: digests, signatures, tokens, ciphers and the frames inside them."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import documents
from kernel.errors import Problem
from webhooks.recipes import keys
from webhooks.recipes.texts import out, undo
from webhooks.recipes.values import Refused, Surroundings, bounded, broken, mismatch, text

DIGESTS: Mapping[str, Callable[[bytes], Any]] = {
    "md5": lambda raw: hashlib.md5(raw, usedforsecurity=False),
    "sha1": lambda raw: hashlib.sha1(raw, usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
}
RSA_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - some vendors' older kind
    "sha256": hashes.SHA256(),
    "sha512": hashes.SHA512(),
}
TOKENS = ("HS256", "RS256", "ES256")
CIPHERS = ("aes_cbc", "aes_gcm")
IV_IS = ("key_head", "data_head", "zero")
BLOCK = 16

Step = Mapping[str, Any]
Values = Mapping[str, Any]


def _hash(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    return out(DIGESTS[word](text(step["of"], values)).digest(), step.get("out", "hex"))


def _hmac(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    if word not in DIGESTS:
        raise broken(f"没有 {word} 这种摘要", f"There is no digest {word}")
    digest = hmac.digest(_key(step, values), text(step["of"], values), word)
    return out(digest, step.get("out", "hex"))


def _key(step: Step, values: Values) -> bytes:
    return keys.plain_key(text(step["key"], values), step.get("key_is", "text"))


def _rsa_sign(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    key = keys.private_key(text(step["key"], values))
    signature = key.sign(text(step["of"], values), padding.PKCS1v15(), RSA_DIGESTS[word])
    return out(signature, step.get("out", "base64"))


def _rsa_verify(word: Any, step: Step, values: Values, around: Surroundings) -> None:  # noqa: ARG001
    key = keys.public_key(text(step["key"], values))
    if not isinstance(key, rsa.RSAPublicKey):
        raise broken("需要 RSA 公钥", "An RSA public key is needed")
    signature = undo(text(step["signature"], values), step.get("signature_is", "base64"))
    try:
        key.verify(signature, text(step["of"], values), padding.PKCS1v15(), RSA_DIGESTS[word])
    except InvalidSignature:
        raise _does_not_fit() from None


def _ed25519_verify(word: Any, step: Step, values: Values, around: Surroundings) -> None:  # noqa: ARG001
    given = text(step["key"], values)
    if step.get("key_is") == "hex":
        given = out(keys.plain_key(given, "hex"), "base64")
    key = keys.public_key(given)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise broken("需要 Ed25519 公钥", "An Ed25519 public key is needed")
    signature = undo(text(step["signature"], values), step.get("signature_is", "base64"))
    try:
        key.verify(signature, text(step["of"], values))
    except InvalidSignature:
        raise _does_not_fit() from None


def _does_not_fit() -> Refused:
    return mismatch("签名不符", "The signature does not fit")


def _jwt(word: Any, step: Step, values: Values, around: Surroundings) -> Any:
    """Return the claims of a token that is signed, ours and of now."""
    parts = text(step["of"], values).split(b".")
    if len(parts) != 3:
        raise mismatch("不是签名的 JWT", "It is no signed token")
    head, claims = (_json(undo(part, "base64url")) for part in parts[:2])
    # the algorithm is the recipe's choice: a sender who chooses would choose none
    if head.get("alg") != word or "crit" in head:
        raise _does_not_fit()
    _check_token(word, step, values, b".".join(parts[:2]), undo(parts[2], "base64url"))
    now, leeway = around.now.timestamp(), step.get("leeway_seconds", 60)
    times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    if not all(one is None or type(one) is int for one in times.values()):
        raise mismatch("JWT 里的时间无法读取", "The token's times cannot be read")
    is_over = times["exp"] is not None and times["exp"] + leeway <= now
    if is_over or any((times[name] or 0) - leeway > now for name in ("nbf", "iat")):
        raise Refused("signature_stale", "JWT 不在有效期内", "The token is not valid at this time")
    if "issuer" in step and claims.get("iss") != text(step["issuer"], values).decode():
        raise mismatch("JWT 的签发者不符", "The token has another issuer")
    if "audience" in step:
        stated = claims.get("aud")
        audiences = stated if isinstance(stated, list) else [stated]
        if text(step["audience"], values).decode() not in audiences:
            raise mismatch("JWT 的接收方不符", "The token is meant for somebody else")
    return claims


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = documents.parse(raw)
    except Problem:
        found = None
    if not isinstance(found, dict):
        raise mismatch("JWT 无法读取", "The token cannot be read")
    return found


def _check_token(word: str, step: Step, values: Values, signed: bytes, signature: bytes) -> None:
    if word == "HS256":
        if not hmac.compare_digest(hmac.digest(_key(step, values), signed, "sha256"), signature):
            raise _does_not_fit()
        return
    key = keys.public_key(text(step["key"], values))
    try:
        if word == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        elif word == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            if not isinstance(key.curve, ec.SECP256R1) or len(signature) != 64:
                raise _does_not_fit()
            halves = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))
        else:
            raise broken("密钥不适合这种 JWT", "The key does not go with this kind of token")
    except InvalidSignature:
        raise _does_not_fit() from None


def _decrypt(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:  # noqa: ARG001
    key = _cipher_key(step, values)
    data = undo(text(step["of"], values), step.get("of_is", "base64"))
    if word == "aes_gcm":
        try:
            return AESGCM(key).decrypt(_nonce(step, values), data, _aad(step, values))
        except (InvalidTag, ValueError):
            raise _not_ours() from None
    if word != "aes_cbc":
        raise broken(f"没有 {word} 这种加密", f"There is no cipher {word}")
    if step.get("iv_is") == "data_head":
        iv, data = data[:BLOCK], data[BLOCK:]
    else:
        iv = _iv(step, values, key)
    if len(iv) != BLOCK or not data or len(data) % BLOCK:
        raise _not_ours()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return _unpad(decryptor.update(data) + decryptor.finalize(), step.get("pad", 16))


def _encrypt(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:
    key, data = _cipher_key(step, values), text(step["of"], values)
    if word == "aes_gcm":
        sealed = AESGCM(key).encrypt(_nonce(step, values), data, _aad(step, values))
        return bounded(out(sealed, step.get("out", "base64")))
    if word != "aes_cbc":
        raise broken(f"没有 {word} 这种加密", f"There is no cipher {word}")
    is_ahead = step.get("iv_is") == "data_head"
    iv = around.random(BLOCK) if is_ahead else _iv(step, values, key)
    pad = step.get("pad", 16)
    if pad != "none":
        missing = pad - len(data) % pad
        data += bytes([missing]) * missing
    if len(iv) != BLOCK or len(data) % BLOCK:
        raise broken("长度不是整块", "The length is no multiple of a block")
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(data) + encryptor.finalize()
    return bounded(out(iv + sealed if is_ahead else sealed, step.get("out", "base64")))


def _cipher_key(step: Step, values: Values) -> bytes:
    key = _key(step, values)
    if len(key) not in (16, 24, 32):
        raise broken("密钥长度须为 16、24 或 32 字节", "The key must have 16, 24 or 32 bytes")
    return key


def _iv(step: Step, values: Values, key: bytes) -> bytes:
    if "iv" in step:
        return text(step["iv"], values)
    return key[:BLOCK] if step.get("iv_is") == "key_head" else bytes(BLOCK)


def _nonce(step: Step, values: Values) -> bytes:
    return text(step["nonce"], values)


def _aad(step: Step, values: Values) -> bytes:
    return text(step.get("aad", ""), values, optional=True)


def _unpad(data: bytes, pad: int | str) -> bytes:
    if pad == "none":
        return data
    length = data[-1]
    is_good = hmac.compare_digest(data[-length:], bytes([length]) * length)
    if not is_good or not 1 <= length <= int(pad) or length > len(data):
        raise _not_ours()
    return data[:-length]


def _not_ours() -> Refused:
    """Whatever was wrong with the sealed bytes, it is called the same."""
    return mismatch(
        "无法解密：密钥不符或内容被改动", "It cannot be opened: another key, or changed"
    )


def _unframe(word: Any, step: Step, values: Values, around: Surroundings) -> Any:  # noqa: ARG001
    data, skip, size = text(word, values), step.get("skip", 16), step.get("length_bytes", 4)
    start = skip + size
    end = start + int.from_bytes(data[skip:start], "big")
    if len(data) < start or end > len(data):
        raise mismatch("内容的长度不对", "The length inside is not right")
    return {"message": data[start:end], "rest": data[end:]}


def _frame(word: Any, step: Step, values: Values, around: Surroundings) -> bytes:
    message, size = text(word, values), step.get("length_bytes", 4)
    head = around.random(step.get("skip", 16)) + len(message).to_bytes(size, "big")
    return bounded(head + message + text(step.get("rest", ""), values))


VALUES = {
    "hash": _hash,
    "hmac": _hmac,
    "rsa_sign": _rsa_sign,
    "jwt": _jwt,
    "decrypt": _decrypt,
    "encrypt": _encrypt,
    "unframe": _unframe,
    "frame": _frame,
}
CHECKS = {"rsa_verify": _rsa_verify, "ed25519_verify": _ed25519_verify}
