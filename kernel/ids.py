"""Prefixed ids that sort by the time they were made."""

import os
import threading
import time
from datetime import datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
_lock = threading.Lock()
_last_ms = 0
_last_tail = 0


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 base-32 characters: 48 bits of milliseconds, 80 of chance.

    Within one process later ids always sort after earlier ones, also inside a millisecond.
    """
    global _last_ms, _last_tail
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms = now_ms
            # the top bit stays clear so that counting up within a millisecond cannot overflow
            _last_tail = int.from_bytes(os.urandom(10), "big") >> 1
        else:
            _last_tail += 1 + (os.urandom(1)[0] & 0x3F)
        value = (_last_ms << 80) | _last_tail
    return f"{prefix}_{_encode(value)}"


def first_id(prefix: str, moment: datetime) -> str:
    """Return what sorts before every id made at that moment or later, and after earlier ones."""
    return f"{prefix}_{_encode(max(0, int(moment.timestamp() * 1000)) << 80)}"


def _encode(value: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def _reseed() -> None:
    """Forget the parent's sequence after a fork: two processes never count from one tail."""
    global _last_ms, _last_tail
    _last_ms = _last_tail = 0


os.register_at_fork(after_in_child=_reseed)
