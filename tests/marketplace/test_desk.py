"""The operator's desk: true figures, for operators alone, without a word of anybody's events."""

import dataclasses
import re
from datetime import timedelta

import pytest
from factories import webhooks as make
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    make_user,
    sign_in,
)
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import select

from identity.principals import Principal
from identity.tables import AuditEntry, Organization
from kernel import clock, queue
from kernel.database import EVERY, StoreUnavailable, reading, transaction, write
from kernel.errors import Forbidden
from kernel.settings import settings_override
from marketplace import doctor
from marketplace.desk import acts, counts, door, health, machinery, needs, tenants, throughput
from webhooks import drain, events, intake, ledger, limits, sources, usage, workers
from webhooks.events import NewEvent
from webhooks.tables import Delivery, Event, Quota, Worker

PAGE = {"Accept": "text/html"}
SECRET = "Zwiebelturm 4711"


@pytest.fixture(autouse=True)
def _fresh(database):
    throughput.forget()
    intake.forget()
    usage.take()


@pytest.fixture
def operator(client):
    """A signed-in operator; gives their member, and the browser is `client`."""

    def setup(session):
        organization = make_organization(session, name="运营方", is_operator=True)
        member = make_member(session, organization, make_user(session, name="运营小王"))
        sign_in(client, session, member)
        return member

    return make.in_transaction(setup)


def firm(**over) -> str:
    return make.in_transaction(lambda s: make_organization(s, **over).id)


def send(client, path: str, **form):
    return client.post(
        path, data={"csrf_token": csrf_of(client, "/me"), **form}, headers=PAGE, buffered=True
    )


def count(organization_id: str, **counted: int) -> None:
    usage.add(organization_id, None, **counted)
    taken = usage.take()
    write(lambda session: usage.store(session, taken))


def look() -> health.Health:
    with door.counting() as session:
        return health.examine(session)


# --- who may ------------------------------------------------------------------------------------

PATHS = ("/operator/health", "/operator/health/live", "/operator/tenants", "/operator/audit")


def test_nobody_but_an_operator_gets_in(client):
    def setup(session):
        member = make_member(session, make_organization(session))
        sign_in(client, session, member)
        return member, make_api_key(session, session.get(Organization, member.organization_id))

    member, key = make.in_transaction(setup)
    own = f"/operator/tenants/{member.organization_id}"
    for path in (*PATHS, own):
        assert client.get(path, headers=PAGE).status_code == 403, path
    for path in ("health", "tenants", f"tenants/{member.organization_id}", "acts"):
        assert client.get(f"/api/v1/hub/{path}", headers=bearer(key)).status_code == 403, path
    for deed in ("suspend", "resume", "limits"):
        assert send(client, f"{own}/{deed}", reason="x", weight="5").status_code == 403


def test_the_door_asks_for_itself(operator):
    """Whatever route leads to it: without the right it stays shut."""
    plain = Principal("org_1", "usr_1", "mem_1", "owner", "member", frozenset({"hub:operate"}))
    with pytest.raises(Forbidden), door.looking(plain):
        pass
    reader = Principal(
        "org_1", "usr_1", "mem_1", "owner", "member", frozenset({"hub:operate"}), is_operator=True
    )
    with door.looking(reader):
        pass
    with pytest.raises(Forbidden), door.changing(reader):
        pass


def test_a_key_that_only_looks_changes_nothing(client):
    def setup(session):
        organization = make_organization(session, is_operator=True)
        return make_api_key(session, organization, permissions=["hub:operate"])

    key, other = make.in_transaction(setup), firm()
    path = f"/api/v1/hub/tenants/{other}"
    assert client.get(path, headers=bearer(key)).status_code == 200
    assert client.patch(path, json={"weight": 5}, headers=bearer(key)).status_code == 403
    answer = client.post(f"{path}/suspend", json={"reason": "x"}, headers=bearer(key))
    assert answer.status_code == 403


# --- health -------------------------------------------------------------------------------------


def test_what_waits_is_counted_in_its_place(operator):
    organization_id = firm()

    def setup(session):
        endpoint = make.make_endpoint(session, organization_id)
        for _ in range(5):
            make.make_event(session, organization_id)
        return endpoint.id

    make.in_transaction(setup)
    assert look().counts["events_new"] == 5
    assert look().waits_seconds < 60
    make.routed_by("w1")
    found = look().counts
    assert (found["events_new"], found["deliveries_leased"]) == (0, 5)
    now, states = clock.now(), ("due", "due", "waiting", "waiting", "parked")
    times = (now, now - timedelta(minutes=5), now + timedelta(minutes=5), None, None)
    with transaction(EVERY) as session:
        for one, state, at in zip(make.rows(Delivery), states, times, strict=True):
            row = session.get(Delivery, (one.organization_id, one.id))
            row.state, row.next_at, row.lease_until = state, at, None
    found = look().counts.numbers
    assert {k.removeprefix("deliveries_"): n for k, n in found.items() if k.startswith("del")} == {
        "due": 2, "overdue": 1, "retry": 1, "held": 1, "leased": 0, "parked": 1,
    }  # fmt: skip


