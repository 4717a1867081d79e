"""What people and programs see of missing events: the card of a source, its forms, the API."""

import re
from datetime import timedelta

import pytest
from factories.connectors import make_connection
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in
from factories.webhooks import make_source, row, rows

from connectors import absence, reconcile_threads
from connectors.tables import Heartbeat, Reconciliation
from identity import roles
from identity.tables import AuditEntry
from kernel import clock, queue
from kernel.database import EVERY, transaction, write
from kernel.settings import settings_override
from webhooks import events, sources
from webhooks.events import NewEvent

PLACE = {"input.owner": "yangfan-demo", "input.repo": "demo", "input.hook_id": "6001"}


class Desk:
    """Somebody of a firm with a GitHub source, at a browser."""

    def __init__(self, client, role="integrator", *, connected=True, scheme="github") -> None:
        self.client = client
        with transaction(EVERY) as session:
            organization = make_organization(session)
            self.owner = organization.id
            self.source = make_source(
                session, self.owner, name="仓库", scheme=scheme,
                secret=None if scheme == "none" else "it-is-a-secret",
            ).id  # fmt: skip
            self.connection = (
                make_connection(session, self.owner, connector_key="github", settings={},
                                name="代码库", fields={"key": "ghp-example-0123456789"}).id
                if connected else None
            )  # fmt: skip
            self.key = make_api_key(session, organization)
            sign_in(client, session, make_member(session, organization, role=role))
        self.path = f"/sources/{self.source}"

    def page(self, language="zh") -> str:
        answer = self.client.get(f"{self.path}?lang={language}")
        assert answer.status_code == 200
        return answer.get_data(as_text=True)

    def card(self, language="zh") -> str:
        found = re.search(r'<div id="missing".*?(?=<section|<div class="card|\Z)(.*)', self.page(
            language), re.S)  # fmt: skip
        return found[0] if found else ""

    def send(self, path="", **form):
        token = re.search(r'name="csrf-token" content="([^"]*)"', self.page())[1]
        return self.client.post(
            f"{self.path}/reconciliation{path}", data={"csrf_token": token, **form}
        )

    def call(self, method, expect=200, **more):
        answer = getattr(self.client, method)(
            f"/api/v1/sources/{self.source}/reconciliation", headers=bearer(self.key), **more
        )
        assert answer.status_code == expect, answer.get_data(as_text=True)
        return answer.get_json()

    def set_up(self):
        return self.send(connection_id=self.connection, **PLACE)

    def change(self, **values) -> None:
        with transaction(self.owner) as session:
            one = session.get(Reconciliation, (self.owner, self.source))
            for name, value in values.items():
                setattr(one, name, value)
            session.add(one)


MISSING = {
    "key": "message:1", "id": 7, "type": "github.push", "at": "2026-11-27T08:00:00+00:00",
    "state": "asked", "asks": 2, "next_at": "2026-11-27T09:00:00+00:00",
    "why": {"zh": "timed out", "en": "timed out"},
}  # fmt: skip
LOST = {
    **MISSING, "key": "message:2", "state": "lost", "asks": 3, "next_at": None,
    "why": {"zh": "<b>太旧</b>", "en": "<b>too old</b>"},
}  # fmt: skip


# --- the card and its states ---------------------------------------------------------------------


def test_without_a_look_the_card_offers_one(client):
    desk = Desk(client)
    card = desk.card()
    for words in ("遗漏的事件", "仓库名", "回调编号", "保存并立即检查", "代码库"):
        assert words in card
    assert "Number of the webhook" in desk.card("en")
    assert "hx-trigger" not in card.partition("</div>")[0]


def test_without_a_connection_the_card_leads_to_one(client):
    assert "/connections/new?connector=github" in Desk(client, connected=False).card()


def test_who_may_not_switch_it_on_is_told_who_can(client, monkeypatch):
    may = roles.permissions_of("member") | {"sources:read"}
    monkeypatch.setitem(roles._ROLE_PERMISSIONS, "member", may)
    card = Desk(client, "member").card()
    assert "拥有“sources:write”权限的成员可以开启" in card
    assert "/reconciliation" not in card


def test_a_sender_that_cannot_be_asked_has_no_card(client):
    assert Desk(client, scheme="none").card() == ""


