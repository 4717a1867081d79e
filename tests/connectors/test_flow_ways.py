"""Branches and loops: the right way, each item once, whatever breaks in between."""

import pytest
from factories.connectors import rows, runs, settle, steps, vendor
from factories.ways import branch, die_often, each, open_works, send, shape, texts

from connectors import claims, flow_paths, lanes, laps, recovery
from connectors.errors import NotNow
from connectors.flow_documents import recipe
from connectors.tables import Step
from kernel import clock
from kernel.database import EVERY, transaction
from webhooks.tables import EVENT


@pytest.fixture
def app_vendor():
    lanes._slice.clear()
    with vendor() as target:
        yield target


BIG = "${int(event.data.amount) >= 1000}"
MIDDLE = "${int(event.data.amount) >= 100}"


def by_amount():
    return branch(
        "size",
        ("big", BIG, [send("big_one", "大单 ${event.data.amount}")]),
        ("middle", MIDDLE, [send("middle_one", "中单 ${event.data.amount}")]),
        otherwise=[send("small_one", "小单 ${event.data.amount}")],
    )


@pytest.mark.parametrize(
    ("amount", "way", "text"),
    [(5000, "big", "大单 5000"), (100, "middle", "中单 100"), (1, "else", "小单 1")],
)
def test_the_first_way_that_fits_is_gone(database, app_vendor, amount, way, text):
    works = open_works(app_vendor.url, by_amount(), send("end", "走了 ${steps.size.output.way}"))
    works.happen(amount=amount)
    settle()
    (run,) = runs()
    assert (run.state, run.next_step) == ("succeeded", 5)
    assert texts(app_vendor) == [text, f"走了 {way}"]
    assert steps(run.id)[0].key == "size"
    assert len(steps(run.id)) == 3


def test_without_a_way_and_an_else_it_goes_on(database, app_vendor):
    works = open_works(
        app_vendor.url, branch("size", ("big", BIG, [send("big_one", "大")])), send("end", "完")
    )
    works.happen(amount=1)
    settle()
    assert texts(app_vendor) == ["完"]
    assert steps(runs()[0].id)[0].output == {"way": None}


def test_an_empty_way_leads_on(database, app_vendor):
    works = open_works(app_vendor.url, branch("size", ("big", BIG, [])), send("end", "完"))
    works.happen(amount=1000)
    settle()
    assert texts(app_vendor) == ["完"]


def test_a_filter_inside_a_way_ends_the_run(database, app_vendor):
    only = {"key": "only", "kind": "filter", "when": "${event.data.amount == 7}"}
    works = open_works(
        app_vendor.url, branch("size", ("big", BIG, [only, send("x", "大")])), send("end", "完")
    )
    works.happen(amount=1000)
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "filtered")
    assert texts(app_vendor) == []


def test_each_item_runs_through_the_steps(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            shape("one", {"text": "${item.sku}#${index}"}),
            send("tell", "${steps.one.output.text}"),
        ),
        send(
            "end", "共 ${steps.lines.output.done} 个，末个 ${steps.lines.output.results[2].channel}"
        ),
    )
    works.happen(lines=[{"sku": "A"}, {"sku": "B"}, {"sku": "C"}])
    settle()
    (run,) = runs()
    assert (run.state, run.next_step) == ("succeeded", 4)
    assert texts(app_vendor) == ["A#0", "B#1", "C#2", "共 3 个，末个 订单群"]
    lines = steps(run.id)[0]
    assert (lines.state, lines.output["count"], lines.output["failed"]) == ("succeeded", 3, 0)
    assert len(rows(Step)) == 2 + 3 * 2
    assert len(set(app_vendor.keys("messages"))) == 4


def test_a_loop_over_nothing_is_left_at_once(database, app_vendor):
    works = open_works(
        app_vendor.url, each("lines", "${event.data.lines}", send("tell", "x")), send("end", "完")
    )
    works.happen(lines=[])
    settle()
    assert texts(app_vendor) == ["完"]
    assert steps(runs()[0].id)[0].output["results"] == []


def test_a_filter_inside_a_loop_leaves_out_the_item(database, app_vendor):
    only = {"key": "only", "kind": "filter", "when": "${item.sku != 'B'}"}
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", only, send("tell", "${item.sku}")),
        send("end", "略过 ${steps.lines.output.skipped}"),
    )
    works.happen(lines=[{"sku": "A"}, {"sku": "B"}, {"sku": "C"}])
    settle()
    assert texts(app_vendor) == ["A", "C", "略过 1"]


