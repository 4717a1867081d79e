"""Runs in order: one key one by one, different keys beside each other, whoever works and dies."""

import itertools
import json
import random
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

import pytest
from factories import webhooks as make
from factories.connectors import ORDER, Shop, rows, runs, vendor
from sqlalchemy import Engine
from sqlalchemy import event as sqlalchemy_event

from connectors import (
    advance,
    claims,
    connections,
    flow_checks,
    flows,
    lanes,
    loading,
    order_lanes,
    recording,
    recovery,
    routing,
    run_records,
    stepping,
)
from connectors.errors import NotNow
from connectors.tables import Flow, Run
from identity import suspensions
from kernel import clock
from kernel.database import EVERY, reading, transaction, write
from webhooks import carrying, drain, events, fan_out, inbox
from webhooks import ready as ready_events
from webhooks.events import NewEvent
from webhooks.fan_out import MustLockError, Routed
from webhooks.tables import Event

BY_ORDER = "${event.data.order_no}"


@pytest.fixture(autouse=True)
def _wired(app, monkeypatch):
    """The hooks that the application installs, and nothing learnt from other tests."""
    monkeypatch.setattr(lanes, "_slice", {})
    monkeypatch.setattr(lanes, "_flying", {})
    check = flow_checks.check

    def check_trigger(*given):
        """The factory's steps do not fit the catalogue's events in every field."""
        return [one for one in check(*given) if one["pointer"].startswith("/trigger")]

    monkeypatch.setattr(flow_checks, "check", check_trigger)
    yield
    carrying.wait_until_done(10)


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


def shop(url: str = "http://127.0.0.1:9", order_key: str | None = BY_ORDER) -> Shop:
    trigger = {} if order_key is None else {"order_key": order_key}
    with transaction(EVERY) as session:
        return Shop(session, url, **trigger)


def order(number: object, **over) -> NewEvent:
    body = json.dumps({**ORDER, "order_no": f"SO-{number}"}).encode()
    return NewEvent(type="order.paid", body=body, **over)


def arrive(where: Shop, *numbers: object) -> list[str]:
    """Orders come in and wait for a drain; gives the events' ids."""
    given = [order(number) for number in numbers]
    with transaction(EVERY) as session:
        accepted = events.accept(session, where.organization_id, None, given)
    return [one.id for one in accepted]


def run_of(event_id: str) -> Run:
    (found,) = [run for run in rows(Run) if run.event_id == event_id]
    return found


def states() -> list[str]:
    return [run.state for run in runs()]


def booked(target) -> list[str]:
    """The order numbers that the ERP was asked to book, in order."""
    return [body["external_no"] for _, path, _, body in target.calls if "sales-orders" in path]


def reorder(where: Shop, order_key: str | None) -> None:
    """Publish the flow with another order."""
    with transaction(where.organization_id) as session:
        flow = flows.find(session, where.organization_id, where.flow)
        document = flows.document_of(session, flow)
        trigger = {**document["trigger"], "order_key": order_key}
        flows.save_draft(
            session, where.organization_id, where.flow, {**document, "trigger": trigger}
        )
        flows.publish(session, where.organization_id, where.flow)


def test_one_key_goes_in_order_and_others_beside_it(app_vendor):
    where = shop(app_vendor.url)
    app_vendor.delay_seconds["sales-orders"] = 0.15
    began = time.monotonic()
    arrive(where, 1, 1, 1, 2, 3, 4)
    drain.drain("w1")
    took = time.monotonic() - began
    assert set(states()) == {"succeeded"}
    assert sorted(booked(app_vendor)) == ["SO-1"] * 3 + ["SO-2", "SO-3", "SO-4"]
    ones = [run for run in runs() if run.order_key == "SO-1"]
    assert [run.event_id for run in ones] == sorted(run.event_id for run in ones)
    for before, after in itertools.pairwise(ones):
        assert before.finished_at <= after.started_at
    others = [run for run in runs() if run.order_key != "SO-1"]
    assert all(run.started_at < ones[0].finished_at for run in others), "they go beside it"
    assert took < 6 * 0.15 + 1.5


