"""Incidents: failures put together by cause, opened and closed by what is there, told once."""

import json
from datetime import timedelta

import pytest
from factories.connectors import open_shop, rows, runs, settle, vendor
from factories.identity import bearer, make_api_key, make_member, sign_in
from factories.webhooks import make_endpoint, make_event, make_source

from connectors import connections, recovery
from connectors.errors import NotNow
from connectors.incidents import causes, incidents, repairs, rounds
from connectors.incidents.tables import BulkRepair, Incident, IncidentRound
from connectors.tables import Run
from identity.tables import AuditEntry, Organization
from kernel import clock, ids
from kernel.database import EVERY, transaction
from kernel.errors import NotFound
from webhooks.tables import BulkReplay, Delivery, Event, Refusals


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


@pytest.fixture(autouse=True)
def _fresh_looks(monkeypatch):
    """Look everywhere at each sweep, as if the last look was long ago."""
    monkeypatch.setattr(rounds, "ELSEWHERE_SECONDS", 0)
    monkeypatch.setattr(rounds, "RECOUNT_SECONDS", 0)
    monkeypatch.setattr(rounds, "BUSY_SECONDS", 0.05)
    for place in rounds._places:
        rounds._places[place] = ""


def look() -> list[Incident]:
    rounds.sweep()
    return rows(Incident)


def told(name: str) -> list[dict]:
    return [json.loads(one.body) for one in rows(Event) if one.type == name]


def refuse_orders(target, code="UNKNOWN_SKU"):
    target.always["sales-orders"] = (422, {"code": code, "message": f"{code} here"})


def test_failures_of_one_cause_are_one_trouble(database, app, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=3)
    settle()
    (one,) = look()
    assert (one.kind, one.cause, one.state) == ("run", "data", "open")
    assert (one.connector_key, one.action_key) == ("demo-erp", "create_sales_order")
    assert (one.connection_id, one.flow_ids) == (shop.erp, [shop.flow])
    assert (one.stuck_count, one.total_count, sum(one.tally.values())) == (3, 3, 3)
    assert {run.incident_id for run in runs()} == {one.id}
    assert causes.shown(one.code) == "422 UNKNOWN_SKU"
    (news,) = told("incident.opened")
    assert (news["cause"], news["who_acts"], news["path"]) == (
        "data", "author", f"/recovery/{one.id}",
    )  # fmt: skip


def test_another_cause_is_another_trouble(database, app_vendor):
    app_vendor.answers += [
        ("sales-orders", 422, {"code": 40, "message": "a"}, {}),
        ("messages", 422, {"ok": False, "error": "b"}, {}),
    ]
    open_shop(app_vendor.url, orders=2)
    settle()
    assert {one.action_key for one in look()} == {"create_sales_order", "post_message"}


def test_looking_again_changes_and_tells_nothing(database, app, app_vendor):
    refuse_orders(app_vendor)
    open_shop(app_vendor.url, orders=2)
    settle()
    (first,) = look()
    (second,) = look()
    assert (second.total_count, second.stuck_count) == (first.total_count, 2)
    assert len(told("incident.opened")) == 1


