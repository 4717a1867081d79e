"""Delays and approvals: runs rest without a lease and go on once, whoever comes when."""

import threading
from datetime import timedelta

import pytest
from factories.connectors import rows, runs, settle, steps, vendor
from factories.ways import (
    approval,
    branch,
    delay,
    die_often,
    each,
    open_works,
    send,
    texts,
)

from connectors import approvals, flows, lanes, order_lanes, recovery, run_records
from connectors.claims import claim
from connectors.errors import NotNow, Unfit
from connectors.runs import count_waiting
from connectors.tables import Approval, Run
from identity.suspensions import HOLDS
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Forbidden
from webhooks.keeping.records import Forgetting
from webhooks.tables import Event


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


def decide(works, judge, decision="approve", comment="", which=None):
    with transaction(EVERY) as session:
        chosen = which or next(one.id for one in rows_of(session) if one.state == "open")
        return approvals.decide(
            session, works.organization_id, chosen, decision, judge, comment
        ).state


def rows_of(session):
    return list(session.exec(Approval.__table__.select()).all())


# --- delays --------------------------------------------------------------------------------------


def test_a_delay_rests_without_a_lease_and_goes_on_by_itself(database, app_vendor):
    works = open_works(app_vendor.url, delay("wait", **{"for": "2h"}), send("end", "到了"))
    works.happen()
    settle()
    (run,) = runs()
    assert (run.state, run.cause, run.lease_until) == ("waiting", "delay", None)
    left = (run.next_at - clock.now()).total_seconds()
    assert 7_190 < left <= 7_200
    assert settle() == 0
    with clock.shifted(seconds=7_100):
        assert settle() == 0
    with clock.shifted(seconds=7_201):
        settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["到了"]


def test_a_delay_until_a_time_of_the_event(database, app_vendor):
    works = open_works(app_vendor.url, delay("wait", until="${event.data.due}"), send("end", "到"))
    works.happen(due=(clock.now() + timedelta(minutes=10)).isoformat())
    works.happen(due=(clock.now() - timedelta(days=1)).isoformat())
    works.happen(due="明天")
    works.happen(due="2999-01-01")
    settle()
    found = [(run.state, run.cause) for run in runs()]
    assert found == [
        ("waiting", "delay"),
        ("succeeded", None),
        ("parked", "data"),
        ("parked", "data"),
    ]
    with clock.shifted(seconds=601):
        settle()
    assert runs()[0].state == "succeeded"


def test_a_person_ends_a_delay(database, app_vendor):
    works = open_works(app_vendor.url, delay("wait", **{"for": "9d"}), send("end", "到了"))
    works.happen()
    settle()
    with transaction(EVERY) as session:
        recovery.end_delay(session, works.organization_id, runs()[0].id, "李工")
    settle()
    (run,) = runs()
    assert run.state == "succeeded"
    assert steps(run.id)[0].output["ended_by"] == "李工"
    with pytest.raises(NotNow), transaction(EVERY) as session:
        recovery.end_delay(session, works.organization_id, run.id, "李工")


def test_a_delay_that_is_woken_too_early_rests_on(database, app_vendor):
    """As when its organization was suspended meanwhile, or its flow got another order."""
    works = open_works(app_vendor.url, delay("wait", **{"for": "2h"}), send("end", "到了"))
    works.happen()
    settle()
    due = runs()[0].next_at
    hold = next(one for one in HOLDS if one.name == "runs")
    with transaction(EVERY) as session:
        hold.hold(session, works.organization_id, 100)
    assert runs()[0].next_at is None
    with transaction(EVERY) as session:
        hold.let_go(session, works.organization_id, 100)
    settle()
    (run,) = runs()
    assert run.state == "waiting"
    assert abs((run.next_at - due).total_seconds()) < 5
    assert texts(app_vendor) == []


