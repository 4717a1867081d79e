"""Budgets: the app is never called oftener than it allows, over all processes, and fairly."""

import json
import multiprocessing
import time
from threading import Lock

import pytest
from factories import apps
from factories.connectors import make_flow, rows, settle, start_runs
from factories.connectors import ready as as_ready
from factories.identity import make_organization
from factories.webhooks import make_event
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from connectors import advance, connections
from connectors.budgets import levels, taking
from connectors.budgets.levels import Level
from connectors.budgets.tables import Allowance
from connectors.engine import call_budgets, check
from connectors.engine.call_budgets import Told, told
from connectors.engine.loader import Unfit
from connectors.tables import Run, Step
from kernel import clock
from kernel.database import EVERY, dispose, reading, transaction
from kernel.settings import settings_override
from webhooks.tables import Event

PUT = """
put:
  title: {zh: 放, en: Put}
  effect: upsert
  input: {type: object, properties: {no: {type: string}, size: {type: integer}}}
  output: {}
  request: {method: POST, path: /things, json: {no: "${input.no}"}}
  sample: {input: {no: a}, output: {}}
find:
  title: {zh: 查, en: Find}
  effect: read
  input: {type: object, properties: {no: {type: string}}}
  output: {}
  request: {method: GET, path: "/found/${input.no}"}
  sample: {input: {no: a}, output: {}}
"""


def parts(budgets: str) -> str:
    return f"""
auth:
  - id: key
    kind: api_key
    title: {{zh: 密钥, en: Key}}
    fields: {{key: {{title: {{zh: 密钥, en: Key}}, secret: true}}}}
    apply: {{header: {{X-Key: "${{field.key}}"}}}}
http:
  base: "${{settings.base_url}}"
  budgets: {budgets}
  errors:
    - {{when: {{body.errcode: 45009}}, do: wait, class: limit, after: 60}}
"""


class Counter:
    """An app that writes down when it was called, and how many calls it had in the air."""

    def __init__(self):
        self.times, self.most, self.now = [], 0, 0
        self.seconds, self.lock = 0.0, Lock()
        self.answers = []

    def __call__(self, call):
        with self.lock:
            self.times.append(time.monotonic())
            self.now += 1
            self.most = max(self.most, self.now)
            said = self.answers.pop(0) if self.answers else (200, {})
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return said

    def busiest(self, seconds: float) -> int:
        """The most calls within any stretch of so many seconds."""
        return max(
            (sum(1 for at in self.times if first <= at < first + seconds) for first in self.times),
            default=0,
        )


@pytest.fixture
def counter():
    return Counter()


def document(connection: str, event: str = "made.up", action: str = "put") -> dict:
    step = {
        "key": "put", "kind": "action", "connector": "made-up", "connection": connection,
        "action": action, "input": {"no": "${event.data.no}"},
    }  # fmt: skip
    return {"trigger": {"event": event, "version": None}, "steps": [step]}


class Desk:
    """A firm with a connection to the counted app and a flow that calls it once an event."""

    def __init__(self, url: str, budgets: int = 0):
        with transaction(EVERY) as session:
            self.organization_id = make_organization(session).id
            self.connection_id = connections.create(
                session, self.organization_id, "made-up",
                fields={"key": "k-0123456789"}, settings={"base_url": url},
            ).id  # fmt: skip
            session.flush()
            self.flow_id = self.flow(session, "made.up")

    def flow(self, session, event: str, action: str = "put") -> str:
        return make_flow(
            session, self.organization_id, document(self.connection_id, event, action), name=event
        ).id

    def events(self, number: int, event: str = "made.up") -> None:
        with transaction(EVERY) as session:
            for one in range(number):
                made = make_event(
                    session, self.organization_id, type=event,
                    body=json.dumps({"no": f"{event}-{one}"}).encode(),
                )  # fmt: skip
                session.flush()
                start_runs(session, [as_ready(session.get(Event, (self.organization_id, made)))])

    @property
    def opened(self):
        with transaction(EVERY) as session:
            found = connections.find(session, self.organization_id, self.connection_id)
            return connections.open_connection(found)


