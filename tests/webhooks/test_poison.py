"""Poison: an event that ends whoever works on it is set aside, and the others go on."""

import subprocess
import sys

import pytest
from factories import webhooks as make
from factories.webhooks import OK, answering, routed_by, states
from sqlalchemy import insert

from kernel import clock, outbox
from kernel.database import EVERY, reading, write
from webhooks import carrying, drain, inbox, leases, ready, workers
from webhooks.events import NewEvent
from webhooks.tables import WORKER, Delivery, Event

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(outbox, "DOORS", [])
    workers._forget()
    yield
    workers._forget()


@pytest.fixture
def wary(monkeypatch):
    monkeypatch.setattr(workers, "_wary_until", float("inf"))


def stored(count=1):
    def setup(session):
        make.make_endpoint(session, "org_a")
        return [make.make_event(session, "org_a") for _ in range(count)]

    return make.in_transaction(setup)


def died_before_us():
    """Register a process of this machine that is gone without having signed off."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    row = {"id": "wrk_dead", "place": workers._place(), "pid": child.pid, "born": "1"}
    row |= {"created_at": clock.now(), "beats": 0, "drains": True}
    write(lambda session: session.execute(insert(WORKER).values(row)))


def test_whoever_starts_where_another_died_is_wary():
    died_before_us()
    workers.name()
    assert workers.is_wary()


def test_whoever_starts_where_another_ended_in_peace_is_not():
    workers.name()
    workers.sign_off()
    with reading(EVERY) as session:
        assert not session.execute(WORKER.select()).all()
    workers._forget()
    workers.name()
    assert not workers.is_wary()


def test_a_process_that_stops_with_nothing_in_its_hands_signs_off(monkeypatch):
    workers.name()
    drain.stop(1)
    drain._stopping.clear()
    with reading(EVERY) as session:
        assert not session.execute(WORKER.select()).all()


def test_a_wary_process_leaves_routing_to_a_drain(wary, monkeypatch):
    monkeypatch.setattr(inbox, "_carries", True)
    stored(0)
    inbox.put("org_a", None, [NewEvent(type="test.happened", body=b"{}", dedupe_key="k")])
    assert states(Event) == ["new"]


def test_a_wary_process_routes_what_is_no_poison(wary):
    stored(3)
    send = answering(OK)
    drain.drain("w1", send)
    assert states(Event) == ["routed"] * 3
    assert [event.failure_count for event in make.rows(Event)] == [0] * 3
    assert len(send.sent) == 3


def test_what_ends_its_process_every_time_is_set_aside_alone(wary):
    poison, *others = stored(3)
    assert len(write(ready.note)) == 3, "they are noted together, and then the process is gone"
    send = answering(OK)
    drain.drain("w1", send)
    assert send.sent == [], "somebody may be at it"
    for count in range(2, ready.MAX_FAILURES + 1):
        with clock.shifted(seconds=11 * count):
            write(ready.bring_back)
            noted = write(ready.note_suspect)
            assert (noted.id, noted.count) == (poison, count), "and gone again"
    with clock.shifted(seconds=60):
        write(ready.bring_back)
        for _ in range(3):
            drain.drain("w1", send)
    event = make.row(Event, poison)
    assert (event.state, event.problem["code"]) == ("quarantined", "routing_interrupted")
    assert {make.row(Event, one).state for one in others} == {"routed"}
    assert len(send.sent) == 2


def test_a_note_that_is_too_old_routes_nothing(wary):
    stored()
    noted = write(ready.note)
    with clock.shifted(seconds=11):
        write(ready.bring_back)
    assert write(lambda session: ready.take_noted(session, noted)) == []


def test_deliveries_that_were_in_crashes_go_in_ever_smaller_parties(monkeypatch):
    monkeypatch.setattr(carrying.pace, "_slow", {})
    stored(20)
    routed_by("wrk_dead")
    write(lambda session: leases.release(session, "wrk_dead"))
    sizes = []
    for _ in range(leases.MAX_DELIVERY_CRASHES - 1):
        pairs = write(
            lambda session: leases.claim_deliveries(session, "wrk_dead", frozenset(), is_slow=False)
        )
        sizes.append(len(pairs))
        write(lambda session: leases.release(session, "wrk_dead"))
    assert sizes[0] == max(sizes) == leases.TOGETHER[1]
    parked = [row for row in make.rows(Delivery) if row.state == "parked"]
    assert len(parked) <= 1, "the innocent are not parked along with it"


def test_the_innocent_need_not_wait_for_suspects(monkeypatch):
    rows = [{"crash_count": 1}, {"crash_count": 0}, {"crash_count": 4}, {"crash_count": 4}]
    monkeypatch.setattr(leases.random, "random", lambda: 0.5)
    assert leases.party(rows) == [{"crash_count": 0}]
    monkeypatch.setattr(leases.random, "random", lambda: 0.0)
    assert leases.party(rows[1:]) == [{"crash_count": 4}]
