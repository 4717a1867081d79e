"""Installs that never strand: whatever breaks, a rollout ends active or absent and tidy."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from factories.identity import make_member, make_organization
from factories.marketplace import APPS, BUNDLE, acting, start_vendors, stock_the_demo
from sqlalchemy import event, func, select
from sqlmodel import Session, col

from catalog.tables import Bundle
from connectors import flows
from connectors.tables import Connection, Flow, Run
from identity.tables import AuditEntry
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Conflict, NotFound
from kernel.settings import settings_override
from marketplace import installations, rollout_calls, rollout_turns, rollouts
from marketplace.tables import FINISHED, Installation, Rollout, RolloutStep
from webhooks import hooks
from webhooks.tables import Event, Source

STEPS = 11  # validate, 3 × provision, 3 × connect, subscribe, wire, test, activate


class Killed(BaseException):
    """Stands for kill -9: nothing in the house catches it."""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The mock vendors, started once."""
    started = start_vendors(tmp_path_factory.mktemp("vendors"))
    yield started
    started.running.close()


@pytest.fixture
def vendors(running, database):
    """The mock vendors without faults or accounts, reachable from the hub."""
    running.reset()
    hooks.install(None)  # the door for domain events, as in the running hub
    stock_the_demo()
    allowed = tuple(f"127.0.0.1:{running.base_port + n}" for n in range(3))
    with settings_override(demo=True, demo_port=running.base_port, outbound_allow=allowed):
        yield running


@pytest.fixture
def owner(vendors):
    """The owner of a firm."""
    return new_owner()


def new_owner():
    """The owner of a fresh firm, as a principal."""
    with transaction(EVERY) as session:
        return acting(make_member(session, make_organization(session)))


def install(by, bundle=BUNDLE) -> Rollout:
    """Ask for a bundle."""
    with transaction(by.organization_id) as session:
        return rollouts.install_bundle(session, by, bundle)


def look(by, rollout) -> Rollout:
    """The rollout as it stands now."""
    with reading(by.organization_id) as session:
        return rollouts.find(session, by.organization_id, rollout.id)


def steps_of(by, rollout) -> list[RolloutStep]:
    """Its steps as they stand now."""
    with reading(by.organization_id) as session:
        return rollouts.steps_of(session, rollout)


def turn(worker="w1") -> bool:
    """One turn; False when nothing is due."""
    found = rollout_turns.claim(worker)
    if found is None:
        return False
    rollout_turns.take(found)
    return True


