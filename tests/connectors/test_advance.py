"""Runs move on: order → ERP → chat, exactly once, whatever breaks in between."""

import threading
import time

import pytest
from factories.connectors import open_shop, rows, runs, settle, steps, vendor

from connectors import advance, claims, lanes, loading, recording, stepping
from connectors.tables import Connection, Run
from kernel import clock, http
from kernel.database import EVERY, transaction, write
from webhooks import youth


@pytest.fixture
def app_vendor():
    lanes._slice.clear()
    with vendor() as target:
        yield target


def test_an_order_reaches_the_erp_and_then_the_chat(database, app_vendor):
    open_shop(app_vendor.url, orders=1)
    assert settle() == 1
    (run,) = runs()
    assert (run.state, run.next_step, run.cause) == ("succeeded", 3, None)
    assert [step.state for step in steps(run.id)] == ["succeeded"] * 3
    assert app_vendor.orders()[0]["external_no"] == "SO-1"
    assert app_vendor.messages()[0]["text"] == "订单 SO-1 已记账 XS-1"
    erp = steps(run.id)[1]
    assert erp.input["customer"] == {"name": "扬州启航轴承有限公司"}
    assert erp.output == {"document_no": "XS-1", "status": "booked"}
    assert erp.status == 200
    assert erp.attempt_count == 1
    assert app_vendor.keys("sales-orders") == [erp.effect_key]


def test_a_filter_that_does_not_hold_skips_the_run(database, app_vendor):
    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session:
        shop.order(session, total={"value": "0.00", "currency": "CNY"})
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "filtered")
    assert run.say["zh"]
    assert app_vendor.calls == []


def test_the_secret_is_never_stored(database, app_vendor):
    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session:
        shop.order(session, buyer={"name": "key-0123456789"})
    settle()
    (run,) = runs()
    assert "key-0123456789" not in str([step.input for step in steps(run.id)])
    assert app_vendor.orders()[0]["customer"]["name"] == "key-0123456789"


def test_a_data_error_parks_with_the_manifests_words(database, app_vendor):
    refused = {"code": "PERIOD_CLOSED", "message": "period 2026-10 is closed"}
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    assert (run.state, run.cause, run.next_at) == ("parked", "data", None)
    assert run.say["zh"].startswith("账期已关闭")
    assert run.detail == "period 2026-10 is closed"
    assert steps(run.id)[1].state == "failed"
    assert settle() == 0
    assert rows(Connection)[0].state == "ready"


def test_a_busy_app_is_tried_again_and_then_succeeds(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 503, {"code": 1}, {}))
    open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    assert (run.state, run.cause, run.attempt_count) == ("waiting", "down", 1)
    assert 4 <= (run.next_at - clock.now()).total_seconds() <= 7
    assert settle() == 0
    with clock.shifted(seconds=8):
        assert settle() == 1
    (run,) = runs()
    assert run.state == "succeeded"
    assert steps(run.id)[1].attempt_count == 2
    assert len(set(app_vendor.keys("sales-orders"))) == 1
    assert len(app_vendor.orders()) == 1


def test_an_exhausted_ladder_parks(database, app_vendor):
    app_vendor.always["sales-orders"] = (503, {"code": 1})
    open_shop(app_vendor.url, orders=1)
    ahead = 0
    for _ in range(8):
        with clock.shifted(seconds=ahead):
            settle()
        ahead += 20_000
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "down")
    assert len(app_vendor.keys("sales-orders")) == 7


def test_an_answer_that_never_came_is_repeated_under_the_same_key(database, app_vendor):
    app_vendor.keep_silent_after = "sales-orders"
    open_shop(app_vendor.url, orders=1)
    settle()
    assert runs()[0].state == "waiting"
    app_vendor.keep_silent_after = None
    with clock.shifted(seconds=10):
        settle()
    assert runs()[0].state == "succeeded"
    assert len(app_vendor.orders()) == 1
    assert len(set(app_vendor.keys("sales-orders"))) == 1


def test_a_refused_key_parks_the_run_and_marks_the_connection(database, app_vendor):
    app_vendor.good_keys = {"another"}
    open_shop(app_vendor.url, orders=3)
    settle()
    assert {(run.state, run.cause) for run in runs()} == {("parked", "auth")}
    states = {one.connector_key: one.state for one in rows(Connection)}
    assert states == {"demo-erp": "needs_attention", "demo-chat": "ready"}


