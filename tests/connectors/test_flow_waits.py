"""Runs that wait for an event: whichever comes first, one of both sides sees the other."""

import json
import threading

import pytest
from factories.connectors import ready, runs, settle, start_runs, steps, vendor
from factories.ways import branch, die_often, each, open_works, send, texts
from factories.webhooks import make_event

from connectors import flows, lanes, recovery, run_records
from connectors.resting import meeting, waits
from connectors.resting.tables import ARRIVAL, AWAITED, WAIT
from kernel import clock
from kernel.database import EVERY, reading, transaction
from webhooks.tables import Event


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


def wait(key="shipped", **more):
    return {
        "key": key,
        "kind": "wait",
        "event_type": "order.shipped",
        "match": {"value": "${event.data.no}", "path": "data.no"},
        "for": "3d",
        **more,
    }


def arrive(works, *, tells=True, kind="order.shipped", **data) -> str:
    """An event of another kind comes in and is routed."""
    with transaction(EVERY) as session:
        event_id = make_event(
            session, works.organization_id, type=kind, body=json.dumps(data).encode()
        )
        session.flush()
        event = session.get(Event, (works.organization_id, event_id))
        event.state = "routed"
        session.flush()
        routed = start_runs(session, [ready(event)])
    if tells:
        for follow in routed.follow_ups if routed else ():
            follow()
        waits.sweep()
    return event_id


def table(which):
    with reading(EVERY) as session:
        return list(session.execute(which.select()).all())


TOLD = send("tell", "${steps.shipped.output.came} ${steps.shipped.output.data.carrier}")


