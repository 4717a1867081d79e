"""Lanes side by side: the few calls of several apps go in one thread, none waits for another."""

import threading

import pytest
from factories.connectors import open_shop, runs, settle, steps, vendor

from connectors import lanes
from kernel import http
from kernel.settings import settings, settings_override


@pytest.fixture(autouse=True)
def _fresh():
    lanes._slice.clear()
    yield
    assert lanes._flying == {}, "nobody waits for a lane that has landed"


@pytest.fixture
def two(database):
    """Two vendors that outbound calls may reach."""
    with vendor() as first:
        before = settings().outbound_allow
        with (
            vendor() as second,
            settings_override(outbound_allow=(*before, *settings().outbound_allow)),
        ):
            yield first, second


@pytest.fixture
def waves(monkeypatch):
    """How many requests each sending of several lanes took."""
    found = []
    real = http.send_all

    def send_all(requests, limit=16, tell=None):
        if tell:
            found.append(len(requests))
        return real(requests, limit, tell)

    monkeypatch.setattr(lanes.http, "send_all", send_all)
    return found


def test_the_calls_of_several_firms_go_together(two, waves):
    target = two[0]
    for number in range(5):
        open_shop(target.url, orders=2, name=f"店{number}")
    settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(target.orders()) == 5 * 2
    assert waves[0] == 10, "all of them, and then the chats as answers come"


def test_a_slow_app_among_them_holds_nobody_up(two, waves):
    slow, quick = two
    open_shop(slow.url, orders=2)
    open_shop(quick.url, orders=2, name="快店")
    held = slow.hold("sales-orders")
    done = threading.Thread(target=settle)
    done.start()
    assert quick.waits_for_messages(2), "two steps further while the other app is at its first"
    assert slow.messages() == []
    assert waves[0] == 4
    held.set()
    done.join(30)
    assert {run.state for run in runs()} == {"succeeded"}


def test_one_that_cannot_be_reached_parks_its_own_runs_alone(two):
    open_shop(two[0].url, orders=1)
    open_shop("http://127.0.0.1:9", orders=1, name="停机的店")
    settle()
    found = {(run.state, run.cause) for run in runs()}
    assert ("succeeded", None) in found
    assert len(found) == 2


def test_what_breaks_in_sending_costs_only_what_has_not_landed(two, monkeypatch):
    target = two[0]
    for number in range(3):
        open_shop(target.url, orders=1, name=f"店{number}")
    real = http.send_all

    def send_all(requests, limit=16, tell=None):
        if tell and len(requests) == 3:
            tell(0, real(requests[:1])[0])
            raise ZeroDivisionError
        return real(requests, limit, tell)

    monkeypatch.setattr(lanes.http, "send_all", send_all)
    settle()
    assert sorted((run.state, run.cause) for run in runs()) == [
        ("parked", "quarantined"), ("parked", "quarantined"), ("succeeded", None),
    ]  # fmt: skip


def test_a_lane_learns_from_what_it_took(two):
    slow, quick = two
    one, other = open_shop(slow.url, orders=1), open_shop(quick.url, orders=1, name="快店")
    slow.delay_seconds["sales-orders"] = 0.4
    settle()
    assert lanes._slice[one.erp] == lanes.IN_FLIGHT
    assert lanes._slice[other.erp] > lanes.IN_FLIGHT


def test_a_secret_stays_its_own(two):
    """Each answer is read with its own connection."""
    for number in range(3):
        open_shop(two[0].url, orders=1, name=f"店{number}")
    settle()
    for run in runs():
        assert [step.state for step in steps(run.id)] == ["succeeded"] * 3
        assert "key-0123456789" not in str([step.output for step in steps(run.id)])