def test_a_parked_connection_is_not_called_again(database, app_vendor):
    app_vendor.good_keys = {"another"}
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    calls = len(app_vendor.calls)
    with transaction(EVERY) as session:
        shop.order(session, 2)
    settle()
    assert len(app_vendor.calls) == calls
    assert [run.cause for run in runs()] == ["auth", "auth"]


CRASHES = ["after_claim", "after_send", "after_first_record", "after_second_send"]


@pytest.mark.parametrize("moment", CRASHES)
def test_a_crash_between_two_commits_repeats_with_the_same_key(
    database, app_vendor, monkeypatch, moment
):
    open_shop(app_vendor.url, orders=2)

    class Killed(BaseException):
        pass

    real, count = recording.record_and_take, 0

    def record(worker_id, movings, **how):
        nonlocal count
        if not movings:
            # the app has not answered yet: its calls are in the air, in threads that a killed
            # process would take along and this one does not
            return real(worker_id, movings)
        count += 1
        if moment in ("after_send", "after_second_send") and count == (
            1 if moment == "after_send" else 2
        ):
            raise Killed
        done = real(worker_id, movings, **how)
        if moment == "after_first_record" and count == 1:
            raise Killed
        return done

    if moment == "after_claim":
        claims.claim("doomed")
    else:
        monkeypatch.setattr(recording, "record_and_take", record)
        with pytest.raises(Killed):
            advance.advance("doomed")
        monkeypatch.setattr(recording, "record_and_take", real)
    assert settle() == 0  # the lease still holds
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(app_vendor.orders()) == len(app_vendor.messages()) == 2
    assert len(set(app_vendor.keys("sales-orders"))) == 2
    assert len(set(app_vendor.keys("messages"))) == 2


def test_a_late_worker_records_nothing(database, app_vendor):
    open_shop(app_vendor.url, orders=1)
    (late,) = loading.load(claims.claim("late"))
    call = stepping.work(late)
    assert call is not None
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle("quick")
        assert runs()[0].state == "succeeded"
        late.park("data", {"zh": "晚了", "en": "late"})
        assert recording.record("late", [late]) == []
    (run,) = runs()
    assert (run.state, run.cause) == ("succeeded", None)


def test_what_keeps_killing_its_worker_is_set_aside(database, app_vendor):
    open_shop(app_vendor.url, orders=1)
    for ahead in range(claims.MAX_CRASHES + 1):
        with clock.shifted(seconds=ahead * 100):
            claims.claim(f"doomed-{ahead}")
    (run,) = runs()
    assert (run.state, run.cause, run.crash_count) == (
        "parked",
        "quarantined",
        claims.MAX_CRASHES,
    )
    assert run.say["zh"]


def test_one_run_that_kills_its_worker_is_set_aside_and_no_other(database, app_vendor, monkeypatch):
    open_shop(app_vendor.url, orders=20)
    deadly = min(run.id for run in runs())
    take = advance.take

    def deadly_take(worker, limit):
        taken = take(worker, limit)
        if any(moving.id == deadly for moving in taken):
            raise SystemExit
        return taken

    monkeypatch.setattr(advance, "take", deadly_take)
    deaths = 0
    while True:
        worker = f"wrk_{deaths}"
        try:
            while advance.advance(worker):
                pass
        except SystemExit:
            deaths += 1
            write(lambda session, worker=worker: claims.release(session, worker))
        else:
            break
    states = {run.id: run.state for run in runs()}
    assert states.pop(deadly) == "parked"
    assert set(states.values()) == {"succeeded"}
    assert deaths == claims.MAX_CRASHES


def make_not_idempotent(monkeypatch):
    """The demo ERP without its idempotency header."""
    import dataclasses

    from connectors.engine import loader

    erp = loader.find("demo-erp")
    action = dataclasses.replace(erp.actions["create_sales_order"], idempotency_header=None)
    changed = dataclasses.replace(erp, actions={**erp.actions, "create_sales_order": action})
    library = {**loader.library(), "demo-erp": changed}
    monkeypatch.setattr(loader, "library", lambda: library)


def test_a_lost_answer_without_idempotency_is_never_repeated(database, app_vendor, monkeypatch):
    make_not_idempotent(monkeypatch)
    app_vendor.keep_silent_after = "sales-orders"
    open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "unknown")
    assert len(app_vendor.keys("sales-orders")) == 1