def drive(by, rollout, minutes=15) -> Rollout:
    """Let time pass until the rollout is over; fails when it is not within the minutes."""
    with ExitStack() as stack:
        for _ in range(minutes * 60 // 5):
            rollout_turns.advance_rollouts("w1")
            now = look(by, rollout)
            if now.state in FINISHED:
                return now
            stack.enter_context(clock.shifted(seconds=5))
    raise AssertionError(f"stranded in {now.state}: {[s.state for s in steps_of(by, rollout)]}")


def count(session, table, *conditions) -> int:
    return session.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()


def ours(by) -> dict[str, int]:
    """What the hub still holds for a firm."""
    with reading(by.organization_id) as session:
        org = by.organization_id
        return {
            "connections": count(
                session,
                Connection,
                col(Connection.organization_id) == org,
                col(Connection.state) != "revoked",
            ),
            "secrets": count(
                session,
                Connection,
                col(Connection.organization_id) == org,
                col(Connection.fields_sealed).is_not(None),
            ),
            "sources": count(session, Source, col(Source.organization_id) == org),
            "flows": count(
                session, Flow, col(Flow.organization_id) == org, col(Flow.deleted_at).is_(None)
            ),
            "installations": count(
                session,
                Installation,
                col(Installation.organization_id) == org,
                col(Installation.state) != "absent",
            ),
            "open": count(
                session,
                Rollout,
                col(Rollout.organization_id) == org,
                col(Rollout.state).not_in(FINISHED),
            ),
        }


NOTHING = dict.fromkeys(("connections", "secrets", "sources", "flows", "installations", "open"), 0)
ALL_THERE = {
    "connections": 3,
    "secrets": 3,
    "sources": 1,
    "flows": 1,
    "installations": 3,
    "open": 0,
}


def check_end(by, vendors, rollout, *, vendors_answer=True) -> None:
    """The property of all these tests: all there, or nothing left over without a word of it."""
    assert rollout.claim_key is None
    assert rollout.finished_at is not None
    if rollout.state == "active":
        assert ours(by) == ALL_THERE
        assert len(vendors.accounts(by.organization_id)) == 3
        assert vendors.subscriptions(by.organization_id) == 1
        return
    assert ours(by) == NOTHING
    assert rollout.problem["zh"]
    assert rollout.problem["en"]
    if vendors_answer:
        assert vendors.accounts(by.organization_id) == []
        assert rollout.notes == []
    else:
        left = {one.partition(":")[0] for one in vendors.accounts(by.organization_id)}
        assert left <= {note["app_key"] for note in rollout.notes}


# --- the happy way ----------------------------------------------------------------


def test_an_install_ends_active_with_everything_in_place(owner, vendors, nudges):
    rollout = install(owner)
    assert nudges == [rollouts.TASK]
    done = drive(owner, rollout)
    assert done.state == "active"
    check_end(owner, vendors, done)
    assert [s.state for s in steps_of(owner, done)] == ["done"] * STEPS
    with reading(owner.organization_id) as session:
        found = session.execute(installations.of_organization(owner.organization_id)).scalars()
        by_key = {one.app_key: one for one in found}
        assert set(by_key) == set(APPS)
        shop = by_key["demo-shop"]
        assert shop.account
        assert shop.open_url.startswith("http://127.0.0.1:")
        assert shop.slot == "marketing"
        assert shop.release_id
        flow = flows.all_of(session, owner.organization_id)[0]
        assert flow.state == "active"
        assert flow.listens_connection_id == shop.connection_id
        names = session.execute(select(Event.type).order_by(col(Event.id))).scalars().all()
        assert names == ["installation.created"] * 3
        audited = session.execute(select(AuditEntry.action)).scalars().all()
        assert audited.count("installation.created") == 3
        assert "rollout.requested" in audited


def test_no_secret_leaves_the_vault(owner, vendors):
    rollout = drive(owner, install(owner))
    keys = [
        row["api_key"]
        for key in APPS
        for row in vendors.running[key].app.ledger.run("SELECT api_key FROM installation")
    ]
    secret = vendors.running["demo-shop"].app.ledger.run("SELECT secret FROM subscription")[0]
    with reading(owner.organization_id) as session:
        rows = [rollouts.find(session, owner.organization_id, rollout.id)]
        rows += rollouts.steps_of(session, rollout)
        rows += session.execute(Installation.of(owner.organization_id)).scalars()
        rows += session.execute(Event.of(owner.organization_id)).scalars()
        rows += session.execute(AuditEntry.of(owner.organization_id)).scalars()
        kept = " ".join(repr(row) for row in rows)
    for hidden in (*keys, secret["secret"]):
        assert hidden not in kept


def test_the_source_verifies_with_the_vendors_secret(owner, vendors):
    from webhooks import sources

    drive(owner, install(owner))
    secret = vendors.running["demo-shop"].app.ledger.run("SELECT secret FROM subscription")[0]
    with reading(owner.organization_id) as session:
        source = session.execute(Source.of(owner.organization_id)).scalar_one()
        assert sources.secret_of(source) == secret["secret"]


# --- faults at every step ----------------------------------------------------------------


def stride(database) -> int:
    """Every commit on SQLite, every third on PostgreSQL: the code is one, a kill is the same."""
    return 1 if database.url.startswith("sqlite") else 3


def start_broken(by, vendors, step, break_it) -> Rollout:
    """Install up to a step, then break something, then let it run to its end."""
    rollout = install(by)
    for _ in range(step):
        assert turn()
    break_it()
    return drive(by, rollout)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["down", "unauthorized", "rate_limited", "lost"])
