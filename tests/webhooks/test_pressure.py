"""Draining leaves the machine to whoever takes events in, and never stops."""

import threading
import time

import pytest
from factories import webhooks as make

from kernel.database import EVERY, reading
from webhooks import drain, ledger, pressure, ready, workers


@pytest.fixture(autouse=True)
def _calm():
    pressure.forget()
    yield
    pressure.forget()


@pytest.fixture
def signed_on(database):
    """This process, known to an emptied store."""
    workers.beat()


def press(percent):
    pressure._gauge.highest = percent


def test_a_calm_hub_drains_without_a_rest():
    assert pressure.rest_after(0.5) == 0


@pytest.mark.parametrize(("percent", "times"), [(30, 1.04), (50, 3), (68, 8.77), (100, 9)])
def test_the_busier_the_intake_the_longer_the_rest(percent, times):
    press(percent)
    expected = 0.01 * pressure.IN_ALL * times
    assert pressure.rest_after(0.01) == pytest.approx(expected, rel=0.01)


def test_no_rest_is_longer_than_a_second():
    press(100)
    assert pressure.rest_after(60) == pressure.LONGEST_REST_SECONDS


def test_processes_tell_each_other_how_busy_they_are(signed_on):
    pressure.worked(10.0)
    time.sleep(0.01)
    ledger.turn()
    assert pressure._gauge.own == 100
    pressure.forget()  # another process, which takes nothing in
    ledger.turn()
    assert pressure._gauge.own == 0
    assert pressure._gauge.highest == 100
    assert pressure.rest_after(0.01) == pytest.approx(0.09 * pressure.IN_ALL)


def test_what_was_said_long_ago_is_not_believed(signed_on, monkeypatch):
    pressure.worked(10.0)
    ledger.turn()
    pressure.forget()
    monkeypatch.setattr(pressure, "SAID_SECONDS", -1)
    ledger.turn()
    assert pressure._gauge.highest == 0


def test_when_the_intake_is_over_that_is_said_too(signed_on):
    pressure.worked(10.0)
    ledger.turn()
    time.sleep(0.01)
    ledger.turn()
    assert (pressure._gauge.own, pressure._gauge.highest) == (0, 0)


def leave_waiting(count):
    make.in_transaction(lambda session: [make.make_event(session, "org_a") for _ in range(count)])


def test_under_pressure_a_backlog_is_drained_slowly_but_to_the_end(database, monkeypatch):
    monkeypatch.setattr(ready.take, "__defaults__", (10,))
    leave_waiting(60)
    press(100)
    rested = []
    rest_after = pressure.rest_after
    monkeypatch.setattr(
        pressure, "rest_after", lambda spent: rested.append(rest_after(spent)) or rested[-1]
    )
    began = time.monotonic()
    drain.drain(workers.name())
    took = time.monotonic() - began
    with reading(EVERY) as looking:
        assert not ready.is_any(looking)
    assert len(rested) >= 6
    assert took >= sum(rested[:5]) * 0.9


def test_a_rest_ends_when_the_process_is_asked_to_end(database, monkeypatch):
    monkeypatch.setattr(pressure, "rest_after", lambda spent: 3600.0)
    monkeypatch.setattr(ready.take, "__defaults__", (10,))
    leave_waiting(20)
    thread = threading.Thread(target=lambda: drain.drain(workers.name()))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    drain._stopping.set()
    try:
        thread.join(5)
        assert not thread.is_alive()
    finally:
        drain._stopping.clear()


def test_a_web_process_that_is_busy_leaves_the_backlog_to_the_workers(monkeypatch):
    looked = []
    monkeypatch.setattr(workers, "is_any_draining", lambda: True)
    monkeypatch.setattr(drain, "reading", lambda _: looked.append(1))
    pressure._gauge.own = 80
    assert drain.sweep_for_others() == 0
    assert not looked
