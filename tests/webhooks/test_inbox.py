"""Inbox: what comes in is routed in the transaction that stores it, and sent by who took it in."""

import threading
import time

import pytest
from factories import webhooks as make

from kernel.database import EVERY, StoreUnavailable, engine, transaction
from kernel.http import Response
from webhooks import carrying, drain, endpoints, events, fan_out, inbox, usage, youth
from webhooks.events import NewEvent
from webhooks.letters import Letter
from webhooks.tables import Delivery, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database")
OK = Response(status=200, headers={}, body=b"ok", truncated=False, elapsed_ms=1)


@pytest.fixture(autouse=True)
def carries(monkeypatch):
    """A process that carries out what it takes in."""
    monkeypatch.setattr(inbox, "_carries", True)
    monkeypatch.setattr(inbox._box, "impatient_until", 0.0)
    yield
    carrying.wait_until_done(10)


@pytest.fixture
def target(database):
    with make.sink() as found:
        make.in_transaction(lambda session: make.make_endpoint(session, "org_a", found.url))
        yield found


def event(number: int = 0, **over) -> NewEvent:
    return NewEvent(type="test.happened", body=b"{}", dedupe_key=f"k{number}", **over)


def states(model) -> list[str]:
    return [row.state for row in make.rows(model)]


def test_it_is_on_its_way_when_the_sender_has_its_answer(target, nudges):
    (stored,) = inbox.put("org_a", None, [event()])
    assert states(Event) == ["routed"]
    carrying.wait_until_done(10)
    assert states(Delivery) == ["delivered"]
    ((_, headers, _),) = target.requests
    assert headers["webhook-id"] == stored.id
    assert nudges == [], "no drain is needed"


def test_what_was_there_before_goes_out_once(target):
    first = inbox.put("org_a", None, [event(1), event(2)])
    again = inbox.put("org_a", None, [event(2), event(3)])
    carrying.wait_until_done(10)
    assert again[0].is_duplicate
    assert again[0].id == first[1].id
    assert len(target.requests) == 3


def test_a_rejected_event_goes_nowhere(target):
    inbox.put("org_a", None, [event(problem={"code": "rejected", "errors": []}), event(1)])
    carrying.wait_until_done(10)
    assert sorted(states(Event)) == ["rejected", "routed"]
    assert len(target.requests) == 1


@pytest.mark.usefixtures("target")
def test_without_room_it_is_left_to_a_drain(monkeypatch, nudges):
    monkeypatch.setattr(carrying, "room", lambda: 0)
    inbox.put("org_a", None, [event()])
    assert (states(Event), states(Delivery)) == (["new"], [])
    assert nudges == ["webhooks.drain"]


@pytest.mark.usefixtures("target")
def test_what_finds_no_room_in_a_batch_is_left_as_due_and_told(monkeypatch, nudges):
    monkeypatch.setattr(carrying, "room", lambda: 2)
    inbox.put("org_a", None, [event(number) for number in range(5)])
    carrying.wait_until_done(10)
    assert sorted(states(Delivery)) == ["delivered"] * 2 + ["due"] * 3
    assert nudges == ["webhooks.drain"]
    assert drain.drain("w1") >= 3
    assert states(Delivery) == ["delivered"] * 5


def changed(**values) -> None:
    (endpoint,) = make.rows(Endpoint)
    make.in_transaction(
        lambda session: [
            setattr(endpoints.get(session, "org_a", endpoint.id), name, value)
            for name, value in values.items()
        ]
    )


def test_what_goes_in_order_is_left_to_a_drain(target, nudges):
    changed(ordering="endpoint")
    stored = inbox.put("org_a", None, [event(number) for number in range(3)])
    carrying.wait_until_done(10)
    assert target.requests == []
    assert nudges == ["webhooks.drain"]
    drain.drain("w1")
    assert [headers["webhook-id"] for _, headers, _ in target.requests] == [s.id for s in stored]


@pytest.mark.usefixtures("target")
def test_what_an_endpoint_takes_no_more_of_at_once_follows(nudges):
    changed(max_in_flight=2)
    inbox.put("org_a", None, [event(number) for number in range(5)])
    carrying.wait_until_done(10)
    assert sorted(states(Delivery)) == ["delivered"] * 2 + ["due"] * 3
    assert nudges == ["webhooks.drain"] * 2, "one at once, one when there is room again"
    drain.drain("w1")
    assert states(Delivery) == ["delivered"] * 5


def test_what_a_target_that_is_down_gets_is_held(target, nudges):
    changed(circuit="open", circuit_cause="down")
    inbox.put("org_a", None, [event(1)])
    carrying.wait_until_done(10)
    assert states(Event) == ["routed"]
    assert states(Delivery) == ["waiting"]
    assert target.requests == []
    assert nudges == []


@pytest.mark.usefixtures("target")
def test_a_process_that_ends_begins_nothing(monkeypatch, nudges):
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr(drain, "_stopping", stopping)
    inbox.put("org_a", None, [event()])
    assert states(Event) == ["new"]
    assert nudges == ["webhooks.drain"]


def test_what_cannot_be_routed_is_stored_all_the_same(target, monkeypatch, nudges):
    """One event that breaks a router is no reason to refuse it, nor its neighbours."""

    def break_at_poison(session, events, routed):
        if any(one.subject == "poison" for one in events):
            raise ZeroDivisionError

    monkeypatch.setattr(fan_out, "ROUTERS", [break_at_poison])
    stored = inbox.put("org_a", None, [event(1), event(2, subject="poison")])
    assert len(stored) == 2
    assert states(Event) == ["new", "new"]
    assert states(Delivery) == []
    assert nudges == ["webhooks.drain"]
    drain.drain("w1")
    assert sorted(states(Event)) == ["routed", "waiting"]
    assert len(target.requests) == 1