def test_a_vendor_that_fails_for_good_at_any_step(vendors, database, mode):
    for step in range(0, STEPS, stride(database)):
        by = new_owner()
        done = start_broken(by, vendors, step, lambda: vendors.behave(mode, seconds=1))
        check_end(by, vendors, done, vendors_answer=False)
        vendors.behave("ok")
        # after the last call nothing can fail any more; before it nothing can succeed
        assert done.state == ("active" if step > 7 else "absent"), step


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["down", "rate_limited", "lost"])
def test_a_vendor_that_fails_once_at_any_step_costs_a_retry_only(vendors, database, mode):
    for step in range(0, STEPS, stride(database)):
        by = new_owner()
        done = start_broken(by, vendors, step, lambda: vendors.behave(mode, seconds=1, times=1))
        assert done.state == "active", (step, done.problem)
        check_end(by, vendors, done)
        vendors.behave("ok")


@pytest.mark.slow
@pytest.mark.parametrize("key", APPS)
@pytest.mark.parametrize("mode", ["down", "unauthorized", "lost"])
def test_one_vendor_fails_and_the_others_are_tidied_up(vendors, database, key, mode):
    for step in range(1, 8, stride(database)):
        by = new_owner()
        done = start_broken(by, vendors, step, lambda: vendors.behave(mode, key))
        check_end(by, vendors, done, vendors_answer=False)
        assert {one.partition(":")[0] for one in vendors.accounts(by.organization_id)} <= {
            key if done.state == "absent" else one for one in APPS
        }
        vendors.behave("ok")
        vendors.reset()


def test_a_vendor_back_in_time_for_the_undo_keeps_no_account(owner, vendors):
    rollout = install(owner)
    for _ in range(3):
        assert turn()
    vendors.behave("down", "demo-chat")
    with ExitStack() as stack:
        while look(owner, rollout).state != "compensating":
            rollout_turns.advance_rollouts("w1")
            stack.enter_context(clock.shifted(seconds=5))
        vendors.behave("ok")
        done = drive(owner, rollout)
    assert done.state == "absent"
    assert done.problem["code"] == "vendor_down"
    check_end(owner, vendors, done)


def test_an_account_whose_answer_got_lost_is_found_and_closed(owner, vendors):
    rollout = install(owner)
    assert turn()
    vendors.behave("lost", "demo-shop", times=1)
    assert turn()
    assert len(vendors.accounts(owner.organization_id)) == 1  # made, but we never heard of it
    with transaction(owner.organization_id) as session:
        rollouts.cancel(session, owner, rollout.id)
    done = drive(owner, rollout)
    assert done.state == "absent"
    check_end(owner, vendors, done)


def test_a_slow_vendor_runs_into_the_time_limit(owner, vendors, monkeypatch):
    monkeypatch.setattr(rollout_calls, "CALL_SECONDS", 0.2)
    vendors.behave("slow", "demo-erp", seconds=0.6)
    done = drive(owner, install(owner))
    assert done.state == "absent"
    assert done.problem["code"] == "vendor_down"
    check_end(owner, vendors, done, vendors_answer=False)


def test_a_dead_vendor_is_named_in_a_note_and_its_keys_are_destroyed(owner, vendors):
    done = start_broken(owner, vendors, 4, lambda: vendors.behave("down", "demo-erp"))
    assert done.state == "absent"
    assert [note["app_key"] for note in done.notes] == ["demo-erp"]
    assert "密钥已经销毁" in done.notes[0]["zh"]
    assert ours(owner)["secrets"] == 0


def test_a_flow_that_fails_its_trial_undoes_everything_and_never_ran(owner, vendors):
    rollout = install(owner)
    while not any(s.kind == "wire" and s.state == "done" for s in steps_of(owner, rollout)):
        assert turn()
    with transaction(owner.organization_id) as session:
        flow = flows.all_of(session, owner.organization_id)[0]
        broken = {**flow.draft, "steps": [dict(s) for s in flow.draft["steps"]]}
        broken["steps"][1]["mapping"] = {"number": "${event.data.not_there}"}
        flow.draft = broken
        session.add(flow)
    done = drive(owner, rollout)
    assert done.state == "absent"
    assert done.problem["code"] == "trial_failed"
    check_end(owner, vendors, done)