@pytest.mark.parametrize(
    ("order_key", "together"), [("flow", 1), ("subject", 2), (BY_ORDER, 3), (None, 6)]
)
def test_what_belongs_together(order_key, together):
    where = shop(order_key=order_key)
    with transaction(EVERY) as session:
        given = [order(n, subject=s) for n, s in ((1, "a"), (1, None), (2, "a"), (2, None))]
        given += [
            NewEvent(type="order.paid", body=b"{}"),
            NewEvent(type="order.paid", body=b'{"order_no": null}'),
        ]
        events.accept(session, where.organization_id, None, given)
    make.routed_by("w1", room=0)
    assert states().count("due") == together
    assert len(claims.claim("w1")) == together
    assert claims.claim("w2") == []


def test_it_goes_on_at_once_in_the_process_that_took_it_in(app_vendor, monkeypatch, nudges):
    monkeypatch.setattr(inbox, "_carries", True)
    where = shop(app_vendor.url, "flow")
    stored = inbox.put(where.organization_id, None, [order(n) for n in range(1, 9)])
    carrying.wait_until_done(20)
    assert set(states()) == {"succeeded"}
    assert booked(app_vendor) == [f"SO-{n}" for n in range(1, 9)]
    assert [run.event_id for run in runs()] == [one.id for one in stored]
    assert nudges == [], "no drain is needed"


@contextmanager
def statements():
    """What is said to the store, but for looks at its clock and SQLite's bookkeeping."""
    said: list[str] = []

    def hear(_connection, _cursor, statement, *_):
        if "clock_timestamp" not in statement and "BEGIN" not in statement:
            said.append(" ".join(statement.split()))

    sqlalchemy_event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        sqlalchemy_event.remove(Engine, "before_cursor_execute", hear)


def test_without_an_order_nothing_is_locked_and_no_statement_is_added():
    """The straight path has no transaction to lock anything in, and needs none."""
    where = shop(order_key=None)
    arrive(where, 1, 2)
    with transaction(EVERY) as session:
        taken = ready_events.take(session)
        with statements() as said:
            routing.plan(session, taken, Routed("w1", may_lock=False))
    assert [one.split()[0] for one in said] == ["SELECT"]
    arrive(where, 3, 4)
    make.routed_by("w1")
    assert states() == ["leased", "leased"]
    movings = [moving_of(run) for run in runs()]
    for moving in movings:
        moving.finish("succeeded")
    with statements() as said:
        recording.record("w1", movings)
    assert [one.split()[0] for one in said] == ["UPDATE"]
    assert set(states()) == {"succeeded"}
    reorder(where, "flow")
    with transaction(EVERY) as session, pytest.raises(MustLockError):
        routing.plan(session, taken, Routed("w1", may_lock=False))


def moving_of(run: Run):
    """A leased run, loaded as its worker has it."""
    return loading.load([run])[0]


def test_a_run_that_waits_for_its_retry_holds_its_lane_only(app_vendor):
    app_vendor.answers.append(("sales-orders", 503, {"code": 1}, {}))
    where = shop(app_vendor.url)
    first, second = arrive(where, 1, 1)
    drain.drain("w1")
    (other,) = arrive(where, 2)
    drain.drain("w1")
    assert [run_of(one).state for one in (first, second, other)] == [
        "waiting", "waiting", "succeeded",
    ]  # fmt: skip
    assert run_of(second).next_at is None
    with reading(where.organization_id) as session:
        assert order_lanes.in_front(session, run_of(second)).id == run_of(first).id
        assert order_lanes.in_front(session, run_of(first)) is None
        assert order_lanes.count_behind(session, run_of(first)) == 1
    with transaction(where.organization_id) as session, pytest.raises(NotNow):
        recovery.retry_now(session, where.organization_id, run_of(second).id)
    with clock.shifted(seconds=8):
        drain.drain("w1")
    assert set(states()) == {"succeeded"}
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-1", "SO-1"]


