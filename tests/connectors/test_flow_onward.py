"""A person sends a run on from another step: what went before is taken over, the rest is new."""

import pytest
from factories.connectors import runs, settle, steps, vendor
from factories.ways import approval, branch, delay, each, open_works, send, shape, texts

from connectors import approvals, lanes, onward, recovery
from connectors.approvals import Judge
from connectors.errors import NotNow
from connectors.resting import quota
from connectors.tables import Approval, Run
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import NotFound
from kernel.settings import settings_override


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


def replay(works, run_id, key):
    with transaction(EVERY) as session:
        run = session.get(Run, (works.organization_id, run_id))
        return onward.replay_from(session, run, key, principal=None).id


def found(run_id):
    return next(run for run in runs() if run.id == run_id)


def test_earlier_steps_are_taken_over_and_later_ones_are_new(database, app_vendor):
    works = open_works(
        app_vendor.url,
        send("one", "一"),
        branch("way", ("w", True, [send("two", "二 ${steps.one.output.message_no}")])),
        send("three", "三"),
    )
    works.happen()
    settle()
    (old,) = runs()
    again = replay(works, old.id, "two")
    settle()
    run = found(again)
    assert (run.state, run.replayed_from, run.flow_version) == ("succeeded", old.id, 1)
    assert texts(app_vendor) == ["一", "二 MSG-1", "三", "二 MSG-1", "三"]
    taken = {step.key: step.taken_from for step in steps(again)}
    assert taken == {"one": old.id, "way": old.id, "two": None, "three": None}
    keys = app_vendor.keys("messages")
    assert len(set(keys)) == 5
    assert found(old.id).state == "succeeded"


def test_an_unfinished_step_keeps_its_effect_key(database, app_vendor):
    works = open_works(app_vendor.url, send("one", "一"), send("two", "二"), send("three", "三"))
    app_vendor.keep_silent_after = None
    real = app_vendor.answer

    def answer(path, headers, body):
        done = real(path, headers, body)
        return (400, {"ok": False, "error": "late"}, {}) if body.get("text") == "二" else done

    app_vendor.answer = answer
    works.happen()
    settle()
    (old,) = runs()
    assert old.state == "parked"
    app_vendor.answer = real
    again = replay(works, old.id, "two")
    settle()
    assert found(again).state == "succeeded"
    assert found(old.id).state == "cancelled"
    assert texts(app_vendor) == ["一", "二", "三"]  # the app knew the key
    earlier = replay(works, again, "one")
    settle()
    assert found(earlier).state == "succeeded"
    assert texts(app_vendor) == ["一", "二", "三", "一", "二", "三"]


def test_inside_a_loop_only_while_it_is_open(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            shape("kept", {"n": "${item}"}),
            send("tell", "${steps.kept.output.n} 号"),
            send("more", "再 ${item}"),
        ),
        send("end", "完"),
    )
    fail = {"再 乙"}
    real = app_vendor.answer

    def answer(path, headers, body):
        if body.get("text") in fail:
            return 400, {"ok": False, "error": "bad"}, {}
        return real(path, headers, body)

    app_vendor.answer = answer
    works.happen(lines=["甲", "乙", "丙"])
    settle()
    (old,) = runs()
    assert old.state == "parked"
    fail.clear()
    again = replay(works, old.id, "tell")
    settle()
    assert found(again).state == "succeeded"
    assert texts(app_vendor) == [
        "甲 号",
        "再 甲",
        "乙 号",
        "乙 号",
        "再 乙",
        "丙 号",
        "再 丙",
        "完",
    ]
    with pytest.raises(NotNow) as told:
        replay(works, again, "tell")
    assert "inside a loop that is over" in told.value.title
    whole = replay(works, again, "lines")
    settle()
    assert found(whole).state == "succeeded"
    assert texts(app_vendor)[8:] == ["甲 号", "再 甲", "乙 号", "再 乙", "丙 号", "再 丙", "完"]


def test_what_cannot_be_replayed_is_said(database, app_vendor):
    works = open_works(
        app_vendor.url,
        branch("way", ("w", "${event.data.go}", [send("in", "进")]), otherwise=[send("out", "出")]),
        delay("rest", **{"for": "2h"}),
        send("end", "完"),
    )
    works.happen(go=True)
    settle()
    (old,) = runs()
    with pytest.raises(NotFound):
        replay(works, old.id, "nothing")
    for key in ("out", "end"):
        with pytest.raises(NotNow) as told:
            replay(works, old.id, key)
        assert "never came" in told.value.title
    again = replay(works, old.id, "in")
    assert found(old.id).state == "cancelled"
    settle()
    with clock.shifted(seconds=7_300):
        settle()
    assert texts(app_vendor) == ["进", "进", "完"]
    with transaction(EVERY) as session:
        run = session.get(Run, (works.organization_id, again))
        run.details_removed_at = clock.now()
        session.add(run)
    with pytest.raises(NotNow):
        replay(works, again, "in")


def test_a_strangers_run_is_not_found(database, app_vendor):
    works = open_works(app_vendor.url, send("one", "一"))
    theirs = open_works(app_vendor.url, send("one", "一"))
    works.happen()
    settle()
    with transaction(EVERY) as session:
        run = session.get(Run, (works.organization_id, runs()[0].id))
        stranger = Run(**{**run.model_dump(), "organization_id": theirs.organization_id})
        with pytest.raises(NotFound):
            onward.replay_from(session, stranger, "one", principal=None)


def test_decisions_are_taken_over(database, app_vendor):
    works = open_works(app_vendor.url, approval("ok"), send("one", "一"), send("two", "二"))
    works.happen()
    settle()
    with transaction(EVERY) as session:
        asked = session.exec(Approval.__table__.select()).one()
        approvals.decide(session, works.organization_id, asked.id, "approve", works_judge())
    settle()
    again = replay(works, runs()[0].id, "two")
    settle()
    assert found(again).state == "succeeded"
    assert texts(app_vendor) == ["一", "二", "二"]
    with reading(EVERY) as session:
        assert len(session.exec(Approval.__table__.select()).all()) == 1


def works_judge():
    return Judge("usr_x", "mem_x", "owner", "老板")


# --- quota ---------------------------------------------------------------------------------------


def test_runs_at_rest_are_bounded_and_the_refusal_is_plain(database, app_vendor):
    quota._counts.clear()
    works = open_works(app_vendor.url, delay("rest", **{"for": "2h"}), send("end", "完"))
    with settings_override(resting_limit=2):
        for _ in range(3):
            works.happen()
        settle()
        assert [run.state for run in runs()].count("waiting") == 2
        held = next(run for run in runs() if run.state == "parked")
        assert (held.cause, "Too many runs" in held.say["en"]) == ("limit", True)
        quota._counts.clear()
        with transaction(EVERY) as session:
            recovery.cancel(
                session,
                works.organization_id,
                next(run.id for run in runs() if run.state == "waiting"),
            )
            recovery.retry_now(session, works.organization_id, held.id)
        settle()
        assert found(held.id).state == "waiting"
        with clock.shifted(seconds=7_300):
            settle()
    assert texts(app_vendor) == ["完", "完"]


def test_a_question_that_may_not_be_asked_is_not_asked(database, app_vendor):
    quota._counts.clear()
    works = open_works(app_vendor.url, approval("ok"))
    with settings_override(resting_limit=0):
        works.happen()
        settle()
    assert (runs()[0].state, runs()[0].cause) == ("parked", "limit")
    with reading(EVERY) as session:
        assert session.exec(Approval.__table__.select()).all() == []
