"""The one place that tells the time; tests shift it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_shift = timedelta(0)


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC) + _shift


def shift() -> timedelta:
    """Return by how much the clock is shifted (zero outside tests)."""
    return _shift


@contextmanager
def shifted(*, seconds: float) -> Iterator[None]:
    """Move the clock by some seconds for the length of the block; shifts add up."""
    global _shift
    before = _shift
    _shift = before + timedelta(seconds=seconds)
    try:
        yield
    finally:
        _shift = before
