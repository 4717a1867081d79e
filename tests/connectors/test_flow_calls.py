"""Flows that call flows: a run of its own below another, once, however often somebody dies."""

import pytest
from factories.connectors import make_flow, publish_unchecked, runs, settle, steps, vendor
from factories.ways import approval, bound, die_often, each, open_works, send, shape, texts

from connectors import approvals, flow_checks, flows, lanes, recovery
from connectors.approvals import Judge
from connectors.engine.flow_rests import World
from connectors.errors import Unfit
from connectors.resting import callables
from connectors.tables import Approval
from kernel import clock
from kernel.database import EVERY, reading, transaction


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


SCHEMA = {
    "type": "object",
    "required": ["no"],
    "properties": {"no": {"type": "string"}, "amount": {"type": "number"}},
}


def called(works, *inner, name="开票", output=None, schema=SCHEMA) -> str:
    """Publish a flow that others call; gives its id."""
    document = {"trigger": {"kind": "called", "input": schema}, "steps": list(inner)}
    if output is not None:
        document["output"] = output
    document = bound(document, works.erp, works.chat)
    with transaction(EVERY) as session:
        return make_flow(session, works.organization_id, document, name=name).id


def call(key: str, flow: str, mapping, **more) -> dict:
    return {"key": key, "kind": "call", "flow": flow, "input": mapping, **more}


def use(works, *inner, **more):
    """Give the works' own flow these steps."""
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, works.flow)
        document = {"trigger": {"event": "order.paid", "version": None}, "steps": list(inner)}
        flow.draft = bound({**document, **more}, works.erp, works.chat)
        publish_unchecked(session, flow)


def by_flow(works):
    """The runs, the caller's first."""
    found = runs()
    mine = [run for run in found if run.flow_id == works.flow]
    return mine, [run for run in found if run.flow_id != works.flow]