def test_it_closes_by_itself_and_opens_again_under_the_same_id(database, app, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (one,) = look()
    app_vendor.always.clear()
    with transaction(EVERY) as session:
        recovery.retry_now(session, shop.organization_id, runs()[0].id)
    settle()
    (closed,) = look()
    assert (closed.id, closed.state, closed.stuck_count) == (one.id, "closed", 0)
    assert closed.closed_by is None
    refuse_orders(app_vendor)
    with transaction(EVERY) as session:
        shop.order(session, 2)
    settle()
    (again,) = look()
    assert (again.id, again.state, again.opened_count, again.total_count) == (one.id, "open", 2, 2)
    assert [n["times_opened"] for n in told("incident.opened")] == ["1", "2"]
    assert len(told("incident.closed")) == 1


def test_a_run_that_stops_for_another_reason_moves_to_that_trouble(database, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (one,) = look()
    app_vendor.always.clear()
    app_vendor.good_keys = set()
    with transaction(EVERY) as session:
        recovery.retry_now(session, shop.organization_id, runs()[0].id)
    settle()
    found = {incident.cause: incident for incident in look()}
    assert (found["data"].state, found["auth"].state) == ("closed", "open")
    assert found["data"].id == one.id
    assert runs()[0].incident_id == found["auth"].id


def test_a_reconnected_app_ends_the_trouble(database, app_vendor):
    app_vendor.good_keys = {"other"}
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    (one,) = look()
    assert (one.cause, causes.actor_of(one.kind, one.cause)) == ("auth", "signer")
    app_vendor.good_keys = None
    with transaction(EVERY) as session:
        connections.make_ready(session, connections.find(session, shop.organization_id, shop.erp))
    settle()
    assert [run.state for run in runs()] == ["succeeded"] * 2
    assert look()[0].state == "closed"


def test_the_codes_of_one_action_are_bounded(database, app_vendor, monkeypatch):
    from connectors.incidents import sorting

    monkeypatch.setattr(sorting, "MOST_CODES", 2)
    shop = open_shop(app_vendor.url)
    for number, code in enumerate(("AB_C", "DE_F", "GH_I", "JK_L"), start=1):
        refuse_orders(app_vendor, code)
        app_vendor.always["sales-orders"] = (422, {"code": number, "message": f"{code} {number}"})
        with transaction(EVERY) as session:
            shop.order(session, number)
        settle()
    found = look()
    assert sorted(one.total_count for one in found) == [1, 1, 2]
    assert {one.code for one in found if one.total_count == 2} == {"*"}


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ("UNKNOWN_SKU: BRG-6204", "UNKNOWN_SKU"),
        ("errcode: 40014, hint", "40014"),
        ('{"error_code": "-12"}', "-12"),
        ("order SO-1001 of 13800000000 failed", ""),
        (None, ""),
    ],
)
def test_a_code_keeps_what_all_records_share(detail, code):
    assert causes.shown(causes.code_of(422, None, detail)) == f"422 {code}".strip()


def test_what_an_app_keeps_waiting_is_nobodys_work(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=1)
    with transaction(EVERY) as session:
        run = session.get(Run, (shop.organization_id, runs()[0].id))
        run.state, run.cause, run.attempt_count = "waiting", "down", 3
        run.lane, run.next_at = shop.erp, clock.now() + timedelta(minutes=5)
        session.add(run)
    (one,) = look()
    assert (one.kind, one.cause, one.stuck_count) == ("retry", "down", 1)
    assert one.connector_key == "demo-erp"
    assert causes.actor_of(one.kind, one.cause) == "nobody"
    with transaction(EVERY) as session:
        run = session.get(Run, (shop.organization_id, runs()[0].id))
        run.state, run.cause, run.next_at = "succeeded", None, None
        session.add(run)
    assert look()[0].state == "closed"


def make_dead(session, organization_id, endpoint_id, number=1, status=500) -> None:
    for _ in range(number):
        event = make_event(session, organization_id, type="order.paid")
        session.add(
            Delivery(
                organization_id=organization_id,
                id=ids.new_id("dlv"),
                event_id=event,
                endpoint_id=endpoint_id,
                state="parked",
                last_problem="status",
                last_status=status,
            )
        )
    session.flush()


def test_deliveries_that_were_given_up(database, app_vendor):
    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session:
        endpoint = make_endpoint(session, shop.organization_id).id
        make_dead(session, shop.organization_id, endpoint, 2)
        make_dead(session, shop.organization_id, endpoint, 1, status=404)
    found = {one.code: one for one in look()}
    assert {code: one.stuck_count for code, one in found.items()} == {"500": 2, "404": 1}
    assert {one.endpoint_id for one in found.values()} == {endpoint}
    with transaction(EVERY) as session:
        make_dead(session, shop.organization_id, endpoint, 3)
    found = {one.code: one for one in look()}
    assert (found["500"].stuck_count, found["500"].total_count) == (5, 5)
    with transaction(EVERY) as session:
        for row in session.execute(Delivery.of(shop.organization_id)).scalars():
            row.state = "delivered"
    assert {one.state for one in look()} == {"closed"}


def refused(shop, count, minutes_ago=1):
    at = (clock.now() - timedelta(minutes=minutes_ago)).isoformat()
    with transaction(EVERY) as session:
        row = session.execute(Refusals.of(shop.organization_id)).scalar_one_or_none()
        if row is None:
            source = make_source(session, shop.organization_id).id
            row = Refusals(organization_id=shop.organization_id, id=source)
        row.counts = {"signature_mismatch": {"count": count, "first_at": at, "last_at": at}}
        session.add(row)
        return row.id