def park_first(app_vendor, where: Shop, count: int = 4) -> list[str]:
    refused = {"code": "PERIOD_CLOSED", "message": "closed"}
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    ids = arrive(where, *range(1, count + 1))
    drain.drain("w1")
    assert states() == ["parked"] + ["waiting"] * (count - 1)
    return ids


@pytest.mark.parametrize("deed", ["retry", "skip", "beginning", "all"])
def test_a_run_that_failed_holds_the_rest_until_its_owner_acts(app_vendor, deed):
    where = shop(app_vendor.url, "flow")
    ids = park_first(app_vendor, where)
    owner, head = where.organization_id, run_of(ids[0]).id
    with reading(owner) as session:
        ((stopping, behind),) = order_lanes.stopped(session, owner, where.flow)
        assert (stopping.id, behind) == (head, 3)
    assert drain.drain("w2") == 0
    with transaction(owner) as session:
        if deed == "retry":
            assert recovery.retry_now(session, owner, head).state == "due"
        elif deed == "skip":
            assert recovery.cancel(session, owner, head).state == "cancelled"
        elif deed == "beginning":
            assert recovery.replay_start(session, owner, head).state == "due"
        else:
            assert recovery.replay_canary(session, owner, where.flow, None).id == head
    drain.drain("w2")
    wanted = ["SO-1"] + ([] if deed == "skip" else ["SO-1"]) + ["SO-2", "SO-3", "SO-4"]
    assert booked(app_vendor) == wanted
    assert set(states()) <= {"succeeded", "cancelled"}


def test_signing_in_again_lets_them_go_in_order(app_vendor):
    app_vendor.good_keys = {"other-key"}
    where = shop(app_vendor.url, "flow")
    arrive(where, 1, 2, 3)
    drain.drain("w1")
    assert next((run.state, run.cause) for run in runs()) == ("parked", "auth")
    assert states()[1:] == ["waiting", "waiting"]
    app_vendor.good_keys = None
    with transaction(where.organization_id) as session:
        connection = connections.find(session, where.organization_id, where.erp)
        assert connections.make_ready(session, connection) == 1
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-1", "SO-2", "SO-3"]
    assert set(states()) == {"succeeded"}


def test_a_dead_workers_head_goes_on_first(app_vendor):
    where = shop(app_vendor.url, "flow")
    arrive(where, 1, 2, 3)
    make.routed_by("wrk_dead", room=1)
    assert states() == ["leased", "waiting", "waiting"]
    assert drain.drain("w2") == 0
    write(lambda session: claims.release(session, "wrk_dead"))
    drain.drain("w2")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-3"]
    assert set(states()) == {"succeeded"}


def test_one_that_kills_its_workers_is_set_aside_and_holds_the_rest():
    where = shop(order_key="flow")
    ids = arrive(where, 1, 2)
    make.routed_by("wrk_dead", room=1)
    for crash in range(claims.MAX_CRASHES):
        write(lambda session: claims.release(session, "wrk_dead"))
        if crash < claims.MAX_CRASHES - 1:
            assert len(claims.claim("wrk_dead")) == 1
    assert [(run.state, run.cause) for run in runs()] == [
        ("parked", "quarantined"),
        ("waiting", None),
    ]
    with transaction(where.organization_id) as session:
        recovery.cancel(session, where.organization_id, run_of(ids[0]).id)
    assert states() == ["cancelled", "due"]


