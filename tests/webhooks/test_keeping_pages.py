"""Data keeping as pages and API: rules, the archive, exports and erasures, in every state."""

import io
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from factories import identity, keeping
from factories import webhooks as make

from identity.tables import AuditEntry, Organization
from kernel import clock
from kernel.settings import settings_override
from webhooks.hooks import CHORES
from webhooks.keeping import rules, turns
from webhooks.keeping.rules import Rule
from webhooks.keeping.tables import ArchiveChunk, DataExport, Erasure, Keeping, RetentionRule
from webhooks.tables import Delivery, Event, Refusals

LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _english(client, app, tmp_path):
    with settings_override(archive_dir=str(tmp_path / "archive")):
        client.get("/help?lang=en")
        yield


@pytest.fixture
def seat(client):
    """The owner of a firm."""

    def setup(session):
        member = identity.make_member(session, role="owner")
        identity.sign_in(client, session, member)
        return member.organization_id

    return make.in_transaction(setup)


@pytest.fixture
def old(seat):
    """Two archived events of the firm's."""

    def setup(session):
        rules.look_again(session, seat)
        endpoint = make.make_endpoint(session, seat)
        return [
            keeping.finished(session, seat, endpoint.id, type=kind, subject="Zwiebelturm")
            for kind in ("order.paid", "chat.said")
        ]

    ids = make.in_transaction(setup)
    keeping.keep_house()
    assert make.rows(Delivery) == []
    return ids


def post(client, path, **form):
    return client.post(path, data={**form, "csrf_token": identity.csrf_of(client, "/help")})


def text_of(answer):
    return answer.get_data(as_text=True)


def call(client, method, path, body=None):
    headers = {"X-CSRF-Token": identity.csrf_of(client, "/help"), "Accept": "application/json"}
    return client.open(f"/api/v1{path}", method=method, json=body, headers=headers)


def colleague(app, firm, role):
    """Another member's browser."""
    browser = app.test_client()

    def setup(session):
        organization = session.get(Organization, firm)
        identity.sign_in(browser, session, identity.make_member(session, organization, role=role))

    make.in_transaction(setup)
    browser.get("/help?lang=en")
    return browser


def test_an_empty_house_says_what_will_come(client, seat):
    page = text_of(client.get("/settings/data"))
    assert "Your data gets its first run within a day." in page
    assert "The archive is empty" in page
    assert "as the hub has it" in page
    assert "The archive is empty" in text_of(client.get("/archive"))
    assert "No exports yet" in text_of(client.get("/exports"))
    assert "Nothing was asked to be erased" in text_of(client.get("/erasures"))
    assert "stay in this list for 90 days" in text_of(client.get("/events"))


def test_rules_are_set_shown_and_removed(client, seat):
    form = {"event_types": "order.*", "live_days": "10", "rejected_days": "5"}
    wrong = post(client, "/settings/data/rules", **form, archive_days="0", detail_days="4000")
    assert wrong.status_code == 422
    assert "from 1 to 3,650" in text_of(wrong)
    assert post(client, "/settings/data/rules", live_days="many").status_code == 422
    assert post(client, "/settings/data/rules", event_types="a b").status_code == 422
    assert post(client, "/settings/data/rules", **form, archive_days="0").status_code == 303
    (rule,) = make.rows(RetentionRule)
    assert (rule.live_days, rule.rejected_days, rule.archive_days) == (10, 5, 0)
    page = text_of(client.get("/settings/data"))
    assert "not archived, deleted" in page
    assert "order.*" in page
    assert make.rows(Keeping)[0].next_at <= clock.now()
    assert post(client, f"/settings/data/rules/{rule.id}/remove").status_code == 303
    assert make.rows(RetentionRule) == []
    actions = [entry.action for entry in make.rows(AuditEntry)]
    assert [name for name in actions if "retention" in name] == [
        "retention.changed", "retention.removed",
    ]  # fmt: skip


def test_who_may_what(app, client, seat, old):
    integrator, clerk = colleague(app, seat, "integrator"), colleague(app, seat, "member")
    page = text_of(integrator.get("/settings/data"))
    assert "An owner or administrator can change the rules." in page
    assert "/erasures" not in page
    assert integrator.get(f"/archive/events/{old[0]}").status_code == 200
    assert post(integrator, f"/archive/events/{old[0]}/replay").status_code == 303
    for path in ("/settings/data/rules", "/exports", "/erasures"):
        assert post(integrator, path).status_code == 403
    for path in ("/settings/data", "/archive", "/exports", "/erasures"):
        assert clerk.get(path).status_code == 403


@pytest.mark.parametrize("trouble", ["disk_full", "folder", "not_verified", "failed"])
def test_trouble_is_told_on_the_page(client, seat, old, trouble):
    def break_it(session):
        row = session.get(Keeping, (seat, seat))
        row.trouble, row.trouble_since = trouble, clock.now()

    make.in_transaction(break_it)
    page = text_of(client.get("/settings/data"))
    assert "Nothing was" in page
    assert "Since" in page
    assert "Nothing is archived at present." in text_of(client.get("/archive"))
    assert call(client, "GET", "/retention").json["trouble"] == trouble


