"""Order: what an endpoint wants one after another arrives so, whoever sends and whatever fails."""

import random
import threading
import time
from collections import defaultdict

import pytest
from factories import webhooks as make
from factories.machine import slowness
from factories.webhooks import (
    OK,
    answering,
    endpoint_with_events,
    more_events,
    routed_by,
    states,
    status,
)

from kernel import clock, documents
from kernel.database import reading, write
from kernel.errors import Invalid
from kernel.http import Failure
from webhooks import (
    circuits,
    drain,
    endpoints,
    events,
    lanes,
    leases,
    ordered,
    replay,
    results,
    retry,
)
from webhooks import ready as ready_events
from webhooks.tables import DELIVERY, Delivery, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database", "quiet")


def one_endpoint(ordering="endpoint", count=0, **over):
    return endpoint_with_events(count, ordering=ordering, **over)


def ids_of(send):
    return [request.headers["webhook-id"] for request in send.sent]


def delivery_of(event_id):
    return next(row for row in make.rows(Delivery) if row.event_id == event_id)


def test_events_arrive_one_by_one_in_their_order():
    _, ids = one_endpoint(count=60)
    waves = []
    send = answering(OK)

    def noting(requests):
        waves.append(len(requests))
        return send(requests)

    drain.drain("w1", noting)
    assert ids_of(send) == ids
    assert set(waves) == {1}
    assert set(states(Delivery)) == {"delivered"}, "and nobody waits for a sweep"


def test_a_failing_head_holds_the_rest_and_only_it_is_repeated():
    _, ids = one_endpoint(count=5)
    send = answering(OK, OK, status(500), OK)
    drain.drain("w1", send)
    assert ids_of(send) == ids[:3]
    assert states(Delivery) == ["delivered", "delivered", "waiting", "waiting", "waiting"]
    assert [row.attempt_count for row in make.rows(Delivery)] == [1, 1, 1, 0, 0]
    with clock.shifted(seconds=7):
        drain.drain("w1", send)
    assert ids_of(send) == [*ids[:3], *ids[2:]]


def test_what_arrives_behind_a_failing_head_waits():
    _, ids = one_endpoint(count=1)
    drain.drain("w1", answering(status(500)))
    ids += more_events(3)
    send = answering(OK)
    drain.drain("w1", send)
    assert send.sent == []
    with clock.shifted(seconds=7):
        drain.drain("w1", send)
    assert ids_of(send) == ids


def test_subjects_go_beside_each_other_and_each_in_order():
    one_endpoint("subject")
    ids = defaultdict(list)
    for number in range(30):
        subject = f"SO-{number % 3}"
        ids[subject] += more_events(1, subject=subject)
    sent, waves = defaultdict(list), []

    def send(requests):
        waves.append(len(requests))
        for request in requests:
            event = documents.parse(request.body)
            sent[event["subject"]].append(event["id"])
        return [OK] * len(requests)

    drain.drain("w1", send)
    assert sent == ids
    assert max(waves) == 3


def test_a_failing_subject_holds_no_other():
    one_endpoint("subject")
    bad, good = more_events(2, subject="bad"), more_events(2, subject="good")

    def send(requests):
        return [status(500) if b'"bad"' in r.body else OK for r in requests]

    drain.drain("w1", send)
    assert [delivery_of(one).state for one in bad + good] == [
        "waiting", "waiting", "delivered", "delivered",
    ]  # fmt: skip


def test_no_more_lanes_go_at_once_than_the_owner_wants():
    one_endpoint("subject", max_in_flight=2)
    for number in range(12):
        more_events(1, subject=f"SO-{number}")
    waves = []

    def send(requests):
        waves.append(len(requests))
        return [OK] * len(requests)

    drain.drain("w1", send)
    assert max(waves) == 2
    assert set(states(Delivery)) == {"delivered"}


def test_a_parked_head_holds_the_rest_until_it_is_skipped_or_sent():
    endpoint_id, ids = one_endpoint(count=4)
    send = answering(OK)

    def park(session):
        session.execute(
            DELIVERY.update().where(DELIVERY.c.event_id == ids[0]).values(ladder_step=9)
        )

    routed_by("w1")
    make.in_transaction(park)
    drain.drain("w1", answering(status(500)))
    assert states(Delivery) == ["parked", "waiting", "waiting", "waiting"]
    with reading("org_a") as session:
        (stopping,) = lanes.stopped(session, ("org_a", endpoint_id), 5)
        assert stopping["event_id"] == ids[0]
        assert lanes.head_of(session, delivery_of(ids[2])) == stopping["id"]
        assert lanes.head_of(session, delivery_of(ids[0])) is None
    drain.drain("w1", send)
    assert send.sent == []
    make.in_transaction(lambda s: replay.cancel(s, "org_a", delivery_of(ids[0]).id))
    drain.drain("w1", send)
    assert ids_of(send) == ids[1:]
    make.in_transaction(lambda s: replay.resend(s, "org_a", delivery_of(ids[0]).id))
    drain.drain("w1", send)
    assert ids_of(send) == [*ids[1:], ids[0]]