def test_nothing_passes_an_event_that_is_just_being_routed(app_vendor):
    """What another one has taken and not yet written is not to be seen, but known to be there."""
    where = shop(app_vendor.url, "flow")
    ids = arrive(where, 1, 2, 3, 4)
    taken, go_on = threading.Event(), threading.Event()

    def slow_router():
        def work(session):
            key = where.organization_id
            first = ready_events.take_one(session, (key, ids[0]))
            first += ready_events.take_one(session, (key, ids[1]))
            taken.set()
            go_on.wait(1)
            return fan_out.route(session, first, Routed("w1", room=0))

        write(work)

    router = threading.Thread(target=slow_router)
    router.start()
    assert taken.wait(5)
    other = threading.Thread(target=drain.drain, args=("w2",))
    other.start()
    time.sleep(0.3)
    assert booked(app_vendor) == []
    go_on.set()
    router.join(5)
    other.join(20)
    drain.drain("w2")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-3", "SO-4"]


def test_an_event_still_new_in_front_holds_the_straight_path(app_vendor, monkeypatch, nudges):
    monkeypatch.setattr(inbox, "_carries", True)
    where = shop(app_vendor.url, "flow")
    arrive(where, 1)
    inbox.put(where.organization_id, None, [order(2)])
    carrying.wait_until_done(5)
    assert states() == ["due"]
    assert nudges.count("webhooks.drain") >= 2
    assert claims.claim("w1") == []
    assert advance.advance("w1") == drain.AGAIN
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-2"]


def test_a_replayed_event_takes_its_turn(app_vendor):
    where = shop(app_vendor.url, "flow")
    refused = {"code": "PERIOD_CLOSED", "message": "closed"}
    first, _ = arrive(where, 1, 2)
    drain.drain("w1")
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    arrive(where, 3, 4)
    drain.drain("w1")
    with transaction(where.organization_id) as session:
        events.replay(session, where.organization_id, first)
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-3", "SO-1"], "it belongs before what stopped"
    assert sorted(states()) == ["parked", "succeeded", "succeeded", "succeeded", "waiting"]


def test_pausing_and_switching_on_strands_nothing(app_vendor):
    where = shop(app_vendor.url, "flow")
    owner = where.organization_id
    arrive(where, 1, 2, 3)
    make.routed_by("w1", room=0)
    with transaction(owner) as session:
        flows.pause(session, owner, where.flow)
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-3"]
    with transaction(owner) as session:
        flows.resume(session, owner, where.flow)
    arrive(where, 4)
    drain.drain("w1")
    assert booked(app_vendor)[3:] == ["SO-4"]


def test_a_suspended_organizations_runs_keep_their_order(app_vendor):
    where = shop(app_vendor.url, "flow")
    arrive(where, 1, 2)
    make.routed_by("w1", room=0)
    with transaction(EVERY) as session:
        suspensions.suspend(session, where.organization_id, "账单三个月未付")
    assert [(run.state, run.next_at) for run in runs()] == [("waiting", None)] * 2
    arrive(where, 3)  # came in before its source was told
    drain.drain("w1")
    assert booked(app_vendor) == []
    with transaction(EVERY) as session:
        suspensions.resume(session, where.organization_id)
    suspensions.sweep()
    assert [run.next_at is None for run in runs()] == [False, True]
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-3"]
    assert set(states()) == {"succeeded"}


def test_taking_the_order_away_lets_everything_go(app_vendor):
    where = shop(app_vendor.url, "flow")
    park_first(app_vendor, where)
    reorder(where, "none")
    assert [run.order_key for run in runs()] == [None] * 4
    assert states() == ["parked", "due", "due", "due"]
    drain.drain("w1")
    assert states() == ["parked", "succeeded", "succeeded", "succeeded"]