def test_a_count_stops_above_its_bound(operator, monkeypatch):
    monkeypatch.setattr(counts, "MOST", 3)
    organization_id = firm()

    def setup(session):
        for _ in range(9):
            make.make_event(session, organization_id)

    make.in_transaction(setup)
    assert look().counts["events_new"] == 4
    monkeypatch.setattr(needs, "MOST", 3)
    assert needs.told(4) == "3+"


def test_the_oldest_event_is_found_whoever_it_belongs_to(operator):
    first, second = sorted([firm(), firm()], reverse=True)
    make.in_transaction(lambda s: make.make_event(s, first))
    make.in_transaction(lambda s: make.make_event(s, second))
    (old, _) = make.rows(Event)
    at = clock.now() - timedelta(minutes=7)
    with transaction(EVERY) as session:
        session.get(Event, (old.organization_id, old.id)).received_at = at
    found = look()
    assert found.counts.oldest_at == at
    assert [need.code for need in needs.of(found) if need.code == "events_wait"]


def test_page_json_metrics_and_doctor_say_the_same(client, operator):
    organization_id = firm()
    make.in_transaction(lambda s: make.make_event(s, organization_id))
    with transaction(EVERY) as session:
        (event,) = make.rows(Event)
        row = session.get(Event, (event.organization_id, event.id))
        row.state = "quarantined"
    told = client.get("/api/v1/hub/health").json
    assert told["counts"]["events_quarantined"] == 1
    codes = {need["code"] for need in told["needs"]}
    assert "events_set_aside" in codes
    page = client.get("/operator/health", headers=PAGE).get_data(as_text=True)
    for need in told["needs"]:
        assert need["says"] in re.sub(r"&#3[94];", "'", page)
    text = client.get("/metrics").get_data(as_text=True)
    families = {one.name: one for one in text_string_to_metric_families(text)}
    waiting = {s.labels["what"]: s.value for s in families["yangfan_waiting"].samples}
    assert waiting["events_quarantined"] == 1
    assert {s.labels["code"] for s in families["yangfan_needs"].samples} == codes
    _findings, found = doctor.examine()
    assert {need.code for need in found} == codes


def test_metrics_say_so_when_the_store_is_away(client, monkeypatch):
    def away(*_):
        raise StoreUnavailable

    monkeypatch.setattr(health, "examine", away)
    text = client.get("/metrics").get_data(as_text=True)
    assert "yangfan_store_up 0.0" in text
    assert 'yangfan_needs{code="store_away"} 1.0' in text
    assert client.get("/readyz").json["migrations"] == "ok"


def test_a_broker_that_is_away_is_said_with_its_time_and_forgotten_when_back(database, monkeypatch):
    monkeypatch.setattr(machinery, "_pinged", {})
    monkeypatch.setattr(machinery, "_away_since", None)
    with settings_override(broker_url="amqp://guest@127.0.0.1:1//"):
        monkeypatch.setattr(queue, "is_reachable", lambda _seconds: False)
        found = machinery.look_at_broker()
        assert not found.is_reachable
        since = found.away_since
        assert clock.now() - since < timedelta(seconds=5)
        monkeypatch.setattr(machinery, "_pinged", {})
        assert machinery.look_at_broker().away_since == since
        monkeypatch.setattr(machinery, "_pinged", {})
        monkeypatch.setattr(queue, "is_reachable", lambda _seconds: True)
        assert machinery.look_at_broker().away_since is None


def test_the_ping_tells_a_broker_that_is_there_from_one_that_is_not(app):
    assert not queue.is_reachable(0.5) or queue.celery.conf.broker_url.startswith("memory")
    with settings_override(broker_url="amqp://guest:guest@127.0.0.1:1//"):
        queue.configure()
        assert queue.is_reachable(0.5) is False
    queue.configure()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"disk": machinery.DiskLook(8 << 30, 100 << 30)}, "disk_full"),
        ({"archive": "disk_full"}, "archive_stuck"),
        ({"mode": "scaled"}, "no_worker"),
        (
            {"store": machinery.StoreLook("sqlite", 1, "0008", "0011", 1, 1, None, None)},
            "migrations_missing",
        ),
        (
            {"store": machinery.StoreLook("postgresql", 1, "1", "1", 1, 1, 85, 97)},
            "connections_short",
        ),
        ({"store": None}, "store_away"),
    ],
)
def test_each_need_has_its_cause(database, change, code):
    found = dataclasses.replace(
        look(), mode="embedded", disk=machinery.DiskLook(50 << 30, 100 << 30), archive=None
    )
    assert code not in {need.code for need in needs.of(found)}
    needed = needs.of(dataclasses.replace(found, **change))
    assert code in {need.code for need in needed}
    for need in needed:
        assert "%(" not in need.plain()


