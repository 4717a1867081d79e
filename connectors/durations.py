"""Durations as flows write them: `30m`, `2h`, `3d`."""

import re
from datetime import timedelta
from typing import Any

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=366)
_WRITTEN = re.compile(r"([1-9][0-9]{0,7})([smhd])\Z")


def parts(written: Any) -> tuple[str, str]:
    """Return a duration's number and unit as a form shows them; ("", "h") for what is none."""
    found = _WRITTEN.match(written) if isinstance(written, str) else None
    return (found[1], found[2]) if found else ("", "h")


def read(written: Any) -> timedelta | None:
    """Return a duration, None for what is none or is longer than a year."""
    number, unit = parts(written)
    if not number:
        return None
    found = timedelta(**{UNITS[unit]: int(number)})
    return found if found <= LONGEST else None
