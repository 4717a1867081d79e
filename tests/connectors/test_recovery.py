"""Recovery: retry, repair, repeat, cancel; the app never does twice what it did once."""

import pytest
from factories.connectors import open_shop, runs, settle, steps, vendor
from factories.identity import make_organization

from connectors import recovery
from connectors.errors import NotNow, Unfit
from kernel import clock
from kernel.database import EVERY, transaction
from kernel.errors import NotFound


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


def do(act, shop, *arguments, **named):
    with transaction(EVERY) as session:
        return act(session, shop.organization_id, *arguments, **named)


def test_a_waiting_run_is_retried_at_once(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 503, {}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    do(recovery.retry_now, shop, runs()[0].id)
    settle()
    assert runs()[0].state == "succeeded"


def test_going_on_keeps_the_effect_key_and_what_was_done(database, app_vendor):
    app_vendor.answers.append(("messages", 422, {"ok": False}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    assert (run.state, run.next_step) == ("parked", 2)
    do(recovery.replay_step, shop, run.id)
    settle()
    assert runs()[0].state == "succeeded"
    assert len(app_vendor.keys("sales-orders")) == 1
    assert len(set(app_vendor.keys("messages"))) == 1
    assert len(app_vendor.keys("messages")) == 2


def test_a_fresh_effect_has_a_fresh_key(database, app_vendor):
    app_vendor.answers.append(("messages", 422, {"ok": False}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    do(recovery.replay_step, shop, runs()[0].id, fresh_effect=True)
    settle()
    assert len(set(app_vendor.keys("messages"))) == 2


def test_from_the_start_is_a_new_run(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    first = runs()[0]
    again = do(recovery.replay_start, shop, first.id)
    assert again.replay_nonce
    settle()
    assert [run.state for run in runs()] == ["succeeded", "succeeded"]
    assert len(app_vendor.orders()) == 2


def test_a_corrected_input_goes_on(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 422, {"code": "UNKNOWN_SKU"}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    corrected = {**steps(run.id)[1].input, "external_no": "SO-1-B"}
    do(recovery.edit_input, shop, run.id, corrected)
    settle()
    assert runs()[0].state == "succeeded"
    assert app_vendor.orders()[0]["external_no"] == "SO-1-B"
    assert steps(run.id)[1].edited_input["external_no"] == "SO-1-B"


def test_a_huge_correction_is_refused(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 422, {"code": "UNKNOWN_SKU"}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    with pytest.raises(Unfit):
        do(recovery.edit_input, shop, runs()[0].id, {"note": "x" * 70_000})


def test_a_cancelled_run_stays_cancelled_whatever_its_worker_says(database, app_vendor):
    from connectors import claims, loading, recording, stepping

    shop = open_shop(app_vendor.url, orders=1)
    (moving,) = loading.load(claims.claim("w"))
    stepping.work(moving)
    do(recovery.cancel, shop, runs()[0].id)
    moving.finish("succeeded")
    assert recording.record("w", [moving]) == []
    assert runs()[0].state == "cancelled"
    with pytest.raises(NotNow):
        do(recovery.cancel, shop, runs()[0].id)


def unknown(app_vendor, monkeypatch):
    """A run whose create may or may not have happened."""
    from test_advance import make_not_idempotent

    make_not_idempotent(monkeypatch)
    app_vendor.keep_silent_after = "sales-orders"
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    app_vendor.keep_silent_after = None
    return shop, runs()[0]


@pytest.fixture(autouse=True)
def _beside(monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_an_unknown_outcome_is_never_retried_blindly(database, app_vendor, monkeypatch):
    shop, run = unknown(app_vendor, monkeypatch)
    assert run.cause == "unknown"
    for act in (recovery.retry_now, recovery.replay_step):
        with pytest.raises(NotNow):
            do(act, shop, run.id)
    with pytest.raises(NotNow):
        do(recovery.edit_input, shop, run.id, {})
    with pytest.raises(NotNow):
        do(recovery.replay_canary, shop, shop.flow, "unknown")


def test_a_person_found_it_done(database, app_vendor, monkeypatch):
    shop, run = unknown(app_vendor, monkeypatch)
    do(recovery.mark_done, shop, run.id, {"document_no": "XS-77", "status": "booked"})
    settle()
    assert runs()[0].state == "succeeded"
    assert len(app_vendor.keys("sales-orders")) == 1
    assert "XS-77" in app_vendor.messages()[0]["text"]


def test_a_person_found_it_not_done(database, app_vendor, monkeypatch):
    shop, run = unknown(app_vendor, monkeypatch)
    do(recovery.replay_step, shop, run.id, fresh_effect=True)
    settle()
    assert runs()[0].state == "succeeded"
    assert len(app_vendor.keys("sales-orders")) == 2


def test_the_rest_follows_only_a_canary_that_got_through(database, app_vendor):
    app_vendor.always["sales-orders"] = (422, {"code": "PERIOD_CLOSED"})
    shop = open_shop(app_vendor.url, orders=5)
    settle()
    first = do(recovery.replay_canary, shop, shop.flow, "data")
    with pytest.raises(NotNow):
        do(recovery.replay_rest, shop, shop.flow, "data", first.id)
    settle()
    with pytest.raises(NotNow):
        do(recovery.replay_rest, shop, shop.flow, "data", first.id)
    del app_vendor.always["sales-orders"]
    first = do(recovery.replay_canary, shop, shop.flow, "data")
    settle()
    assert do(recovery.replay_rest, shop, shop.flow, "data", first.id) == 4
    settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(app_vendor.orders()) == 5


def test_strangers_can_do_nothing(database, app_vendor):
    app_vendor.always["sales-orders"] = (422, {"code": "PERIOD_CLOSED"})
    open_shop(app_vendor.url, orders=1)
    settle()
    with transaction(EVERY) as session:
        other = make_organization(session).id
        run_id = runs()[0].id
        for act in (
            recovery.retry_now,
            recovery.replay_step,
            recovery.replay_start,
            recovery.cancel,
            recovery.mark_done,
        ):
            with pytest.raises(NotFound):
                act(session, other, run_id)


def test_a_retry_after_the_ladder_starts_the_ladder_again(database, app_vendor):
    app_vendor.always["sales-orders"] = (503, {})
    shop = open_shop(app_vendor.url, orders=1)
    for ahead in range(8):
        with clock.shifted(seconds=ahead * 20_000):
            settle()
    assert runs()[0].state == "parked"
    do(recovery.retry_now, shop, runs()[0].id)
    settle()
    assert (runs()[0].state, runs()[0].attempt_count) == ("waiting", 1)


# --- corrections and items ------------------------------------------------------------------------


def test_a_correction_that_the_app_would_refuse_is_never_sent(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 422, {"code": "UNKNOWN_SKU"}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    wrong = {**steps(run.id)[1].input, "lines": "none"}
    with pytest.raises(Unfit) as refused:
        do(recovery.edit_input, shop, run.id, wrong)
    assert refused.value.errors[0]["pointer"] == "/input/lines"
    settle()
    assert runs()[0].state == "parked"
    assert len(app_vendor.keys("sales-orders")) == 1


def test_a_correction_is_looked_at_before_it_is_used(database, app_vendor):
    app_vendor.answers.append(("sales-orders", 422, {"code": "UNKNOWN_SKU"}, {}))
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (run,) = runs()
    before = steps(run.id)[1].input
    after = {**before, "external_no": "B", "note": "x"}
    del after["currency"]
    look = do(recovery.look_at_correction, shop, run.id, after)
    assert {(one.pointer, one.kind) for one in look.changes} == {
        ("/external_no", "changed"), ("/note", "added"), ("/currency", "removed"),
    }  # fmt: skip
    assert look.problems
    assert steps(run.id)[1].edited_input is None


def test_changes_know_lists_numbers_and_odd_names():
    from connectors.corrections import changes

    found = changes({"a/b": [1, 2], "t": 1}, {"a/b": [1, 3, 4], "t": True})
    assert [(one.pointer, one.before, one.after) for one in found] == [
        ("/a~1b/1", 2, 3), ("/a~1b/2", None, 4), ("/t", 1, True),
    ]  # fmt: skip
    assert changes({"a": 1}, {"a": 1}) == []


def test_items_that_a_loop_went_on_without_are_tried_again(database, app_vendor):
    from factories.ways import each, open_works, send, texts

    from connectors import item_retries

    works = open_works(
        app_vendor.url,
        each(
            "lines", "${event.data.lines}",
            send("tell", "${item}"), send("also", "${item}!"), on_item_error="go_on",
        ),
        send("end", "失败 ${steps.lines.output.failed}"),
    )  # fmt: skip
    app_vendor.always["messages"] = (422, {"ok": False, "error": "no"})
    app_vendor.answers += [
        (
            "messages",
            200,
            {
                "ok": True,
                "message": {
                    "message_no": "1",
                    "channel": "x",
                    "posted_at": "2026-11-22T09:30:02+08:00",
                },
            },
            {},
        )
    ]
    works.happen(lines=["A", "B", "C"])
    for _ in range(6):
        settle()
    (run,) = runs()
    assert run.state == "parked"
    app_vendor.always.clear()
    do(recovery.retry_now, works, run.id)
    settle()
    (run,) = runs()
    assert run.state == "succeeded"
    assert texts(app_vendor) == ["失败 3"]
    calls = len(app_vendor.calls)
    do(item_retries.retry, works, run.id)
    settle()
    (run,) = runs()
    assert run.state == "succeeded"
    # A was told the first time; what came after the loop is not done again
    assert texts(app_vendor) == ["失败 3", "A!", "B", "B!", "C", "C!"]
    assert len(app_vendor.calls) == calls + 5
    loop = steps(run.id)[0].output
    assert (loop["failed"], loop["done"], loop["errors"]) == (0, 3, [])
    with pytest.raises(NotNow):
        do(item_retries.retry, works, run.id)


def test_items_that_fail_again_stay_failed(database, app_vendor):
    from factories.ways import each, open_works, send, texts

    from connectors import item_retries

    works = open_works(
        app_vendor.url,
        each("orders", "${event.data.orders}",
             each("lines", "${item.lines}", send("tell", "${item.sku}")),
             on_item_error="go_on"),
    )  # fmt: skip
    app_vendor.answers += [("messages", 422, {"ok": False, "error": "no"}, {})]
    works.happen(orders=[{"lines": [{"sku": "a"}, {"sku": "b"}]}, {"lines": [{}]}])
    settle()
    (run,) = runs()
    assert (run.state, texts(app_vendor)) == ("succeeded", [])
    do(item_retries.retry, works, run.id)
    settle()
    (run,) = runs()
    assert (run.state, texts(app_vendor)) == ("succeeded", ["a", "b"])
    assert steps(run.id)[0].output["failed"] == 1
    do(item_retries.retry, works, run.id)
    settle()
    assert steps(run.id)[0].output["failed"] == 1
    assert texts(app_vendor) == ["a", "b"]
