"""Retry: the one table that says what follows an attempt."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

# Wait before attempt 2, 3, …; the first attempt is made at once. About 75 hours in all.
LADDER_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
MAX_RETRY_AFTER_SECONDS = 86_400
# A target that is over its limit or too slow gets at least this long to recover.
FLOOR_SECONDS = 60
_OVERLOADED = {429, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: an HTTP status, or the kind of failure that left us without one."""

    status: int | None = None
    failure: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target took it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at this moment."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """Give up until a person resends; `disables` says that the target never wants more."""

    reason: str
    disables: bool = False


def after(
    attempt_no: int, outcome: Outcome, now: datetime, chance: float | None = None
) -> Delivered | RetryAt | Parked:
    """Say what follows attempt number `attempt_no` (from 1); `chance` in 0..1 sets the jitter."""
    if outcome.status is not None and 200 <= outcome.status < 300:
        return Delivered()
    if outcome.status == 410:
        return Parked("gone", disables=True)
    if attempt_no > len(LADDER_SECONDS):
        return Parked("exhausted")
    wait = float(LADDER_SECONDS[attempt_no - 1])
    if outcome.failure == "timeout" or outcome.status in _OVERLOADED:
        wait = max(wait, FLOOR_SECONDS)
    if chance is None:
        chance = random.random()  # noqa: S311 - spreads load, hides nothing
    wait += wait * JITTER * chance
    asked = retry_after_seconds(outcome.retry_after, now)
    return RetryAt(now + timedelta(seconds=max(wait, asked)))


def retry_after_seconds(value: str | None, now: datetime) -> float:
    """Read a Retry-After header: seconds or a date, 0 for nonsense, never more than a day."""
    if not value:
        return 0.0
    text = value.strip()
    if text.isascii() and text.isdigit():
        # a thousand digits are nonsense too, and turning them into a number costs time
        seconds = float(text) if len(text) < 12 else float(MAX_RETRY_AFTER_SECONDS)
        return min(seconds, MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
