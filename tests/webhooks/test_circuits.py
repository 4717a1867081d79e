"""Circuits: a target that is down is left alone, costs others nothing, and gets all in the end."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from factories import webhooks as make
from factories.webhooks import (
    OK,
    answering,
    endpoint_with_events,
    more_events,
    routed_by,
    states,
    status,
)
from sqlalchemy import event as listening

from identity.tables import AuditEntry
from kernel import clock, outbox
from kernel import database as store
from kernel.database import reading, write
from kernel.errors import Conflict
from kernel.http import Failure
from webhooks import (
    attempts,
    circuits,
    deliveries,
    drain,
    endpoints,
    events,
    leases,
    replay,
    results,
)
from webhooks.tables import Attempt, Delivery, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database", "quiet")


@contextmanager
def statements_seen():
    """Every statement the store gets meanwhile."""
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(statement)

    engines = {store._store().writer, store._store().system}
    for engine in engines:
        listening.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        listening.remove(engine, "before_cursor_execute", note)


def one_endpoint(count=0, organization_id="org_a", **over):
    return endpoint_with_events(count, organization_id, **over)[0]


def the_endpoint() -> Endpoint:
    (found,) = make.rows(Endpoint)
    return found


def broken_endpoint():
    """An endpoint whose circuit has just opened; some of its deliveries are held."""
    endpoint_id = one_endpoint(12)
    drain.drain("w1", answering(status(500)))
    assert the_endpoint().circuit == "open"
    more_events(5)
    drain.drain("w1", answering(OK))
    return endpoint_id


def held():
    return [row for row in make.rows(Delivery) if row.state == "waiting" and not row.next_at]


def test_ten_failures_in_a_row_open_the_circuit_and_nine_do_not():
    one_endpoint(9)
    drain.drain("w1", answering(status(500)))
    assert (the_endpoint().circuit, the_endpoint().failure_streak) == ("closed", 9)
    more_events(1)
    drain.drain("w1", answering(status(500)))
    opened = the_endpoint()
    assert (opened.circuit, opened.circuit_cause) == ("open", "down")
    wait = (opened.circuit_at - clock.now()).total_seconds()
    assert 25 < wait <= 36


@pytest.mark.parametrize("between", [OK, status(404)])
def test_an_answer_that_is_no_server_error_ends_the_row(between):
    one_endpoint(9)
    drain.drain("w1", answering(status(500)))
    more_events(1)
    drain.drain("w1", answering(between))
    more_events(9)
    drain.drain("w1", answering(status(500)))
    assert the_endpoint().circuit == "closed"


def test_failures_of_long_ago_do_not_count():
    one_endpoint(9)
    drain.drain("w1", answering(status(500)))
    for row in make.rows(Delivery):
        make.in_transaction(lambda session, row=row: replay.cancel(session, "org_a", row.id))
    with clock.shifted(seconds=circuits.WITHIN.total_seconds() + 1):
        more_events(1)
        drain.drain("w1", answering(status(500)))
        assert (the_endpoint().circuit, the_endpoint().failure_streak) == ("closed", 1)


def test_our_own_trouble_opens_nothing():
    one_endpoint(12)
    drain.drain("w1", answering(Failure("dns", "", is_ours=True)))
    assert (the_endpoint().circuit, the_endpoint().failure_streak) == ("closed", 0)


def test_while_it_is_open_nothing_is_sent_and_no_try_is_used_up():
    broken_endpoint()
    before = {row.id: (row.attempt_count, row.ladder_step) for row in make.rows(Delivery)}
    send = answering(OK)
    for seconds in (6, 12, 24):
        with clock.shifted(seconds=seconds):
            drain.drain("w1", send)
    assert send.sent == []
    assert {row.id: (row.attempt_count, row.ladder_step) for row in make.rows(Delivery)} == before
    assert len(held()) == 17, "also those whose next try fell due meanwhile"
    assert not write(leases.is_delivery_due), "what is held is looked for by nobody"


def test_one_probe_at_a_time_and_the_pause_grows():
    broken_endpoint()
    send, at, waits = answering(status(503)), 40.0, []
    for number in range(1, 8):
        with clock.shifted(seconds=at):
            assert circuits.sweep() == 1
            assert circuits.sweep() == 0, "one probe at a time"
            drain.drain("w1", send)
            assert len(send.sent) == number
            waits.append((the_endpoint().circuit_at - clock.now()).total_seconds())
        at += waits[-1] + 1
    assert waits[:5] == sorted(waits[:5])
    assert 59 < waits[0] < 73
    assert all(wait <= 901 for wait in waits)
    assert min(waits[-2:]) > 740


def test_one_success_closes_it_and_what_was_held_follows():
    endpoint_id = broken_endpoint()
    send = answering(OK)
    with clock.shifted(seconds=40):
        circuits.sweep()
        drain.drain("w1", send)
        assert the_endpoint().circuit == "closed"
        assert the_endpoint().failing_since is None
    with clock.shifted(seconds=41):
        drain.drain("w1", send)
    assert set(states(Delivery)) == {"delivered"}
    assert make.row(Endpoint, endpoint_id).probe_count == 0


def test_what_was_held_is_let_go_at_a_bounded_rate_the_oldest_first(monkeypatch):
    monkeypatch.setattr(circuits, "RATE_PER_SECOND", 2)
    endpoint_id = one_endpoint(state="paused")
    more_events(25)
    drain.drain("w1", answering(OK))
    began = clock.now()
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    assert the_endpoint().circuit == "refilling"
    more_events(1)
    for seconds in range(22):
        with clock.shifted(seconds=seconds):
            circuits.sweep()
            drain.drain("w1", answering(OK))
            # a busy machine takes seconds for a round, in which more may go
            passed = int((clock.now() - began).total_seconds())
            assert states(Delivery).count("delivered") <= 2 * (passed + 1)
            if states(Delivery).count("delivered") == 25 and seconds < 12:
                assert held(), "the newest is last"
    assert set(states(Delivery)) == {"delivered"}
    assert the_endpoint().circuit == "closed"
    sent = sorted(make.rows(Delivery), key=lambda row: row.delivered_at)
    assert [row.event_id for row in sent[::2]] == sorted(row.event_id for row in sent[::2])


def test_a_probe_taken_by_a_worker_that_dies_is_sent_again():
    broken_endpoint()
    with clock.shifted(seconds=40):
        assert circuits.sweep() == 1
        parcels = write(lambda s: attempts.claim_due(s, "wrk_dead", frozenset(), is_slow=False))
        assert [parcel.delivery_id for parcel in parcels] == [the_endpoint().probe_id]
        write(lambda session: leases.release(session, "wrk_dead"))
        send = answering(OK)
        drain.drain("w2", send)
        assert len(send.sent) >= 1
        assert the_endpoint().circuit == "closed"


def test_a_probe_nobody_recorded_does_not_end_the_probing():
    broken_endpoint()
    with clock.shifted(seconds=40):
        circuits.sweep()
        write(lambda s: attempts.claim_due(s, "gone", frozenset(), is_slow=False))
    with clock.shifted(seconds=40 + circuits.PROBE_LOST.total_seconds() + 1):
        write(leases.reclaim)
        circuits.sweep()
        send = answering(OK)
        drain.drain("w2", send)
        assert the_endpoint().circuit == "closed"


@pytest.mark.parametrize("code", [429, 503])
def test_a_target_that_asks_for_a_pause_gets_it(code):
    one_endpoint(1)
    drain.drain("w1", answering(status(code, **{"Retry-After": "7200"})))
    opened = the_endpoint()
    assert (opened.circuit, opened.circuit_cause) == ("open", "asked")
    assert 7100 < (opened.circuit_at - clock.now()).total_seconds() <= 7200
    more_events(3)
    send = answering(OK)
    with clock.shifted(seconds=7000):
        circuits.sweep()
        drain.drain("w1", send)
        assert send.sent == []
    with clock.shifted(seconds=7201):
        circuits.sweep()
        drain.drain("w1", send)
    with clock.shifted(seconds=9500):
        drain.drain("w1", send)
    assert set(states(Delivery)) == {"delivered"}


def test_a_pause_asked_for_is_at_most_a_day():
    one_endpoint(1)
    drain.drain("w1", answering(status(429, **{"retry-after": "9" * 30})))
    assert (the_endpoint().circuit_at - clock.now()) <= timedelta(days=1)


def test_with_nothing_held_it_closes_on_probation():
    one_endpoint(12)
    drain.drain("w1", answering(status(500)))
    with clock.shifted(seconds=40):
        write(leases.reclaim)
        make.in_transaction(  # all of them are far up the ladder
            lambda session: [
                setattr(session.merge(row), "next_at", clock.now() + timedelta(hours=1))
                for row in make.rows(Delivery)
            ]
        )
        circuits.sweep()
        assert the_endpoint().circuit == "closed"
        more_events(1)
        drain.drain("w1", answering(status(500)))
        assert the_endpoint().circuit == "open", "one more failure is enough"


def test_try_now_probes_at_once_and_only_while_open():
    endpoint_id = broken_endpoint()
    make.in_transaction(lambda session: endpoints.try_now(session, "org_a", endpoint_id))
    send = answering(OK)
    drain.drain("w1", send)
    assert the_endpoint().circuit == "closed"
    with pytest.raises(Conflict):
        make.in_transaction(lambda session: endpoints.try_now(session, "org_a", endpoint_id))


def test_a_delivery_sent_by_hand_is_the_probe():
    broken_endpoint()
    chosen = held()[3].id
    make.in_transaction(lambda session: replay.resend(session, "org_a", chosen))
    send = answering(status(500))
    drain.drain("w1", send)
    assert len(send.sent) == 1
    assert make.row(Delivery, chosen).last_status == 500
    assert the_endpoint().probe_count == 1


@pytest.mark.parametrize("verb", [endpoints.pause, endpoints.disable])
def test_an_endpoint_that_sends_nothing_is_not_probed(verb):
    endpoint_id = broken_endpoint()
    make.in_transaction(lambda session: verb(session, "org_a", endpoint_id))
    assert the_endpoint().circuit == "closed"
    with clock.shifted(seconds=40):
        assert circuits.sweep() == 0
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    assert the_endpoint().failure_streak == 0


def test_a_dead_endpoint_costs_others_no_statement():
    """While its circuit is open, a claim for others is the same as without it."""
    one_endpoint(3, "org_b")
    while routed_by("w1", room=0).count:
        pass

    def statements():
        with statements_seen() as seen:
            parcels = write(lambda s: attempts.claim_due(s, "w1", frozenset(), is_slow=False))
        assert {parcel.organization_id for parcel in parcels} == {"org_b"}
        write(lambda session: leases.release(session, "w1"))
        return len(seen)

    alone = statements()
    one_endpoint(12, "org_a")
    drain.drain("w1", answering(status(500)))
    with clock.shifted(seconds=80):
        write(lambda s: attempts.claim_due(s, "w1", frozenset(), is_slow=False))
        write(lambda session: leases.release(session, "w1"))
        assert statements() == alone


def test_events_that_arrive_while_it_closes_are_not_forgotten(database):
    """A router that still saw the circuit open waits for whoever closes it, and sees it closed."""
    endpoint_id = broken_endpoint()
    more_events(1)
    closing, closed = threading.Event(), threading.Event()

    def close(session):
        circuits.look(session, [("org_a", endpoint_id)], is_locking=True)
        closing.set()
        closed.wait(0.5)  # the router must come to the lock meanwhile
        circuits.close(session, ("org_a", endpoint_id))

    thread = threading.Thread(target=write, args=(close,))
    thread.start()
    closing.wait(5)
    routed_by("w2", room=0)
    thread.join(5)
    assert held() == []


def test_switching_off_and_recording_do_not_wait_for_each_other(database):
    """Both lock the endpoint before its deliveries: two who meet come through one by one."""
    endpoint_id = one_endpoint(40)
    parcels = routed_by("w1", room=20).parcels()
    batches = list(attempts.send_waves(parcels, answering(status(500))))
    errors = []

    def guarded(work):
        try:
            for _ in range(3):
                work()
        except Exception as error:
            errors.append(error)

    def switch():
        write(lambda session: endpoints.disable(session, "org_a", endpoint_id))
        write(lambda session: endpoints.resume(session, "org_a", endpoint_id))

    def note():
        for batch in batches:
            write(lambda session, batch=batch: results.record(session, batch))

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (switch, note)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
    assert len(make.rows(Attempt)) == 20


def test_an_endpoint_is_locked_before_its_deliveries(database):
    """Everybody in one order: two who lock the two in different orders wait for ever."""
    if not database.url.startswith("postgresql"):
        pytest.skip("SQLite has one writer; nobody there waits for a row")
    endpoint_id = one_endpoint(2)
    parcels = routed_by("w1", room=1).parcels()
    (batch,) = attempts.send_waves(parcels, answering(status(500)))
    for work in (
        lambda session: results.record(session, batch),
        lambda session: endpoints.pause(session, "org_a", endpoint_id),
        lambda session: endpoints.resume(session, "org_a", endpoint_id),
        lambda session: endpoints.disable(session, "org_a", endpoint_id),
    ):
        with statements_seen() as seen:
            write(work)
        words = [" ".join(one.split()) for one in seen]
        locks = next(n for n, one in enumerate(words) if "FOR NO KEY UPDATE" in one)
        touches = [
            n
            for n, one in enumerate(words)
            if one.startswith("UPDATE delivery") or ("FROM delivery" in one and "FOR UPDATE" in one)
        ]
        assert touches
        assert locks < min(touches), words


def switched_off(count=7):
    """An endpoint that said it is gone, with events that arrived before and after."""
    endpoint_id = one_endpoint(1)
    drain.drain("w1", answering(status(410)))
    more_events(count)
    drain.drain("w1", answering(OK))
    return endpoint_id


def test_what_arrives_for_an_endpoint_that_is_off_is_kept():
    endpoint_id = switched_off()
    assert set(states(Delivery)) == {"parked"}
    kept = [row for row in make.rows(Delivery) if row.last_problem == "endpoint_disabled"]
    assert len(kept) == 7
    with reading("org_a") as session:
        assert deliveries.count_missed(session, "org_a", endpoint_id) == 8
        assert deliveries.count_missed(session, "org_b", endpoint_id) == 0


def test_switching_off_by_itself_leaves_an_event_and_an_entry(monkeypatch):
    monkeypatch.setattr(outbox, "DOORS", [events.emit_domain])
    switched_off(0)
    (entry,) = make.rows(AuditEntry)
    assert (entry.action, entry.actor_kind, entry.detail) == (
        "endpoint.disabled", "system", {"reason": "gone"},
    )  # fmt: skip
    assert [event.type for event in make.rows(Event)][-1] == "endpoint.disabled"
    assert the_endpoint().disabled_at is not None


def test_what_was_missed_goes_out_in_order_at_a_bounded_rate(monkeypatch):
    monkeypatch.setattr(circuits, "RATE_PER_SECOND", 1)
    endpoint_id = switched_off(9)
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    send = answering(OK)
    drain.drain("w1", send)
    assert send.sent == [], "resuming alone sends nothing of it"
    found = make.in_transaction(lambda s: replay.send_missed(s, "org_a", endpoint_id))
    assert found == 10
    more_events(1)
    for seconds in range(15):
        with clock.shifted(seconds=seconds):
            circuits.sweep()
            before = len(send.sent)
            drain.drain("w1", send)
            assert len(send.sent) - before <= 1
    ids = [request.headers["webhook-id"] for request in send.sent]
    assert len(ids) == 11
    assert ids == sorted(ids)
    assert (the_endpoint().circuit, the_endpoint().sends_missed) == ("closed", False)


def test_what_was_missed_waits_while_the_target_is_down():
    endpoint_id = switched_off(12)
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    make.in_transaction(lambda s: replay.send_missed(s, "org_a", endpoint_id))
    drain.drain("w1", answering(status(500)))
    assert the_endpoint().circuit == "open"
    with clock.shifted(seconds=400):
        drain.drain("w1", answering(OK))
        circuits.sweep()
        drain.drain("w1", answering(OK))
    with clock.shifted(seconds=401):
        drain.drain("w1", answering(OK))
    assert set(states(Delivery)) == {"delivered"}


def test_nothing_is_sent_to_an_endpoint_that_is_off():
    endpoint_id = switched_off()
    with pytest.raises(Conflict):
        make.in_transaction(lambda s: replay.send_missed(s, "org_a", endpoint_id))


def test_an_event_for_an_endpoint_that_is_just_being_switched_off_is_kept(database):
    """A router that still saw it active waits for whoever switches it off; nothing is left due."""
    endpoint_id = one_endpoint(state="paused")
    more_events(1)
    switching = threading.Event()

    def switch(session):
        endpoints.locked(session, "org_a", endpoint_id)
        switching.set()
        threading.Event().wait(0.3)  # the router must come to the lock meanwhile
        endpoints.disable(session, "org_a", endpoint_id)

    thread = threading.Thread(target=write, args=(switch,))
    thread.start()
    switching.wait(5)
    routed_by("w2")
    thread.join(5)
    assert set(states(Delivery)) == {"parked"}