def test_an_event_set_aside_by_a_condition_holds_nobody(app):
    one_endpoint(condition="event.data.level > 3")
    ids = [*more_events(1, body=b'{"level": 5}'), *more_events(1, body=b"{}")]
    ids += more_events(1, body=b'{"level": 6}')
    send = answering(OK)
    drain.drain("w1", send)
    assert ids_of(send) == [ids[0], ids[2]]
    assert delivery_of(ids[1]).last_problem == "condition_failed"


def test_nothing_overtakes_events_another_worker_is_just_routing(database):
    """What another one has taken and not yet written is not to be seen, but known to be there."""
    _, ids = one_endpoint()
    ids = more_events(4)
    taken, go_on = threading.Event(), threading.Event()

    def slow_router():
        def work(session):
            from webhooks import fan_out

            first = ready_events.take_one(session, ("org_a", ids[0]))
            first += ready_events.take_one(session, ("org_a", ids[1]))
            taken.set()
            go_on.wait(1)
            return fan_out.route(session, first, fan_out.Routed("w1"))

        write(work)

    send = answering(OK)
    router = threading.Thread(target=slow_router)
    router.start()
    assert taken.wait(5)
    other = threading.Thread(target=drain.drain, args=("w2", send))
    other.start()
    time.sleep(0.2)
    assert send.sent == []
    go_on.set()
    router.join(5)
    other.join(10)
    drain.drain("w2", send)
    assert ids_of(send) == ids


def test_a_stretch_a_dead_worker_held_goes_out_again_in_order():
    _, ids = one_endpoint(count=6)
    routed_by("w1")
    claimed = write(lambda s: ordered.claim(s, "wrk_dead", frozenset(), is_slow=False))
    ((stretch,),) = claimed.endpoints
    assert [parcel.event_id for parcel in stretch] == ids
    first = answering(OK)
    unrecorded = list(ordered.send([stretch], first))
    write(lambda session: leases.release(session, "wrk_dead"))
    second = answering(OK)
    drain.drain("w2", second)
    assert ids_of(second) == ids
    assert all(write(lambda s, b=b: results.record(s, b)) == 0 for b in unrecorded)
    assert set(states(Delivery)) == {"delivered"}


def test_a_worker_that_dies_half_way_leaves_only_what_it_did_not_record():
    _, ids = one_endpoint(count=6)
    routed_by("w1")
    claimed = write(lambda s: ordered.claim(s, "wrk_dead", frozenset(), is_slow=False))
    ((stretch,),) = claimed.endpoints
    (batch,) = ordered.send([stretch[:3]], answering(OK))
    write(lambda session: results.record(session, batch))
    assert states(Delivery) == ["delivered"] * 3 + ["leased"] * 3
    send = answering(OK)
    drain.drain("w2", send)
    assert send.sent == [], "the rest of the lane is still held by the other"
    with clock.shifted(seconds=leases.LEASE_SECONDS + 1):
        write(leases.reclaim)
        drain.drain("w2", send)
    assert ids_of(send) == ids[3:]


@pytest.mark.parametrize("verb", [endpoints.pause, endpoints.disable])
def test_stopping_and_starting_keeps_the_order(verb):
    endpoint_id, ids = one_endpoint(count=3)
    routed_by("w1")
    make.in_transaction(lambda session: verb(session, "org_a", endpoint_id))
    ids += more_events(2)
    send = answering(OK)
    drain.drain("w1", send)
    assert send.sent == []
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    if verb is endpoints.disable:
        drain.drain("w1", send)
        assert send.sent == [], "what was missed is sent when its owner says so"
        make.in_transaction(lambda session: replay.send_missed(session, "org_a", endpoint_id))
    ids += more_events(1)
    drain.drain("w1", send)
    assert ids_of(send) == ids


