"""Sealed files: bytes of any length, encrypted piece by piece under a key that the vault wraps.

A file is a line that names the format, a line with the wrapped data key, and frames: four bytes of
length, then AES-256-GCM over up to 256 kB. Each frame is bound to the file's context, its number
and whether it is the last, so that none can be changed, moved, dropped or taken from another file.
A data key seals one file once, so that counting nonces are safe.
"""

import secrets
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel import vault
from kernel.vault import VaultError

MAGIC = b"yangfan-sealed-1\n"
FRAME_BYTES = 256 << 10
_TAG_BYTES = 16
_LINE_BYTES = 4096


def seal(pieces: Iterable[bytes], context: str) -> Iterator[bytes]:
    """Encrypt a stream, holding one frame at a time."""
    key = secrets.token_bytes(32)
    cipher = AESGCM(key)
    yield MAGIC + vault.seal(key, context).encode() + b"\n"
    held, number = bytearray(), 0
    for piece in pieces:
        held += piece
        while len(held) > FRAME_BYTES:
            yield _frame(cipher, bytes(held[:FRAME_BYTES]), context, number, is_last=False)
            del held[:FRAME_BYTES]
            number += 1
    yield _frame(cipher, bytes(held), context, number, is_last=True)


def unseal(pieces: Iterable[bytes], context: str) -> Iterator[bytes]:
    """Decrypt a stream; raises VaultError as soon as something is not as it was sealed.

    A cut file is noticed at its end, so nothing may be built on the bytes before that.
    """
    reader = _Reader(pieces)
    if reader.take(len(MAGIC)) != MAGIC:
        raise VaultError("this is not a sealed file")
    cipher = AESGCM(vault.open_sealed(reader.line().decode("ascii", "replace"), context))
    number, is_last = 0, False
    while not is_last:
        length = int.from_bytes(reader.take(4), "big")
        if not _TAG_BYTES <= length <= FRAME_BYTES + _TAG_BYTES:
            raise VaultError("a sealed file was cut or changed")
        sealed = reader.take(length)
        is_last = reader.is_at_end()
        bound_to = _bound_to(context, number, is_last=is_last)
        try:
            yield cipher.decrypt(_nonce(number), sealed, bound_to)
        except InvalidTag:
            raise VaultError("a sealed file was cut or changed") from None
        number += 1


def _frame(cipher: AESGCM, content: bytes, context: str, number: int, *, is_last: bool) -> bytes:
    sealed = cipher.encrypt(_nonce(number), content, _bound_to(context, number, is_last=is_last))
    return len(sealed).to_bytes(4, "big") + sealed


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _bound_to(context: str, number: int, *, is_last: bool) -> bytes:
    return f"{context}|{number}|{'last' if is_last else 'more'}".encode()


class _Reader:
    """Takes bytes off a stream by count or by line."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = bytearray()

    def _fill(self, count: int) -> bool:
        while len(self._held) < count:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._held += piece
        return True

    def take(self, count: int) -> bytes:
        if not self._fill(count):
            raise VaultError("a sealed file was cut or changed")
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    def line(self) -> bytes:
        self._fill(_LINE_BYTES)
        end = self._held.find(b"\n", 0, _LINE_BYTES)
        if end < 0:
            raise VaultError("this is not a sealed file")
        return self.take(end + 1)[:-1]

    def is_at_end(self) -> bool:
        return not self._fill(1)
