"""Drain: events become deliveries, deliveries are tried, nothing is lost when somebody dies."""

import json
import threading
import time
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from factories import webhooks as make
from factories.identity import make_organization
from factories.webhooks import OK, answering, routed_by, states, status
from standardwebhooks import Webhook

from kernel import clock
from kernel.database import EVERY, transaction, write
from kernel.errors import Invalid
from kernel.http import Failure
from webhooks import attempts, carrying, drain, endpoints, events, fan_out, leases, ready, results
from webhooks.fan_out import Routed
from webhooks.tables import Attempt, Delivery, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database", "quiet")


@pytest.fixture
def target():
    with make.sink() as found:
        yield found


def one_delivery(organization_id="org_a", **endpoint):
    def setup(session):
        row = make.make_endpoint(session, organization_id, **endpoint)
        return row.id, make.make_event(session, organization_id)

    return make.in_transaction(setup)


def test_an_event_is_routed_and_delivered_in_one_drain(target):
    def setup(session):
        endpoint = make.make_endpoint(session, "org_a", target.url, event_types=["test.*"])
        make.make_event(session, "org_a", subject="SO-1001", version=2)
        return endpoints.secret_of(endpoint)

    secret = make.in_transaction(setup)
    drain.drain("w1")
    (event,) = make.rows(Event)
    (delivery,) = make.rows(Delivery)
    (attempt,) = make.rows(Attempt)
    assert (event.state, delivery.state, attempt.status) == ("routed", "delivered", 200)
    assert (attempt.number, delivery.attempt_count, delivery.lease_owner) == (1, 1, None)
    assert delivery.delivered_at is not None
    ((path, headers, body),) = target.requests
    sent = Webhook(secret).verify(body, headers)
    assert sent["id"] == event.id == headers["webhook-id"]
    assert sent["data"] == make.ORDER
    assert (sent["subject"], sent["version"]) == ("SO-1001", 2)
    assert attempt.response_body == b"ok"
    assert path == "/hook"


def test_what_leaves_is_a_cloud_event(target):
    from cloudevents.v1.http import from_http

    def setup(session):
        make.make_endpoint(session, "org_a", target.url)
        make.make_event(session, "org_a")

    make.in_transaction(setup)
    drain.drain("w1")
    ((_, headers, body),) = target.requests
    read = from_http(headers, body)
    assert read["type"] == "test.happened"
    assert read.data == make.ORDER


def test_numbers_leave_as_they_came():
    one_delivery()
    body = b'{"n": 12345678901234567890123, "m": 0.10}'
    make.in_transaction(lambda session: make.make_event(session, "org_a", body=body))
    send = answering(OK)
    drain.drain("w1", send)
    assert any(b'"data":' + body + b"}" in request.body for request in send.sent)


def test_a_failed_delivery_waits_and_comes_back_with_the_same_id():
    one_delivery()
    send = answering(status(500), status(500), OK)
    drain.drain("w1", send)
    (waiting,) = make.rows(Delivery)
    assert (waiting.state, waiting.last_status, waiting.attempt_count) == ("waiting", 500, 1)
    assert 4 < (waiting.next_at - clock.now()).total_seconds() <= 6
    drain.drain("w1", send)
    assert len(send.sent) == 1, "nothing goes out before its time"
    with clock.shifted(seconds=7):
        drain.drain("w1", send)
    with clock.shifted(seconds=400):
        drain.drain("w1", send)
    (delivered,) = make.rows(Delivery)
    assert (delivered.state, delivered.attempt_count) == ("delivered", 3)
    assert [a.number for a in make.rows(Attempt)] == [1, 2, 3]
    assert len({r.headers["webhook-id"] for r in send.sent}) == 1
    (endpoint,) = make.rows(Endpoint)
    assert endpoint.failing_since is None