# --- kill -9 ------------------------------------------------------------------------------------


@contextmanager
def killing(at: int, moment: str):
    """Kill the worker right before or right after its n-th commit."""
    seen = {"count": 0}

    def strike(_session) -> None:
        seen["count"] += 1
        if seen["count"] == at:
            raise Killed

    event.listen(Session, moment, strike)
    try:
        yield seen
    finally:
        event.remove(Session, moment, strike)


def work_until_killed(at, moment) -> bool:
    """Work until nothing is due or the kill comes; True when it came."""
    try:
        with killing(at, moment):
            while turn():
                pass
    except Killed:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
@pytest.mark.parametrize("fault", ["none", "erp_refuses"])
def test_a_kill_around_any_commit(vendors, database, moment, fault):
    step = stride(database)
    at, was_killed = 1, True
    while was_killed:
        by = new_owner()
        rollout = install(by)
        if fault == "erp_refuses":
            vendors.behave("unauthorized", "demo-erp", times=1)
        was_killed = work_until_killed(at, moment)
        done = drive(by, rollout)
        # a refusal that nobody lived to write down is asked about again, and then it may work
        assert fault == "erp_refuses" or done.state == "active", at
        check_end(by, vendors, done)
        vendors.behave("ok")
        at += step
    assert at > 10


def test_a_worker_that_dies_at_the_same_step_again_and_again_is_given_up(owner, vendors):
    rollout = install(owner)
    with ExitStack() as stack:
        for _ in range(rollout_turns.MAX_ATTEMPTS):
            found = rollout_turns.claim("w1")
            assert found is not None
            # … and dies without a word
            stack.enter_context(clock.shifted(seconds=rollout_turns.LEASE_SECONDS + 1))
        done = drive(owner, rollout)
    assert done.state == "absent"
    assert done.problem["code"] == "crashed"
    check_end(owner, vendors, done)


def test_a_worker_that_comes_back_late_changes_nothing(owner, vendors):
    rollout = install(owner)
    late = rollout_turns.claim("slow")
    with clock.shifted(seconds=rollout_turns.LEASE_SECONDS + 1):
        done = drive(owner, rollout)
        assert done.state == "active"
        rollout_turns.take(late)
        check_end(owner, vendors, look(owner, rollout))


# --- cancelling ----------------------------------------------------------------


@pytest.mark.slow
def test_cancelling_at_every_state_undoes_everything(vendors):
    for step in range(STEPS):
        by = new_owner()
        rollout = install(by)
        for _ in range(step):
            assert turn()
        with transaction(by.organization_id) as session:
            rollouts.cancel(session, by, rollout.id)
            rollouts.cancel(session, by, rollout.id)  # a second click changes nothing
        done = drive(by, rollout)
        assert done.state == "absent", step
        assert done.problem["code"] == "cancelled"
        check_end(by, vendors, done)


@pytest.mark.slow
def test_cancelling_while_a_call_is_out(vendors):
    for step in range(STEPS):
        by = new_owner()
        rollout = install(by)
        for _ in range(step):
            assert turn()
        held = rollout_turns.claim("w1")
        with transaction(by.organization_id) as session:
            rollouts.cancel(session, by, rollout.id)
        rollout_turns.take(held)
        done = drive(by, rollout)
        assert done.state == "absent", step
        check_end(by, vendors, done)


def test_cancelling_what_is_installed_removes_it(owner, vendors):
    rollout = drive(owner, install(owner))
    with transaction(owner.organization_id) as session:
        removal = rollouts.cancel(session, owner, rollout.id)
    assert removal.id != rollout.id
    done = drive(owner, removal)
    assert done.state == "absent"
    assert ours(owner) == NOTHING
    assert vendors.accounts(owner.organization_id) == []
    with transaction(owner.organization_id) as session, pytest.raises(Conflict):
        rollouts.cancel(session, owner, rollout.id)


def test_after_an_undo_it_installs_again(owner, vendors):
    first = install(owner)
    with transaction(owner.organization_id) as session:
        rollouts.cancel(session, owner, first.id)
    assert drive(owner, first).state == "absent"
    second = drive(owner, install(owner))
    assert second.state == "active"
    check_end(owner, vendors, second)