def test_a_run_waits_and_goes_on_with_what_came(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    works.happen(no="7")
    settle()
    (run,) = runs()
    assert (run.state, run.cause, run.lease_until) == ("waiting", "wait", None)
    left = (run.next_at - clock.now()).total_seconds()
    assert 3 * 86_400 - 20 < left <= 3 * 86_400
    arrive(works, no="8", carrier="别家")
    settle()
    assert runs()[0].state == "waiting"
    arrive(works, no=7, carrier="顺丰")  # a number is the same as its digits
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["true 顺丰"]
    assert table(WAIT) == []


def test_what_came_before_the_step_counts(database, app_vendor):
    works = open_works(app_vendor.url, {"key": "rest", "kind": "delay", "for": "2h"}, wait(), TOLD)
    arrive(works, no="7", carrier="太早")  # before the run's own event
    works.happen(no="7")
    settle()
    arrive(works, no="7", carrier="顺丰")
    with clock.shifted(seconds=7_300):
        settle()
    assert texts(app_vendor) == ["true 顺丰"]


def test_since_the_step_only_what_comes_later_counts(database, app_vendor):
    works = open_works(
        app_vendor.url, {"key": "rest", "kind": "delay", "for": "2h"}, wait(since="step"), TOLD
    )
    works.happen(no="7")
    settle()
    arrive(works, no="7", carrier="前")
    with clock.shifted(seconds=7_300):
        settle()
        assert runs()[0].state == "waiting"
        arrive(works, no="7", carrier="后")
        settle()
    assert texts(app_vendor) == ["true 后"]


@pytest.mark.parametrize(
    ("how", "state", "cause", "said"),
    [
        ("fail", "parked", "data", []),
        ("go_on", "succeeded", None, ["到 false"]),
        ("end", "skipped", "not_come", []),
    ],
)
def test_at_the_deadline(database, app_vendor, how, state, cause, said):
    works = open_works(
        app_vendor.url, wait(at_deadline=how), send("tell", "到 ${steps.shipped.output.came}")
    )
    works.happen(no="7")
    settle()
    with clock.shifted(seconds=3 * 86_400 + 1):
        settle()
    (run,) = runs()
    assert (run.state, run.cause) == (state, cause)
    assert texts(app_vendor) == said
    assert table(WAIT) == []
    if how == "fail":  # it came late, and a person says to look again
        arrive(works, no="7", carrier="迟")
        with transaction(EVERY) as session:
            recovery.retry_now(session, works.organization_id, run.id)
        settle()
        assert texts(app_vendor) == ["到 true"]


def test_one_event_frees_all_who_wait_for_it(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    for _ in range(5):
        works.happen(no="7")
    works.happen(no="8")
    settle()
    arrive(works, no="7", carrier="顺丰")
    settle()
    assert [run.state for run in runs()] == ["succeeded"] * 5 + ["waiting"]
    assert texts(app_vendor) == ["true 顺丰"] * 5


def test_a_condition_passes_over_what_does_not_fit(database, app_vendor):
    works = open_works(
        app_vendor.url, wait(when="${awaited.data.carrier == event.data.wanted}"), TOLD
    )
    works.happen(no="7", wanted="顺丰")
    settle()
    arrive(works, no="7", carrier="中通")
    arrive(works, no="7")
    settle()
    assert runs()[0].state == "waiting"
    arrive(works, no="7", carrier="顺丰")
    settle()
    assert texts(app_vendor) == ["true 顺丰"]


def test_waits_inside_branches_and_loops(database, app_vendor):
    inner = wait(match={"value": "${item}", "path": "data.no"})
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", branch("b", ("w", True, [inner, TOLD]))),
        send("end", "完"),
    )
    works.happen(lines=["1", "2"])
    settle()
    arrive(works, no="2", carrier="乙")
    settle()
    assert texts(app_vendor) == []
    arrive(works, no="1", carrier="甲")
    settle()
    assert texts(app_vendor) == ["true 甲", "true 乙", "完"]


def test_an_arrival_whose_process_died_is_told_by_the_sweep(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    works.happen(no="7")
    settle()
    arrive(works, tells=False, no="7", carrier="顺丰")
    settle()
    assert runs()[0].state == "waiting"
    assert waits.sweep() == 1
    assert waits.sweep() == 0
    settle()
    assert texts(app_vendor) == ["true 顺丰"]


def test_an_arrival_between_a_look_and_the_rest_is_not_missed(database, app_vendor, monkeypatch):
    """The run has looked and found nothing; before it rests the event comes."""
    works = open_works(app_vendor.url, wait(), TOLD)
    works.happen(no="7")
    real, came = meeting._first, []

    def first(moving, step, arrived):
        found = real(moving, step, arrived)
        if not came and not arrived:
            came.append(1)
            thread = threading.Thread(
                target=arrive, args=(works,), kwargs={"no": "7", "carrier": "顺丰"}
            )
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr(meeting, "_first", first)
    settle()
    settle()
    assert came
    assert texts(app_vendor) == ["true 顺丰"]


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_waits_lose_and_repeat_nothing(database, app_vendor, monkeypatch, after):
    works = open_works(app_vendor.url, send("first", "一"), wait(), TOLD)
    works.happen(no="7")
    assert die_often(monkeypatch, every=2, after=after) > 0
    assert runs()[0].state == "waiting"
    assert len(table(WAIT)) == 1
    arrive(works, no="7", carrier="顺丰")
    assert die_often(monkeypatch, every=2, after=after) > 0
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["一", "true 顺丰"]
    assert table(WAIT) == []


def test_nothing_to_recognise_it_by_stops_the_run(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    works.happen(no=None)
    works.happen(no="")
    settle()
    assert [(run.state, run.cause) for run in runs()] == [("parked", "data")] * 2


def test_a_person_ends_a_wait_as_if_its_time_was_over(database, app_vendor):
    works = open_works(
        app_vendor.url, wait(at_deadline="go_on"), send("tell", "到 ${steps.shipped.output.came}")
    )
    works.happen(no="7")
    settle()
    with transaction(EVERY) as session:
        recovery.end_delay(session, works.organization_id, runs()[0].id, "李工")
    settle()
    assert texts(app_vendor) == ["到 false"]


def test_a_cancelled_run_waits_no_more_and_its_event_takes_all_along(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    event_id = works.happen(no="7")
    settle()
    shipped = arrive(works, no="9", carrier="x")
    with transaction(EVERY) as session:
        recovery.cancel(session, works.organization_id, runs()[0].id)
    assert table(WAIT) == []
    assert len(table(ARRIVAL)) == 1
    with transaction(EVERY) as session:
        run_records.drop(session, works.organization_id, [event_id, shipped])
    assert table(ARRIVAL) == []


def test_only_awaited_types_leave_arrivals_and_a_flow_put_away_awaits_nothing(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD)
    stranger = open_works(app_vendor.url, TOLD)
    arrive(works, kind="order.refunded", no="7")
    arrive(stranger, no="7")
    assert table(ARRIVAL) == []
    assert len(table(AWAITED)) == 1
    with transaction(EVERY) as session:
        flows.delete(session, works.organization_id, works.flow)
    assert table(AWAITED) == []


def test_a_strangers_event_frees_nobody(database, app_vendor):
    works, theirs = (open_works(app_vendor.url, wait(), TOLD) for _ in range(2))
    works.happen(no="7")
    settle()
    arrive(theirs, no="7", carrier="偷")
    settle()
    assert runs()[0].state == "waiting"
    assert steps(runs()[0].id)[0].state == "waiting"


def test_the_run_that_waits_holds_its_lane_and_is_freed_in_it(database, app_vendor):
    works = open_works(app_vendor.url, wait(), TOLD, order_key="flow")
    works.happen(no="7")
    settle()
    works.happen(no="8")
    settle()
    assert [run.state for run in runs()] == ["waiting", "waiting"]
    arrive(works, no="8", carrier="乙")
    settle()
    assert texts(app_vendor) == []
    arrive(works, no="7", carrier="甲")
    settle()
    assert texts(app_vendor) == ["true 甲", "true 乙"]