def test_a_delayed_head_holds_its_lane(database, app_vendor):
    works = open_works(
        app_vendor.url,
        delay("wait", **{"for": "2h"}),
        send("end", "${event.data.no}"),
        order_key="flow",
    )
    works.happen(no="1")
    settle()
    works.happen(no="2")
    settle()
    head, behind = runs()
    assert (head.state, head.cause, behind.state, behind.next_at) == (
        "waiting",
        "delay",
        "waiting",
        None,
    )
    with reading(works.organization_id) as session:
        assert (
            order_lanes.in_front(session, session.get(Run, (works.organization_id, behind.id))).id
            == head.id
        )
    with clock.shifted(seconds=7_201):
        settle()
    assert texts(app_vendor) == ["1"]
    assert runs()[1].cause == "delay"
    with clock.shifted(seconds=14_500):
        settle()
    assert texts(app_vendor) == ["1", "2"]


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_delays_repeat_nothing(database, app_vendor, monkeypatch, after):
    works = open_works(
        app_vendor.url,
        each(
            "lines", "${event.data.lines}", delay("wait", **{"for": "1s"}), send("tell", "${item}")
        ),
    )
    works.happen(lines=["A", "B"])
    with clock.shifted(seconds=0):
        die_often(monkeypatch, every=1, after=after) if after else settle()
    for ahead in (1_000, 2_000, 3_000, 4_000):
        with clock.shifted(seconds=ahead):
            settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["A", "B"]
    assert len(set(app_vendor.keys("messages"))) == 2


# --- approvals -----------------------------------------------------------------------------------


def asks(*more, **over):
    return [
        approval(
            "ok", "付款 ${event.data.no}", text="金额 ${event.data.amount}", deadline="3d", **over
        ),
        send("pay", "付 ${event.data.no}，${steps.ok.output.by}说${steps.ok.output.comment}"),
        *more,
    ]