def test_what_another_item_gave_is_not_there(database, app_vendor):
    """A way that only the first item goes leaves nothing behind for the second."""
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            branch("kind", ("a", "${item.sku == 'A'}", [shape("extra", {"x": "${item.sku}"})])),
            send("tell", "${item.sku} ${has(steps.extra.output.x)}"),
        ),
    )
    works.happen(lines=[{"sku": "A"}, {"sku": "B"}])
    settle()
    assert texts(app_vendor) == ["A true", "B false"]


def test_loops_inside_each_other(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "orders",
            "${event.data.orders}",
            each(
                "lines",
                "${item.lines}",
                send("tell", "${steps.orders.item.no}-${item}-${steps.orders.index}${index}"),
            ),
            send("sum", "${item.no}: ${steps.lines.output.count}"),
        ),
    )
    works.happen(orders=[{"no": "1", "lines": ["a", "b"]}, {"no": "2", "lines": []}])
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["1-a-00", "1-b-01", "1: 2", "2: 0"]


def test_a_bad_item_stops_the_run_and_goes_on_once_repaired(database, app_vendor):
    works = open_works(
        app_vendor.url, each("lines", "${event.data.lines}", send("tell", "${item.sku}"))
    )
    app_vendor.answers.append(
        (
            "messages",
            200,
            {
                "ok": True,
                "message": {
                    "message_no": "1",
                    "channel": "c",
                    "posted_at": "2026-11-22T09:30:02+08:00",
                },
            },
            {},
        )
    )
    app_vendor.answers.append(("messages", 422, {"ok": False, "error": "bad_text"}, {}))
    works.happen(lines=[{"sku": "A"}, {"sku": "B"}, {"sku": "C"}])
    settle()
    (run,) = runs()
    assert run.state == "parked"
    assert flow_paths.items_of(run.next_step) == (1,)
    assert recipe(works.document).path_of(run.next_step) == "lines[1]/tell"
    with transaction(EVERY) as session:
        changed = {"channel": "订单群", "text": "B'"}
        recovery.edit_input(session, works.organization_id, run.id, changed)
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["B'", "C"]


def test_a_loop_may_go_on_without_what_fails(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            shape("one", {"sku": "${item.sku}"}),
            send("tell", "${steps.one.output.sku}"),
            on_item_error="go_on",
        ),
        send("end", "失败 ${steps.lines.output.failed}：${steps.lines.output.errors[0].index}"),
    )
    works.happen(lines=[{"sku": "A"}, {}, {"sku": "C"}])
    settle()
    (run,) = runs()
    assert run.state == "succeeded"
    assert texts(app_vendor) == ["A", "C", "失败 1：1"]
    lines = steps(run.id)[0].output
    assert lines["results"][1] is None
    assert lines["errors"][0]["say"]["zh"]


def test_an_inner_loop_that_stops_fails_the_outer_loops_item(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "orders",
            "${event.data.orders}",
            each("lines", "${item.lines}", send("tell", "${item.sku}")),
            send("sum", "${item.no}"),
            on_item_error="go_on",
        ),
        send("end", "失败 ${steps.orders.output.failed}"),
    )
    works.happen(orders=[{"no": "1", "lines": [{"sku": "a"}, {}]}, {"no": "2", "lines": []}])
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["a", "2", "失败 1"]
    assert {s.state for s in rows(Step) if s.key == "lines"} == {"failed", "succeeded"}


def test_too_many_items_are_told(database, app_vendor):
    works = open_works(app_vendor.url, each("lines", "${event.data.lines}", send("tell", "x")))
    works.happen(lines=list(range(1_001)))
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "data")
    assert "1001" in run.say["zh"]
    assert "1000" in run.say["en"]
    assert app_vendor.messages() == []


def test_two_items_of_one_key_are_told(database, app_vendor):
    loop = each("lines", "${event.data.lines}", send("tell", "x"), item_key="${item.sku}")
    works = open_works(app_vendor.url, loop)
    works.happen(lines=[{"sku": "A"}, {"sku": "A"}])
    settle()
    assert (runs()[0].state, runs()[0].cause) == ("parked", "data")
    assert "A" in runs()[0].say["en"]


def test_a_thousand_items_give_others_their_turn(database, app_vendor, monkeypatch):
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", shape("one", {"n": "${item}"})),
        send("end", "第 ${steps.lines.output.results[999].n}"),
    )
    works.happen(lines=list(range(1_000)))
    monkeypatch.setattr(laps, "TURN_SECONDS", 0.003)
    turns = settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["第 999"]
    assert turns > 1


LINES = [{"sku": "A"}, {"sku": "B"}, {"sku": "C"}]