def test_a_crash_after_sending_without_idempotency_parks(database, app_vendor, monkeypatch):
    make_not_idempotent(monkeypatch)
    open_shop(app_vendor.url, orders=1)

    class Killed(BaseException):
        pass

    def land(self, patience_seconds):
        for landing in real(self, 5):
            assert landing.answer.kind == "ok"
        raise Killed

    real = lanes.Flight.land
    monkeypatch.setattr(lanes.Flight, "land", land)
    with pytest.raises(Killed):
        advance.advance("doomed")
    monkeypatch.setattr(lanes.Flight, "land", real)
    assert steps(runs()[0].id)[1].state == "sending"
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "unknown")
    assert len(app_vendor.orders()) == 1


def test_two_workers_share_the_work_without_doing_it_twice(database, app_vendor):
    open_shop(app_vendor.url, orders=60)
    taken: dict[str, int] = {}

    def work(name):
        taken[name] = settle(name)

    threads = [threading.Thread(target=work, args=(f"worker-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(taken.values()) == 60
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(app_vendor.keys("sales-orders")) == len(app_vendor.keys("messages")) == 60


def test_a_slow_app_does_not_hold_the_others(database, app_vendor):
    open_shop(app_vendor.url, orders=3)
    with vendor_beside(app_vendor) as quick:
        open_shop(quick.url, orders=5, name="快店")
        held = app_vendor.hold("sales-orders")
        done = threading.Thread(target=settle)
        done.start()
        assert quick.waits_for_messages(5)
        assert app_vendor.messages() == []
        held.set()
        done.join(30)
    assert {run.state for run in runs()} == {"succeeded"}


def vendor_beside(first):
    """A second vendor while the first stays reachable."""
    from contextlib import contextmanager

    from kernel.settings import settings, settings_override

    @contextmanager
    def both():
        before = settings().outbound_allow
        with vendor() as second:
            allowed = (*before, *settings().outbound_allow)
            with settings_override(outbound_allow=allowed):
                yield second

    return both()


def test_claims_deal_fairly_over_organizations_and_lanes(database, app_vendor):
    big = open_shop(app_vendor.url, orders=40)
    small = open_shop(app_vendor.url, orders=3, name="小店")
    rows_ = claims.claim("w", limit=6)
    owners = [row.organization_id for row in rows_]
    assert owners.count(small.organization_id) == 3
    assert owners.count(big.organization_id) == 3


def test_a_lane_known_as_slow_is_claimed_a_few_at_a_time(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=20)
    assert len(claims.claim("w", pace={shop.erp: 4})) == 4
    assert claims.claim("w", busy={shop.erp}) == []


def test_an_event_that_is_no_json_parks_its_run(database, app_vendor):
    from factories.connectors import ready, start_runs
    from factories.webhooks import make_event

    from webhooks.tables import Event

    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session:
        event_id = make_event(session, shop.organization_id, type="order.paid", body=b"<xml/>")
        session.flush()
        start_runs(session, [ready(session.get(Event, (shop.organization_id, event_id)))])
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "data")


def test_a_failure_of_ours_is_no_answer(database, app_vendor, monkeypatch):
    open_shop(app_vendor.url, orders=1)
    monkeypatch.setattr(
        lanes.http, "send_all", lambda requests, **_: [http.Failure("connect", "x")]
    )
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("waiting", "down")


def test_rows_of_runs_carry_their_lane(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=1)
    assert [run.lane for run in runs()] == [shop.erp]
    app_vendor.always["messages"] = (503, {})
    settle()
    assert [run.lane for run in runs()] == [shop.chat]
    assert rows(Run)[0].next_step == 2


def test_a_young_process_records_each_call_before_the_next(database, app_vendor, monkeypatch):
    """Whatever was called and not recorded when a process dies is called again."""
    monkeypatch.setattr(youth, "_born", time.monotonic())
    monkeypatch.setattr(youth, "PATIENCE_SECONDS", 60)
    open_shop(app_vendor.url, orders=4)
    called, record = [], recording.record_and_take

    def recorded(worker_id, movings, **how):
        called.append(len(app_vendor.calls) - sum(called))
        return record(worker_id, movings, **how)

    monkeypatch.setattr(recording, "record_and_take", recorded)
    settle()
    assert [run.state for run in runs()] == ["succeeded"] * 4
    assert sum(called) == len(app_vendor.calls) == 8
    assert max(called) == 1
