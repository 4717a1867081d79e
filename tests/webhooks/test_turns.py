"""Whose letters are stored next when many send at once."""

import time

import pytest

from webhooks import turns
from webhooks.events import Arrival, NewEvent
from webhooks.letters import Letter
from webhooks.turns import Turns

WEIGHTS = {"heavy": 90}


def letters(*tenants, waited=0.0, events=1):
    new = [NewEvent("order.paid", b"{}")] * events
    posted = time.monotonic() - waited
    return [Letter(Arrival(tenant, None, new), print, posted) for tenant in tenants]


def names(some):
    return [letter.arrival.organization_id for letter in some]


@pytest.fixture
def some_turns():
    return Turns(lambda tenant: WEIGHTS.get(tenant, 10))


def hear(some_turns, *heard):
    """Let so much come in, and half a second pass."""
    some_turns.stored([letter for some in heard for letter in some])
    some_turns._turned_at -= turns.TURN_SECONDS
    some_turns.pick([])


QUIET = ["a", "b", "c", "d"]


def test_without_noise_everybody_goes_in_the_order_they_came(some_turns):
    many = letters(*QUIET * 60)
    hear(some_turns, many)
    now, later = some_turns.pick(many)
    assert (now, later) == (many[: turns.MOST_TOGETHER], many[turns.MOST_TOGETHER :])


def test_who_is_alone_is_never_loud(some_turns):
    hear(some_turns, letters("loud", events=5000))
    now, _ = some_turns.pick(letters(*["loud"] * 60))
    assert len(now) == 60


def noise():
    return letters(*QUIET * 10, *["loud"] * 100)


def test_a_loud_one_comes_after_the_others_and_a_few_at_a_time(some_turns):
    hear(some_turns, noise())
    now, later = some_turns.pick(letters(*["loud"] * 50, *QUIET * 3))
    assert names(now) == ["loud"] * turns.LOUD_TOGETHER + QUIET * 3
    assert names(later) == ["loud"] * (50 - turns.LOUD_TOGETHER)
    assert not some_turns.deferred(now)


def test_nobody_loud_starves(some_turns):
    hear(some_turns, noise())
    left = letters(*["loud"] * 30)
    for _ in range(30):
        now, left = some_turns.pick(letters(*QUIET) + left)
        assert "loud" in names(now) or not left
    assert not left


def test_events_in_an_array_count_each(some_turns):
    hear(some_turns, letters(*QUIET * 10), letters("loud", events=100))
    now, _ = some_turns.pick(letters(*["loud"] * 20))
    assert len(now) == turns.LOUD_TOGETHER


def test_a_weight_is_a_right_to_send_more(some_turns):
    hear(some_turns, letters(*QUIET * 10, *["heavy"] * 90))
    now, _ = some_turns.pick(letters(*["heavy"] * 60))
    assert len(now) == 60


def crowd(some_turns):
    """Let the quiet wait beside the loud."""
    hear(some_turns, noise())
    hear(some_turns, letters(*QUIET * 10, waited=0.2), letters(*["loud"] * 100))


def test_once_the_quiet_wait_the_loud_are_left_to_a_drain_beyond_a_fair_share(some_turns):
    crowd(some_turns)
    now, _ = some_turns.pick(letters(*["loud"] * 100, *"aabb"))
    assert names(now).count("loud") == turns.LOUD_STORED_TOGETHER
    assert some_turns.deferred(now) == set(range(2, turns.LOUD_STORED_TOGETHER))
    assert some_turns.deferred(letters(*["loud"] * 3)) == {1, 2}
    assert not some_turns.deferred(letters(*"ab"))
    hear(some_turns, noise())
    assert not some_turns.deferred(now), "they go straight through again when nobody waits"


def test_a_loud_sender_does_not_make_the_hub_crowded_by_its_own_wait(some_turns):
    hear(some_turns, noise())
    hear(some_turns, letters(*QUIET * 10), letters(*["loud"] * 100, waited=5))
    assert not some_turns.deferred(letters(*["loud"] * 8))


def test_noise_is_forgotten(some_turns):
    hear(some_turns, noise())
    for _ in range(2):
        hear(some_turns, letters(*QUIET * 10))
    now, _ = some_turns.pick(letters(*["loud"] * 50))
    assert len(now) == 50


def test_who_goes_on_alone_is_not_loud_and_waits_for_nobody(some_turns):
    crowd(some_turns)
    alone = letters(*["loud"] * 100)
    assert some_turns.deferred(alone)
    hear(some_turns, alone)
    assert not some_turns.deferred(alone), "nobody waits any more"
    hear(some_turns, alone)
    hear(some_turns, alone)
    assert some_turns.pick(alone) == (alone, [])
