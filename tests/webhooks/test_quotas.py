"""Quotas: exact in one process, shared between many, and never in the way of the store."""

import json
import threading
from contextlib import contextmanager

import pytest
from factories import webhooks as make
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kernel import clock
from kernel.database import EVERY, StoreUnavailable, transaction
from kernel.errors import Invalid, NotFound
from kernel.settings import settings_override
from webhooks import inbox, intake, ledger, limits, quotas, refusals, sources, usage
from webhooks.errors import BacklogFull, BatchTooLarge, OverQuota
from webhooks.tables import Backlog, Event, Quota, Usage


@pytest.fixture(autouse=True)
def _fresh_memory():
    for one in (quotas, refusals, intake):
        one.forget()
    usage.take()
    yield
    quotas.forget()


@contextmanager
def few(per_minute=60, burst=10, per_day=1000, backlog=100):
    """Small quotas for everybody."""
    with settings_override(
        quota_per_minute=per_minute,
        quota_burst=burst,
        quota_per_day=per_day,
        backlog_limit=backlog,
    ):
        yield


@pytest.fixture
def at_noon(monkeypatch):
    """Noon where the hub is, so that no day ends in the middle of a test."""
    begin, end = quotas.day_of(clock.now().timestamp())
    with clock.shifted(seconds=(begin + end) / 2 - clock.now().timestamp()):
        yield


def admitted(count=1, organization_id="org_a", source_id="src_1"):
    """How many of so many single events come through."""
    through = 0
    for _ in range(count):
        try:
            with quotas.admit(organization_id, source_id, 1):
                through += 1
        except OverQuota:
            pass
    return through


# --- in one process ------------------------------------------------------------------------------


def test_a_burst_comes_through_and_then_what_the_minute_gives(at_noon):
    with few(per_minute=60, burst=10):
        assert admitted(30) == 10
        with clock.shifted(seconds=5):
            assert admitted(30) == 5
        with clock.shifted(seconds=3600):
            assert admitted(30) == 10, "an hour's rest gives no more than the burst"


def test_a_day_ends_where_the_hub_is():
    with settings_override(time_zone="Asia/Shanghai"):
        # 2026-11-27 15:59:59 UTC is one second before midnight in Shanghai
        begin, end = quotas.day_of(1795795199.0)
        assert (end - 1795795199.0, end - begin) == (1.0, 86400.0)
        assert quotas.day_of(1795795200.0)[0] == end


def test_the_day_has_an_end_of_its_own(at_noon):
    with few(per_minute=6000, burst=100, per_day=120):
        assert admitted(100) == 100
        with clock.shifted(seconds=60):
            assert admitted(100) == 20
            with pytest.raises(OverQuota) as caught:
                quotas.admit("org_a", "src_1", 1)
        assert caught.value.code == "organization_day_quota"
        assert 11 * 3600 < caught.value.retry_after_seconds <= 13 * 3600
        with clock.shifted(seconds=caught.value.retry_after_seconds + 61):
            assert admitted(100) == 100


def test_a_refusal_says_which_quota_and_when_there_is_room(at_noon):
    with few(per_minute=60, burst=10):
        admitted(10)
        with pytest.raises(OverQuota) as caught:
            quotas.admit("org_a", "src_1", 4)
        problem = caught.value
        assert (problem.status, problem.code) == (429, "organization_minute_quota")
        assert problem.params["limit"] == 60
        assert problem.params["used"] == 10
        # exactly then there is room, and not a second sooner
        with clock.shifted(seconds=problem.retry_after_seconds - 1.05), pytest.raises(OverQuota):
            quotas.admit("org_a", "src_1", 4)
        with clock.shifted(seconds=problem.retry_after_seconds):
            quotas.admit("org_a", "src_1", 4)


def test_an_array_is_judged_whole_and_one_that_never_fits_is_told_so(at_noon):
    with few(per_minute=60, burst=10):
        quotas.admit("org_a", "src_1", 7)
        with pytest.raises(OverQuota):
            quotas.admit("org_a", "src_1", 4)
        quotas.admit("org_a", "src_1", 3)
        with pytest.raises(BatchTooLarge) as caught:
            quotas.admit("org_a", "src_1", 11)
        assert caught.value.status == 413
        assert caught.value.retry_after_seconds is None


def test_sources_of_one_organization_share_and_organizations_do_not(at_noon):
    with few(burst=10):
        assert admitted(8, source_id="src_1") == 8
        assert admitted(8, source_id="src_2") == 2
        assert admitted(8, organization_id="org_b", source_id="src_3") == 8


def test_what_could_not_be_stored_is_given_back(at_noon):
    with few(burst=10):
        for _ in range(30):
            with pytest.raises(StoreUnavailable), quotas.admit("org_a", "src_1", 10):
                raise StoreUnavailable
        assert admitted(30) == 10
        ((_, counts),) = usage.take().items()
        assert counts["admitted"] == 10


