"""Events that say little become whole: asked for once, in order, or set aside with a reason."""

import json
from types import SimpleNamespace

import pytest
from factories.connectors import make_connection, make_flow, rows, vendor
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors.completing import claims, completions, planning, turns
from connectors.completing.tables import Completion
from connectors.engine import check_thin, loader, thin
from connectors.engine.check import Folder
from connectors.tables import Run
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, StoreUnavailable, transaction, write
from kernel.errors import NotFound
from webhooks import drain, sources, workers
from webhooks import events as door
from webhooks.events import NewEvent
from webhooks.tables import Event

NOTICE = {
    "notification_id": 1,
    "organizer": "yangfan",
    "event": "expo-2026",
    "code": "ABC23",
    "action": "pretix.event.order.paid",
}


class Pretix:
    """A ticket shop that tells orders when it is asked."""

    def __init__(self, target):
        self.asked, self.trouble = [], []
        target.answer = self.answer

    def answer(self, path, headers, body):
        self.asked.append(path.rstrip("/").rpartition("/")[2])
        if self.trouble and self.asked[-1] != "BBB22":
            return self.trouble.pop(0)
        return 200, {"code": self.asked[-1], "status": "p", "total": "176.00", "event": "x"}, {}


@pytest.fixture
def served():
    with vendor() as target:
        yield target


@pytest.fixture
def shop(database, app, served):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        connection = make_connection(
            session,
            owner,
            served.url,
            connector_key="pretix",
            auth="token",
            settings={"base_url": served.url},
        )
        source = sources.create(
            session,
            owner,
            name="pretix",
            scheme="none",
            connection_id=connection.id,
            connector_key="pretix",
            trigger_key="order_paid",
        )
        session.flush()
        listener = {"trigger": {"event": "pretix.order.paid", "version": None}, "steps": []}
        make_flow(session, owner, listener)
        found = SimpleNamespace(owner=owner, source=source.id, connection=connection.id)
    found.app = Pretix(served)
    return found


def send(shop, *codes, kind="pretix.event.order.paid"):
    with transaction(shop.owner) as session:
        new = [
            NewEvent(
                type=kind,
                body=json.dumps({**NOTICE, "code": code}).encode(),
                subject=code,
                dedupe_key=f"{number}:{code}",
            )
            for number, code in enumerate(codes)
        ]
        return [one.id for one in door.accept(session, shop.owner, shop.source, new)]


def settle(seconds=0):
    with clock.shifted(seconds=seconds):
        for _ in range(20):
            if not drain.drain(workers.name()):
                break


def whole():
    return [one for one in rows(Event) if one.type == "pretix.order.paid"]


def only() -> Completion:
    (one,) = rows(Completion)
    return one


def test_a_notice_becomes_the_whole_order_and_starts_flows(shop):
    send(shop, "ABC23")
    settle()
    (event,) = whole()
    assert json.loads(event.body)["total"] == "176.00"
    assert (event.subject, event.source_id, event.origin) == ("ABC23", shop.source, shop.source)
    assert [run.event_type for run in rows(Run)] == ["pretix.order.paid"]
    assert (only().state, only().made) == ("done", [event.id])
    assert shop.app.asked == ["ABC23"]


def test_other_events_and_other_sources_are_left_alone(shop):
    send(shop, "ABC23", kind="pretix.event.order.modified")
    settle()
    assert rows(Completion) == []
    assert shop.app.asked == []


def test_an_app_that_is_busy_is_asked_again_by_its_ladder_and_no_event_is_doubled(shop):
    shop.app.trouble = [(503, {}, {}), (503, {}, {})]
    send(shop, "ABC23")
    settle()
    one = only()
    assert (one.state, one.attempt_count, one.problem["cause"]) == ("waiting", 1, "down")
    settle(30)
    assert only().attempt_count == 2
    settle(300)
    assert only().state == "done"
    assert len(whole()) == 1


def test_what_stays_down_stops_with_a_reason_and_can_be_fetched_again(shop):
    shop.app.trouble = [(503, {}, {})] * 40
    send(shop, "ABC23")
    ahead = 0
    for _ in range(8):
        settle(ahead)
        ahead += 20_000
    one = only()
    assert (one.state, one.next_at, one.problem["cause"]) == ("dead", None, "down")
    assert one.problem["say"]["zh"]
    shop.app.trouble = []
    with transaction(shop.owner) as session:
        completions.fetch_again(session, shop.owner, one.id)
    settle(ahead)
    assert only().state == "done"
    assert len(whole()) == 1


def test_what_the_app_does_not_know_stops_at_once(shop):
    shop.app.trouble = [(404, {"detail": "Not found."}, {})]
    send(shop, "ABC23")
    settle()
    assert (only().state, only().problem["cause"]) == ("dead", "data")
    assert whole() == []


def test_what_does_not_fit_the_schema_becomes_no_event(shop):
    shop.app.trouble = [(200, {"code": "ABC23", "status": 7, "total": "1"}, {})]
    send(shop, "ABC23")
    settle()
    assert only().state == "dead"
    assert whole() == []


def test_refused_credentials_wait_for_the_connection(shop):
    shop.app.trouble = [(401, {"detail": "no"}, {})]
    send(shop, "ABC23")
    settle()
    one = only()
    assert (one.state, one.problem["cause"], one.attempt_count) == ("waiting", "auth", 0)
    settle(1000)
    assert only().state == "done"