def test_retry_after_is_obeyed():
    one_delivery()
    drain.drain("w1", answering(status(503, **{"retry-after": "3600"})))
    (waiting,) = make.rows(Delivery)
    assert (waiting.next_at - clock.now()).total_seconds() > 3500


def test_gone_switches_the_endpoint_off_and_parks_the_rest():
    endpoint_id, _ = one_delivery()
    drain.drain("w1", answering(status(500)))
    make.in_transaction(lambda session: make.make_event(session, "org_a"))
    drain.drain("w1", answering(status(410)))
    assert make.row(Endpoint, endpoint_id).state == "disabled"
    assert make.row(Endpoint, endpoint_id).disabled_reason == "gone"
    assert states(Delivery) == ["parked", "parked"]


def test_our_own_trouble_costs_the_target_nothing():
    one_delivery()
    drain.drain("w1", answering(Failure("dns", "too many look-ups", is_ours=True)))
    (waiting,) = make.rows(Delivery)
    assert (waiting.state, waiting.ladder_step) == ("waiting", 0)
    assert make.rows(Endpoint)[0].failing_since is None


def test_an_endpoint_that_fails_for_days_is_switched_off():
    endpoint_id, _ = one_delivery()

    def age(session):
        endpoints.get(session, "org_a", endpoint_id).failing_since = clock.now() - timedelta(days=6)

    make.in_transaction(age)
    drain.drain("w1", answering(status(500)))
    assert make.row(Endpoint, endpoint_id).disabled_reason == "failing"
    assert states(Delivery) == ["parked"]


def test_a_paused_endpoint_collects_and_a_resumed_one_sends():
    endpoint_id, _ = one_delivery(state="paused")
    send = answering(OK)
    drain.drain("w1", send)
    assert states(Delivery) == ["waiting"]
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    drain.drain("w1", send)
    assert states(Delivery) == ["delivered"]


def test_other_tenants_and_other_types_get_nothing():
    def setup(session):
        make.make_endpoint(session, "org_b")
        make.make_endpoint(session, "org_a", event_types=["order.*", "test.other"])
        make.make_event(session, "org_a")

    make.in_transaction(setup)
    drain.drain("w1", answering(OK))
    assert make.rows(Delivery) == []


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [("*", True), ("order.paid", True), ("order.*", True), ("order", False), ("ord*", False),
     ("order.paid.*", False), ("invoice.*", False)],
)  # fmt: skip
def test_patterns(pattern, wanted):
    assert fan_out.matches([pattern], "order.paid") is wanted


def test_a_router_writes_in_the_same_transaction(monkeypatch):
    seen = []
    monkeypatch.setattr(fan_out, "ROUTERS", [lambda session, events, routed: seen.extend(events)])
    _, event_id = one_delivery()
    drain.drain("w1", answering(OK))
    assert [(e.id, json.loads(e.body), e.replay_nonce) for e in seen] == [
        (event_id, make.ORDER, "")
    ]


def test_a_failing_router_undoes_its_event_alone_and_ends_in_quarantine(monkeypatch):
    def router(session, taken, routed):
        if any(event.type == "test.poison" for event in taken):
            raise ValueError("poison")

    monkeypatch.setattr(fan_out, "ROUTERS", [router])

    def setup(session):
        make.make_endpoint(session, "org_a")
        return [make.make_event(session, "org_a", type=f"test.{kind}") for kind in
                ("good", "poison", "fine")]  # fmt: skip

    good, poison, fine = make.in_transaction(setup)
    send = answering(OK)
    for round_no in range(ready.MAX_FAILURES):
        with clock.shifted(seconds=61 * round_no):
            write(ready.bring_back)
            drain.drain("w1", send)
            drain.drain("w1", send)
            assert make.row(Event, poison).failure_count == round_no + 1, "it waits in between"
    assert make.row(Event, good).state == make.row(Event, fine).state == "routed"
    quarantined = make.row(Event, poison)
    assert quarantined.state == "quarantined"
    assert quarantined.problem["code"] == "routing_failed"
    assert len(send.sent) == 2
    monkeypatch.setattr(fan_out, "ROUTERS", [])
    make.in_transaction(lambda session: events.replay(session, "org_a", poison))
    drain.drain("w1", send)
    assert make.row(Event, poison).state == "routed"