def test_the_archive_is_walked_and_searched(client, seat, old):
    (chunk,) = make.rows(ArchiveChunk)
    assert f"/archive/days/{chunk.day}" in text_of(client.get("/archive"))
    assert f"/archive/chunks/{chunk.id}" in text_of(client.get(f"/archive/days/{chunk.day}"))
    assert f"/archive/events/{old[0]}" in text_of(client.get(f"/archive/chunks/{chunk.id}"))
    page = text_of(client.get(f"/archive/events/{old[0]}"))
    assert "SO-1001" in page
    assert "Zwiebelturm" in page
    found = client.get(f"/archive?q={old[0]}")
    assert (found.status_code, found.location) == (303, f"/archive/events/{old[0]}")
    assert "begins with evt_" in text_of(client.get("/archive?q=evt_../../x"))
    assert client.get("/archive?cursor=2020-01-01").status_code == 200
    for path in ("/archive/days/2020-01-01", "/archive/days/x", "/archive/chunks/arc_1"):
        assert client.get(path).status_code == 404
    assert client.get("/archive/events/evt_1").status_code == 404
    assert "500" not in str(client.get(f"/archive/chunks/{chunk.id}?start=999999").status_code)


def test_a_live_address_of_an_archived_event_leads_on(client, seat):
    def setup(session):
        rules.decide(session, seat, Rule(live_days=1))
        endpoint = make.make_endpoint(session, seat)
        return keeping.finished(session, seat, endpoint.id)

    event_id = make.in_transaction(setup)
    keeping.keep_house(3 * 86_400)
    answer = client.get(f"/events/{event_id}")
    assert (answer.status_code, answer.location) == (303, f"/archive/events/{event_id}")
    answer = call(client, "GET", f"/events/{event_id}")
    assert (answer.status_code, answer.json["code"]) == (404, "archived")
    assert event_id not in text_of(client.get("/events"))
    assert call(client, "POST", f"/events/{event_id}/replay").status_code == 404


def test_one_event_and_a_span_are_repeated(client, seat, old):
    answer = post(client, f"/archive/events/{old[0]}/replay")
    assert answer.location == f"/events/{old[0]}?done=replayed"
    assert "in the live list already" in text_of(post(client, f"/archive/events/{old[0]}/replay"))
    day = make.rows(ArchiveChunk)[0].day
    assert post(client, "/archive/replay", since=day, until="never").status_code == 422
    assert post(client, "/archive/replay", since=day, until="2020-01-01").status_code == 422
    counted = text_of(post(client, "/archive/replay", since=day, until=day, type="chat.*"))
    assert "Repeat 1 events" in counted
    assert len(make.rows(Event)) == 1
    done = post(client, "/archive/replay", since=day, until=day, type="chat.*", confirmed="1")
    assert done.location == "/archive?done=span_replayed"
    assert {event.id for event in make.rows(Event)} == set(old)
    assert "Nothing fits" in text_of(post(client, "/archive/replay", since=day, until=day))
    said = [entry.detail for entry in make.rows(AuditEntry) if entry.action == "archive.replayed"]
    assert [one["events"] for one in said] == [1, 1]


def test_an_export_is_asked_for_written_and_downloaded(client, seat, old):
    day = make.rows(ArchiveChunk)[0].day
    assert post(client, "/exports", since="", until=day).status_code == 422
    assert post(client, "/exports", since=day, until=day).status_code == 303
    (export,) = make.rows(DataExport)
    assert "hx-get" in text_of(client.get("/exports"))
    assert client.get(f"/exports/{export.id}/file").status_code == 404
    keeping.keep_house(0)
    page = text_of(client.get("/exports"))
    assert 'hx-trigger="every 3s"' not in page
    answer = client.get(f"/exports/{export.id}/file")
    assert answer.headers["Content-Disposition"].endswith(f'"{export.id}.zip"')
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    names = zipfile.ZipFile(io.BytesIO(answer.data)).namelist()
    assert names == ["events.jsonl", "deliveries.csv", "completions.csv", "runs.csv"]
    actions = [entry.action for entry in make.rows(AuditEntry)]
    assert [name for name in actions if "export" in name] == ["export.asked", "export.downloaded"]
    post(client, "/exports", since=day, until=day)
    second = make.rows(DataExport)[1]
    assert post(client, f"/exports/{second.id}/cancel").status_code == 303
    assert post(client, f"/exports/{second.id}/cancel").status_code == 409
    keeping.keep_house(8 * 86_400)
    assert client.get(f"/exports/{export.id}/file").status_code == 404