# --- two at once ----------------------------------------------------------------


def test_a_double_click_makes_one_rollout(owner, vendors):
    gate = threading.Barrier(4)

    def click(_):
        gate.wait()
        return install(owner).id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(click, range(4)))) == 1


def test_many_workers_do_every_step_once(vendors):
    firms = [new_owner() for _ in range(3)]
    asked = [install(by) for by in firms]

    def work(name):
        while rollout_turns.advance_rollouts(f"w{name}"):
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    for by, rollout in zip(firms, asked, strict=True):
        done = drive(by, rollout)
        assert done.state == "active"
        check_end(by, vendors, done)
    assert vendors.calls("install") == dict.fromkeys(APPS, 3)
    assert vendors.calls("subscribe")["demo-shop"] == 3


def test_installing_what_is_installed_is_refused(owner, vendors):
    drive(owner, install(owner))
    with pytest.raises(Conflict) as refusal:
        install(owner)
    assert refusal.value.code == "installed"
    assert ours(owner)["open"] == 0


def make_second_bundle() -> str:
    """A bundle that shares an app with the demo bundle."""
    with transaction(EVERY) as session:
        session.add(
            Bundle(
                key="chat-only",
                name={"zh": "只要群聊", "en": "Chat only"},
                story={"zh": "", "en": ""},
                items=[
                    {"app": "demo-chat", "slots": ["organization"], "use": {"zh": "", "en": ""}}
                ],
                plan={},
            )
        )
    return "chat-only"


def test_an_app_that_is_there_already_is_used_and_survives_an_undo(owner, vendors):
    first = drive(owner, install(owner, make_second_bundle()))
    assert first.state == "active"
    rollout = install(owner)
    for _ in range(7):
        assert turn()
    with transaction(owner.organization_id) as session:
        rollouts.cancel(session, owner, rollout.id)
    assert drive(owner, rollout).state == "absent"
    assert [one.partition(":")[0] for one in vendors.accounts(owner.organization_id)] == [
        "demo-chat"
    ]
    second = drive(owner, install(owner))
    assert second.state == "active"
    check_end(owner, vendors, second)
    assert vendors.calls("install")["demo-chat"] == 1


def test_two_bundles_that_want_the_same_new_app_at_once(owner, vendors):
    first, second = install(owner), install(owner, make_second_bundle())
    ends = {drive(owner, first).state, drive(owner, second).state}
    assert "active" in ends
    accounts = [one.partition(":")[0] for one in vendors.accounts(owner.organization_id)]
    assert len(accounts) == len(set(accounts))
    assert ours(owner)["installations"] == len(accounts)


# --- removing ----------------------------------------------------------------


def remove(by, app_key, **more) -> Rollout:
    with transaction(by.organization_id) as session:
        there = session.execute(
            Installation.of(by.organization_id).where(col(Installation.live_key) == app_key)
        ).scalar_one()
        return rollouts.remove_installation(session, by, there, **{"is_confirmed": False, **more})


def test_removing_one_app_pauses_its_flows_and_leaves_the_others(owner, vendors):
    drive(owner, install(owner))
    done = drive(owner, remove(owner, "demo-chat"))
    assert done.state == "absent"
    assert done.notes == []
    left = {one.partition(":")[0] for one in vendors.accounts(owner.organization_id)}
    assert left == {"demo-shop", "demo-erp"}
    with reading(owner.organization_id) as session:
        assert flows.all_of(session, owner.organization_id)[0].state == "paused"
        gone = session.execute(
            Installation.of(owner.organization_id).where(col(Installation.state) == "absent")
        ).scalar_one()
        assert gone.app_key == "demo-chat"
        assert gone.uninstalled_at is not None
        assert gone.connection_id is None
        news = session.execute(select(Event.type)).scalars().all()
        assert news.count("installation.removed") == 1