def test_many_threads_together_get_no_more_than_one(at_noon):
    with few(per_minute=1, burst=100):
        found, start = [], threading.Barrier(8)

        def run():
            start.wait()
            found.append(admitted(50))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 100 <= sum(found) <= 101, "the minute may give one more"


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(1, 600),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 30)), max_size=40),
)
def test_no_timing_gets_more_through_than_burst_and_rate(per_minute, burst, steps):
    quotas.forget()
    begin, _ = quotas.day_of(clock.now().timestamp())
    with few(per_minute=per_minute, burst=burst, per_day=10**9):
        passed, through = 0.0, 0
        origin = begin + 3600 - clock.now().timestamp()
        for wait, count in steps:
            passed += wait
            with clock.shifted(seconds=origin + passed):
                try:
                    quotas.admit("org_a", "", count)
                    through += count
                except (OverQuota, BatchTooLarge):
                    pass
        # the clock itself goes on while the test runs
        assert through <= burst + (passed + 5) * per_minute / 60


# --- many processes ------------------------------------------------------------------------------


def elsewhere(session, count, source_id="src_1", organization_id="org_a"):
    """Another process writes down what it let through."""
    key = (organization_id, source_id, int(clock.now().timestamp() // 3600))
    usage.store(session, {key: {"admitted": count}})


def test_what_others_let_through_is_missing_here_a_turn_later(database, at_noon):
    with few(per_minute=6, burst=100, per_day=1000):
        assert admitted(10) == 10
        ledger.turn()
        make.in_transaction(lambda session: elsewhere(session, 60))
        ledger.turn()
        assert admitted(100) == 30, "10 here and 60 there are gone"
        ledger.turn()
        ledger.turn()
        assert admitted(10) == 0, "one's own counts, read back, are not taken twice"


def test_a_process_that_starts_knows_the_day_and_the_limits(database, at_noon):
    def work(session):
        elsewhere(session, 990)
        limits.set_for_organization(session, "org_a", {"burst": 7})

    with few(per_minute=6, burst=100, per_day=1000):
        make.in_transaction(work)
        quotas.learn_for("org_a")
        assert admitted(5) == 5
        with clock.shifted(seconds=3600):
            assert admitted(100) == 5, "10 were left of the day"


def test_a_changed_limit_holds_a_turn_later(database, at_noon):
    with few(per_minute=60, burst=100):
        assert admitted(50) == 50
        ledger.turn()
        make.in_transaction(
            lambda s: limits.set_for_organization(s, "org_a", {"burst": 10, "per_minute": 1})
        )
        ledger.turn()
        assert admitted(50) == 10
        make.in_transaction(lambda s: limits.set_for_organization(s, "org_a", {"burst": 40}))
        ledger.turn()
        assert 30 <= admitted(50) <= 31


def test_a_store_that_is_away_costs_no_count(database, at_noon, monkeypatch):
    with few(burst=100):
        assert admitted(10) == 10
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "write", raise_outage)
            with pytest.raises(StoreUnavailable):
                ledger.turn()
        assert make.rows(Usage) == []
        assert admitted(5) == 5, "intake goes on meanwhile"
        ledger.turn()
        assert [row.admitted for row in make.rows(Usage)] == [15]


def raise_outage(*_args):
    raise StoreUnavailable


def test_the_request_path_asks_no_store(at_noon, monkeypatch):
    for module in (quotas, usage, ledger):
        for name in ("reading", "write", "transaction"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, raise_outage)
    with few(burst=10):
        assert admitted(20) == 10


# --- limits --------------------------------------------------------------------------------------


def test_an_owner_may_go_lower_and_never_higher(database, at_noon):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    with few(per_minute=60, burst=100, per_day=1000):
        with transaction(EVERY) as session:
            limits.set_for_source(session, "org_a", source.id, {"per_minute": 6})
        quotas.learn_for("org_a")
        assert admitted(50, source_id=source.id) == 6
        assert admitted(200, source_id="src_other") == 94
        with pytest.raises(Invalid) as caught, transaction(EVERY) as session:
            limits.set_for_source(session, "org_a", source.id, {"per_minute": 61, "per_day": 1001})
        assert [e["pointer"] for e in caught.value.errors] == ["/per_minute", "/per_day"]


def test_a_source_follows_its_organization_down(database):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    with few(per_minute=60, burst=100), transaction(EVERY) as session:
        limits.set_for_source(session, "org_a", source.id, {"per_minute": 50})
        limits.set_for_organization(session, "org_a", {"per_minute": 20, "burst": 5})
        found = limits.find_of_source(session, "org_a", source.id)
        assert (found.per_minute, found.burst) == (20, 5)


def test_strangers_sources_have_no_limits_to_set(database):
    source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    with pytest.raises(NotFound), transaction(EVERY) as session:
        limits.set_for_source(session, "org_b", source.id, {"per_minute": 5})
    assert make.rows(Quota) == []


def test_nothing_chosen_leaves_no_row(database):
    with transaction(EVERY) as session:
        limits.set_for_organization(session, "org_a", {"per_minute": 5})
        limits.set_for_organization(session, "org_a", dict.fromkeys(limits.NAMES))
    assert make.rows(Quota) == []
    for number in (0, -1, limits.MOST + 1):
        with pytest.raises(Invalid), transaction(EVERY) as session:
            limits.set_for_organization(session, "org_a", {"per_minute": number})


# --- at the door ---------------------------------------------------------------------------------


@pytest.fixture
def post(client):
    """Post signed JSON to a new source; `post.source` is the source."""
    send_number = iter(range(10**6))

    def send(value, language="en", **headers):
        raw = json.dumps(value).encode()
        token = sources.url_of(send.source).rsplit("/", 1)[1]
        signed = make.signed(send.source, raw, f"msg_{next(send_number)}")
        signed["accept-language"] = language
        signed.update({k.replace("_", "-"): v for k, v in headers.items()})
        return client.post(f"/in/{token}", data=raw, headers=signed)

    send.source = make.in_transaction(lambda s: make.make_source(s, "org_a"))
    return send


EVENT = {"type": "shop.opened", "data": {"n": 1}}


def test_over_quota_is_429_with_words_and_a_time(post, at_noon):
    with few(per_minute=6, burst=2):
        assert [post(EVENT).status_code for _ in range(3)] == [202, 202, 429]
        answer = post(EVENT)
    assert answer.mimetype == "application/problem+json"
    assert answer.json["code"] == "organization_minute_quota"
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert "6 events a minute" in answer.json["detail"]
    assert len(make.rows(Event)) == 2


def test_over_quota_is_told_in_chinese(post, at_noon):
    with few(per_minute=6, burst=2):
        answers = [post(EVENT, language="zh") for _ in range(3)]
    assert "每分钟" in answers[-1].json["detail"]


def test_a_bad_signature_uses_nothing_up(post, at_noon):
    with few(per_minute=1, burst=2):
        for _ in range(20):
            assert post(EVENT, webhook_signature="v1,AAAA").status_code == 401
        assert [post(EVENT).status_code for _ in range(3)] == [202, 202, 429]


def test_an_array_that_does_not_fit_leaves_nothing(post, at_noon):
    with few(per_minute=1, burst=5):
        assert post([EVENT] * 3).status_code == 202
        assert post([EVENT] * 3).status_code == 429
        assert len(make.rows(Event)) == 3
        assert post([EVENT] * 2).status_code == 202
        assert post([EVENT] * 6).status_code == 413
        assert len(make.rows(Event)) == 5


def test_an_outage_uses_nothing_up(post, at_noon, monkeypatch):
    with few(per_minute=1, burst=2):
        with monkeypatch.context() as patch:
            patch.setattr(inbox, "put", raise_outage)
            for _ in range(5):
                assert post(EVENT).status_code == 503
        assert [post(EVENT).status_code for _ in range(3)] == [202, 202, 429]


def test_events_sent_by_a_key_count_too(database, at_noon):
    from catalog import event_types

    sample = event_types.find(None, None, "order.paid").sample
    with few(per_minute=1, burst=2):
        for _ in range(2):
            intake.send("org_a", type="order.paid", data=sample)
        with pytest.raises(OverQuota):
            intake.send("org_a", type="order.paid", data=sample)


def test_a_full_backlog_is_refused_with_what_to_do(post, at_noon):
    def work(session):
        session.add(
            Backlog(
                organization_id="org_a", id="org_a", events=60, deliveries=30, runs=10,
                counted_at=clock.now(),
            )
        )  # fmt: skip

    with few(burst=1000, backlog=100):
        assert post(EVENT).status_code == 202
        make.in_transaction(work)
        ledger.turn()
        answer = post(EVENT)
        assert (answer.status_code, answer.json["code"]) == (429, "backlog_full")
        assert "100" in answer.json["detail"]
        assert answer.headers["Retry-After"] == str(quotas.BACKLOG_SECONDS)
        quotas.admit("org_b", "src_9", 1)
        make.in_transaction(lambda s: limits.set_for_organization(s, "org_a", {"backlog": 200}))
        ledger.turn()
        assert post(EVENT).status_code == 202


def test_a_backlog_is_one_organizations_own(database):
    with few(backlog=1), pytest.raises(BacklogFull):
        make.in_transaction(
            lambda s: s.add(
                Backlog(organization_id="org_a", id="org_a", events=1, counted_at=clock.now())
            )
        )
        quotas.learn_for("org_a")
        quotas.admit("org_a", "src_1", 1)