def test_an_approval_waits_for_a_person(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    boss = works.person()
    works.happen(no="7", amount="12.50")
    settle()
    (run,), (asked,) = runs(), rows(Approval)
    assert (run.state, run.cause, run.lease_until) == ("waiting", "approval", None)
    assert (asked.title, asked.text, asked.state) == ("付款 7", "金额 12.50", "open")
    assert asked.run_id == run.id
    assert abs((asked.deadline_at - clock.now()).total_seconds() - 3 * 86_400) < 10
    with reading(works.organization_id) as session:
        mine = approvals.open_for(session, works.organization_id, boss)
        assert [one.id for one in mine] == [asked.id]
    assert decide(works, boss, comment="同意") == "approved"
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["付 7，王主管说同意"]
    (asked,) = rows(Approval)
    assert (asked.decided_by, asked.decided_name, asked.comment) == (boss.user_id, "王主管", "同意")
    assert asked.decided_at


def test_a_refusal_ends_the_run(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    works.happen(no="7", amount="1")
    settle()
    assert decide(works, works.person(), "refuse") == "refused"
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "refused")
    assert run.say["zh"]
    assert steps(run.id)[0].state == "skipped"
    assert texts(app_vendor) == []


def test_a_refusal_goes_its_own_way(database, app_vendor):
    works = open_works(
        app_vendor.url, *asks(refused=[send("no", "不付 ${steps.ok.output.comment}")])
    )
    works.happen(no="7", amount="1")
    settle()
    decide(works, works.person(), "refuse", "太贵")
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("skipped", "refused")
    assert texts(app_vendor) == ["不付 太贵"]


def test_only_those_who_are_asked_decide(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    clerk = works.person("member", "小张")
    works.happen(no="7", amount="1")
    settle()
    with pytest.raises(Forbidden):
        decide(works, clerk)
    with pytest.raises(Forbidden):
        decide(works, None)
    with pytest.raises(Unfit):
        decide(works, works.person(), "maybe")
    with pytest.raises(Unfit):
        decide(works, works.person("owner", "老板"), "approve", "x" * 2_000)
    assert rows(Approval)[0].state == "open"
    assert decide(works, works.person("owner", "董事长")) == "approved"


def test_a_member_is_asked_by_name(database, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    clerk, other = works.person("member", "小张"), works.person("member", "小李")
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, works.flow)
        ask = approval("ok", who={"members": [clerk.member_id]})
        flow.draft = {**works.document, "steps": [ask]}
        from factories.connectors import publish_unchecked

        publish_unchecked(session, flow)
    works.happen()
    settle()
    with pytest.raises(Forbidden):
        decide(works, other)
    assert decide(works, clerk) == "approved"


def test_two_people_at_once_decide_once(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    people = [works.person("admin", f"主管{n}") for n in range(4)]
    works.happen(no="7", amount="1")
    settle()
    (asked,) = rows(Approval)
    begin, found = threading.Barrier(4), []

    def click(judge, decision):
        begin.wait()
        try:
            found.append(decide(works, judge, decision, judge.name, asked.id))
        except NotNow as late:
            found.append(late)

    threads = [
        threading.Thread(target=click, args=(one, ("approve", "refuse")[n % 2]))
        for n, one in enumerate(people)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    won = [one for one in found if isinstance(one, str)]
    assert len(won) == 1
    assert len(found) == 4
    settle()
    (asked,) = rows(Approval)
    assert asked.state == won[0]
    assert runs()[0].state == ("succeeded" if won[0] == "approved" else "skipped")
    assert len(texts(app_vendor)) == (won[0] == "approved")


def test_a_deadline_decides(database, app_vendor):
    for at_deadline in ("refuse", "approve"):
        works = open_works(
            app_vendor.url,
            approval("ok", deadline="1h", at_deadline=at_deadline),
            send("pay", at_deadline),
        )
        works.happen()
    settle()
    assert approvals.sweep() == 0
    with clock.shifted(seconds=3_700):
        with pytest.raises(NotNow) as over:  # also before anybody has looked for deadlines
            decide(works, works.person(), which=rows(Approval)[1].id)
        assert "deadline" in over.value.title.lower()
        assert approvals.sweep() == 2
        assert approvals.sweep() == 0
        settle()
    assert sorted(run.state for run in runs()) == ["skipped", "succeeded"]
    assert texts(app_vendor) == ["approve"]
    assert {one.decided_by for one in rows(Approval)} == {None}
    with pytest.raises(NotNow) as late:
        decide(works, works.person(), which=rows(Approval)[1].id)
    assert "deadline" in late.value.title.lower()


def test_a_reminder_is_told_once(database, app_vendor):
    works = open_works(app_vendor.url, approval("ok", deadline="2d", remind="4h"))
    works.happen()
    settle()
    with clock.shifted(seconds=4 * 3_600 + 10):
        assert approvals.sweep() == 1
        assert approvals.sweep() == 0
        (asked,) = rows(Approval)
        assert asked.state == "open"
        assert asked.reminded_at
        assert asked.next_at == asked.deadline_at
    told = [one.type for one in rows(Event) if one.type.startswith("approval.")]
    assert told == ["approval.asked", "approval.reminded"]


def test_a_run_that_only_looked_cannot_undo_a_decision(database, app_vendor):
    """A worker holds the run to look at the time while somebody decides."""
    works = open_works(app_vendor.url, *asks())
    works.happen(no="7", amount="1")
    settle()
    with transaction(EVERY) as session:
        session.execute(Run.__table__.update().values(next_at=clock.now() - timedelta(seconds=1)))
    from connectors import loading, recording, stepping

    (late,) = loading.load(claim("late"))
    assert stepping.work(late) is None
    assert late.state == "waiting"
    assert decide(works, works.person()) == "approved"
    assert recording.record("late", [late]) == []
    assert runs()[0].state == "due"
    settle()
    assert runs()[0].state == "succeeded"


def test_approvals_inside_branches_and_loops(database, app_vendor):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            branch(
                "size",
                ("big", "${item.amount > 100}", [approval("ok", "付 ${item.no}")]),
            ),
            send("pay", "付 ${item.no}"),
        ),
        send("end", "略过 ${steps.lines.output.skipped}"),
    )
    boss = works.person()
    works.happen(lines=[{"no": n, "amount": a} for n, a in (("1", 1), ("2", 500), ("3", 900))])
    settle()
    assert texts(app_vendor) == ["付 1"]
    assert [one.title for one in rows(Approval)] == ["付 2"]
    decide(works, boss, "refuse")
    settle()
    assert [one.title for one in rows(Approval)] == ["付 2", "付 3"]
    decide(works, boss)
    settle()
    assert runs()[0].state == "succeeded"
    assert texts(app_vendor) == ["付 1", "付 3", "略过 1"]


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_approvals_ask_once(database, app_vendor, monkeypatch, after):
    works = open_works(
        app_vendor.url,
        each("lines", "${event.data.lines}", approval("ok", "付 ${item}"), send("pay", "${item}")),
    )
    boss = works.person()
    works.happen(lines=["A", "B"])
    if not after:
        # the worker dies before its first record: nothing was asked yet
        from factories.ways import Killed, killed_at

        from connectors import advance

        with killed_at(monkeypatch, 1, after=False), pytest.raises(Killed):
            advance.advance("doomed")
        assert rows(Approval) == []
    for ahead in (100, 200, 300):
        with clock.shifted(seconds=ahead):
            die_often(monkeypatch, after=after) if after else settle()
            still_open = [one for one in rows(Approval) if one.state == "open"]
            if still_open:
                decide(works, boss)
    with clock.shifted(seconds=1_000):
        settle()
    assert runs()[0].state == "succeeded"
    assert [one.title for one in rows(Approval)] == ["付 A", "付 B"]
    assert texts(app_vendor) == ["A", "B"]


def test_a_cancelled_run_asks_no_more(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    boss = works.person()
    works.happen(no="7", amount="1")
    settle()
    with pytest.raises(NotNow), transaction(EVERY) as session:
        recovery.retry_now(session, works.organization_id, runs()[0].id)
    with transaction(EVERY) as session:
        recovery.cancel(session, works.organization_id, runs()[0].id)
    assert rows(Approval)[0].state == "withdrawn"
    with pytest.raises(NotNow):
        decide(works, boss, which=rows(Approval)[0].id)
    works.happen(no="8", amount="1")
    settle()
    with transaction(EVERY) as session:
        flows.delete(session, works.organization_id, works.flow, force=True)
    assert [one.state for one in rows(Approval)] == ["withdrawn", "withdrawn"]


def test_a_replayed_event_asks_anew(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    boss = works.person()
    works.happen(no="7", amount="1")
    settle()
    with transaction(EVERY) as session:
        recovery.replay_start(session, works.organization_id, runs()[0].id)
    settle()
    assert [one.state for one in rows(Approval)] == ["withdrawn", "open"]
    decide(works, boss)
    settle()
    assert [run.state for run in runs()] == ["cancelled", "succeeded"]


def test_details_and_events_take_approvals_along(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    boss = works.person()
    event_id = works.happen(no="7", amount="1")
    settle()
    decide(works, boss, "approve", "给张三")
    settle()
    now = clock.now()
    forgetting = Forgetting(before=now + timedelta(days=1), now=now, days=3, most=10)
    with transaction(EVERY) as session:
        collected = run_records.collect(session, works.organization_id, [event_id])
        assert run_records.forget(session, works.organization_id, forgetting) == 1
    (run,) = collected[event_id]
    assert run["approvals"][0]["comment"] == "给张三"
    run_records.bare(run, forgetting)
    (kept,) = rows(Approval)
    for comment, title in (
        (kept.comment, kept.title),
        (run["approvals"][0]["comment"], run["approvals"][0]["title"]),
    ):
        assert (comment, title) == (None, "")
    assert kept.decided_by == boss.user_id
    with transaction(EVERY) as session:
        run_records.drop(session, works.organization_id, [event_id])
    assert rows(Approval) == []


def test_a_run_that_was_set_aside_meanwhile_takes_the_decision_when_it_is_retried(
    database, app_vendor
):
    works = open_works(app_vendor.url, *asks())
    works.happen(no="7", amount="1")
    settle()
    with transaction(EVERY) as session:
        session.execute(Run.__table__.update().values(state="parked", cause="quarantined"))
    decide(works, works.person())
    assert settle() == 0
    with transaction(EVERY) as session:
        recovery.retry_now(session, works.organization_id, runs()[0].id)
    settle()
    assert runs()[0].state == "succeeded"


def test_runs_that_rest_as_they_should_are_no_backlog(database, app_vendor):
    works = open_works(app_vendor.url, *asks())
    works.happen(no="7", amount="1")
    with reading(works.organization_id) as session:
        assert count_waiting(session, works.organization_id, 10) == 1
    settle()
    with reading(works.organization_id) as session:
        assert count_waiting(session, works.organization_id, 10) == 0