def test_what_a_dead_worker_held_is_taken_up_before_its_lease_ends():
    _, event_id = one_delivery()
    routed_by("wrk_dead")  # and then it dies
    write(lambda session: leases.release(session, "wrk_dea"))  # somebody else
    assert states(Delivery) == ["leased"]
    write(lambda session: leases.release(session, "wrk_dead"))
    send = answering(OK)
    drain.drain("w1", send)
    assert make.row(Event, event_id).state == "routed"
    assert states(Delivery) == ["delivered"]


def test_a_crash_before_the_commit_leaves_the_event_as_new(monkeypatch):
    _, event_id = one_delivery()

    def router(session, taken, routed):
        raise KeyboardInterrupt  # whatever ends the process

    monkeypatch.setattr(fan_out, "ROUTERS", [router])
    with pytest.raises(KeyboardInterrupt), transaction(EVERY) as session:
        fan_out.route(session, ready.take(session), Routed("dead"))
    assert make.row(Event, event_id).state == "new"
    assert states(Delivery) == []
    monkeypatch.setattr(fan_out, "ROUTERS", [])
    send = answering(OK)
    drain.drain("w1", send)
    assert len(send.sent) == 1


def test_a_crash_between_route_and_record_sends_again_with_the_same_id():
    one_delivery()
    parcels = routed_by("dead").parcels()
    first = answering(OK)
    (late,) = attempts.send_waves(parcels, first)
    with clock.shifted(seconds=61):
        write(leases.reclaim)
        second = answering(OK)
        drain.drain("w1", second)
        assert write(lambda session: results.record(session, late)) == 0
    assert first.sent[0].headers["webhook-id"] == second.sent[0].headers["webhook-id"]
    (attempt,) = make.rows(Attempt)
    (delivery,) = make.rows(Delivery)
    assert (delivery.state, delivery.attempt_count, attempt.number) == ("delivered", 1, 1)


def test_a_late_record_cannot_undo_the_new_holder():
    """The first holder comes back while the second is at work: only the second may write."""
    one_delivery()
    parcels = routed_by("slow").parcels()
    (failed,) = attempts.send_waves(parcels, answering(status(500)))
    with clock.shifted(seconds=61):
        write(leases.reclaim)
        again = write(
            lambda session: attempts.claim_due(session, "slow", frozenset(), is_slow=False)
        )
        assert write(lambda session: results.record(session, failed)) == 0
        (sent,) = attempts.send_waves(again, answering(OK))
        assert write(lambda session: results.record(session, sent)) == 1
    assert states(Delivery) == ["delivered"]


def test_turns_are_shared_out_over_tenants():
    def setup(session):
        for _ in range(200):
            make.make_event(session, "org_big")
        for name in ("org_b", "org_c"):
            for _ in range(3):
                make.make_event(session, name)

    make.in_transaction(setup)
    by_tenant = [event.organization_id for event in write(ready.take)]
    assert by_tenant.count("org_b") == by_tenant.count("org_c") == 3
    assert by_tenant.count("org_big") in (16, 17)
    assert drain.drain("w2", answering(OK)) >= 183


def test_two_takers_never_share_an_event(database):
    def setup(session):
        for number in range(120):
            make.make_event(session, f"org_{number % 3}")

    make.in_transaction(setup)
    taken, threads = [], []

    def claim():
        for _ in range(4):
            taken.extend(event.id for event in write(ready.take))

    for _ in range(4):
        threads.append(threading.Thread(target=claim))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 120


