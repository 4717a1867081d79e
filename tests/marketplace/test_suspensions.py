"""Suspensions: nobody comes in, nothing goes out, nothing is lost; resumed, all of it goes on."""

import json
from datetime import timedelta

import pytest
from factories import webhooks as make
from factories.connectors import open_shop, runs, settle, vendor
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    make_user,
    sign_in,
)

from connectors import claims
from identity import suspensions
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, transaction, write
from kernel.errors import Conflict, Invalid
from kernel.settings import settings_override
from webhooks import (
    carrying,
    circuits,
    drain,
    inbox,
    intake,
    payloads,
    portals,
    ready,
    sources,
    usage,
)
from webhooks.events import NewEvent
from webhooks.fan_out import Routed
from webhooks.tables import Delivery, Endpoint, Event

REASON = "账单三个月未付"
PAGE = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def _fresh_memory(app):
    intake.forget()


def suspend(organization_id: str) -> None:
    with transaction(EVERY) as session:
        suspensions.suspend(session, organization_id, REASON)
    intake.forget()


def resume(organization_id: str) -> None:
    with transaction(EVERY) as session:
        suspensions.resume(session, organization_id)
    intake.forget()


def firm(**over) -> str:
    return make.in_transaction(lambda s: make_organization(s, **over).id)


def state_of(organization_id: str) -> str:
    return make.row(Organization, organization_id).state


def post(client, source, body=b'{"type": "a.b", "data": {}}'):
    token = sources.url_of(source).rsplit("/", 1)[1]
    return client.post(f"/in/{token}", data=body, headers=make.signed(source, body))


def test_intake_answers_a_clear_problem_and_stores_nothing(client):
    organization_id = firm()
    source = make.in_transaction(lambda s: make.make_source(s, organization_id))
    assert post(client, source).status_code == 202
    suspend(organization_id)
    with settings_override(operator_contact="ops@example.com"):
        answer = post(client, source, b'{"type": "a.c", "data": {}}')
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")
    assert "ops@example.com" in answer.json["detail"]
    assert len(make.rows(Event)) == 1
    assert usage.take()[organization_id, source.id, _hour()]["refused_pause"] == 1
    resume(organization_id)
    assert post(client, source, b'{"type": "a.d", "data": {}}').status_code == 202