def test_events_about_one_thing_are_completed_in_their_order(shop):
    shop.app.trouble = [(503, {}, {})]
    send(shop, "AAA11", "AAA11", "BBB22")
    settle()
    first, second, other = sorted(rows(Completion), key=lambda one: one.event_id)
    assert (first.state, second.state, other.state) == ("waiting", "due", "done")
    settle(60)
    assert [one.state for one in rows(Completion)] == ["done"] * 3
    told = sorted((one for one in whole() if one.subject == "AAA11"), key=lambda one: one.id)
    assert [one.headers[turns.MADE_OF] for one in told] == [first.event_id, second.event_id]


def test_a_worker_that_died_after_asking_leaves_an_event_that_comes_once(shop, monkeypatch):
    send(shop, "ABC23")
    drained = turns._record
    monkeypatch.setattr(turns, "_record", lambda session, one, outcome: False)
    settle()
    assert only().state == "leased"
    monkeypatch.setattr(turns, "_record", drained)
    settle(claims.LEASE_SECONDS + 10)
    assert (only().state, only().crash_count) == ("done", 0)
    assert len(whole()) == 1


def test_a_store_that_is_away_for_a_moment_costs_no_event(shop, monkeypatch):
    def away(*_):
        raise StoreUnavailable

    send(shop, "ABC23")
    real = turns.asked.ask
    monkeypatch.setattr(turns.asked, "ask", away)
    settle()
    assert (only().state, only().problem) == ("leased", None)
    monkeypatch.setattr(turns.asked, "ask", real)
    settle(claims.LEASE_SECONDS + 10)
    assert only().state == "done"
    assert len(whole()) == 1


def test_a_late_writer_is_refused(shop):
    send(shop, "ABC23")
    settle()
    before = only()
    stale = claims.Held(before, "somebody else", before.lease_epoch)
    assert write(lambda session: turns._record(session, stale, turns.Outcome())) is False
    assert only().state == "done"


def test_what_ends_its_worker_again_and_again_is_set_aside(shop, monkeypatch):
    send(shop, "ABC23")
    monkeypatch.setattr(turns, "_record", lambda session, one, outcome: False)
    for number in range(claims.MAX_CRASHES + 1):
        settle(number * (claims.LEASE_SECONDS + 10))
    assert (only().state, only().problem["cause"]) == ("dead", "quarantined")


def test_a_source_without_a_connection_says_what_is_missing(shop):
    with transaction(EVERY) as session:
        from webhooks.tables import Source

        source = session.get(Source, (shop.owner, shop.source))
        source.connection_id = None
        session.add(source)
    send(shop, "ABC23")
    settle()
    assert only().problem["say"] == turns.NO_CONNECTION


def test_replaying_the_notice_asks_no_second_time(shop):
    (event_id,) = send(shop, "ABC23")
    settle()
    with transaction(shop.owner) as session:
        door.replay(session, shop.owner, event_id)
    settle()
    assert len(rows(Completion)) == 1
    assert shop.app.asked == ["ABC23"]


def test_people_and_programs_see_what_stopped_and_fetch_it_again(shop, client):
    shop.app.trouble = [(404, {"detail": "Not found."}, {})] * 2
    send(shop, "ABC23", "ABC24")
    settle()
    with transaction(EVERY) as session:
        organization = session.get(Organization, shop.owner)
        headers = bearer(make_api_key(session, organization))
        member = make_member(session, organization, role="owner")
        stranger = bearer(make_api_key(session, make_organization(session)))
    dead = client.get("/api/v1/completions?state=dead", headers=headers).get_json()["items"]
    assert len(dead) == 2
    assert dead[0]["problem"]["cause"] == "data"
    path = f"/api/v1/completions/{dead[0]['id']}/retry"
    assert client.post(path, headers=stranger).status_code == 404
    assert client.get("/api/v1/completions", headers=stranger).get_json()["items"] == []
    assert client.post(path, headers=headers).get_json()["state"] == "due"
    whole_path = f"/api/v1/sources/{shop.source}/completions/retry"
    assert client.post(whole_path, headers=headers).get_json() == {"count": 1}
    shop.app.trouble = [(404, {"detail": "Not found."}, {})] * 2
    settle()
    sign_in(client, None, member)
    page = client.get(f"/sources/{shop.source}").get_data(as_text=True)
    assert 'id="completing"' in page
    assert f"/sources/{shop.source}/completions/retry" in page
    shown = client.get(f"/events/{dead[0]['event_id']}").get_data(as_text=True)
    assert f"/sources/{shop.source}#completing" in shown


def test_one_that_is_done_is_not_fetched_again(shop):
    send(shop, "ABC23")
    settle()
    from connectors.errors import NotNow

    with transaction(shop.owner) as session, pytest.raises(NotNow):
        completions.fetch_again(session, shop.owner, only().id)
    with transaction(shop.owner) as session, pytest.raises(NotFound):
        completions.fetch_again(session, shop.owner, "cpl_nothing")


def test_what_is_done_is_forgotten_after_a_while_and_what_is_dead_stays(shop):
    shop.app.trouble = [(404, {}, {})]
    send(shop, "AAA11", "BBB22")
    settle()
    with clock.shifted(seconds=8 * 86_400):
        assert completions.sweep() == 1
    assert only().state == "dead"


def test_four_apps_of_the_library_complete_their_events():
    keys = [
        connector.key
        for connector in loader.library().values()
        if any(trigger.fetch for trigger in connector.triggers.values())
    ]
    assert len(keys) >= 4
    for key in keys:
        connector = loader.find(key)
        assert check_thin.findings(connector, Folder(connector.folder).manifest) == []


def test_types_nobody_completes_cost_no_statement():
    assert "pretix.event.order.paid" in planning._types()
    assert "order.paid" not in planning._types()
    connector = loader.find("pretix")
    assert thin.is_completed(connector, connector.triggers["order_paid"])
    assert not thin.is_completed(connector, connector.triggers["any"])
