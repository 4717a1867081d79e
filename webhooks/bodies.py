"""Bodies: how many bytes a sender may bring, and what they are without their compression."""

import gzip
import io
import zlib
from collections.abc import Callable, Mapping

from kernel.errors import N_, Malformed, TooLarge, UnsupportedMedia
from webhooks.envelopes import MAX_BYTES

MAX_RATIO = 100


def read_all(headers: Mapping[str, str], read: Callable[[int], bytes]) -> bytes:
    """Read the body, at most one byte more than allowed, also when its length is not announced."""
    announced = headers.get("content-length", "")
    is_hopeless = announced.isdigit() and int(announced[:12]) > MAX_BYTES
    return b"" if is_hopeless else read(MAX_BYTES + 1)


def check_size(headers: Mapping[str, str], raw: bytes, *, may_be_empty: bool = False) -> None:
    """Refuse what is too large, was cut off, or is not there."""
    announced = headers.get("content-length", "")
    length = int(announced[:12]) if announced.isdigit() else len(raw)
    if max(length, len(raw)) > MAX_BYTES:
        raise TooLarge(
            detail=N_("The request body may have %(limit)s bytes (1 MiB)"), limit=MAX_BYTES
        )
    if len(raw) < length:
        raise Malformed(detail=N_("The request body ended too early"), code="cut_off")
    if not raw and not may_be_empty:
        raise Malformed(detail=N_("The request has no body"), code="empty")


def decode(raw: bytes, encoding: str) -> bytes:
    """Undo gzip within bounds, so that a small bomb stays small."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return raw
    if name not in ("gzip", "x-gzip"):
        raise UnsupportedMedia(
            detail=N_("Send the body uncompressed or with gzip"), code="content_encoding"
        )
    limit = min(MAX_BYTES, len(raw) * MAX_RATIO)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            body = file.read(limit + 1)
    except (OSError, EOFError, zlib.error):
        raise Malformed(detail=N_("The body is not good gzip"), code="not_gzip") from None
    if len(body) > limit:
        raise TooLarge(detail=N_("Unpacked, the body may have %(limit)s bytes"), limit=limit)
    return body