def test_webhooks_that_were_turned_away_and_dealt_with(database, app_vendor):
    shop = open_shop(app_vendor.url)
    source = refused(shop, 4)
    with transaction(EVERY) as session:
        incidents.ask_round(session, [shop.organization_id])
    (one,) = look()
    assert (one.kind, one.cause, one.source_id) == ("refusal", "signature_mismatch", source)
    assert one.stuck_count == 4
    with transaction(EVERY) as session:
        incidents.mark_done(session, shop.organization_id, one.id, "王海")
    (one,) = look()
    assert (one.state, one.closed_by) == ("closed", "王海")
    refused(shop, 5)
    with transaction(EVERY) as session:
        incidents.ask_round(session, [shop.organization_id])
    (one,) = look()
    assert (one.state, one.stuck_count, one.opened_count) == ("open", 1, 2)
    with clock.shifted(seconds=25 * 3600):
        with transaction(EVERY) as session:
            incidents.ask_round(session, [shop.organization_id])
        assert look()[0].state == "closed"


def test_what_holds_runs_up_cannot_be_talked_away(database, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=1)
    settle()
    (one,) = look()
    with transaction(EVERY) as session, pytest.raises(NotNow):
        incidents.mark_done(session, shop.organization_id, one.id, "王海")


# --- repairs --------------------------------------------------------------------------------------


def repair(shop, incident, **how) -> BulkRepair:
    with transaction(EVERY) as session:
        return repairs.begin(session, shop.organization_id, incident.id, "王海", **how)


def go_on(times: int = 1) -> BulkRepair:
    for _ in range(times):
        with clock.shifted(seconds=0):
            for row in rows(BulkRepair):
                if row.next_at is not None:
                    with transaction(EVERY) as session:
                        live = session.get(BulkRepair, (row.organization_id, row.id))
                        live.next_at = clock.now() - timedelta(seconds=1)
                        session.add(live)
            repairs.sweep()
            settle()
    return rows(BulkRepair)[-1]


def test_a_few_go_first_and_the_rest_follow(database, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=7)
    settle()
    (one,) = look()
    app_vendor.always.clear()
    row = repair(shop, one, canaries=2)
    row = go_on()
    assert (row.state, row.started) == ("trying", 2)
    assert len(app_vendor.orders()) == 2
    row = go_on()
    assert (row.state, row.started) == ("running", 7)
    row = go_on()
    assert (row.state, row.failed) == ("done", 0)
    assert len(app_vendor.orders()) == 7
    assert {run.state for run in runs()} == {"succeeded"}
    (one,) = look()
    assert one.state == "closed"
    assert [tried["outcome"] for tried in one.tried] == ["done", "begun"]


def test_nothing_else_goes_when_the_first_fail(database, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=6)
    settle()
    (one,) = look()
    before = len(app_vendor.keys("sales-orders"))
    repair(shop, one, canaries=2)
    row = go_on(2)
    assert (row.state, row.started, row.failed) == ("stopped", 2, 2)
    assert len(app_vendor.keys("sales-orders")) == before + 2
    assert go_on(3).started == 2


def test_it_stops_when_the_rest_fails_again(database, app_vendor, monkeypatch):
    monkeypatch.setattr(repairs, "PER_TURN", 4)
    monkeypatch.setattr(repairs, "FEW", 2)
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=12)
    settle()
    (one,) = look()
    app_vendor.always.clear()
    repair(shop, one, canaries=1)
    go_on()
    refuse_orders(app_vendor)
    go_on()
    look()
    row = go_on()
    assert (row.state, row.started) == ("stopped", 5)
    assert sum(run.state == "parked" for run in runs()) == 11


def test_giving_up_cancels_all_of_them(database, app_vendor):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=3)
    settle()
    (one,) = look()
    repair(shop, one, kind="cancel")
    assert go_on(2).state == "done"
    assert {run.state for run in runs()} == {"cancelled"}
    assert look()[0].state == "closed"


def test_an_unknown_outcome_is_never_repeated_in_bulk(database, app_vendor, monkeypatch):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    with transaction(EVERY) as session:
        for run in session.execute(Run.of(shop.organization_id)).scalars():
            run.cause = "unknown"
    (one,) = look()
    with pytest.raises(NotNow):
        repair(shop, one)
    repair(shop, one, kind="cancel")
    with pytest.raises(NotNow):
        repair(shop, one, kind="cancel")


