"""Retry: the whole table."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import retry
from webhooks.retry import Delivered, Outcome, Parked, RetryAt

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LADDER = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


def wait(attempt_no, outcome, chance=0.0):
    found = retry.after(attempt_no, outcome, NOW, chance)
    assert isinstance(found, RetryAt)
    return (found.at - NOW).total_seconds()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_delivered(status):
    assert retry.after(1, Outcome(status=status), NOW) == Delivered()


@pytest.mark.parametrize("status", [100, 199, 301, 302, 307, 400, 401, 404, 500, 599])
def test_everything_else_is_tried_again(status):
    assert wait(1, Outcome(status=status)) == 5


@pytest.mark.parametrize(("attempt_no", "seconds"), list(enumerate(LADDER, 1)))
def test_the_ladder(attempt_no, seconds):
    assert wait(attempt_no, Outcome(status=500)) == seconds
    assert wait(attempt_no, Outcome(failure="connect"), 1.0) == pytest.approx(seconds * 1.2)


def test_the_tenth_failure_is_the_last():
    assert retry.after(10, Outcome(status=500), NOW) == Parked("exhausted")


def test_gone_ends_it_at_once():
    assert retry.after(1, Outcome(status=410), NOW) == Parked("gone", disables=True)


@pytest.mark.parametrize(
    "outcome", [Outcome(status=429), Outcome(status=503), Outcome(failure="timeout")]
)
def test_an_overloaded_target_gets_a_minute(outcome):
    assert wait(1, outcome) == 60
    assert wait(3, outcome) == 1800


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("0", 5), ("86400", 86_400), ("9" * 400, 86_400), ("-5", 5), ("soon", 5),
     ("1.5", 5), ("", 5), ("Sun, 22 Nov 2026 08:10:00 GMT", 600),
     ("Sun, 22 Nov 2020 08:10:00 GMT", 5), ("Sun, 99 Nov 2026 08:10:00 GMT", 5)],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert wait(1, Outcome(status=500, retry_after=value)) == seconds


@given(st.integers(1, 9), st.text(max_size=40))
def test_no_header_shortens_or_crashes(attempt_no, value):
    seconds = wait(attempt_no, Outcome(status=500, retry_after=value))
    assert LADDER[attempt_no - 1] <= seconds <= 86_400


def test_jitter_only_adds():
    found = [retry.after(2, Outcome(status=500), NOW) for _ in range(200)]
    waits = [one.at - NOW for one in found if isinstance(one, RetryAt)]
    assert min(waits) >= timedelta(seconds=300)
    assert max(waits) <= timedelta(seconds=360)
    assert len(set(waits)) > 100
