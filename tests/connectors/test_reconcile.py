"""Missing events: found in what the app says it sent, fetched or asked for, and never doubled."""

import json
import threading
import time
import urllib.request
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from factories.connectors import make_connection
from factories.identity import make_organization
from factories.webhooks import row, rows, signed
from werkzeug.serving import make_server

from connectors import (
    absence,
    connections,
    reconcile_claims,
    reconcile_threads,
    reconcile_turns,
    reconciliations,
    triggers_in,
)
from connectors.engine import loader, requests
from connectors.lab import mock_vendor
from connectors.tables import Heartbeat, Reconciliation
from kernel import clock
from kernel.database import EVERY, reading, transaction, write
from kernel.settings import settings_override
from webhooks import quotas, sources
from webhooks.tables import Event, Quota, Source


@pytest.fixture(autouse=True)
def wired(app):
    """The hooks that the application installs."""
    quotas.forget()
    return app


def look(seconds: float = 0) -> int:
    """Let a worker take every turn that is due so many seconds from now."""
    with clock.shifted(seconds=seconds):
        return reconcile_threads.look_all("worker-1")


def look_until_done(source_id: str, start: float = 0) -> Reconciliation:
    """Take turns, resting between them, until the look under way has come to its end."""
    for number in range(200):
        look(start + 6 * number)
        one = row(Reconciliation, source_id)
        if one.progress is None and one.look_at > clock.now() + timedelta(seconds=6 * number):
            return one
    raise AssertionError("the look does not end")


def ask_now(owner: str, source_id: str) -> None:
    """A person asks for a look."""
    with transaction(owner) as session:
        reconciliations.look_now(session, owner, source_id)


# --- the shop: objects ---------------------------------------------------------------------------