@pytest.fixture
def made(database, tmp_path, monkeypatch, counter):
    """Gives a desk with an app that has these budgets."""
    with apps.serve(counter) as app:

        def make(budgets: str) -> Desk:
            apps.in_library(monkeypatch, apps.connector(tmp_path, parts(budgets), PUT))
            return Desk(app.url)

        yield make


# --- arithmetic ----------------------------------------------------------------------------------


@given(
    st.integers(1, 60),
    st.sampled_from([1, 10, 60]),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 9)), max_size=60),
)
def test_a_window_is_never_overdrawn(allow, period, steps):
    budget = call_budgets.read({"id": "a", "allow": f"{allow}/{period}s"})
    level, now, sent = Level(budget, 1_000_000.0), 1_000_000.0, []
    for wait, wanted in steps:
        now += wait * period / 4
        going = min(wanted, level.ready(now))
        level.spend(going, now)
        sent += [now] * going
    for first in sent:
        window = first + period - 1e-3
        assert sum(1 for at in sent if first <= at < window) <= allow


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 100))
def test_who_waits_as_long_as_told_may_go(allow, spent, later):
    budget = call_budgets.read({"id": "a", "allow": f"{allow}/1s", "burst": allow})
    level, now = Level(budget, 1_000_000.0 + later % 3), 1_000_000.0
    for _ in range(spent):
        level.spend(min(1, level.ready(now)), now)
    at = level.free_at(1, now)
    assert at >= now
    assert level.ready(at + 1e-3) >= 1


def test_a_bucket_holds_its_burst_and_no_more():
    budget = call_budgets.read({"id": "a", "allow": "2/1s", "burst": 40})
    level = Level(budget, 0.0)
    assert level.ready(1_000.0) == 40
    level.spend(40, 1_000.0)
    assert level.ready(1_000.0) == 0
    assert level.ready(1_010.0) == 20
    assert level.ready(9_000.0) == 40


def test_a_clock_that_was_set_back_holds_nobody_up_for_long():
    budget = call_budgets.read({"id": "a", "allow": "10/1s", "burst": 10})
    level = Level(budget, 9_000.0, blocked_until=900_000.0)
    level.mend(1_000.0)
    assert level.free_at(1, 1_000.0) <= 1_000.0 + levels.LONGEST_BLOCK_SECONDS
    level.blocked_until = 0.0
    assert level.ready(1_001.0) == 10


def test_flows_that_wait_share_alike_however_much_each_has():
    budget = call_budgets.read({"id": "a", "allow": "1/1s"})
    level, now = Level(budget, 1_000.0), 1_000.0
    level.spend(1, now)
    loud = [level.place("loud", 1, now) for _ in range(100)]
    quiet = level.place("quiet", 1, now)
    assert quiet < loud[3], "one that comes late does not wait behind a hundred of another flow"
    assert loud == sorted(loud)
    assert levels.waiting(level.queues, now) == 2


def test_turns_alternate_between_flows():
    assert list(taking.in_turn(["a", "a", "a", "b", "c"])) == [0, 3, 4, 1, 2]


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000060"}, Told(0, 1000060.0)),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1700000060"}, Told(7, 60.0)),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1700000060000"}, Told(7, 60.0)),
        ({"ratelimit": '"default";r=50;t=30'}, Told(50, 30.0)),
        ({"ratelimit-remaining": "3", "ratelimit-reset": "12"}, Told(3, 12.0)),
        ({"retry-after": "9"}, Told(retry_seconds=9.0)),
        ({"x-shop-limit": "32/40"}, Told(8)),
        ({"x-ratelimit-remaining": "many"}, Told()),
        ({"x-ratelimit-remaining": "-1", "retry-after": "nan"}, Told()),
        ({}, Told()),
    ],
)
def test_what_apps_say_of_their_limits_is_read(headers, wanted):
    budget = call_budgets.read({"id": "a", "allow": "40/1s", "sync": {"used": "X-Shop-Limit"}})
    assert told(budget, headers, 1_700_000_000.0) == wanted