def test_processes_show_who_is_alive(client, operator, database, monkeypatch):
    monkeypatch.setattr(workers, "_name", None)  # as a process that has just started
    workers.name()
    (sign,) = [one for one in look().processes if one.id == workers.name()]
    is_sqlite = database.url.startswith("sqlite")
    assert (sign.is_silent, sign.kind) == (False, "embedded" if is_sqlite else "web")
    with transaction(EVERY) as session:
        row = session.get(Worker, sign.id)
        row.place, row.heard_at = "elsewhere", clock.now() - timedelta(minutes=2)
    found = look()
    assert [one.is_silent for one in found.processes if one.id == sign.id] == [True]
    assert "process_silent" in {need.code for need in needs.of(found)}


def test_throughput_sums_all_and_hours_that_are_over_once(operator):
    one, other = firm(), firm()
    count(one, accepted=3, routed=3)
    count(other, accepted=4, delivered=2, undelivered=1)
    found = look().throughput
    assert {n: found.hour[n] for n in ("accepted", "routed", "delivered", "undelivered")} == {
        "accepted": 7, "routed": 3, "delivered": 2, "undelivered": 1,
    }  # fmt: skip
    count(one, accepted=1)
    assert look().throughput.day["accepted"] == 8
    assert len(look().throughput.spans) == 24


def test_routing_is_counted_whichever_way_an_event_came(client):
    organization_id = firm()
    make.in_transaction(lambda s: make.make_event(s, organization_id))
    drain.drain("w1")
    counted = usage.take()
    assert sum(one.get("routed", 0) for one in counted.values()) == 1


# --- tenants ------------------------------------------------------------------------------------


def test_tenants_are_found_sorted_and_paged(operator):
    def setup(session):
        for number in range(5):
            organization = make_organization(session, name=f"工厂{number}")
            user = make_user(session, email=f"boss{number}@factory.example")
            make_member(session, organization, user)
        return [one.id for one in make_all(session) if one.name.startswith("工厂")]

    ids = make.in_transaction(setup)
    for number, organization_id in enumerate(ids):
        count(organization_id, accepted=number, undelivered=5 - number, admitted=1)
    with reading(EVERY) as session:

        def names(**wanted):
            found, cursor = [], None
            while True:
                page = tenants.listing(session, cursor=cursor, limit=2, **wanted)
                assert len(page.items) <= 2
                found += [one.name for one in page.items]
                cursor = page.next_cursor
                if cursor is None:
                    return found

        assert names(query="工厂", sort="name") == [f"工厂{n}" for n in range(5)]
        assert names(query="工厂", sort="newest") == [f"工厂{n}" for n in range(4, -1, -1)]
        assert names(query="工厂", sort="today") == [f"工厂{n}" for n in range(4, -1, -1)]
        assert names(query="工厂", sort="failures") == [f"工厂{n}" for n in range(5)]
        assert len(names(query="工厂", sort="backlog")) == 5
        assert names(query="BOSS3@") == ["工厂3"]
        assert names(query=ids[2]) == ["工厂2"]
        assert names(query="%") == []
        assert names(query="工厂", state="suspended") == []
        (one,) = tenants.listing(session, query="工厂3").items
        assert (one.members, one.today, one.month, one.failures) == (1, 3, 3, 2)


def make_all(session):
    return list(session.execute(select(Organization).order_by(Organization.id)).scalars())


@pytest.mark.parametrize("cursor", ["x", "bm90IGpzb24=", "WzEsMl0=", "W251bGwsICJhIl0=", "é"])
def test_a_cursor_that_is_not_ours_is_refused(client, operator, cursor):
    answer = client.get("/api/v1/hub/tenants", query_string={"cursor": cursor, "sort": "today"})
    assert answer.status_code == 400


def test_an_operator_never_sees_what_is_in_an_event(client, operator):
    organization_id = firm(name="明华五金")

    def setup(session):
        make.make_endpoint(session, organization_id, f"http://target.example/{SECRET[:5]}?k=v")
        source = make.make_source(session, organization_id, name="商城")
        new = [
            NewEvent(type="a.b", body=SECRET.encode(), subject=SECRET, problem={"errors": [SECRET]})
        ]
        events.accept(session, organization_id, source.id, new)
        make.make_event(session, organization_id, body=SECRET.encode())

    make.in_transaction(setup)
    paths = [*PATHS, f"/operator/tenants/{organization_id}"]
    paths += [f"/api/v1/hub/{p}" for p in ("health", "tenants", f"tenants/{organization_id}")]
    for path in paths:
        answer = client.get(path, headers=PAGE)
        assert answer.status_code == 200, path
        said = answer.get_data(as_text=True)
        assert SECRET not in said, path
        assert SECRET[:5] not in said, path