def test_the_address_of_a_removed_app_is_closed_but_its_events_stay(owner, vendors):
    from webhooks import addresses, events, sources

    drive(owner, install(owner))
    with transaction(owner.organization_id) as session:
        source = session.execute(Source.of(owner.organization_id)).scalar_one()
        token = sources.url_of(source).rpartition("/")[2]
        news = events.NewEvent(type="order.paid", body=b"{}")
        events.accept(session, owner.organization_id, source.id, [news])
    assert drive(owner, remove(owner, "demo-shop")).state == "absent"
    with reading(EVERY) as session:
        assert addresses.look_up(session, token) is None
        paid = select(func.count()).where(col(Event.type) == "order.paid")
        assert session.execute(paid).scalar_one() == 1


def test_removing_waits_for_a_word_while_runs_wait(owner, vendors):
    from webhooks import events

    drive(owner, install(owner))
    with transaction(owner.organization_id) as session:
        source = session.execute(Source.of(owner.organization_id)).scalar_one()
        flow = flows.all_of(session, owner.organization_id)[0]
        [accepted] = events.accept(
            session,
            owner.organization_id,
            source.id,
            [events.NewEvent(type="order.paid", body=b'{"order_no": "1"}')],
        )
        session.add(
            Run(
                organization_id=owner.organization_id,
                id="run_waits",
                flow_id=flow.id,
                flow_version=1,
                event_id=accepted.id,
                event_type="order.paid",
                lane=flow.id,
                state="parked",
            )
        )
    with pytest.raises(Conflict) as refusal:
        remove(owner, "demo-erp")
    assert refusal.value.code == "runs_waiting"
    assert ours(owner) == ALL_THERE
    done = drive(owner, remove(owner, "demo-erp", is_confirmed=True))
    assert done.state == "absent"
    with reading(owner.organization_id) as session:
        assert session.get(Run, (owner.organization_id, "run_waits")) is not None


@pytest.mark.parametrize("mode", ["down", "unauthorized", "lost"])
def test_a_removal_ends_absent_whatever_the_vendor_says(owner, vendors, mode):
    installed = drive(owner, install(owner))
    vendors.behave(mode)
    with transaction(owner.organization_id) as session:
        removal = rollouts.cancel(session, owner, installed.id)
    done = drive(owner, removal)
    assert done.state == "absent"
    assert ours(owner) == NOTHING
    left = {one.partition(":")[0] for one in vendors.accounts(owner.organization_id)}
    assert left <= {note["app_key"] for note in done.notes}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_a_kill_around_any_commit_of_a_removal(vendors, database, moment):
    at, was_killed = 1, True
    while was_killed:
        by = new_owner()
        installed = drive(by, install(by))
        with transaction(by.organization_id) as session:
            removal = rollouts.cancel(session, by, installed.id)
        was_killed = work_until_killed(at, moment)
        done = drive(by, removal)
        assert done.state == "absent"
        assert ours(by) == NOTHING
        assert vendors.accounts(by.organization_id) == []
        assert done.notes == []
        at += stride(database)


def test_a_removal_is_not_cancelled_half_way(owner, vendors):
    drive(owner, install(owner))
    removal = remove(owner, "demo-chat")
    with transaction(owner.organization_id) as session, pytest.raises(Conflict):
        rollouts.cancel(session, owner, removal.id)


# --- tenants ----------------------------------------------------------------


def test_a_stranger_finds_nothing(owner, vendors):
    rollout = install(owner)
    stranger = new_owner()
    with transaction(stranger.organization_id) as session:
        with pytest.raises(NotFound):
            rollouts.find(session, stranger.organization_id, rollout.id)
        with pytest.raises(NotFound):
            rollouts.cancel(session, stranger, rollout.id)


def test_the_shelf_is_looked_at_again_when_the_work_begins(owner, vendors):
    from catalog import listings
    from catalog.tables import App

    rollout = install(owner)
    with transaction(EVERY) as session:
        app = session.execute(select(App).where(col(App.key) == "demo-chat")).scalar_one()
        listings.unpublish(session, app.id)
    done = drive(owner, rollout)
    assert done.state == "absent"
    assert done.problem["code"] == "not_installable"
    check_end(owner, vendors, done)