def test_a_manifest_with_a_budget_that_cannot_be_is_refused(tmp_path):
    for wrong in ('[{id: a, allow: "0/1s"}]', "[{id: a}]", '[{id: a, allow: "9/1s", per: world}]'):
        with pytest.raises(Unfit):
            apps.connector(tmp_path, parts(wrong), PUT)
    budgets = '[{id: a, allow: "9/1s", match: {action: no_such}}, {id: a, allow: "1/1s"}]'
    made = apps.connector(tmp_path, parts(budgets), PUT)
    places = {one.pointer for one in check.check(made.folder)}
    assert {"/http/budgets/0/match/action", "/http/budgets/0/id"} <= places


# --- runs ----------------------------------------------------------------------------------------


def test_calls_over_the_budget_wait_as_rows_and_are_no_attempts(made, counter):
    desk = made('[{id: api, allow: "10/1m", burst: 3}]')
    desk.events(5)
    settle()
    assert len(counter.times) == 3
    held = [one for one in rows(Run) if one.state == "waiting"]
    assert len(held) == 2
    assert {(one.cause, one.attempt_count) for one in held} == {("budget", 0)}
    assert "10 a minute" in held[0].say["en"]
    assert "每分钟 10 次" in held[0].say["zh"]
    assert all(one.next_at > clock.now() for one in held)
    assert {one.attempt_count for one in rows(Step) if one.state == "waiting"} <= {0}
    with clock.shifted(seconds=20):
        settle()
    assert len(counter.times) == 5
    assert {one.state for one in rows(Run)} == {"succeeded"}


def test_an_app_without_budgets_costs_no_row(made, counter):
    desk = made("[]")
    desk.events(4)
    settle()
    assert len(counter.times) == 4
    assert rows(Allowance) == []


def test_actions_and_paths_have_budgets_of_their_own(made, counter):
    budgets = '[{id: puts, allow: "1/1m", match: {action: put}},'
    budgets += ' {id: found, allow: "2/1m", burst: 2, match: {path: "/found/*"}}]'
    desk = made(budgets)
    with transaction(EVERY) as session:
        desk.flow(session, "made.found", "find")
    desk.events(3)
    desk.events(3, "made.found")
    settle()
    assert len(counter.times) == 1 + 2
    assert {one.budget_id for one in rows(Allowance)} == {"puts", "found"}


def test_what_costs_more_counts_more(made, counter):
    desk = made('[{id: api, allow: "6/1m", burst: 6, cost: "${int(size(input.no)) > 3 ? 3 : 1}"}]')
    desk.events(4)
    settle()
    assert len(counter.times) == 2


def test_a_budget_of_all_connections_is_one(made, counter):
    desk = made('[{id: api, per: organization, allow: "2/1m", burst: 2}]')
    with transaction(EVERY) as session:
        other = connections.create(
            session, desk.organization_id, "made-up", fields={"key": "another-key"},
            settings=dict(connections.find(session, desk.organization_id,
                                           desk.connection_id).settings),
        )  # fmt: skip
        session.flush()
        make_flow(session, desk.organization_id, document(other.id, "made.other"), name="other")
    desk.events(2)
    desk.events(2, "made.other")
    settle()
    assert len(counter.times) == 2


@pytest.mark.parametrize(
    ("answer", "cause"),
    [((429, {}), "limit"), ((200, {"errcode": 45009}), "limit")],
)
def test_an_app_that_asks_for_less_is_believed_by_all(made, counter, answer, cause):
    desk = made('[{id: api, allow: "100/1s", burst: 1}]')
    counter.answers = [answer]
    desk.events(1)
    settle()
    assert rows(Run)[0].cause == cause
    desk.events(3)
    settle()
    assert len(counter.times) == 1, "nobody calls before the time that the app has named"
    with clock.shifted(seconds=90):
        settle()
    assert len(counter.times) >= 2


