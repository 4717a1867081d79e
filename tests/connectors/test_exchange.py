"""Tokens in one or more steps: placed where each address wants them, asked for exactly once."""

import multiprocessing
import threading
import time
from collections import Counter

import pytest
from factories import apps
from factories.connectors import row
from factories.identity import make_organization

from connectors import connection_checks, connections, tokens
from connectors.engine import grants, requests
from connectors.engine.connector import ConnectionValues
from connectors.tables import Connection
from kernel import clock, documents
from kernel.database import EVERY, dispose, reading, transaction
from kernel.http import Response

TWO_STEPS = """
auth:
  - id: app
    kind: exchange
    title: {zh: 应用, en: App}
    fields:
      corp: {title: {zh: 企业, en: Corp}}
      secret: {title: {zh: 密钥, en: Secret}, secret: true}
    token:
      early_seconds: 300
      steps:
        - request:
            method: GET
            path: /suite-token
            query: {corp: "${field.corp}", secret: "${field.secret}"}
          envelope: {ok: "${body.errcode == 0}", error: "${body.errmsg}"}
          save: {suite: "${body.suite_token}"}
          expires: {in_seconds: "${body.expires_in}"}
        - request:
            method: POST
            path: /corp-token
            json: {suite: "${token.suite}", corp: "${field.corp}"}
          envelope: {ok: "${body.errcode == 0}", error: "${body.errmsg}"}
          save: {access: "${body.access_token}"}
          expires: {at_ms: "${body.expires_at}"}
    apply:
      query: {access_token: "${token.access}"}
      at: {other: {header: {X-Token: "${token.access}"}}}
http:
  base: "${settings.base_url}"
  bases: {other: "https://other.made-up.example/v2"}
  envelope: {ok: "${body.errcode == 0}", error: "${body.errmsg}"}
  errors:
    - {when: {body.errcode: [40014, 42001]}, do: reauth}
lifecycle:
  test: {request: {method: GET, path: /look}}
"""
ACTIONS = """
look:
  title: {zh: 看, en: Look}
  effect: read
  input: {type: object}
  output: {type: object}
  request: {method: GET, path: /look}
  sample: {input: {}, output: {}}
there:
  title: {zh: 另一处, en: There}
  effect: read
  input: {type: object}
  output: {type: object}
  request: {method: GET, path: /look, base: other}
  sample: {input: {}, output: {}}
"""


class Vendor:
    """Gives tokens away and counts them; what it is told to refuse, it refuses with HTTP 200."""

    def __init__(self):
        self.seconds, self.given, self.refuses = 7200, 0, ""
        self.dead: set[str] = set()
        self.pause = 0.0
        self.same: str | None = None

    def __call__(self, call):
        if call.path == "/suite-token":
            if self.refuses:
                return 200, {"errcode": 40001, "errmsg": self.refuses}
            said = {"errcode": 0, "suite_token": "suite-1", "expires_in": self.seconds}
            return 200, said
        if call.path == "/corp-token":
            time.sleep(self.pause)
            self.given += 1
            token = self.same or f"access-{self.given}"
            ends = int((clock.now().timestamp() + 90_000) * 1000)
            return 200, {"errcode": 0, "access_token": token, "expires_at": ends}
        if call.query.get("access_token") in self.dead:
            return 200, {"errcode": 42001, "errmsg": "expired"}
        return 200, {"errcode": 0, "who": call.query.get("access_token")}


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def made(tmp_path, monkeypatch):
    return apps.in_library(monkeypatch, apps.connector(tmp_path, TWO_STEPS, ACTIONS))


@pytest.fixture
def connected(database, made, vendor):
    """A connection to a vendor that is being served; gives (ids, app)."""
    with apps.serve(vendor) as app:
        with transaction(EVERY) as session:
            owner = make_organization(session).id
            one = connections.create(
                session,
                owner,
                made.key,
                fields={"corp": "corp-1", "secret": "the-secret-1"},
                settings={"base_url": app.url},
            ).id
        yield (owner, one), app


def opened(key):
    with reading(EVERY) as session:
        return connections.open_connection(connections.find(session, *key))


def test_every_step_reads_what_the_ones_before_it_saved(made):
    values = ConnectionValues(
        {"base_url": "https://api.made-up.example"}, "app", {"corp": "c", "secret": "s 1"}
    )
    first, second = requests.token_steps(made.auth[0])
    one = requests.build_token(made, values, first)
    assert one.url == "https://api.made-up.example/suite-token?corp=c&secret=s%201"
    two = requests.build_token(made, values, second, {"suite": "S"})
    assert documents.parse(two.body) == {"suite": "S", "corp": "c"}
    assert not one.may_repeat