class Hub:
    """The application at an address of its own, which can be taken away and come back."""

    def __init__(self, app) -> None:
        self.app, self.server = app, make_server("127.0.0.1", 0, app, threaded=True)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._serve()

    def _serve(self) -> None:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.03,), daemon=True)
        self.thread.start()

    def go_away(self) -> None:
        """Close the door."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def come_back(self) -> None:
        """Open the same door again."""
        self.server = make_server("127.0.0.1", self.port, self.app, threaded=True)
        self._serve()


class Shop:
    """The demo shop, connected and subscribed for an organization."""

    def __init__(self, hub: Hub, vendor) -> None:
        self.hub, self.vendor = hub, vendor
        with transaction(EVERY) as session:
            self.owner = make_organization(session).id
            who = {"installation_id": "ins_1", "organization": {"id": self.owner, "name": "明华"}}
            key = self.call("/hub/install", who)["api_key"]
            self.connection = connections.create(
                session, self.owner, "demo-shop", fields={"key": key},
                settings={"base_url": vendor.url},
            )  # fmt: skip
            session.flush()
            opened = triggers_in.open_source(session, self.connection, "order_paid")
            self.source = opened.source_id
        values = connections.open_connection(self.connection).values
        connector = loader.find("demo-shop")
        request = requests.build_lifecycle(
            connector, "subscribe", values, {"hook": {"url": opened.url}}
        )
        headers = {**request.headers}
        given = self.call(request.url, raw=request.body, headers=headers)
        with transaction(self.owner) as session:
            sources.rotate_secret(session, self.owner, self.source, given["secret"])

    def call(self, path, body=None, raw=None, headers=None) -> dict:
        url = path if path.startswith("http") else self.vendor.url + path
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            url, data=data, headers=headers or {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.loads(answer.read() or b"{}")

    def emit(self, count: int, trigger: str = "order_paid", data=None) -> dict:
        return self.vendor.app.emit({"trigger": trigger, "count": count, "data": data})

    def states(self) -> dict[str, int]:
        return self.vendor.app.ledger.counts()["emissions"]

    def settle(self) -> None:
        """Wait until the shop has nothing more to send."""
        deadline = time.monotonic() + 40
        while self.states().get("waiting"):
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.05)


@pytest.fixture
def shop(app, tmp_path):
    hub = Hub(app)
    vendors = mock_vendor.serve(["demo-shop"], base_port=0, state_dir=tmp_path)
    vendor = vendors["demo-shop"]
    allowed = (urlsplit(vendor.url).netloc, urlsplit(hub.url).netloc)
    try:
        with settings_override(outbound_allow=allowed, base_url=hub.url):
            yield Shop(hub, vendor)
    finally:
        vendors.close()
        hub.go_away()


def orders() -> list[str]:
    """The ids of all orders that came in, sorted, doubles and all."""
    return sorted(json.loads(event.body)["order_no"] for event in rows(Event))


def test_a_source_of_a_connector_that_can_be_asked_is_watched_from_its_opening(shop):
    one = row(Reconciliation, shop.source)
    assert (one.connection_id, one.state, one.missing) == (shop.connection.id, "waiting", [])
    assert clock.now() < one.look_at < clock.now() + reconciliations.INTERVAL
    assert look() == 0
    assert look(16 * 60) == 1
    one = row(Reconciliation, shop.source)
    assert one.last_at is not None
    assert one.problem is None
    assert one.last == {"found": 0, "fetched": 0, "failed": 0, "pages": 0}


def test_what_was_lost_while_the_hub_was_away_arrives_exactly_once(shop):
    assert write(absence.beat) == 0
    shop.emit(10)
    shop.settle()
    shop.hub.go_away()
    shop.vendor.app.behave({"mode": "lossy", "share": 0.3})
    sent = [shop.emit(1, "order_cancelled" if n % 5 == 0 else "order_paid") for n in range(120)]
    lost = sum(one["lost"] for one in sent)
    assert 10 < lost < 80
    shop.hub.come_back()
    # back again, the hub notices by itself that it was away and looks at once
    with clock.shifted(seconds=90):
        assert write(absence.beat) == 1
    assert row(Heartbeat, "hub").away_until > row(Heartbeat, "hub").away_from
    one = look_until_done(shop.source, 91)
    shop.settle()
    assert len(rows(Event)) == 130
    assert len(set(orders())) == 130
    assert one.problem is None
    # the look fetched what was lost, and what the shop had not yet sent again itself
    assert one.fetched_count == one.found_count >= lost
    assert one.failed_count == 0
    # another look finds nothing more
    ask_now(shop.owner, shop.source)
    again = look_until_done(shop.source, 300)
    assert again.found_count == one.found_count
    assert len(rows(Event)) == 130


def test_a_webhook_that_comes_late_is_the_same_event(shop):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(1)
    ask_now(shop.owner, shop.source)
    look()
    (event,) = rows(Event)
    with reading(EVERY) as session:
        source = session.get(Source, (shop.owner, shop.source))
    body = shop.vendor.app.ledger.run("SELECT * FROM emission")[0]["body"].encode()
    token = sources.url_of(source).rpartition("/")[2]
    headers = signed(source, body, event.dedupe_key.removeprefix("message:"))
    answer = shop.hub.app.test_client().post(f"/in/{token}", data=body, headers=headers)
    assert answer.status_code == 202
    assert [one.id for one in rows(Event)] == [event.id]


def test_a_fetched_event_says_so_and_is_like_any_other(shop):
    shop.emit(1)
    shop.settle()
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(1)
    ask_now(shop.owner, shop.source)
    look()
    came, brought = rows(Event)
    assert "fetched-at" not in came.headers
    assert datetime.fromisoformat(brought.headers["fetched-at"]) <= clock.now()
    for name in ("type", "version", "source_id", "origin", "state", "content_type"):
        assert getattr(came, name) == getattr(brought, name)
    assert brought.subject == json.loads(brought.body)["order_no"]
    assert brought.dedupe_key.startswith("message:msg_demo-shop_")


def test_what_does_not_fit_its_type_is_stored_as_rejected_once(shop):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(1, data={"amount": {"value": 1, "currency": "not money"}})
    shop.emit(1)
    ask_now(shop.owner, shop.source)
    one = look_until_done(shop.source)
    assert sorted(event.state for event in rows(Event)) == ["new", "rejected"]
    assert (one.found_count, one.fetched_count, one.failed_count) == (2, 1, 1)
    ask_now(shop.owner, shop.source)
    assert look_until_done(shop.source, 100).found_count == 2
    assert len(rows(Event)) == 2


def test_a_worker_that_dies_between_fetching_and_recording_doubles_nothing(shop, monkeypatch):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(70)
    ask_now(shop.owner, shop.source)

    class Killed(BaseException):
        pass

    def die(*_args, **_more):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(reconcile_turns, "write", die)  # the recording is all it writes itself
        with pytest.raises(Killed):
            look()
    assert len(rows(Event)) == 70
    assert row(Reconciliation, shop.source).state == "leased"
    assert look(60) == 0
    with clock.shifted(seconds=reconcile_claims.LEASE_SECONDS + 1):
        assert write(reconcile_claims.reclaim) == 1
    one = look_until_done(shop.source, reconcile_claims.LEASE_SECONDS + 10)
    assert len(rows(Event)) == 70
    assert one.problem is None
    assert one.cursor > one.created_at


def test_a_lease_that_was_taken_over_writes_nothing(shop):
    ask_now(shop.owner, shop.source)
    turn = write(lambda session: reconcile_claims.claim(session, "slow"))
    with clock.shifted(seconds=reconcile_claims.LEASE_SECONDS + 1):
        write(reconcile_claims.reclaim)
    look(reconcile_claims.LEASE_SECONDS + 10)
    before = row(Reconciliation, shop.source)
    reconcile_turns.take(turn)
    assert row(Reconciliation, shop.source) == before


def test_a_neighbour_takes_up_what_a_dead_worker_held(shop):
    ask_now(shop.owner, shop.source)
    assert write(lambda session: reconcile_claims.claim(session, "dead")) is not None
    assert write(lambda session: reconcile_claims.release(session, "dead")) == 1
    assert look(6) == 1


def test_a_long_list_is_read_in_several_turns_that_rest_between(shop):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(50 * reconcile_turns.CALLS + 20)
    ask_now(shop.owner, shop.source)
    assert look() == 1
    one = row(Reconciliation, shop.source)
    assert one.progress["pages"] == reconcile_turns.CALLS
    assert reconciliations.status(one, clock.now()).state == "looking"
    assert look() == 0
    assert look(6) == 1
    one = row(Reconciliation, shop.source)
    assert one.progress is None
    assert one.last["fetched"] == len(rows(Event)) == 50 * reconcile_turns.CALLS + 20


def test_a_look_asked_for_while_a_long_one_is_under_way_is_not_forgotten(shop):
    """The long one began before: what it read first may be older than what was asked about."""
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(50 * reconcile_turns.CALLS + 20)
    ask_now(shop.owner, shop.source)
    assert look() == 1
    ask_now(shop.owner, shop.source)
    assert look(6) == 1
    one = row(Reconciliation, shop.source)
    assert one.progress is None, "the long one has come to its end"
    assert look(12) == 1, "and the one that was asked for follows"


def test_two_workers_at_once_never_share_a_connection(shop, database):
    if database.url.startswith("sqlite"):
        pytest.skip("there one worker writes at a time")
    with transaction(EVERY) as session:
        triggers_in.open_source(session, shop.connection, "order_cancelled")
    with clock.shifted(seconds=16 * 60):
        with transaction(EVERY) as session:
            assert reconcile_claims.claim(session, "one") is not None
            got = ["nothing yet"]
            beside = threading.Thread(  # the first has not committed yet
                target=lambda: got.append(write(lambda s: reconcile_claims.claim(s, "two")))
            )
            beside.start()
            beside.join(30)
            assert got[1:] == [None]
        assert write(lambda session: reconcile_claims.claim(session, "two")) is None


def test_a_full_quota_makes_the_look_wait_and_go_on(shop):
    with transaction(EVERY) as session:
        quota = Quota(organization_id=shop.owner, id=shop.owner, per_minute=60, burst=30)
        session.add(quota)
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(45)
    ask_now(shop.owner, shop.source)
    look()
    one = row(Reconciliation, shop.source)
    assert one.problem["cause"] == "limit"
    assert len(rows(Event)) == 20 == one.fetched_count
    assert one.next_at > clock.now()
    done = look_until_done(shop.source, 120)
    assert done.problem is None
    assert len(rows(Event)) == 45 == done.fetched_count


def test_a_paused_source_fetches_nothing_until_it_runs_again(shop):
    with transaction(shop.owner) as session:
        sources.set_state(session, shop.owner, shop.source, "paused")
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(3)
    ask_now(shop.owner, shop.source)
    look()
    assert rows(Event) == []
    one = row(Reconciliation, shop.source)
    assert reconciliations.status(one, clock.now()).state == "waiting"
    with transaction(shop.owner) as session:
        sources.set_state(session, shop.owner, shop.source, "active")
    look(16 * 60)
    assert len(rows(Event)) == 3


def test_a_closed_source_is_looked_at_no_more(shop):
    with transaction(shop.owner) as session:
        sources.close(session, shop.owner, shop.source)
    look(16 * 60)
    assert rows(Reconciliation) == []


@pytest.mark.parametrize(
    ("mode", "cause", "longest"),
    [("down", "down", 10), ("rate_limited", "limit", 60), ("unauthorized", "auth", 1000)],
)
def test_a_shop_in_trouble_is_asked_again_and_nothing_is_missed(shop, mode, cause, longest):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(2)
    shop.vendor.app.behave({"mode": mode, "seconds": 40})
    ask_now(shop.owner, shop.source)
    look()
    one = row(Reconciliation, shop.source)
    assert one.problem["cause"] == cause
    assert one.problem["say"]["zh"] != one.problem["say"]["en"]
    assert reconciliations.status(one, clock.now()).state == "trouble"
    wait = (one.next_at - clock.now()).total_seconds()
    assert 0 < wait <= longest
    assert mode != "rate_limited" or wait > 35
    assert one.last_at is None
    shop.vendor.app.behave({"mode": "ok"})
    done = look_until_done(shop.source, wait + 1)
    assert done.problem is None
    assert done.last_at is not None
    assert len(rows(Event)) == 2


def test_a_reconnected_app_is_asked_at_once(shop):
    shop.vendor.app.behave({"mode": "lossy", "share": 1})
    shop.emit(2)
    with transaction(shop.owner) as session:
        connection = connections.find(session, shop.owner, shop.connection.id)
        connection.state = "needs_attention"
        session.add(connection)
    ask_now(shop.owner, shop.source)
    look()
    one = row(Reconciliation, shop.source)
    assert one.problem["say"] == dict(reconcile_turns.UNUSABLE)
    assert look(60) == 0
    with transaction(shop.owner) as session:
        connections.make_ready(session, connections.find(session, shop.owner, connection.id))
    assert look(6) == 1
    assert row(Reconciliation, shop.source).problem is None
    assert len(rows(Event)) == 2


def test_other_firms_sources_are_looked_at_while_one_is_slow(shop):
    with transaction(EVERY) as session:
        others = []
        for number in range(3):
            owner = make_organization(session, name=f"乙方{number}").id
            connection = make_connection(session, owner, shop.vendor.url,
                                         connector_key="demo-shop")  # fmt: skip
            others.append(triggers_in.open_source(session, connection, "order_paid").source_id)
        # one firm with many sources over many connections
        for _ in range(6):
            connection = make_connection(session, shop.owner, shop.vendor.url,
                                         connector_key="demo-shop")  # fmt: skip
            triggers_in.open_source(session, connection, "order_paid")
    with clock.shifted(seconds=16 * 60):
        held = []
        while turn := write(lambda session: reconcile_claims.claim(session, "worker")):
            held.append(turn)
    mine = [turn for turn in held if turn.row.organization_id == shop.owner]
    assert len(mine) == reconcile_claims.PER_ORGANIZATION
    assert {turn.row.id for turn in held if turn not in mine} == set(others)


def test_one_connection_does_one_turn_at_a_time(shop):
    with transaction(EVERY) as session:
        triggers_in.open_source(session, shop.connection, "order_cancelled")
    with clock.shifted(seconds=16 * 60):
        first = write(lambda session: reconcile_claims.claim(session, "one"))
        assert first is not None
        assert write(lambda session: reconcile_claims.claim(session, "two")) is None
        reconcile_turns.take(first)
        assert write(lambda session: reconcile_claims.claim(session, "two")) is None
    with clock.shifted(seconds=16 * 60 + 6):
        assert write(lambda session: reconcile_claims.claim(session, "two")) is not None


def test_sources_of_before_are_adopted(shop):
    with transaction(EVERY) as session:
        session.delete(session.get(Reconciliation, (shop.owner, shop.source)))
    assert write(reconciliations.adopt) == 1
    assert write(reconciliations.adopt) == 0
    one = row(Reconciliation, shop.source)
    assert one.cursor == row(Source, shop.source).created_at