def test_what_was_missed_and_not_sent_holds_nobody():
    endpoint_id, _ = one_endpoint(count=2)
    routed_by("w1")
    make.in_transaction(lambda session: endpoints.disable(session, "org_a", endpoint_id))
    make.in_transaction(lambda session: endpoints.resume(session, "org_a", endpoint_id))
    later = more_events(2)
    send = answering(OK)
    drain.drain("w1", send)
    assert ids_of(send) == later


def test_the_circuit_of_an_ordered_endpoint_opens_and_closes_and_keeps_the_order():
    _, ids = one_endpoint(count=4)
    drain.drain("w1", answering(status(429, **{"retry-after": "600"})))
    (endpoint,) = make.rows(Endpoint)
    assert endpoint.circuit == "open"
    ids += more_events(2)
    send = answering(OK)
    with clock.shifted(seconds=590):
        drain.drain("w1", send)
        assert send.sent == []
    with clock.shifted(seconds=900):
        circuits.sweep()
        drain.drain("w1", send)
    assert ids_of(send) == ids


def test_ordering_may_change_while_things_are_under_way():
    endpoint_id, ids = one_endpoint("none", count=3)
    routed_by("w1", room=0)

    def change(ordering):
        make.in_transaction(lambda s: endpoints.change(s, "org_a", endpoint_id, ordering=ordering))

    change("endpoint")
    assert [row.lane for row in make.rows(Delivery)] == ["", "", ""]
    send = answering(OK, status(500))
    drain.drain("w1", send)
    assert ids_of(send) == ids[:2]
    change("subject")
    change("none")
    later = answering(OK)
    drain.drain("w1", later)
    assert sorted(ids_of(later)) == ids[1:]
    with pytest.raises(Invalid):
        change("random")


def test_a_replayed_event_takes_its_turn():
    _, ids = one_endpoint(count=2)
    send = answering(OK)
    drain.drain("w1", send)
    make.in_transaction(lambda session: events.replay(session, "org_a", ids[0]))
    drain.drain("w1", send)
    assert ids_of(send) == [*ids, ids[0]]


def test_a_hundred_a_second_go_out_one_by_one():
    """One after another to a target that answers at once: claims and records cost little."""
    with make.sink() as target:
        one_endpoint(count=150, url=target.url)
        started = time.process_time()
        drain.drain("w1")
        took = (time.process_time() - started) / slowness()
    ids = [headers["webhook-id"] for _, headers, _ in target.requests]
    assert ids == sorted(ids)
    assert len(ids) == 150
    print(f"{len(ids) / took:.0f} deliveries in a second of a processor, one by one")
    assert took < 3, "a quiet machine needs less than 1.5 seconds"


@pytest.mark.parametrize("ordering", ["endpoint", "subject"])
@pytest.mark.parametrize("seed", [1, 2])
def test_three_workers_and_failures_keep_every_lane_in_order(ordering, seed, monkeypatch):
    """Arrivals of a lane are in the order of its events; what is repeated is the last one only."""
    monkeypatch.setattr(retry, "LADDER_SECONDS", (0.02,) * 30)
    monkeypatch.setattr(retry, "FLOOR_SECONDS", 0.02)
    monkeypatch.setattr(circuits, "PROBE_SECONDS", 0.05)
    chance, lock, arrived = random.Random(seed), threading.Lock(), defaultdict(list)
    one_endpoint(ordering)

    def send(requests):
        results = []
        for request in requests:
            event = documents.parse(request.body)
            with lock:
                arrived[event["subject"] if ordering == "subject" else ""].append(event["id"])
                luck = chance.random()
            time.sleep(0.0005)
            trouble = status(500) if luck < 0.05 else Failure("timeout", "")
            results.append(trouble if luck < 0.08 else OK)
        return results

    done, deadline = threading.Event(), time.monotonic() + 40

    def produce():
        for _ in range(40):
            more_events(chance.randint(1, 4), subject=f"S{chance.randint(0, 4)}")
        done.set()

    def work(name):
        while not done.is_set() or set(states(Delivery)) - {"delivered"}:
            drain.drain(name, send)
            circuits.sweep()
            time.sleep(0.01)
            if time.monotonic() > deadline:
                break

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(3)]
    threads.append(threading.Thread(target=produce))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(states(Delivery)) == {"delivered"}
    assert len({one for some in arrived.values() for one in some}) == len(make.rows(Event))
    assert sum(map(len, arrived.values())) > len(make.rows(Event)), "some were repeated"
    for lane, ids in arrived.items():
        assert ids == sorted(ids), lane