def test_a_named_address_takes_the_token_elsewhere(made):
    values = ConnectionValues(
        {"base_url": "https://api.made-up.example"},
        "app",
        {"corp": "c", "secret": "s"},
        {"access": "A&1"},
    )
    usual = requests.build(made, "look", {}, values, "k")
    assert usual.url == "https://api.made-up.example/look?access_token=A%261"
    there = requests.build(made, "there", {}, values, "k")
    assert there.url == "https://other.made-up.example/v2/look"
    assert there.headers["X-Token"] == "A&1"
    assert "access_token" not in there.url


@pytest.mark.parametrize(
    ("said", "seconds"), [({"expires_in": 100}, 100), ({"expires_in": "7200"}, 7200)]
)
def test_numbers_and_texts_count_the_same(made, said, seconds):
    step = requests.token_steps(made.auth[0])[0]
    body = documents.dump({"errcode": 0, "suite_token": 12, **said})
    answer = grants.read(made, step, Response(200, {}, body, truncated=False, elapsed_ms=1))
    assert answer.output.texts == {"suite": "12"}
    left = (answer.output.ends_at - clock.now()).total_seconds()
    assert seconds - 5 < left <= seconds


def test_the_earliest_end_of_the_steps_counts_and_the_margin_comes_off(connected):
    key, _ = connected
    tokens.ensure(opened(key))
    stored = row(Connection, key[1])
    left = (stored.token_expires_at - clock.now()).total_seconds()
    assert 7190 < left <= 7200
    assert (stored.token_expires_at - stored.token_renew_at).total_seconds() == 300
    assert "access-1" not in str(stored.model_dump())


def test_the_call_carries_the_token_and_a_dead_one_is_renewed_once(connected, vendor):
    key, app = connected
    assert connection_checks.test(*key).problem is None
    vendor.dead = {"access-1"}
    assert connection_checks.test(*key).problem is None
    assert vendor.given == 2
    vendor.dead = {f"access-{n}" for n in range(10)}
    tried = connection_checks.test(*key)
    assert (tried.state, tried.problem["cause"]) == ("needs_attention", "auth")
    assert vendor.given == 3, "one forced renewal, and no more"
    assert app.to("/look")[0].query == {"access_token": "access-1"}


def test_a_refusal_with_http_200_is_told_in_the_vendors_words(connected, vendor):
    key, _ = connected
    vendor.refuses = "invalid corpsecret the-secret-1, hint [12]"
    lost = tokens.ensure(opened(key))
    assert (lost.answer.kind, lost.answer.cause) == ("fail", "auth")
    tried = connection_checks.test(*key)
    assert tried.state == "needs_attention"
    assert "invalid corpsecret" in tried.problem["detail"]
    assert "the-secret-1" not in str(tried.problem)
    assert "令牌" in tried.problem["say"]["zh"]


def test_a_vendor_that_hands_out_what_is_about_to_end_is_not_asked_each_time(connected, vendor):
    key, _ = connected
    vendor.seconds, vendor.same = 200, "the-same"
    for _ in range(5):
        assert tokens.ensure(opened(key)).values.token["access"] == "the-same"
    assert vendor.given == 1
    with clock.shifted(seconds=100):
        tokens.ensure(opened(key))
    assert vendor.given == 2


def test_one_who_was_away_too_long_does_not_overwrite_what_others_brought(
    connected, vendor, monkeypatch
):
    key, _ = connected
    real, away = tokens.http.send, []

    def send(request):
        answer = real(request)
        if "/corp-token" in request.url and not away:
            away.append(True)  # it stops here for longer than its lease
            with clock.shifted(seconds=120):
                tokens._locks.clear()
                away.append(tokens.ensure(opened(key)).values.token["access"])
            tokens._locks.clear()
        return answer

    monkeypatch.setattr(tokens.http, "send", send)
    got = tokens.ensure(opened(key)).values.token["access"]
    assert vendor.given == 2
    assert got == away[1] == "access-2", "what the other brought stays, and both use it"


def _ask_many(key, threads, found):
    """What one process does: many threads that all need the token at the same moment."""
    start, one = threading.Event(), opened(key)
    got = []

    def work():
        start.wait(20)
        token = tokens.ensure(one)
        got.append(token.values.token["access"] if not isinstance(token, tokens.NoToken) else "-")

    every = [threading.Thread(target=work) for _ in range(threads)]
    for thread in every:
        thread.start()
    start.set()
    for thread in every:
        thread.join(60)
    found.put(got)


def test_five_hundred_threads_of_two_processes_ask_once(connected, vendor):
    key, app = connected
    vendor.pause = 0.5
    fork = multiprocessing.get_context("fork")
    found = fork.Queue()
    dispose()  # connections must not be shared over a fork
    workers = [fork.Process(target=_ask_many, args=(key, 250, found)) for _ in range(2)]
    for worker in workers:
        worker.start()
    got = Counter(token for _ in workers for token in found.get(timeout=90))
    for worker in workers:
        worker.join(30)
    assert got == {"access-1": 500}
    assert len(app.to("/suite-token")) == len(app.to("/corp-token")) == 1