def test_what_is_under_way_counts_as_long_as_it_is(target):
    target.delay_seconds = 0.5
    before = carrying.room()
    inbox.put("org_a", None, [event(number) for number in range(4)])
    assert carrying.room() <= max(0, min(fan_out.FIRST_ATTEMPTS, carrying.MOST_ROWS - 4))
    for number in range(10, 10 + carrying.MOST_JOBS):
        inbox.put("org_a", None, [event(number)])
    assert carrying.room() == 0, "so many jobs are enough; what comes now waits for a drain"
    carrying.wait_until_done(10)
    assert carrying.room() == before


def test_a_process_takes_little_at_once_until_it_has_lived_for_a_while(monkeypatch):
    """All that a process holds when it dies is suspected of having killed it."""
    monkeypatch.setattr(youth, "_born", time.monotonic())
    assert carrying.room() == carrying.YOUNG_ROWS
    monkeypatch.setattr(youth, "_born", time.monotonic() - carrying.YOUNG_SECONDS)
    assert carrying.room() == fan_out.FIRST_ATTEMPTS > carrying.YOUNG_ROWS


def test_a_job_that_breaks_makes_room_again(target, monkeypatch):
    def broken(*_args):
        raise ZeroDivisionError

    before = carrying.room()
    monkeypatch.setattr(carrying.attempts, "send_waves", broken)
    inbox.put("org_a", None, [event()])
    carrying.wait_until_done(10)
    assert carrying.room() == before
    assert states(Delivery) == ["leased"], "whoever finds the lease over sends it"
    assert target.requests == []


def test_a_full_disk_is_an_outage_and_nothing_is_kept(database):
    """Rows go to SQLite past SQLAlchemy; what the driver says is understood all the same."""
    if not database.url.startswith("sqlite"):
        pytest.skip("PostgreSQL's disk is not ours to fill")
    try:
        with pytest.raises(StoreUnavailable), transaction(EVERY) as session:
            ask = session.connection().exec_driver_sql
            ask("PRAGMA max_page_count=1")
            # pages that earlier tests gave back are room too; more than those is asked for
            room = ask("PRAGMA freelist_count").scalar() * ask("PRAGMA page_size").scalar()
            body = b'"' + b"x" * (room + 900_000) + b'"'
            big = NewEvent(type="test.happened", body=body, dedupe_key="big")
            events.accept(session, "org_a", None, [big])
    finally:
        engine().dispose()  # the limit belongs to its connection
    assert make.rows(Event) == []


def test_of_the_loud_what_is_left_to_a_drain_is_stored_with_the_others_and_counted(target, nudges):
    usage.take()
    arrivals = [
        events.Arrival("org_a", None, [event(1)]),
        events.Arrival("org_b", None, [event(2), event(3)]),
    ]
    answers = inbox._store([Letter(one, print) for one in arrivals], {1})
    carrying.wait_until_done(10)
    found = {row.id: row.state for row in make.rows(Event)}
    assert [[found[one.id] for one in answer] for answer in answers] == [["routed"], ["new"] * 2]
    assert len(target.requests) == 1
    assert nudges == ["webhooks.drain"]
    counted = {key[0]: counts.get("deferred", 0) for key, counts in usage.take().items()}
    assert counted == {"org_a": 0, "org_b": 2}


def hold(monkeypatch, rows: int, seconds: float):
    """Carry so many rows for so long, in a process that can carry no more."""
    monkeypatch.setattr(carrying, "_most_rows", lambda: rows)
    return carrying._start(lambda: time.sleep(seconds) or 0, rows, None)


def test_a_batch_waits_a_moment_for_room_and_goes_straight_on(target, monkeypatch, nudges):
    hold(monkeypatch, 2, 0.2)
    monkeypatch.setattr(inbox, "PATIENCE_SECONDS", 20)
    inbox.put("org_a", None, [event(1), event(2)])
    assert states(Event) == ["routed"] * 2
    carrying.wait_until_done(10)
    assert len(target.requests) == 2
    assert nudges == []


def test_of_many_only_those_are_taken_that_there_is_room_for(monkeypatch):
    monkeypatch.setattr(carrying, "_most_rows", lambda: 5)
    letters = [Letter(events.Arrival("org_a", None, [event()] * size), print) for size in (2, 3, 1)]
    assert inbox._fitting(letters) == 2
    assert inbox._fitting(letters[:2]) == 2
    big = Letter(events.Arrival("org_a", None, [event()] * 50), print)
    assert inbox._fitting([big, *letters]) == 1


def test_for_slow_targets_nobody_waits_twice(monkeypatch, nudges):
    monkeypatch.setattr(inbox, "PATIENCE_SECONDS", 0.2)
    held = hold(monkeypatch, 2, 3)
    started = time.monotonic()
    inbox.put("org_a", None, [event(1)])
    assert time.monotonic() - started >= 0.2
    monkeypatch.setattr(carrying, "wait_for_room", None)
    for number in range(2, 20):
        inbox.put("org_a", None, [event(number)])
    assert not held.done()
    assert states(Event) == ["new"] * 19
    assert "webhooks.drain" in nudges