def test_setting_it_up_shows_it_at_work(client):
    desk = Desk(client)
    answer = desk.set_up()
    assert (answer.status_code, answer.location) == (303, f"{desk.path}#missing")
    card = desk.card()
    assert 'hx-trigger="every 2s"' in card
    assert 'aria-busy="true"' in card
    assert "正在检查" in card
    entry = rows(AuditEntry)[-1]
    assert (entry.action, entry.object_id) == ("reconciliation.set_up", desk.source)


def test_what_is_wrong_with_the_form_stands_beside_its_field(client):
    desk = Desk(client)
    answer = desk.send(connection_id=desk.connection, **{**PLACE, "input.hook_id": "six"})
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert 'value="six"' in page
    assert "格式不对" in page
    assert rows(Reconciliation) == []
    answer = desk.send(connection_id="con_nobodys", **PLACE)
    assert answer.status_code == 422
    assert "这个连接不能用来查询" in answer.get_data(as_text=True)


def test_while_it_reads_the_card_tells_how_far_it_is(client):
    desk = Desk(client)
    desk.set_up()
    desk.change(progress={"pages": 4, "began_at": "2026-11-27T08:00:00+00:00"})
    assert "已读取 4 页" in desk.card()
    assert "4 pages read" in desk.card("en")


def test_nothing_missing_is_said_too(client):
    desk = Desk(client)
    desk.set_up()
    later = clock.now() + timedelta(minutes=15)
    desk.change(look_at=later, next_at=later, last_at=clock.now())
    card = desk.card()
    assert "没有遗漏" in card
    assert "hx-trigger" not in card.split(">")[0]
    assert "立即检查" in card


def test_what_is_missing_is_listed_with_why_and_what_is_done(client):
    desk = Desk(client)
    desk.set_up()
    later = clock.now() + timedelta(minutes=15)
    desk.change(look_at=later, next_at=later, last_at=clock.now(), missing=[MISSING, LOST],
                found_count=1234, fetched_count=1231, failed_count=1, asked_count=1233)  # fmt: skip
    card = desk.card()
    for words in ("仍然遗漏", "github.push", "已请求", "2 次", "1,234", "1,231", "timed out"):
        assert words in card, words
    assert "&lt;b&gt;太旧" in card
    assert "<b>太旧" not in card
    many = [{**LOST, "key": f"message:{number}"} for number in range(25)]
    desk.change(missing=many)
    assert "另有 5 条" in desk.card()


def test_a_problem_says_what_happened_what_is_safe_and_what_to_do(client):
    desk = Desk(client)
    desk.set_up()
    said = {"zh": "令牌没有权限。", "en": "The token may not."}
    desk.change(problem={"cause": "auth", "say": said, "detail": "Bad credentials"},
                next_at=clock.now() + timedelta(minutes=15))  # fmt: skip
    card = desk.card()
    for words in ("令牌没有权限。", "不受影响", "处理好之后", "Bad credentials"):
        assert words in card
    assert "The token may not." in desk.card("en")


def test_look_now_makes_the_next_worker_look(client):
    desk = Desk(client)
    assert desk.send("/look").status_code == 404
    desk.set_up()
    later = clock.now() + timedelta(hours=5)
    desk.change(look_at=later, next_at=later, failure_count=4, missing=[LOST])
    assert desk.send("/look").status_code == 303
    one = row(Reconciliation, desk.source)
    assert one.look_at <= clock.now() >= one.next_at
    assert [entry["state"] for entry in one.missing] == ["open"]
    assert rows(AuditEntry)[-1].action == "reconciliation.asked"


def test_a_fetched_event_says_so_on_its_page(client):
    desk = Desk(client)
    mark = {"fetched-at": "2026-11-27T08:00:00+00:00", "user-agent": "Shop/1"}
    with transaction(EVERY) as session:
        new = [NewEvent("order.paid", b"{}", headers=mark), NewEvent("order.paid", b"{}")]
        brought, came = events.accept(session, desk.owner, desk.source, new)
    page = client.get(f"/events/{brought.id}").get_data(as_text=True)
    assert "由平台主动补回" in page
    assert "2026" in page
    assert "fetched-at" not in page
    assert "Shop/1" in page
    assert "由平台主动补回" not in client.get(f"/events/{came.id}").get_data(as_text=True)


def test_a_closed_source_has_no_card(client):
    desk = Desk(client)
    with transaction(EVERY) as session:
        events.accept(session, desk.owner, desk.source, [NewEvent("order.paid", b"{}")])
        sources.close(session, desk.owner, desk.source)
    assert desk.card() == ""
    assert desk.send(connection_id=desk.connection, **PLACE).status_code == 409