def _hour() -> int:
    return int(clock.now().timestamp() // 3600)


def test_people_see_why_and_whom_to_ask_and_nothing_else(client):
    def setup(session):
        user = make_user(session)
        member = make_member(session, make_organization(session, name="明华五金"), user)
        other = make_organization(session, name="另一家")
        make_member(session, other, user)
        return member, other.id

    member, other = make.in_transaction(setup)
    sign_in(client, None, member)
    assert client.get("/flows", headers=PAGE).status_code == 200
    suspend(member.organization_id)
    for path in ("/", "/flows", "/settings/members"):
        answer = client.get(path, headers=PAGE)
        assert (answer.status_code, answer.location.partition("?")[0]) == (303, "/suspended"), path
    with settings_override(operator_contact="0755-1234"):
        page = client.get("/suspended", headers=PAGE).get_data(as_text=True)
    for said in (REASON, "0755-1234", "另一家"):
        assert said in page
    assert client.get("/api/v1/flows").json["code"] == "organization_suspended"
    form = {"csrf_token": csrf_of(client, "/suspended"), "next": "/flows"}
    client.post("/session/organization", data={**form, "organization_id": other}, headers=PAGE)
    assert client.get("/flows", headers=PAGE).status_code == 200  # in the other one
    client.post(
        "/session/organization",
        data={**form, "organization_id": member.organization_id},
        headers=PAGE,
    )
    assert client.get("/flows", headers=PAGE).status_code == 303
    resume(member.organization_id)
    assert client.get("/flows", headers=PAGE).status_code == 200
    assert client.get("/suspended", headers=PAGE).location == "/"


def test_keys_open_nothing_even_where_anybody_may_look(client):
    def setup(session):
        organization = make_organization(session)
        return organization.id, make_api_key(session, organization)

    organization_id, key = make.in_transaction(setup)
    assert client.get("/api/v1/flows", headers=bearer(key)).status_code == 200
    suspend(organization_id)
    answer = client.get("/api/v1/flows", headers=bearer(key))
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_a_subscriber_of_the_organization_is_told_so(database):
    organization_id = firm()

    def setup(session):
        made = portals.create(
            session,
            organization_id,
            subscriber_id=None,
            subscriber_name="伙伴",
            event_types=["*"],
            expires_at=clock.now() + timedelta(days=1),
        )
        session.flush()
        return portals.offer(session, organization_id, made.id, 10)

    address = make.in_transaction(setup)[0]
    secret = address.rsplit("/", 1)[-1]
    assert make.in_transaction(lambda s: portals.look_up(s, secret)).link.subscriber_name == "伙伴"
    suspend(organization_id)
    with pytest.raises(suspensions.Suspended):
        make.in_transaction(lambda s: portals.look_up(s, secret))


def test_data_sent_by_reference_is_not_handed_out_meanwhile(client):
    organization_id = firm()

    def setup(session):
        endpoint = make.make_endpoint(session, organization_id)
        event_id = make.make_event(session, organization_id)
        return payloads.Key(organization_id, event_id, endpoint.id)

    key = make.in_transaction(setup)
    make.routed_by("w1")
    path = f"/payloads/{payloads.token_of(key)}"
    assert client.get(path).status_code == 200
    suspend(organization_id)
    assert client.get(path).json["code"] == "organization_suspended"


@pytest.mark.parametrize("ordering", ["none", "endpoint"])
def test_deliveries_are_held_and_all_go_out_when_resumed(client, ordering):
    organization_id, other = firm(), firm()
    with make.sink() as target:

        def setup(session):
            for owner in (organization_id, other):
                endpoint = make.make_endpoint(session, owner, target.url)
                endpoint.ordering = ordering
                make.make_event(session, owner)

        make.in_transaction(setup)
        suspend(organization_id)
        drain.drain("w1")
        assert len(target.requests) == 1  # the other one's
        assert [one.state for one in events_of(organization_id)] == ["waiting"]
        # what was routed before is held as well, and no probe goes out
        make.in_transaction(lambda s: make.make_event(s, organization_id))
        circuits.sweep()
        suspensions.sweep()
        drain.drain("w1")
        assert len(target.requests) == 1
        resume(organization_id)
        for _ in range(3):
            suspensions.sweep()
            drain.drain("w1")
        assert state_of(organization_id) == "active"
        assert len(target.requests) == 3
    assert {one.state for one in make.rows(Delivery)} == {"delivered"}


def events_of(organization_id: str) -> list[Event]:
    return [one for one in make.rows(Event) if one.organization_id == organization_id]


def test_an_answer_under_way_does_not_open_the_gate_again(client):
    """A delivery that was being sent at the moment of suspension arrives; the others stay held."""
    organization_id = firm()
    with make.sink() as target:

        def setup(session):
            make.make_endpoint(session, organization_id, target.url)
            make.make_event(session, organization_id)

        make.in_transaction(setup)
        batch_of = make.in_transaction(
            lambda s: make.fan_out.route(s, make.ready.take(s), Routed("w1", room=20))
        )
        suspend(organization_id)
        carrying.send_and_record(batch_of.parcels())
        assert len(target.requests) == 1
        (endpoint,) = make.rows(Endpoint)
        assert (endpoint.circuit, endpoint.circuit_cause) == ("open", "suspended")


def test_runs_are_held_and_all_go_on_when_resumed(client):
    with vendor() as target:
        shop, other = open_shop(target.url, orders=3), open_shop(target.url, orders=1)
        suspend(shop.organization_id)
        # one comes due after all, as the sweep has not looked yet
        with transaction(EVERY) as session:
            session.execute(
                claims.update(claims.Run)
                .where(claims.Run.id == runs()[0].id)
                .values(next_at=claims.store_now(session))
            )
        settle()
        by_firm = {one.organization_id: one.state for one in runs()}
        assert by_firm[other.organization_id] == "succeeded"
        assert by_firm[shop.organization_id] != "succeeded"
        assert not any(one.next_at for one in runs() if one.organization_id == shop.organization_id)
        resume(shop.organization_id)
        suspensions.sweep()
        settle()
    assert {one.state for one in runs()} == {"succeeded"}
    assert len(target.orders()) == 4
    assert state_of(shop.organization_id) == "active"


def test_more_than_a_portion_goes_on_though_the_process_dies_between(client, monkeypatch):
    monkeypatch.setattr(suspensions, "PORTION", 2)
    with vendor() as target:
        shop = open_shop(target.url, orders=5)
        suspend(shop.organization_id)
        suspensions.sweep()
        assert not any(one.next_at for one in runs())
        resume(shop.organization_id)
        while not any(one.next_at for one in runs()):  # events and endpoints go before
            assert write(lambda s: suspensions.let_go_turn(s, shop.organization_id))
        # and then it died
        assert state_of(shop.organization_id) == "resuming"
        assert sum(one.next_at is not None for one in runs()) == 2
        suspensions.sweep()
        assert state_of(shop.organization_id) == "active"
        settle()
    assert {one.state for one in runs()} == {"succeeded"}


def test_events_on_the_short_way_in_wait_too_when_the_cache_is_behind(client):
    """Another process may believe for three seconds more that the source is open."""
    organization_id = firm()
    with make.sink() as target:
        make.in_transaction(lambda s: make.make_endpoint(s, organization_id, target.url))
        suspend(organization_id)
        new = [NewEvent(type="a.b", body=json.dumps({}).encode(), dedupe_key="k1")]
        inbox.put(organization_id, None, new)
        drain.drain("w1")
        assert target.requests == []
        assert write(ready.is_any) is False  # nobody looks for it in vain
        resume(organization_id)
        suspensions.sweep()
        drain.drain("w1")
        assert len(target.requests) == 1


def test_whoever_runs_the_hub_stays_and_a_reason_is_needed(database):
    operator, plain = firm(is_operator=True), firm()
    with pytest.raises(Conflict):
        suspend(operator)
    with pytest.raises(Invalid), transaction(EVERY) as session:
        suspensions.suspend(session, plain, "  ")
    with pytest.raises(Conflict):
        resume(plain)
    suspend(plain)
    with pytest.raises(Conflict):
        suspend(plain)