def test_one_flow_does_not_use_the_budget_up_for_another(made, counter):
    desk = made('[{id: api, allow: "10/1m", burst: 4}]')
    with transaction(EVERY) as session:
        desk.flow(session, "made.quiet")
    desk.events(12)
    desk.events(2, "made.quiet")
    settle()
    done = [one for one in rows(Run) if one.state == "succeeded"]
    assert len(done) == 4
    quiet = [one for one in rows(Run) if one.event_type == "made.quiet"]
    waits = sorted(one.next_at for one in rows(Run) if one.next_at)
    assert all(one.state == "succeeded" or one.next_at < waits[-1] for one in quiet)


def test_calls_in_the_air_are_bounded(made, counter):
    counter.seconds = 0.1
    desk = made('[{id: api, allow: "1000/1s", parallel: 2}]')
    desk.events(8)
    settle()
    with clock.shifted(seconds=5):
        settle()
    assert len(counter.times) == 8
    assert counter.most <= 2
    assert [one.seats for one in rows(Allowance)] == [{}]


def test_seats_of_a_worker_that_died_come_back(made):
    desk = made('[{id: api, allow: "1000/1s", parallel: 2}]')
    ask = [taking.Ask("flow", {"api": 1})]
    assert taking.claim(desk.opened, ask, "died", 4).seats == 2
    assert taking.claim(desk.opened, ask, "other", 4).waits[0].is_crowded
    with clock.shifted(seconds=taking.SEAT_SECONDS + 1):
        assert taking.claim(desk.opened, ask, "other", 4).seats == 2


def test_a_call_that_may_not_be_repeated_is_not_taken_for_sent(made, counter):
    """A create is marked before it is sent; held back, it has to be tried all the same."""
    desk = made('[{id: api, allow: "10/1m", burst: 1}]')
    desk.events(2)
    settle()
    assert {one.state for one in rows(Step)} <= {"succeeded", "waiting"}


# --- processes -----------------------------------------------------------------------------------


def _is_all_done() -> bool:
    with reading(EVERY) as session:
        left = select(Run.id).where(Run.state != "succeeded").limit(1)
        return session.execute(left).first() is None


def _work(url: str, allowed: tuple[str, ...], seconds: float, name: str) -> None:
    dispose()
    with settings_override(database_url=url, outbound_allow=allowed):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not _is_all_done():
            if not advance.advance(name):
                time.sleep(0.05)
        dispose()


def test_two_processes_together_keep_to_the_limit(made, counter, database):
    from kernel.settings import settings

    desk = made('[{id: api, allow: "20/1s"}]')
    desk.events(60)
    dispose()
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_work, args=(database.url, settings().outbound_allow, 30.0, name))
        for name in ("one", "two")
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join(40)
    assert [one.exitcode for one in workers] == [0, 0]
    # calls of one stretch may arrive a little later than they were counted
    assert counter.busiest(1.0) <= 20 + 4
    assert len(counter.times) == 60, "and none of them is lost, or made twice"


# --- tokens and polls ----------------------------------------------------------------------------

TOKENS = """
auth:
  - id: app
    kind: exchange
    title: {zh: 应用, en: App}
    fields: {key: {title: {zh: 密钥, en: Key}, secret: true}}
    token:
      steps:
        - request: {method: GET, path: /token, auth: none}
          save: {access: "${body.token}"}
          expires: {in_seconds: "${body.seconds}"}
    apply: {header: {X-Key: "${token.access}"}}
http:
  base: "${settings.base_url}"
  budgets: [{id: token, allow: "1/1m", match: {part: token}}]
"""


def test_the_door_of_tokens_has_a_budget_of_its_own(database, tmp_path, monkeypatch, counter):
    counter.answers = [(200, {"token": "a-token", "seconds": 1}), *[(200, {})] * 3]
    with apps.serve(counter) as app:
        apps.in_library(monkeypatch, apps.connector(tmp_path, TOKENS, PUT))
        desk = Desk(app.url)
        desk.events(1)
        settle()
        assert len(app.to("/token")) == 1
        with clock.shifted(seconds=5):
            desk.events(1)
            settle()
            held = next(one for one in rows(Run) if one.state == "waiting")
        assert len(app.to("/token")) == 1
        assert (held.cause, held.attempt_count) == ("budget", 0)
