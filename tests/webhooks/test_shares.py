"""Shares: by weight, never too many, and nobody waits for ever."""

import random
from collections import Counter
from math import ceil, floor

from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import shares

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=5), st.integers(1, 100), min_size=1, max_size=60
)


@given(WEIGHTS, st.integers(1, 500), st.integers())
def test_a_round_gives_all_out_and_each_its_share_to_the_next_whole(weights, limit, seed):
    found = shares.pick(weights, limit, random.Random(seed))
    assert sum(found.values()) == limit
    assert 0 not in found.values()
    whole = sum(weights.values())
    for tenant, weight in weights.items():
        share = limit * weight / whole
        assert floor(share - 1e-9) <= found.get(tenant, 0) <= ceil(share + 1e-9)


@given(WEIGHTS, st.integers(1, 500), st.integers())
def test_the_same_chance_gives_the_same_round(weights, limit, seed):
    rounds = [shares.pick(weights, limit, random.Random(seed)) for _ in range(2)]
    assert rounds[0] == rounds[1]


@settings(max_examples=25, deadline=None)
@given(WEIGHTS, st.integers(1, 60), st.integers())
def test_over_many_rounds_it_comes_to_the_share(weights, limit, seed):
    chance, got, rounds = random.Random(seed), Counter(), 3000
    for _ in range(rounds):
        got.update(shares.pick(weights, limit, chance))
    whole = sum(weights.values())
    for tenant, weight in weights.items():
        share = rounds * limit * weight / whole
        # a coin a round: five deviations are once in millions
        assert abs(got[tenant] - share) <= 5 * (rounds * 0.25) ** 0.5 + 1


def test_the_lightest_among_many_is_served():
    chance = random.Random(7)
    weights = {f"org_{n:03d}": 100 for n in range(300)} | {"light": 1}
    # its share is one piece in 3000 rounds of 10; ten times that is as good as always
    assert any("light" in shares.pick(weights, 10, chance) for _ in range(30_000))


def test_twice_the_weight_is_twice_the_work():
    assert shares.pick({"a": 20, "b": 10}, 30) == {"a": 20, "b": 10}


def test_nobody_or_nothing_to_give():
    assert shares.pick({}, 50) == {}
    assert shares.pick({"a": 10}, 0) == {}
    assert shares.pick({"a": 10}, 50) == {"a": 50}


def test_without_a_random_source_it_is_still_all_given_out():
    for _ in range(50):
        assert sum(shares.pick(dict.fromkeys("abcdefg", 10), 3).values()) == 3