def test_somebody_elses_trouble_does_not_exist(database, app_vendor):
    refuse_orders(app_vendor)
    open_shop(app_vendor.url, orders=1)
    settle()
    (one,) = look()
    other = open_shop(app_vendor.url, name="别家")
    for act in (
        lambda s: incidents.find(s, other.organization_id, one.id),
        lambda s: repairs.begin(s, other.organization_id, one.id, "x"),
        lambda s: incidents.assign(s, other.organization_id, one.id, ""),
    ):
        with transaction(EVERY) as session, pytest.raises(NotFound):
            act(session)


# --- pages and API --------------------------------------------------------------------------------


@pytest.fixture
def desk(database, app_vendor, client):
    refuse_orders(app_vendor)
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    (one,) = look()
    with transaction(EVERY) as session:
        organization = session.get(Organization, shop.organization_id)
        member = make_member(session, organization)
        key = make_api_key(session, organization)
    sign_in(client, None, member)
    return shop, one, member, bearer(key)


def test_the_desk_says_what_happened_and_who_acts(desk, client):
    _shop, one, _, _ = desk
    page = client.get("/recovery", headers={"Accept": "text/html"}).text
    assert f"/recovery/{one.id}" in page
    page = client.get(f"/recovery/{one.id}?lang=en", headers={"Accept": "text/html"}).text
    assert "Correct the first run" in page
    assert "Somebody who knows" not in page
    assert "<svg" in page


def test_people_take_care_of_a_trouble(desk, client):
    _shop, one, member, _ = desk
    form = {"assignee": member.id, "note": "问过供应商了", "csrf_token": csrf(client)}
    answer = client.post(f"/recovery/{one.id}/care", data=form)
    assert answer.status_code == 303
    (kept,) = rows(Incident)
    assert (kept.assignee_id, kept.note) == (member.id, "问过供应商了")
    assert "incident.changed" in [entry.action for entry in rows(AuditEntry)]
    assert one.id in client.get("/recovery?view=mine").text


def test_the_button_begins_a_careful_repair(desk, client, app_vendor):
    _shop, one, _, _ = desk
    app_vendor.always.clear()
    form = {"canaries": "1", "csrf_token": csrf(client)}
    assert client.post(f"/recovery/{one.id}/replay", data=form).status_code == 303
    assert rows(BulkRepair)[0].canary_count == 1
    assert 'aria-busy="true"' in client.get(f"/recovery/{one.id}/live").text
    again = client.post(f"/recovery/{one.id}/replay", data=form)
    assert again.status_code == 409
    assert client.post(f"/recovery/{one.id}/stop", data=form).status_code == 303
    assert rows(BulkRepair)[0].state == "cancelled"


def test_programs_do_the_same(desk, client, app_vendor):
    _shop, one, member, key = desk
    (shown,) = client.get("/api/v1/incidents?state=open", headers=key).json["items"]
    assert (shown["id"], shown["who_acts"], shown["stuck_count"]) == (one.id, "author", 2)
    changed = client.patch(
        f"/api/v1/incidents/{one.id}", json={"assignee_id": member.id}, headers=key
    )
    assert changed.json["assignee_id"] == member.id
    app_vendor.always.clear()
    made = client.post(f"/api/v1/incidents/{one.id}/repairs", json={}, headers=key)
    assert made.status_code == 201
    go_on(3)
    read = client.get(f"/api/v1/repairs/{made.json['id']}", headers=key).json
    assert (read["state"], read["started"]) == ("done", 2)
    assert client.post(f"/api/v1/repairs/{made.json['id']}/stop", headers=key).status_code == 409
    assert client.post(f"/api/v1/incidents/{one.id}/done", headers=key).status_code == 409


def test_deliveries_go_again_a_few_first(desk, client):
    shop, _, _, _ = desk
    with transaction(EVERY) as session:
        endpoint = make_endpoint(session, shop.organization_id).id
        make_dead(session, shop.organization_id, endpoint)
    dead = next(one for one in look() if one.kind == "delivery")
    form = {"csrf_token": csrf(client)}
    assert client.post(f"/recovery/{dead.id}/send_again", data=form).status_code == 303
    assert rows(BulkReplay)[0].endpoint_id == endpoint


def csrf(client) -> str:
    from factories.identity import csrf_of

    return csrf_of(client, "/recovery")


def test_a_quiet_firm_has_no_round(database, app_vendor):
    open_shop(app_vendor.url, orders=1)
    settle()
    rounds.sweep()
    assert rows(IncidentRound) == []