# --- the API -------------------------------------------------------------------------------------


def test_programs_set_it_up_look_and_read(client):
    desk = Desk(client)
    assert desk.call("get", 404)["detail"]
    desk.call("post", 404)
    place = {name.removeprefix("input."): value for name, value in PLACE.items()}
    body = {"connection_id": desk.connection, "input": {**place, "hook_id": "x"}}
    problem = desk.call("put", 422, json=body)
    assert [one["pointer"] for one in problem["errors"]] == ["/input/hook_id"]
    made = desk.call("put", json={**body, "input": place})
    assert made["state"] == "looking"
    assert made["input"] == place
    desk.change(missing=[MISSING], look_at=clock.now() + timedelta(hours=1),
                next_at=clock.now() + timedelta(hours=1))  # fmt: skip
    read = desk.call("get")
    assert read["state"] == "waiting"
    assert read["counts"] == {"found": 0, "asked": 0, "fetched": 0, "failed": 0}
    (entry,) = read["missing"]
    assert (entry["type"], entry["state"], entry["asks"]) == ("github.push", "asked", 2)
    assert read["complete_until"].startswith("2026-11-2")
    assert desk.call("post", 202)["state"] == "looking"
    assert desk.call("put", 422, json={"connection_id": "con_x"})["errors"]


def test_who_may_only_read_may_not_look(client, monkeypatch):
    may = roles.permissions_of("member") | {"sources:read"}
    monkeypatch.setitem(roles._ROLE_PERMISSIONS, "member", may)
    desk = Desk(client, "member")
    assert desk.set_up().status_code == 403
    assert desk.send("/look").status_code == 403
    assert rows(Reconciliation) == []


# --- the hub's own absence -----------------------------------------------------------------------


def looked_at(desk) -> bool:
    return row(Reconciliation, desk.source).look_at <= clock.now()


def test_a_short_pause_is_no_absence_and_a_long_one_makes_all_sources_be_looked_at(client):
    desk = Desk(client)
    desk.set_up()
    far = clock.now() + timedelta(hours=5)
    desk.change(look_at=far, next_at=far, progress={"page": "old"})
    assert write(absence.beat) == 0
    with clock.shifted(seconds=50):
        assert write(absence.beat) == 0
        assert not looked_at(desk)
    with clock.shifted(seconds=100):
        assert write(absence.beat) == 0  # 50 seconds since the last beat
        assert row(Heartbeat, "hub").away_from is None
    with clock.shifted(seconds=200):
        assert write(absence.beat) == 1
        assert looked_at(desk)
        assert row(Reconciliation, desk.source).progress is None
        told = row(Heartbeat, "hub")
        assert (told.away_until - told.away_from).total_seconds() == pytest.approx(100, abs=2)
        assert write(absence.beat) == 0


def test_a_clock_set_back_is_no_absence(client):
    desk = Desk(client)
    desk.set_up()
    with clock.shifted(seconds=500):
        assert write(absence.beat) == 0
    assert write(absence.beat) == 0
    with clock.shifted(seconds=520):
        assert write(absence.beat) == 0


def test_only_processes_with_a_door_beat(client, monkeypatch):
    assert absence.sweep() == 0
    assert len(rows(Heartbeat)) == 1
    before = row(Heartbeat, "hub").beat_at
    monkeypatch.setattr(queue, "is_consuming", lambda: True)
    with settings_override(broker_url="amqp://broker"), clock.shifted(seconds=300):
        assert absence.sweep() == 0
    assert row(Heartbeat, "hub").beat_at == before
    with settings_override(broker_url="memory://"), clock.shifted(seconds=30):
        absence.sweep()
    assert row(Heartbeat, "hub").beat_at > before


def test_the_sweep_starts_threads_in_workers_alone(client, monkeypatch):
    desk = Desk(client)
    desk.set_up()
    looked = []
    monkeypatch.setattr(reconcile_threads, "look_all", looked.append)
    assert reconcile_threads.sweep() == 0
    monkeypatch.setattr(queue, "is_consuming", lambda: True)
    assert reconcile_threads.sweep() == 1
    for thread in reconcile_threads._threads:
        thread.join(10)
    assert len(looked) == 1
    assert looked[0].startswith("wrk_")
    desk.change(next_at=clock.now() + timedelta(hours=1))
    assert reconcile_threads.sweep() == 0