def test_an_erasure_leaves_a_receipt(client, seat, old):
    assert post(client, "/erasures", kind="subject", value="").status_code == 422
    answer = post(client, "/erasures", kind="subject", value="Zwiebelturm")
    (erasure,) = make.rows(Erasure)
    assert answer.location.startswith(f"/erasures/{erasure.id}")
    assert "hx-get" in text_of(client.get(f"/erasures/{erasure.id}"))
    keeping.keep_house(0)
    page = text_of(client.get(f"/erasures/{erasure.id}"))
    assert "Zwiebelturm" not in page
    assert erasure.value_mark in page
    assert make.rows(ArchiveChunk) == []
    moving = make.in_transaction(lambda s: make.make_event(s, seat, subject="S-1"))
    assert post(client, "/erasures", kind="event", value=moving).status_code == 409
    post(client, "/erasures", kind="subject", value="S-1")
    keeping.keep_house(0)
    refused = make.rows(Erasure)[1]
    page = text_of(client.get(f"/erasures/{refused.id}"))
    assert "still on its way" in page
    assert f"/events/{moving}" in page


def test_the_same_over_json(client, seat, old):
    answer = call(client, "PUT", "/retention/rules", {"event_types": "a.*", "archive_days": 0})
    assert (answer.status_code, answer.json["archive_days"]) == (200, 0)
    rule_id = answer.json["id"]
    assert call(client, "PUT", "/retention/rules", {"live_days": 0}).status_code == 422
    kept = call(client, "GET", "/retention").json
    assert [rule["event_types"] for rule in kept["rules"]] == ["*", "a.*"]
    assert (kept["archived_events"], kept["live_events"]) == (2, 0)
    assert call(client, "DELETE", f"/retention/rules/{rule_id}").status_code == 204
    (chunk,) = call(client, "GET", "/archive").json["items"]
    assert call(client, "GET", f"/archive?day={chunk['day']}&type=chat.*").json["items"]
    assert call(client, "GET", "/archive?type=order.paid").json["items"]
    assert not call(client, "GET", "/archive?type=order.pai").json["items"]
    assert not call(client, "GET", "/archive?type=%25").json["items"]
    assert call(client, "GET", f"/archive/{chunk['id']}").json["digest"] == chunk["digest"]
    listed = call(client, "GET", f"/archive/{chunk['id']}/events").json["items"]
    assert [one["id"] for one in listed] == old
    shown = call(client, "GET", f"/archive/events/{old[0]}").json
    assert shown["data"] == make.ORDER
    assert shown["deliveries"][0]["attempts"][0]["status"] == 200
    span = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    counted = call(client, "POST", "/archive/replay", span).json
    assert counted == {"count": 2, "is_more": False, "is_done": False}
    assert call(client, "POST", f"/archive/events/{old[0]}/replay").json == {"event_id": old[0]}
    done = call(client, "POST", "/archive/replay", {**span, "confirmed": True}).json
    assert done == {"count": 1, "is_more": False, "is_done": True}
    backwards = {"since": span["until"], "until": span["since"]}
    assert call(client, "POST", "/archive/replay", backwards).status_code == 422
    asked = call(client, "POST", "/exports", span)
    assert asked.status_code == 202
    path = f"/exports/{asked.json['id']}"
    keeping.keep_house(0)
    assert call(client, "GET", path).json["state"] == "done"
    assert call(client, "GET", f"{path}/file").data[:2] == b"PK"
    assert call(client, "POST", f"{path}/cancel").status_code == 409
    assert len(call(client, "GET", "/exports").json["items"]) == 1
    wish = {"kind": "event", "value": "evt_nobody"}
    erased = call(client, "POST", "/erasures", wish)
    assert erased.status_code == 202
    keeping.keep_house(0)
    receipt = call(client, "GET", f"/erasures/{erased.json['id']}").json
    assert (receipt["state"], receipt["live_events"]) == ("done", 0)
    assert len(call(client, "GET", "/erasures").json["items"]) == 1


def test_a_part_of_the_archive_that_is_gone_is_told(client, seat, old, tmp_path):
    for file in (tmp_path / "archive").rglob("*.yfa"):
        file.unlink()
    (chunk,) = make.rows(ArchiveChunk)
    for path in (f"/archive/chunks/{chunk.id}", f"/archive/events/{old[0]}"):
        answer = client.get(path)
        assert answer.status_code == 503
    answer = call(client, "GET", f"/archive/{chunk.id}/events")
    assert answer.json["code"] == "archive_unreadable"
    assert call(client, "POST", "/erasures", {"kind": "subject", "value": "x"}).status_code == 202
    keeping.keep_house(0)
    assert make.rows(Erasure)[0].state == "failed"
    assert "cannot be read" in text_of(client.get(f"/erasures/{make.rows(Erasure)[0].id}"))


def test_notes_on_refused_requests_go_with_rejected_events(seat):
    now = clock.now()
    notes = [{"at": (now - timedelta(days=days)).isoformat()} for days in (1, 29, 31)]

    def setup(session):
        rules.look_again(session, seat)
        session.add(Refusals(organization_id=seat, id="src_1", counts={}, latest=notes))

    make.in_transaction(setup)
    keeping.keep_house(60)
    assert make.rows(Refusals)[0].latest == notes[:2]


def test_run_now_is_heard(client, seat, old):
    make.in_transaction(lambda s: setattr(s.get(Keeping, (seat, seat)), "next_at", LATER))
    assert not turns.turn(CHORES)
    assert post(client, "/settings/data/run").status_code == 303
    assert turns.turn(CHORES)