def test_a_called_flow_gives_back_what_its_caller_goes_on_with(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(
        works, send("note", "开票 ${event.data.no}"), output={"number": "F-${event.data.no}"}
    )
    use(
        works,
        call("bill", other, {"no": "${event.data.no}"}),
        send("tell", "发票 ${steps.bill.output.number}"),
    )
    works.happen(no="7")
    settle()
    (mine,), (below,) = by_flow(works)
    assert (mine.state, below.state) == ("succeeded", "succeeded")
    assert (below.parent_run_id, below.depth, below.event_id) == (mine.id, 1, mine.event_id)
    assert texts(app_vendor) == ["开票 7", "发票 F-7"]
    assert steps(mine.id)[0].input == {"no": "7"}


def test_the_caller_rests_while_the_called_flow_does(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, approval("ok"), shape("end", {"a": 1}))
    use(works, call("bill", other, {"no": "1"}), send("tell", "好"))
    works.happen()
    settle()
    (mine,), (below,) = by_flow(works)
    assert (mine.state, mine.cause, mine.lease_until) == ("waiting", "call", None)
    assert (below.state, below.cause) == ("waiting", "approval")
    with clock.shifted(seconds=4_000):  # it looks, and finds nothing new
        settle()
    assert by_flow(works)[0][0].state == "waiting"
    with transaction(EVERY) as session:
        asked = session.exec(Approval.__table__.select()).one()
        approvals.decide(session, works.organization_id, asked.id, "approve", works_owner(works))
    with clock.shifted(seconds=4_001):
        settle()
    assert texts(app_vendor) == ["好"]


def works_owner(works):
    return Judge("usr_x", "mem_x", "owner", "老板")


def test_what_stops_below_stops_the_caller_and_is_repaired_below(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, send("note", "开票"))
    use(works, call("bill", other, {"no": "1"}), send("tell", "好"))
    app_vendor.answers.append(("messages", 400, {"ok": False, "error": "bad"}, {}))
    works.happen()
    settle()
    (mine,), (below,) = by_flow(works)
    assert (mine.state, mine.cause, mine.detail) == ("parked", "data", below.id)
    assert below.state == "parked"
    with transaction(EVERY) as session:
        recovery.retry_now(session, works.organization_id, below.id)
    settle()
    (mine,), (below,) = by_flow(works)
    assert (mine.state, below.state) == ("succeeded", "succeeded")
    assert texts(app_vendor) == ["开票", "好"]


def test_an_error_path_gives_the_called_run_up(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, send("note", "开票"))
    caught = {"steps": [send("sorry", "${error.class} ${error.step}")]}
    use(works, call("bill", other, {"no": "1"}, on_error=caught), send("tell", "好"))
    app_vendor.answers.append(("messages", 400, {"ok": False, "error": "bad"}, {}))
    works.happen()
    settle()
    (mine,), (below,) = by_flow(works)
    assert (mine.state, mine.cause, below.state) == ("succeeded", "error_path", "cancelled")
    assert texts(app_vendor) == ["data bill", "好"]


def test_cancelling_goes_down_all_the_way(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    lowest = called(works, approval("ok"), name="三")
    middle = called(works, call("deeper", lowest, {"no": "1"}), name="二")
    use(works, call("bill", middle, {"no": "1"}), send("tell", "好"))
    works.happen()
    settle()
    assert [run.state for run in runs()] == ["waiting"] * 3
    (mine,), _ = by_flow(works)
    with transaction(EVERY) as session:
        recovery.cancel(session, works.organization_id, mine.id)
    assert [run.state for run in runs()] == ["cancelled"] * 3
    with reading(EVERY) as session:
        assert session.exec(Approval.__table__.select()).one().state == "withdrawn"


def test_a_called_run_that_was_cancelled_is_called_anew_when_a_person_says_so(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, {"key": "wait", "kind": "delay", "for": "1d"})
    use(works, call("bill", other, {"no": "1"}), send("tell", "好"))
    works.happen()
    settle()
    (mine,), (below,) = by_flow(works)
    with transaction(EVERY) as session:
        recovery.cancel(session, works.organization_id, below.id)
    settle()
    (mine,), _ = by_flow(works)
    assert (mine.state, mine.cause) == ("parked", "config")
    with transaction(EVERY) as session:
        recovery.retry_now(session, works.organization_id, mine.id)
    settle()
    with clock.shifted(seconds=2 * 86_400):
        settle()
    assert [run.state for run in by_flow(works)[1]] == ["cancelled", "succeeded"]
    assert texts(app_vendor) == ["好"]


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_calls_call_once(database, app_vendor, monkeypatch, after):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, send("note", "记 ${event.data.no}"), output={"n": "${event.data.no}"})
    use(
        works,
        each(
            "lines",
            "${event.data.lines}",
            call("bill", other, {"no": "${item}"}),
            send("tell", "好 ${steps.bill.output.n}"),
        ),
    )
    works.happen(lines=["甲", "乙"])
    assert die_often(monkeypatch, every=2, after=after) > 3
    with clock.shifted(seconds=9_000):
        settle()
    (mine,), below = by_flow(works)
    assert mine.state == "succeeded"
    assert [run.state for run in below] == ["succeeded", "succeeded"]
    assert sorted(texts(app_vendor)) == sorted(["记 甲", "好 甲", "记 乙", "好 乙"])
    assert len(set(app_vendor.keys("messages"))) == 4


def test_a_flow_too_deep_stops_at_run_time(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    flow = called(works, send("note", "底"), name="底")
    for number in range(5):
        flow = called(works, call("deeper", flow, {"no": "1"}), name=f"层{number}")
    use(works, call("bill", flow, {"no": "1"}))
    works.happen()
    settle()
    assert texts(app_vendor) == []
    assert max(run.depth or 0 for run in runs()) == 4
    assert all(run.state == "parked" for run in runs())


def test_a_paused_flow_is_not_called(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, send("note", "记"))
    use(works, call("bill", other, {"no": "1"}))
    with transaction(EVERY) as session:
        flows.pause(session, works.organization_id, other)
    works.happen()
    settle()
    (mine,), below = by_flow(works)
    assert (mine.state, mine.cause, below) == ("parked", "config", [])


def publish(works, flow_id, *inner, **more):
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, flow_id)
        document = {
            "trigger": {"event": "order.paid", "version": None},
            **more,
            "steps": list(inner),
        }
        flows.save_draft(session, works.organization_id, flow_id, document)
        return flows.publish(session, works.organization_id, flow.id)


def test_publishing_pins_the_version_and_checks_what_is_handed_over(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = called(works, shape("note", {"a": "${event.data.no}"}))
    version = publish(works, works.flow, call("bill", other, {"no": "7"}))
    assert version.document["steps"][0]["version"] == 1
    with pytest.raises(Unfit) as told:
        publish(works, works.flow, call("bill", other, {"amount": 7}))
    assert all(one["pointer"].startswith("/steps/0/input") for one in told.value.findings)
    with pytest.raises(Unfit) as told:
        publish(works, works.flow, call("bill", "flw_none", {"no": "7"}))
    assert [one["pointer"] for one in told.value.findings] == ["/steps/0/flow"]


def test_flows_that_would_call_themselves_are_refused(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    trigger = {"kind": "called", "input": SCHEMA}
    first = called(works, shape("note", {"a": 1}), name="一")
    second = called(works, {**call("up", first, {"no": "1"}), "version": 1}, name="二")
    with pytest.raises(Unfit) as told:
        publish(works, first, call("down", second, {"no": "1"}), trigger=trigger)
    assert [one["pointer"] for one in told.value.findings] == ["/steps/0/flow"]
    with pytest.raises(Unfit):
        publish(works, first, call("me", first, {"no": "1"}), trigger=trigger)


def test_a_strangers_flow_cannot_be_called(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    theirs = open_works(app_vendor.url, send("x", "x"))
    other = called(theirs, shape("note", {"a": 1}))
    with reading(works.organization_id) as session:
        assert [one.flow_id for one in callables.all_of(session, theirs.organization_id)] in (
            [other],
            [],
        )
        assert callables.all_of(session, works.organization_id) == []
    use(works, call("bill", other, {"no": "1"}))
    works.happen()
    settle()
    assert [(run.state, run.cause) for run in runs() if run.flow_id == works.flow] == [
        ("parked", "config")
    ]


def test_a_trigger_that_is_called_has_no_event():
    document = {
        "trigger": {"kind": "called", "event": "order.paid", "input": {"type": "nonsense"}},
        "steps": [shape("a", {"b": 1})],
    }
    found = {one["pointer"] for one in flow_checks.check(document, None, {}, world=World())}
    assert "/trigger/event" in found
    assert any(one.startswith("/trigger/input") for one in found)
