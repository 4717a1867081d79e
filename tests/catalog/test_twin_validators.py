"""The compiled validator of the hot path and the one that finds words agree on every event type."""

from functools import cache

import pytest
from factories.instances import spoiled, values_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalog import event_types, json_schemas

TYPES = list(event_types.built_in().values())
CALM = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to find the smallest example takes minutes, the first one will do
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@cache
def compiled(name):
    return json_schemas.compile_fast(event_types.find(None, None, name).schema)


def verdicts(found, value):
    """Say what both think: whether the value is good."""
    fast = compiled(found.name)
    return fast.is_valid(value), json_schemas.explain(found.schema, value) == []


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
@CALM
@given(data=st.data())
def test_both_accept_what_a_schema_describes_and_judge_what_is_spoiled_alike(found, data):
    value = data.draw(values_of(found.schema))
    assert verdicts(found, value) == (True, True), value
    assert event_types.validator(found)(value) == []
    broken = data.draw(spoiled(value))
    fast, slow = verdicts(found, broken)
    assert fast == slow, broken
    assert (event_types.validator(found)(broken) == []) == fast


def test_what_is_spoiled_is_often_refused():
    """The comparison above would prove little if nothing drawn were ever bad."""
    found = event_types.find(None, None, "order.paid")
    refused = []

    @CALM
    @given(value=spoiled(found.sample))
    def look(value):
        refused.append(json_schemas.explain(found.schema, value) != [])

    look()
    assert 3 <= sum(refused) < len(refused) + 1
    assert not all(refused)
