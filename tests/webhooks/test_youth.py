"""Youth: a process that has just begun writes each request down before it sends the next."""

import threading
import time

import pytest
from factories import webhooks as make
from factories.webhooks import OK

from webhooks import attempts, carrying, drain, ordered, youth
from webhooks.pace import Pace
from webhooks.parcels import Parcel, Target

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def young(monkeypatch):
    monkeypatch.setattr(youth, "_born", time.monotonic())


@pytest.fixture
def grown(monkeypatch):
    monkeypatch.setattr(youth, "_born", time.monotonic() - youth.GROWN_SECONDS)


def several_due(count=6):
    def setup(session):
        make.make_endpoint(session, "org_a")
        for _ in range(count):
            make.make_event(session, "org_a")

    make.in_transaction(setup)


def unrecorded(send_all):
    """Return the most requests that were sent and not written down at any one time."""
    open_now, most = 0, 0

    def send(requests):
        nonlocal open_now, most
        open_now += len(requests)
        most = max(most, open_now)
        return [OK] * len(requests)

    def record(batch):
        nonlocal open_now
        open_now -= len(batch.tried)
        return len(batch.tried)

    send_all(send, record)
    assert open_now == 0
    return most


def parcel(delivery_id, endpoint_id="ep_1"):
    target = Target("org_a", endpoint_id, f"http://127.0.0.1:9/{endpoint_id}", ())
    return Parcel("org_a", delivery_id, "evt_1", target, b"{}", 1, 1, "w1/ls_1")


def drained(monkeypatch):
    several_due()

    def run(send, record):
        monkeypatch.setattr(carrying.results, "write_down", record)
        drain.drain("w1", send)

    return unrecorded(run)


def test_a_young_process_has_one_request_under_way(young, monkeypatch):
    assert drained(monkeypatch) == 1


def test_a_grown_one_sends_a_wave_at_once(grown, monkeypatch):
    assert drained(monkeypatch) == 6


def test_ordered_lanes_are_written_down_one_by_one_too(young):
    parcels = [[parcel(f"dlv_{lane}_{place}") for place in range(2)] for lane in range(3)]
    batches = list(ordered.send(parcels, lambda requests: [OK] * len(requests)))
    assert [len(batch.tried) for batch in batches] == [1] * 6
    sent = [batch.tried[0].parcel.delivery_id for batch in batches]
    for lane in range(3):
        assert sent.index(f"dlv_{lane}_0") < sent.index(f"dlv_{lane}_1")


def test_more_may_be_under_way_with_age(monkeypatch):
    sizes = []
    for age in (0, youth.ONE_AT_A_TIME_SECONDS, 7, youth.GROWN_SECONDS):
        monkeypatch.setattr(youth, "_born", time.monotonic() - age)
        share = youth.take_share(attempts.WAVE)
        sizes.append(share.size)
        share.give_back()
    assert sizes == [1, 1, 16, attempts.WAVE]


def test_whoever_never_began_is_of_no_age():
    assert youth.take_share(50).size == 50


def test_a_slow_target_holds_nobody_up_for_long(young):
    slow = youth.take_share(1)
    began = time.monotonic()
    other = youth.take_share(1)
    assert youth.PATIENCE_SECONDS * 0.9 < time.monotonic() - began < 5
    other.give_back()
    slow.give_back()


def test_what_is_given_back_goes_to_who_waits(young, monkeypatch):
    monkeypatch.setattr(youth, "PATIENCE_SECONDS", 60)
    first = youth.take_share(1)
    got = threading.Event()
    threading.Thread(target=lambda: (youth.take_share(1).give_back(), got.set())).start()
    assert not got.wait(0.05)
    first.give_back()
    assert got.wait(5)


def test_a_target_that_has_us_wait_is_slow_before_it_answers(monkeypatch):
    pace = Pace()
    began, end = threading.Event(), threading.Event()

    def send(requests):
        began.set()
        end.wait(10)
        return [OK] * len(requests)

    thread = threading.Thread(target=lambda: attempts.try_all([parcel("dlv_1")], send))
    thread.start()
    began.wait(10)
    assert pace.slow() == frozenset()
    monkeypatch.setattr("webhooks.pace.UNSURE_MS", 1)
    time.sleep(0.01)
    assert pace.slow() == {"ep_1"}
    pace._prompt["ep_1"] = float("inf")
    assert pace.slow() == frozenset(), "one that was prompt so far may take its time for once"
    monkeypatch.setattr("webhooks.pace.SLOW_MS", 1)
    assert pace.slow() == {"ep_1"}
    end.set()
    thread.join()
    assert pace.slow() == frozenset()


def test_who_answers_promptly_does_not_wait_for_who_never_did(monkeypatch):
    monkeypatch.setattr(carrying, "pace", Pace())
    monkeypatch.setattr(carrying.results, "write_down", lambda batch: len(batch.tried))
    quick = [parcel(f"dlv_{n}", "ep_quick") for n in range(20)]
    carrying.send_and_record(quick[:1], lambda requests: [OK] * len(requests))
    order = []

    def send(requests):
        order.extend(request.url for request in requests)
        return [OK] * len(requests)

    others = [parcel(f"dlv_other_{n}", "ep_other") for n in range(3)]
    assert carrying.send_and_record(others + quick, send) == 23
    assert [url.rpartition("/")[2] for url in order] == ["ep_quick"] * 20 + ["ep_other"] * 3