def test_another_order_takes_those_along_that_wait(app_vendor):
    where = shop(app_vendor.url, "flow")
    with transaction(EVERY) as session:
        given = [order(n, subject=s) for n, s in ((1, "a"), (1, "b"), (2, "a"), (2, "b"))]
        events.accept(session, where.organization_id, None, given)
    make.routed_by("w1", room=0)
    reorder(where, "subject")
    assert [run.order_key for run in runs()] == ["a", "b", "a", "b"]
    assert states() == ["due", "due", "waiting", "waiting"]
    reorder(where, BY_ORDER)
    assert [run.order_key for run in runs()] == ["SO-1", "SO-1", "SO-2", "SO-2"]
    assert states() == ["due", "waiting", "due", "waiting"]
    (flow,) = rows(Flow)
    assert (flow.order_key, flow.published_version) == (BY_ORDER, 3)
    drain.drain("w1")
    assert set(states()) == {"succeeded"}


def test_an_order_given_while_runs_are_at_work_is_kept_by_whoever_ends_them(app_vendor):
    """The worker knew of no order when it began; what waits behind its run still goes on."""
    where = shop(app_vendor.url, None)
    ids = arrive(where, 1)
    routed = make.routed_by("w1")
    (at_work,) = loading.load_born(routed.follow_ups[0].args[1])
    reorder(where, "flow")
    arrive(where, 2)
    make.routed_by("w2")
    assert [(run.state, run.order_key) for run in runs()] == [("leased", ""), ("waiting", "")]
    assert at_work.order_key is None
    at_work.finish("succeeded")
    recording.record("w1", [at_work])
    assert run_of(ids[0]).state == "succeeded"
    assert states() == ["succeeded", "due"]


def test_too_many_that_wait_cannot_be_put_in_another_order(monkeypatch):
    monkeypatch.setattr(order_lanes, "MOST_MOVED", 2)
    where = shop(order_key="flow")
    arrive(where, 1, 2, 3)
    make.routed_by("w1", room=0)
    with pytest.raises(NotNow) as refused:
        reorder(where, BY_ORDER)
    assert refused.value.params["count"] == 2
    assert states() == ["due", "waiting", "waiting"]
    reorder(where, None)
    assert states() == ["due", "due", "due"]


def test_what_failed_before_there_was_an_order_holds_nobody_and_comes_back_in_turn(app_vendor):
    refused = {"code": "PERIOD_CLOSED", "message": "closed"}
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    where = shop(app_vendor.url, None)
    (old,) = arrive(where, 1)
    drain.drain("w1")
    reorder(where, "flow")
    arrive(where, 2)
    drain.drain("w1")
    assert states() == ["parked", "succeeded"]
    with transaction(where.organization_id) as session:
        recovery.retry_now(session, where.organization_id, run_of(old).id)
    assert run_of(old).order_key == ""
    drain.drain("w1")
    assert booked(app_vendor) == ["SO-1", "SO-2", "SO-1"]


def test_what_goes_to_the_archive_lets_those_behind_it_go(app_vendor):
    where = shop(app_vendor.url, "flow")
    ids = park_first(app_vendor, where, 2)
    with transaction(EVERY) as session:
        assert run_records.drop(session, where.organization_id, ids[:1]) == 1
    assert states() == ["due"]


def test_deleting_the_flow_leaves_nothing(app_vendor):
    where = shop(app_vendor.url, "flow")
    park_first(app_vendor, where)
    with transaction(where.organization_id) as session:
        flows.delete(session, where.organization_id, where.flow, force=True)
    assert set(states()) == {"cancelled"}


def test_strangers_lanes_do_not_meet():
    with transaction(EVERY) as session:
        one, two = (
            Shop(session, "http://127.0.0.1:9", name=name, order_key="flow") for name in "AB"
        )
    arrive(one, 1, 2)
    arrive(two, 1, 2)
    make.routed_by("w1", room=0)
    assert len({run.organization_id for run in runs() if run.state == "due"}) == 2
    for run in runs():
        with reading(run.organization_id) as session:
            assert order_lanes.count_behind(session, run) == (run.state == "due")