def test_due_retries_are_shared_out_over_tenants_and_endpoints():
    def setup(session):
        make.make_endpoint(session, "org_big")
        make.make_endpoint(session, "org_small")
        for _ in range(90):
            make.make_event(session, "org_big")
        make.make_event(session, "org_small")

    make.in_transaction(setup)
    while routed_by("w1", room=0).count:
        pass
    parcels = write(lambda s: attempts.claim_due(s, "w1", frozenset(), is_slow=False))
    tenants = [parcel.organization_id for parcel in parcels]
    assert tenants.count("org_small") == 1
    assert tenants.count("org_big") == leases.IN_FLIGHT_PER_ENDPOINT


def test_at_most_eight_requests_of_a_wave_go_to_one_endpoint():
    def setup(session):
        make.make_endpoint(session, "org_a")
        for _ in range(10):
            make.make_event(session, "org_a")

    make.in_transaction(setup)
    waves = []

    def send(requests):
        waves.append(len(requests))
        return [OK] * len(requests)

    drain.drain("w1", send)
    assert waves == [8, 2]


@pytest.mark.parametrize("limit", [1, 3, 12])
def test_an_owner_limits_what_is_under_way_over_all_workers(limit):
    """Three workers at once: never more requests at the target than its owner allows."""

    def setup(session):
        make.make_endpoint(session, "org_a", max_in_flight=limit)
        for _ in range(40):
            make.make_event(session, "org_a")

    make.in_transaction(setup)
    lock, now, most = threading.Lock(), [0], [0]

    def send(requests):
        with lock:
            now[0] += len(requests)
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= len(requests)
        return [OK] * len(requests)

    workers = [threading.Thread(target=drain.drain, args=(f"w{n}", send)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert set(states(Delivery)) == {"delivered"}, "and nobody waits for a sweep"
    assert 1 <= most[0] <= limit


def test_the_limit_of_what_is_under_way_is_a_small_number():
    with pytest.raises(Invalid) as refused:
        make.in_transaction(lambda s: make.make_endpoint(s, "org_a", max_in_flight=33))
    assert refused.value.errors[0]["pointer"] == "/max_in_flight"

    def change(session):
        endpoint = make.make_endpoint(session, "org_a", max_in_flight=5)
        return endpoints.change(session, "org_a", endpoint.id, max_in_flight=0).max_in_flight

    assert make.in_transaction(change) is None


def test_a_target_that_does_not_answer_holds_nobody_up(target):
    """While one endpoint hangs, events of everybody else are routed and delivered."""
    hang = threading.Event()

    def send(requests):
        if any("hanging" in request.url for request in requests):
            hang.wait(5)
            return [Failure("timeout", "", elapsed_ms=5000) for _ in requests]
        return attempts.send_together(requests)

    def setup(session):
        make.make_endpoint(session, "org_a", "http://hanging.example/")
        make.make_endpoint(session, "org_b", target.url)
        for _ in range(12):
            make.make_event(session, "org_a")

    make.in_transaction(setup)
    thread = threading.Thread(target=drain.drain, args=("w1", send))
    thread.start()
    until = time.monotonic() + 3
    while states(Delivery).count("leased") < 12 and time.monotonic() < until:
        time.sleep(0.01)
    make.in_transaction(lambda session: make.make_event(session, "org_b"))
    while not target.requests and time.monotonic() < until:
        time.sleep(0.01)
    assert thread.is_alive()
    assert len(target.requests) == 1
    hang.set()
    thread.join(5)
    held_back = [row for row in make.rows(Delivery) if row.last_problem == "held_back"]
    assert len(held_back) == 4, "after a wave without an answer the rest is not even tried"
    assert all(row.attempt_count == 0 for row in held_back)
    assert carrying.pace.slow() == {row.endpoint_id for row in held_back}


def test_stages_run_in_the_same_drain_until_they_have_nothing_left(monkeypatch):
    left = [3]

    def stage(worker_id):
        assert worker_id == "w1"
        left[0] -= 1
        return max(left[0], 0)

    monkeypatch.setattr(drain, "STAGES", [drain.Stage("test", lambda _: True, stage)])
    one_delivery()
    moved = drain.drain("w1", answering(OK))
    assert left[0] <= 0
    assert moved >= 1 + 1 + 2 + 1


def test_a_failing_stage_stops_nobody(monkeypatch):
    def stage(worker_id):
        raise ValueError("stage")

    monkeypatch.setattr(drain, "STAGES", [drain.Stage("test", lambda _: True, stage)])
    one_delivery()
    drain.drain("w1", answering(OK))
    assert states(Delivery) == ["delivered"]


def test_the_sweep_finds_what_a_lost_nudge_left(target):
    def setup(session):
        make.make_endpoint(session, "org_a", target.url)
        make.make_event(session, "org_a")

    make.in_transaction(setup)
    assert drain.sweep() >= 2
    assert states(Delivery) == ["delivered"]
    assert drain.sweep() == 0


def test_many_events_all_arrive_once(target):
    def setup(session):
        make.make_endpoint(session, "org_a", target.url)
        make.make_endpoint(session, "org_b", target.url, event_types=["test.*"])
        for number in range(300):
            make.make_event(session, "org_a" if number % 2 else "org_b")

    make.in_transaction(setup)
    drain.drain("w1")
    assert set(states(Delivery)) == {"delivered"}
    ids = [headers["webhook-id"] for _, headers, _ in target.requests]
    assert len(ids) == len(set(ids)) == 300


def test_a_replay_routes_again_under_the_same_event_id():
    _, event_id = one_delivery()
    send = answering(OK)
    drain.drain("w1", send)
    make.in_transaction(lambda session: events.replay(session, "org_a", event_id))
    drain.drain("w1", send)
    assert states(Delivery) == ["delivered", "delivered"]
    assert [r.headers["webhook-id"] for r in send.sent] == [event_id, event_id]


def test_a_hanging_stage_does_not_keep_later_work_waiting(monkeypatch):
    """A stage that waits for one slow vendor runs once more beside itself for the others."""
    hang, calls = threading.Event(), []

    def stage(worker_id):
        calls.append(worker_id)
        if len(calls) == 1:
            hang.wait(10)
        elif len(calls) == 2:
            hang.set()
        return 0

    monkeypatch.setattr(drain, "STAGES", [drain.Stage("test", lambda _: True, stage)])
    started = time.monotonic()
    drain.drain("w1", answering(OK))
    assert len(calls) >= 2
    assert time.monotonic() - started < 9, "alone it hangs for ten"


def test_a_bell_is_not_rung_for_a_drain_that_hears_it(monkeypatch):
    """What comes in while this process drains is found by that drain, without a message."""
    monkeypatch.setattr(drain, "_bench", drain._Bench())
    assert not drain.ring(), "nobody drains"
    began, go_on = threading.Event(), threading.Event()

    def stage(worker_id):
        began.set()
        go_on.wait(5)
        return 0

    monkeypatch.setattr(drain, "STAGES", [drain.Stage("test", lambda _: True, stage)])
    thread = threading.Thread(target=drain.drain_here)
    thread.start()
    assert began.wait(5)
    event_id = make.in_transaction(lambda session: make.make_event(session, "org_a"))
    assert drain.ring()
    until = time.monotonic() + 3
    while make.row(Event, event_id).state != "routed" and time.monotonic() < until:
        time.sleep(0.01)
    assert make.row(Event, event_id).state == "routed"
    go_on.set()
    thread.join(5)
    assert not drain.ring()


def test_who_is_no_worker_drains_only_what_was_left_lying(monkeypatch):
    send = answering(OK)
    monkeypatch.setattr(attempts, "send_together", send)
    monkeypatch.setattr(drain.workers, "is_any_draining", lambda: True)
    _, event_id = one_delivery()
    assert drain.sweep_for_others() == 0
    assert make.row(Event, event_id).state == "new"
    with clock.shifted(seconds=drain.LEFT_SECONDS + 1):
        assert drain.sweep_for_others() >= 1
    assert make.row(Event, event_id).state == "routed"
    _, second = one_delivery()
    monkeypatch.setattr(drain.workers, "is_any_draining", lambda: False)
    assert drain.sweep_for_others() >= 1
    assert make.row(Event, second).state == "routed"


def test_a_heavier_organization_gets_a_larger_share_of_a_round(database):
    """Three to one, by weight: no more events of the light one go along than its share."""

    def setup(session):
        light, heavy = make_organization(session, weight=10), make_organization(session, weight=30)
        for organization in (light, heavy):
            for _ in range(50):
                make.make_event(session, organization.id)
        return light.id, heavy.id

    light, heavy = make.in_transaction(setup)
    taken = Counter(
        event.organization_id for event in write(lambda session: ready.take(session, 40))
    )
    assert taken == {light: 10, heavy: 30}


def test_those_behind_the_first_few_hundred_have_their_turn(database, monkeypatch):
    """More organizations wait than one look takes in: soon every one was served."""
    monkeypatch.setattr(ready, "_TENANTS", 5)
    monkeypatch.setattr(ready, "_start_after", "")

    def setup(session):
        for number in range(12):
            for _ in range(30):
                make.make_event(session, f"org_{number:02}")

    make.in_transaction(setup)
    served = {
        event.organization_id
        for _ in range(3)
        for event in write(lambda session: ready.take(session, 10))
    }
    assert len(served) == 12


def test_a_process_asked_to_end_begins_nothing_and_finishes_what_it_sends(monkeypatch):
    """A steady stream never lets a drain end by itself, and half a job would be done twice."""
    monkeypatch.setattr(drain, "_stopping", threading.Event())
    one_delivery()
    sending, finish = threading.Event(), threading.Event()

    def slow(requests):
        sending.set()
        finish.wait(10)
        return [OK for _ in requests]

    monkeypatch.setattr(drain, "drain", partial(drain.drain, send=slow))
    worker = threading.Thread(target=drain.drain_here)
    worker.start()
    assert sending.wait(10)
    drain.stop()
    late = make.in_transaction(lambda session: make.make_event(session, "org_a"))
    finish.set()
    worker.join(10)
    assert not worker.is_alive()
    assert states(Delivery) == ["delivered"]
    assert {row.id: row.state for row in make.rows(Event)}[late] == "new"
    assert drain.drain_here() == 0


def test_no_processs_clock_moves_what_is_due(database, monkeypatch):
    """A process whose clock is an hour ahead would leave work behind that is due in an hour."""
    if database.url.startswith("sqlite"):
        pytest.skip("SQLite's clock is the process's own")
    one_delivery()
    true = clock.now
    monkeypatch.setattr(clock, "now", lambda: true() + timedelta(hours=1))
    routed_by("w1", room=0)
    (left,) = make.rows(Delivery)
    assert left.state == "due"
    assert left.next_at <= true()
    drain.drain("w1", answering(status(500)))
    (waiting,) = make.rows(Delivery)
    assert waiting.state == "waiting"
    assert waiting.next_at < true() + timedelta(seconds=30)


def test_retries_do_not_wait_for_ever_while_events_are_flowing(monkeypatch):
    one = drain._Drain("w1", answering(OK))
    started = []
    monkeypatch.setattr(one, "_start", lambda name, _work: started.append(name))
    one_delivery()
    routed_by("w1", room=0)
    one._start_stages(is_busy=True)
    assert started == [], "they can wait for a breath"
    one.retried_at -= drain.PROBE_SECONDS
    one._start_stages(is_busy=True)
    assert started == ["due"]