def test_quotas_and_weight_are_changed_with_a_trace(client, operator):
    organization_id = firm()
    path = f"/operator/tenants/{organization_id}"
    answer = send(client, f"{path}/limits", per_minute="100", per_day="5,000", weight="40")
    assert answer.status_code == 303
    with reading(EVERY) as session:
        assert limits.find(session, organization_id).per_day == 5000
        assert session.get(Organization, organization_id).weight == 40
    done = {one.action: one for one in make.rows(AuditEntry)}
    assert done["organization.weight_changed"].detail == {"before": 10, "weight": 40}
    assert done["organization.quota_changed"].organization_id == organization_id
    assert done["organization.quota_changed"].actor_name == "运营小王"
    before = len(make.rows(AuditEntry))
    send(client, f"{path}/limits", per_minute="100", per_day="5000", weight="40")
    assert len(make.rows(AuditEntry)) == before  # nothing changed, nothing is written
    answer = send(client, f"{path}/limits", weight="0", per_minute="")
    assert answer.status_code == 422
    with reading(EVERY) as session:
        assert limits.find(session, organization_id).per_day == 5000
    answer = client.patch(
        f"/api/v1/hub/tenants/{organization_id}",
        json={"per_day": None, "weight": 3},
        headers={"X-CSRF-Token": csrf_of(client, "/me")},
    )
    assert answer.status_code == 200
    assert answer.json["tenant"]["weight"] == 3
    with reading(EVERY) as session:
        assert session.get(Quota, (organization_id, organization_id)).per_day is None
        assert limits.find(session, organization_id).per_minute == 100


def test_suspending_and_resuming_from_the_page(client, operator):
    organization_id = firm()
    path = f"/operator/tenants/{organization_id}"
    assert send(client, f"{path}/suspend", reason=" ").status_code == 422
    assert send(client, f"{path}/suspend", reason="欠费").status_code == 303
    assert "欠费" in client.get(path, headers=PAGE).get_data(as_text=True)
    assert send(client, f"{path}/suspend", reason="欠费").status_code == 409
    assert send(client, f"{path}/resume").status_code == 303
    done = [(one.action, one.organization_id) for one in make.rows(AuditEntry)]
    assert ("organization.suspended", organization_id) in done
    assert ("organization.resumed", organization_id) in done
    own = f"/operator/tenants/{operator.organization_id}"
    assert send(client, f"{own}/suspend", reason="x").status_code == 409
    assert client.get("/operator/tenants/org_none", headers=PAGE).status_code == 404


def test_refusals_are_shown_by_code_and_reason(client, operator):
    organization_id = firm()
    source = make.in_transaction(lambda s: make.make_source(s, organization_id, name="商城"))
    token = sources.url_of(source).rsplit("/", 1)[1]
    client.post(f"/in/{token}", data=b"{}", headers={"content-type": "application/json"})
    ledger.turn()
    told = client.get(f"/api/v1/hub/tenants/{organization_id}").json["refused"]
    assert [(one["source"], one["code"], one["count"]) for one in told] == [
        ("商城", "signature_missing", 1)
    ]


# --- acts ---------------------------------------------------------------------------------------


def test_acts_are_filtered_and_only_operators(client, operator):
    one, other = firm(name="甲厂"), firm(name="乙厂")
    for organization_id in (one, other):
        send(client, f"/operator/tenants/{organization_id}/suspend", reason="欠费")
    send(client, f"/operator/tenants/{one}/resume")
    page = client.get("/operator/audit", headers=PAGE).get_data(as_text=True)
    assert "甲厂" in page
    assert "乙厂" in page

    def told(**wanted):
        answer = client.get("/api/v1/hub/acts", query_string=wanted)
        return [(e["action"].partition(".")[2], e["organization_id"]) for e in answer.json["items"]]

    assert told() == [("resumed", one), ("suspended", other), ("suspended", one)]
    assert told(action="organization.suspended", tenant=one) == [("suspended", one)]
    assert told(actor="小王", limit=1) == [("resumed", one)]
    assert told(actor="nobody") == []
    assert told(since=(clock.now() + timedelta(hours=1)).isoformat()) == []
    assert client.get("/api/v1/hub/acts?since=yesterday").status_code == 400
    # what members do among themselves is theirs
    assert "session.started" not in acts.OPERATOR_ACTS
    assert told(action="session.started") == told()
