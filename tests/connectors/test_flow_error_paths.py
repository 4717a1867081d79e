"""Error paths: what a flow does when a step has finally failed, and what waits for a person."""

import pytest
from factories.connectors import publish_unchecked, runs, settle, steps, vendor
from factories.ways import branch, die_often, each, open_works, send, shape, texts

from connectors import advance, claims, flows, lanes, onward, recording, recovery, stepping
from connectors.errors import NotNow
from connectors.tables import Connection
from kernel import clock
from kernel.database import EVERY, reading, transaction

REFUSED = ("messages", 400, {"ok": False, "error": "bad channel"}, {})


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


def caught(step, *inner, **more):
    """A step with an error path."""
    return {**step, "on_error": {"steps": list(inner), **more}}


def paths(run):
    """What was done, in order of the flow."""
    return [(step.key, step.state) for step in steps(run.id)]


def test_a_step_that_failed_goes_its_error_path_and_on(database, app_vendor):
    told = send("tell", "失败 ${error.step} ${error.class} ${error.status}")
    works = open_works(app_vendor.url, caught(send("first", "一"), told), send("last", "二"))
    app_vendor.answers.append(REFUSED)
    works.happen()
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("succeeded", "error_path")
    assert texts(app_vendor) == ["失败 first data 400", "二"]
    assert paths(run) == [("first", "failed"), ("tell", "succeeded"), ("last", "succeeded")]
    works.happen()
    settle()
    again = runs()[1]
    assert (again.state, again.cause) == ("succeeded", None)
    assert paths(again) == [("first", "succeeded"), ("last", "succeeded")]


def test_an_error_path_may_end_the_run(database, app_vendor):
    works = open_works(
        app_vendor.url,
        caught(send("first", "一"), send("tell", "失败"), then="end"),
        send("last", "二"),
    )
    app_vendor.answers.append(REFUSED)
    works.happen()
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "error_path")
    assert texts(app_vendor) == ["失败"]


def test_the_flow_catches_what_no_step_did(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", branch("b", ("w", True, [send("one", "${item}")]))),
        send("last", "完"),
    )
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, works.flow)
        document = {
            **flows.document_of(session, flow),
            "on_error": {"steps": [send("tell", "出错 ${error.step}", works.chat)]},
        }
        flow.draft = document
        publish_unchecked(session, flow)
    app_vendor.answers += [
        (
            "messages",
            200,
            {
                "ok": True,
                "message": {
                    "message_no": "MSG-1",
                    "channel": "x",
                    "posted_at": "2026-11-22T09:30:02+08:00",
                },
            },
            {},
        ),
        REFUSED,
    ]
    works.happen(lines=["甲", "乙", "丙"])
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "error_path")
    assert texts(app_vendor) == ["出错 lines[1]/one"]


def test_retries_come_before_the_error_path(database, app_vendor):
    works = open_works(app_vendor.url, caught(send("first", "一"), send("tell", "失败")))
    app_vendor.answers.append(("messages", 503, {}, {}))
    works.happen()
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("waiting", "down")
    assert texts(app_vendor) == []


@pytest.mark.parametrize("says", [False, True])
def test_an_unknown_outcome_waits_for_a_person_unless_the_flow_says_otherwise(
    database, app_vendor, says
):
    more = {"on_unknown": "error_path"} if says else {}
    step = caught(send("erp", "一"), send("tell", "${error.class}"), **more)
    works = open_works(app_vendor.url, step)
    works.happen()
    park_as_unknown(works)
    (run,) = runs()
    if says:
        assert (run.state, run.cause) == ("succeeded", "error_path")
        return
    assert (run.state, run.cause) == ("parked", "unknown")
    assert texts(app_vendor) == []
    with transaction(EVERY) as session:
        onward.take_error_path(session, works.organization_id, run.id, principal=None)
    settle()
    assert texts(app_vendor) == ["unknown"]
    assert runs()[0].state == "succeeded"
    with pytest.raises(NotNow), transaction(EVERY) as session:
        onward.take_error_path(session, works.organization_id, run.id, principal=None)


def park_as_unknown(works):
    """The hub stops between sending and noting the answer; the app cannot tell repeats."""
    for moving in advance.take("wrk_1", 10):
        call = stepping.work(moving)
        call.note.state = "sending"
        recording.record("wrk_1", [moving])
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle()


def test_a_loop_catches_what_stops_it(database, app_vendor):
    loop = each("lines", "${event.data.lines}", send("one", "${item}"))
    works = open_works(
        app_vendor.url, caught(loop, send("tell", "停在 ${error.step}")), send("last", "完")
    )
    app_vendor.answers.append(("messages", 400, {"ok": False, "error": "bad"}, {}))
    works.happen(lines=["甲", "乙"])
    settle()
    assert texts(app_vendor) == ["停在 lines[0]/one", "完"]
    assert runs()[0].cause == "error_path"


def test_items_that_fail_have_an_error_path_of_their_own(database, app_vendor):
    one = caught(send("one", "${item}"), send("tell", "坏 ${item} ${error.step}"))
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", one, send("after", "后 ${item}")),
        send("last", "完 ${steps.lines.output.done}"),
    )
    app_vendor.answers.append(REFUSED)
    works.happen(lines=["甲", "乙"])
    settle()
    assert texts(app_vendor) == ["坏 甲 lines[0]/one", "后 甲", "乙", "后 乙", "完 2"]
    assert (runs()[0].state, runs()[0].cause) == ("succeeded", "error_path")


def test_a_failure_in_the_error_path_stops_the_run(database, app_vendor):
    works = open_works(app_vendor.url, caught(send("first", "一"), send("tell", "失败")))
    app_vendor.answers += [REFUSED, REFUSED]
    works.happen()
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "data")
    with transaction(EVERY) as session:
        recovery.retry_now(session, works.organization_id, run.id)
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["失败"]


def test_a_refused_sign_in_is_told_to_the_connection_all_the_same(database, app_vendor):
    works = open_works(app_vendor.url, caught(send("first", "一"), shape("note", {"a": 1})))
    app_vendor.good_keys = set()
    works.happen()
    settle()
    assert (runs()[0].state, runs()[0].cause) == ("succeeded", "error_path")
    with reading(EVERY) as session:
        connection = session.get(Connection, (works.organization_id, works.chat))
        assert connection.state == "needs_attention"


@pytest.mark.parametrize("after", [False, True])
def test_kills_on_an_error_path_repeat_nothing(database, app_vendor, monkeypatch, after):
    one = caught(send("one", "${item}"), send("tell", "坏 ${item}"), send("more", "再 ${item}"))
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", one),
        caught(send("end", "完"), send("no", "不该")),
    )
    fail_texts(app_vendor, {"乙", "丙"})
    works.happen(lines=["甲", "乙", "丙"])
    assert die_often(monkeypatch, every=2, after=after) > 3
    (run,) = runs()
    assert (run.state, run.cause) == ("succeeded", "error_path")
    assert sorted(texts(app_vendor)) == sorted(["甲", "坏 乙", "再 乙", "坏 丙", "再 丙", "完"])


def fail_texts(target, bad):
    """The app refuses these texts for good."""
    real = target.answer

    def answer(path, headers, body):
        if body.get("text") in bad:
            return 400, {"ok": False, "error": "bad text"}, {}
        return real(path, headers, body)

    target.answer = answer