@pytest.mark.parametrize("after", [False, True])
def test_kills_inside_branches_and_loops_repeat_nothing(database, app_vendor, monkeypatch, after):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            branch(
                "kind",
                ("a", "${item.sku == 'A'}", [send("first", "A 类")]),
                otherwise=[
                    each(
                        "parts",
                        "${event.data.parts}",
                        send("part", "${steps.lines.item.sku}${item}"),
                    )
                ],
            ),
            send("tell", "${item.sku} ${steps.kind.output.way}"),
        ),
        send("end", "共 ${steps.lines.output.done}"),
    )
    works.happen(lines=LINES, parts=[1, 2])
    deaths = die_often(monkeypatch, every=2, after=after)
    assert deaths > 3
    (run,) = runs()
    assert run.state == "succeeded"
    assert texts(app_vendor) == ["A 类", "A a", "B1", "B2", "B else", "C1", "C2", "C else", "共 3"]
    keys = app_vendor.keys("messages")
    assert len(set(keys)) == 9
    assert len(keys) >= 9


def test_a_lost_answer_in_a_loop_is_repeated_under_its_items_key(database, app_vendor):
    works = open_works(
        app_vendor.url, each("lines", "${event.data.lines}", send("tell", "${item.sku}"))
    )
    app_vendor.keep_silent_after = "messages"
    works.happen(lines=LINES)
    settle()
    assert runs()[0].state == "waiting"
    app_vendor.keep_silent_after = None
    with clock.shifted(seconds=10):
        settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["A", "B", "C"]
    assert len(set(app_vendor.keys("messages"))) == 3


def test_what_a_person_found_done_in_a_loop_goes_on_behind_it(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", send("tell", "${item.sku}")),
        send("end", "${steps.lines.output.results[0].message_no}"),
    )
    app_vendor.answers.append(("messages", 422, {"ok": False, "error": "bad_text"}, {}))
    works.happen(lines=LINES[:2])
    settle()
    (run,) = runs()
    assert run.state == "parked"
    with transaction(EVERY) as session:
        recovery.mark_done(session, works.organization_id, run.id, {"message_no": "手工"})
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["B", "手工"]


def test_a_person_leaves_out_an_item(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            shape("one", {"sku": "${item.sku}"}),
            send("tell", "${steps.one.output.sku}"),
        ),
        send("end", "共 ${steps.lines.output.done}，略过 ${steps.lines.output.skipped}"),
    )
    works.happen(lines=[{"sku": "A"}, {}, {"sku": "C"}])
    app_vendor.answers.append(("messages", 503, {"ok": False}, {}))
    settle()
    with clock.shifted(seconds=10):
        settle()
    (run,) = runs()
    assert (run.state, flow_paths.items_of(run.next_step)) == ("parked", (1,))
    with transaction(EVERY) as session:
        recovery.leave_out_item(session, works.organization_id, run.id)
    app_vendor.answers.append(("messages", 503, {"ok": False}, {}))
    settle()
    assert runs()[0].state == "waiting"  # what was left out stays so when the run is read again
    with clock.shifted(seconds=60):
        settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["A", "C", "共 2，略过 1"]
    with pytest.raises(NotNow), transaction(EVERY) as session:
        recovery.leave_out_item(session, works.organization_id, run.id)


@pytest.mark.parametrize("lines", ["[1]", '"none"'])
def test_a_way_that_cannot_be_found_again_stops_where_the_run_stood(database, app_vendor, lines):
    """As when the stored event was damaged: nothing is done anew from the beginning."""
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", send("tell", "${item}"), on_item_error="go_on"),
    )
    event_id = works.happen(lines=["A", "B", "C"])
    done = (200, {"ok": True, "message": {
        "message_no": "1", "channel": "c", "posted_at": "2026-11-22T09:30:02+08:00"
    }}, {})  # fmt: skip
    app_vendor.answers += [("messages", *done), ("messages", *done), ("messages", 503, {}, {})]
    settle()
    before = runs()[0]
    assert (before.state, flow_paths.items_of(before.next_step)) == ("waiting", (2,))
    with transaction(EVERY) as session:
        body = f'{{"lines": {lines}}}'.encode()
        session.execute(EVENT.update().where(EVENT.c.id == event_id).values(body=body))
    with clock.shifted(seconds=60):
        settle()
    (run,) = runs()
    assert (run.state, run.next_step) == ("parked", before.next_step)
    assert run.say["zh"]
    assert texts(app_vendor) == []


def test_positions_tell_step_and_items():
    for items in ((), (0,), (999,), (0, 0), (999, 999), (3, 0)):
        for step in (0, 7, 79):
            position = flow_paths.position_at(step, items)
            assert position < 2**31
            assert flow_paths.step_of(position) == step
            assert flow_paths.items_of(position) == items
    assert claims.LEASE_SECONDS > laps.TURN_SECONDS