@pytest.mark.parametrize("seconds", [0.0, 3.0, 600.0])
def test_a_long_lane_goes_to_its_end_without_a_bell(app_vendor, monkeypatch, seconds):
    """Whether a worker takes on itself what waited behind a run, or leaves it to the next look."""
    monkeypatch.setattr(advance, "HAND_OVER_SECONDS", seconds)
    taken = []
    claim = claims.claim
    monkeypatch.setattr(claims, "claim", lambda *a, **k: taken.append(claim(*a, **k)) or taken[-1])
    where = shop(app_vendor.url, "flow")
    arrive(where, *range(20))
    drain.drain("w1")
    assert booked(app_vendor) == [f"SO-{n}" for n in range(20)]
    assert set(states()) == {"succeeded"}
    if seconds == 600:
        assert not any(taken), "each took the next on itself"


class Books:
    """Notices runs of one key that are at work together, and in what order they began."""

    def __init__(self, monkeypatch) -> None:
        self.inside: dict[str, str] = {}
        self.met: list[tuple[str, str, str]] = []
        self.begun: dict[str, list[str]] = defaultdict(list)
        self.lock = threading.Lock()
        self.work, self.record = stepping.work, recording.record_and_take
        monkeypatch.setattr(stepping, "work", self.begin)
        monkeypatch.setattr(recording, "record_and_take", self.end)

    def begin(self, moving):
        with self.lock:
            other = self.inside.setdefault(moving.order_key, moving.id)
            if other != moving.id:
                self.met.append((moving.order_key, other, moving.id))
            if moving.event_id not in self.begun[moving.order_key]:
                self.begun[moving.order_key].append(moving.event_id)
        return self.work(moving)

    def end(self, worker_id, movings, **how):
        with self.lock:
            for moving in movings:
                if moving.state != "leased" and self.inside.get(moving.order_key) == moving.id:
                    del self.inside[moving.order_key]
        return self.record(worker_id, movings, **how)


def bustle(where: Shop, seed: int) -> None:
    """Orders come in while two drain and others die with what they have leased."""
    chance = random.Random(seed)
    done, deadline = threading.Event(), time.monotonic() + 150

    def is_over() -> bool:
        return (done.is_set() and set(states()) <= {"succeeded"}) or time.monotonic() > deadline

    def produce():
        for _ in range(20):
            numbers = [chance.randint(1, 3) for _ in range(chance.randint(1, 3))]
            if chance.random() < 0.5:
                inbox.put(where.organization_id, None, [order(number) for number in numbers])
            else:
                arrive(where, *numbers)
            time.sleep(0.01)
        done.set()

    def work(name):
        while not is_over():
            drain.drain(name)
            time.sleep(0.01)

    def die():
        number = 0
        while not done.is_set():
            number += 1
            claims.claim(f"wrk_dead{number}", limit=3)
            time.sleep(0.02)
            write(lambda session, name=f"wrk_dead{number}": claims.release(session, name))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(2)]
    threads += [threading.Thread(target=one) for one in (produce, die)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("order_key", ["flow", BY_ORDER])
def test_two_drains_and_dying_workers_keep_every_lane_in_order(app_vendor, monkeypatch, order_key):
    monkeypatch.setattr(inbox, "_carries", True)
    books = Books(monkeypatch)
    bustle(shop(app_vendor.url, order_key), 7)
    carrying.wait_until_done(20)
    assert set(states()) == {"succeeded"}
    assert books.met == []
    assert len(books.begun) == (1 if order_key == "flow" else 3)
    for key, begun in books.begun.items():
        assert begun == sorted(begun), key
    assert len(app_vendor.orders()) == len(rows(Event))


def test_runs_that_meet_would_be_noticed(app_vendor, monkeypatch):
    books = Books(monkeypatch)
    monkeypatch.setattr(order_lanes, "line_up", lambda *_: order_lanes.LinedUp())
    bustle(shop(app_vendor.url, "flow"), 7)
    assert books.met
