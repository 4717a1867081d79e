"""Vendors' connectors: hostile zips, the check by a machine, review, versions, upgrades, recall."""

import io
import json
import stat
import struct
import threading
import zipfile

import pytest
from factories import editions as made
from factories.connectors import make_flow, rows, runs, settle, start_runs, vendor
from factories.connectors import ready as as_ready
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    sign_in,
)
from factories.webhooks import make_event

from connectors import connections, flows
from connectors.engine import loader
from connectors.errors import NotNow, Unfit
from connectors.publishing import archives, bench, checks, deeds, editions, shelf, upgrades
from connectors.publishing.tables import ConnectorEdition
from connectors.tables import Connection, Flow
from identity.tables import AuditEntry, Organization
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Forbidden, NotFound, TooMany
from kernel.settings import settings_override
from webhooks.tables import Event

REAL = bench.ask


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """Look at folders in this process; what a process of its own adds has tests of its own."""

    def ask(request, tell=None):
        return bench.answer(request, tell or (lambda _line: None))

    monkeypatch.setattr(bench, "ask", ask)
    shelf.forget()
    with settings_override(data_dir=str(tmp_path)):
        yield
    shelf.forget()


@pytest.fixture
def acme(database, app):
    """The vendor's owner and an operator, as who they are."""
    with transaction(EVERY) as session:
        owner, operator = made.people(session)
    return made.principal_of(owner), made.principal_of(operator)


# --- zips -----------------------------------------------------------------------------------------


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    one = zipfile.ZipInfo(name)
    one.external_attr = mode << 16
    return one


def zip_of(*entries) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as out:
        for one, body in entries:
            out.writestr(one, body)
    return held.getvalue()


MANIFEST = ("manifest.yaml", b"hub: 1\n")


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([MANIFEST, ("../evil.yaml", b"x")], "no part"),
        ([MANIFEST, ("/etc/passwd", b"x")], "no part"),
        ([MANIFEST, ("schemas/../../x.json", b"x")], "no part"),
        ([MANIFEST, ("schemas\\x.json", b"x")], "no part"),
        ([MANIFEST, ("fixtures/a/b.yaml", b"x")], "no part"),
        ([MANIFEST, ("run.py", b"x")], "no part"),
        ([MANIFEST, ("schemas/.json", b"x")], "no part"),
        ([(entry("manifest.yaml", stat.S_IFLNK | 0o777), b"/etc/passwd")], "no plain file"),
        ([(entry("manifest.yaml", stat.S_IFIFO | 0o777), b"")], "no plain file"),
        ([("README.md", b"x")], "is missing"),
        ([MANIFEST, ("README.md", b"x" * (archives.MAX_FILE + 1))], "larger than 256"),
        ([MANIFEST, *((f"schemas/a{n}.json", b"x") for n in range(301))], "more than 300"),
        (
            [MANIFEST, *((f"schemas/a{n}.json", b"x" * archives.MAX_FILE) for n in range(13))],
            "larger than 3 MB",
        ),
    ],
)
def test_a_zip_that_is_no_connector_is_refused(entries, word):
    with pytest.raises(Unfit) as refused:
        archives.read(zip_of(*entries))
    assert word in refused.value.findings[0]["say"]["en"]


def test_a_zip_that_lies_about_its_sizes_is_counted_as_it_is_read():
    raw = bytearray(zip_of(MANIFEST, ("README.md", b"\0" * (4 << 20))))
    # the central directory says that README.md has ten bytes
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    with pytest.raises(Unfit):
        archives.read(bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"not a zip at all", b"\0" * 9_999])
def test_what_is_no_zip_is_refused(raw):
    with pytest.raises(Unfit):
        archives.read(raw)


def test_twice_the_same_name_is_refused():
    with pytest.warns(UserWarning, match="Duplicate name"), pytest.raises(Unfit):
        archives.read(zip_of(MANIFEST, MANIFEST))


def test_the_folder_around_it_and_what_file_managers_leave_do_not_matter():
    files = made.folder()
    raw = zip_of(
        *((f"acme-chat/{name}", body) for name, body in files.items()),
        ("__MACOSX/acme-chat/._manifest.yaml", b"x"),
        ("acme-chat/.DS_Store", b"x"),
    )
    assert archives.read(raw) == files
    assert archives.pack(files) == archives.pack(archives.read(made.zipped(files)))


def test_links_in_a_folder_are_not_followed(tmp_path):
    archives.unpack(made.folder(), tmp_path / "a")
    (tmp_path / "a" / "schemas" / "x.json").symlink_to("/etc/passwd")
    with pytest.raises(Unfit):
        archives.of_folder(tmp_path / "a")


# --- the check ------------------------------------------------------------------------------------


def test_a_faultless_folder_passes_and_says_what_it_may_reach(acme):
    owner, _ = acme
    edition = made.checked(owner)
    assert (edition.state, edition.findings, edition.name) == ("checked", [], "acme-chat")
    assert edition.trial["passed"] > 5
    assert edition.trial["failed"] == 0
    assert edition.reach["effects"] == {"create": 1}
    assert edition.reach["secrets"] == ["key"]
    assert editions.key_of(edition) == "acme.acme-chat@1.0.0"


def test_what_is_wrong_is_found_with_its_line_and_cured_in_place(acme):
    owner, _ = acme
    files = made.version("1.0.0")
    files["manifest.yaml"] = files["manifest.yaml"].replace(b"  summary:", b"  sumary:", 1)
    edition = made.checked(owner, files)
    assert edition.state == "failed"
    assert {one["rule"] for one in edition.findings} == {"C01"}
    assert any(one["line"] > 1 for one in edition.findings)
    with pytest.raises(NotNow):
        deeds.submit(owner, edition.id)
    good = made.folder()["manifest.yaml"].decode()
    deeds.write_file(owner, edition.id, "manifest.yaml", good.replace("\n", "\r\n"))
    assert checks.work()
    with reading(EVERY) as session:
        assert editions.find(session, edition.id).state == "checked"


def test_a_test_that_fails_is_told(acme):
    owner, _ = acme
    files = dict(made.folder())
    name = "fixtures/post_message.ok.yaml"
    files[name] = files[name].replace(b"status: 200", b"status: 500", 1)
    edition = made.checked(owner, files)
    assert edition.state == "failed"
    assert edition.findings or edition.trial["failures"]


def test_a_check_that_never_ends_is_ended_and_told(acme, monkeypatch):
    owner, _ = acme

    def breaks(*_):
        raise bench.Broke

    monkeypatch.setattr(bench, "ask", breaks)
    edition = made.checked(owner)
    assert (edition.state, edition.try_count) == ("failed", checks.TRIES)
    assert "did not come to its end" in edition.findings[0]["say"]["en"]


def test_the_bench_has_bounds_that_a_folder_cannot_lift(monkeypatch):
    files = {name: body.hex() for name, body in made.folder().items()}
    told = []
    found = REAL({"do": "look", "files": files, "before": files}, told.append)
    assert (found["findings"], found["changes"], found["trial"]["failed"]) == ([], [], 0)
    assert [line["done"] for line in told] == [1, 2]
    monkeypatch.setattr(bench, "SECONDS", 0.2)
    with pytest.raises(bench.Broke):
        REAL({"do": "look", "files": files})


def test_whoever_died_at_a_check_is_followed(acme):
    owner, _ = acme
    deeds.upload(owner, made.folder())
    from kernel.database import write

    assert write(lambda session: checks._claim(session, "dead")) is not None
    assert not checks.work()
    with clock.shifted(seconds=checks.LEASE.total_seconds() + 1):
        assert checks.work()
    assert rows(ConnectorEdition)[0].state == "checked"


def test_a_change_during_the_check_is_checked_anew(acme, monkeypatch):
    owner, _ = acme
    edition = deeds.upload(owner, made.folder())
    real = bench.ask

    def meanwhile(request, tell=None):
        monkeypatch.setattr(bench, "ask", real)
        deeds.write_file(owner, edition.id, "README.md", "changed")
        return {"findings": [], "name": "acme-chat", "version": "9.9.9", "trial": {}}

    monkeypatch.setattr(bench, "ask", meanwhile)
    checks.work()
    (kept,) = rows(ConnectorEdition)
    assert (kept.state, kept.version) == ("checking", "")


def test_a_vendor_has_bounds(acme, monkeypatch):
    owner, _ = acme
    monkeypatch.setattr(editions, "MOST_OPEN", 2)
    first = deeds.upload(owner, made.folder())
    deeds.upload(owner, made.folder())
    with pytest.raises(NotNow):
        deeds.upload(owner, made.folder())
    deeds.delete(owner, first.id)
    deeds.upload(owner, made.folder())


def test_one_begins_from_an_openapi_document(acme):
    owner, _ = acme
    document = {
        "openapi": "3.0.3",
        "info": {"title": "Tiny", "version": "1"},
        "servers": [{"url": "https://api.tiny.example/v1"}],
        "paths": {"/notes": {"post": {
            "operationId": "createNote", "summary": "Create a note",
            "requestBody": {"content": {"application/json": {"schema": {
                "type": "object", "required": ["text"],
                "properties": {"text": {"type": "string"}}}}}},
            "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {
                "type": "object", "properties": {"id": {"type": "string"}}}}}}},
        }}},
    }  # fmt: skip
    files, _ = deeds.begin(owner, "tiny-notes", json.dumps(document).encode())
    assert b"api.tiny.example" in files["manifest.yaml"]
    files, notes = deeds.begin(owner, "../evil", None)
    assert not files
    assert notes
    files, notes = deeds.begin(owner, "tiny-notes", b"this is no document")
    assert not files
    assert notes


# --- review and the shelf -------------------------------------------------------------------------


def test_nobody_sees_it_before_an_operator_has_decided(acme):
    owner, operator = acme
    edition = made.checked(owner)
    key = editions.key_of(edition)
    assert loader.known(key) is None
    deeds.submit(owner, edition.id)
    assert loader.known(key) is None
    with pytest.raises(NotNow):
        deeds.write_file(owner, edition.id, "README.md", "x")
    with pytest.raises(NotNow):
        deeds.delete(owner, edition.id)
    deeds.decide(operator, edition.id, "approve", "")
    connector = loader.find(key)
    assert (connector.key, connector.version) == (key, "1.0.0")
    assert connector.icon.is_file()
    assert [one.type for one in rows(Event)] == ["release.published"]
    actions = {one.action for one in rows(AuditEntry)}
    assert actions >= {"edition.uploaded", "edition.submitted", "edition.published"}


def test_a_refusal_has_a_reason_and_the_version_may_be_sent_again(acme):
    owner, operator = acme
    edition = made.checked(owner)
    deeds.submit(owner, edition.id)
    with pytest.raises(Unfit):
        deeds.decide(operator, edition.id, "reject", " ")
    deeds.decide(operator, edition.id, "reject", "说明不清楚")
    assert rows(ConnectorEdition)[0].reason == "说明不清楚"
    deeds.write_file(owner, edition.id, "README.md", made.folder()["README.md"].decode() + "\n")
    checks.work()
    deeds.submit(owner, edition.id)


def test_nobody_reviews_their_own(acme):
    owner, _ = acme
    edition = made.checked(owner)
    deeds.submit(owner, edition.id)
    with pytest.raises(Forbidden):
        deeds.decide(owner, edition.id, "approve", "")


def test_a_vendors_connector_never_stands_in_for_one_of_the_library(acme):
    owner, operator = acme
    files = archives.of_folder(loader.LIBRARY / "demo-erp")
    edition = made.published(owner, operator, files)
    assert editions.key_of(edition).startswith("acme.demo-erp@")
    assert loader.find("demo-erp").folder == loader.LIBRARY / "demo-erp"
    assert all("." not in key and "@" not in key for key in loader.library())


def test_versions_only_go_up_and_breaking_ones_need_a_higher_first_number(acme):
    owner, operator = acme
    made.published(owner, operator)
    again = made.checked(owner)
    with pytest.raises(NotNow):
        deeds.submit(owner, again.id)
    small = made.checked(
        owner, made.version("1.0.1", replacing={"effect: create": "effect: update"})
    )
    assert small.state == "checked"
    assert small.compared_to == "1.0.0"
    assert any(one["is_breaking"] for one in small.changes)
    assert not small.is_allowed
    with pytest.raises(NotNow):
        deeds.submit(owner, small.id)
    large = made.checked(
        owner, made.version("2.0.0", replacing={"effect: create": "effect: update"})
    )
    deeds.submit(owner, large.id)


def test_a_withdrawn_version_goes_on_and_a_recalled_one_does_not(acme, monkeypatch):
    owner, operator = acme
    edition = made.published(owner, operator)
    key = editions.key_of(edition)
    with transaction(EVERY) as session:
        firm = make_organization(session, name="买家").id
        connections.create(
            session,
            firm,
            key,
            fields={"key": "k" * 20},
            settings={"base_url": "http://127.0.0.1:9803"},
        )
    with pytest.raises(Unfit):
        deeds.change_state(owner, edition.id, "withdrawn", "")
    deeds.change_state(owner, edition.id, "withdrawn", "有更好的")
    assert loader.known(key) is not None
    with transaction(EVERY) as session, pytest.raises(NotNow):
        connections.create(
            session,
            firm,
            key,
            fields={"key": "k" * 20},
            settings={"base_url": "http://127.0.0.1:9803"},
        )
    with pytest.raises(Forbidden):
        deeds.change_state(owner, edition.id, "recalled", "x")
    deeds.recall(operator, edition.id, "泄露密钥")
    assert loader.known(key) is None
    # another process notices it by itself
    shelf._known[key] = shelf._Known(object(), -1_000.0)
    assert loader.known(key) is None


def buyer(session, key: str, url: str):
    firm = make_organization(session, name="买家")
    connection = connections.create(
        session, firm.id, key, fields={"key": "k" * 20}, settings={"base_url": url}
    )
    session.flush()
    document = {
        "trigger": {"event": "order.paid", "version": None},
        "steps": [
            {
                "key": "tell", "kind": "action", "connector": key, "connection": connection.id,
                "action": "post_message",
                "input": {"channel": "订单群", "text": "订单 ${event.data.order_no}"},
            }
        ],
    }  # fmt: skip
    return firm, connection.id, make_flow(session, firm.id, document).id


def happen(session, organization_id):
    event_id = make_event(session, organization_id, type="order.paid", body=b'{"order_no": "SO-1"}')
    session.flush()
    start_runs(session, [as_ready(session.get(Event, (organization_id, event_id)))])


def test_a_flow_runs_by_the_version_it_was_made_with_and_moves_when_told(acme):
    owner, operator = acme
    first = editions.key_of(made.published(owner, operator))
    with vendor() as target:
        with transaction(EVERY) as session:
            firm, connection_id, flow_id = buyer(session, first, target.url)
            happen(session, firm.id)
        settle()
        assert [run.state for run in runs()] == ["succeeded"]
        assert target.messages()[0]["text"] == "订单 SO-1"
        second = editions.key_of(made.published(owner, operator, made.version("1.1.0")))
        with reading(EVERY) as session:
            connection = connections.find(session, firm.id, connection_id)
            assert connection.connector_key == first
            offer = upgrades.offer_for(session, connection)
            assert (offer.key, offer.breaks) == (second, False)
        with transaction(EVERY) as session:
            moved = upgrades.upgrade(session, firm.id, connection_id, "usr_1")
            assert [one.id for one in moved] == [flow_id]
        with transaction(EVERY) as session:
            flow = flows.find(session, firm.id, flow_id)
            document = flows.version(session, firm.id, flow_id, flow.published_version).document
            assert document["steps"][0]["connector"] == second
            assert flow.published_version == 2
            happen(session, firm.id)
        settle()
        assert [run.state for run in runs()] == ["succeeded"] * 2
        with transaction(EVERY) as session, pytest.raises(NotNow):
            upgrades.upgrade(session, firm.id, connection_id, "usr_1")


def test_a_flow_that_does_not_fit_holds_the_whole_upgrade_up(acme, monkeypatch):
    owner, operator = acme
    first = editions.key_of(made.published(owner, operator))
    with transaction(EVERY) as session:
        firm, connection_id, flow_id = buyer(session, first, "http://127.0.0.1:9803")
    made.published(owner, operator, made.version("1.1.0"))
    monkeypatch.setattr(
        flows, "check", lambda *_: [{"pointer": "/steps/0", "say": {"zh": "不合", "en": "No"}}]
    )
    with pytest.raises(Unfit) as refused, transaction(EVERY) as session:
        upgrades.upgrade(session, firm.id, connection_id, "usr_1")
    assert refused.value.findings[0]["pointer"] == f"/flows/{flow_id}/steps/0"
    assert rows(Connection)[0].connector_key == first
    assert rows(Flow)[0].published_version == 1


def test_a_strangers_edition_does_not_exist(acme):
    owner, _ = acme
    edition = made.checked(owner)
    with transaction(EVERY) as session:
        other, _ = made.people(session, "other")
    stranger = made.principal_of(other)
    for act in (
        lambda: deeds.write_file(stranger, edition.id, "README.md", "x"),
        lambda: deeds.submit(stranger, edition.id),
        lambda: deeds.delete(stranger, edition.id),
        lambda: deeds.change_state(stranger, edition.id, "deprecated", "x"),
    ):
        with pytest.raises(NotFound):
            act()


# --- pages, API, command line ---------------------------------------------------------------------


def html(client, path: str) -> str:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text[:500]
    return answer.text


def test_the_whole_way_in_a_browser(database, app, client):
    with transaction(EVERY) as session:
        owner, operator = made.people(session)
        buyer_seat = make_member(session, make_organization(session, name="买家"))
    sign_in(client, None, owner)
    form = {"csrf_token": csrf_of(client, "/vendor/connectors"), "do": "upload"}
    broken = dict(made.folder())
    broken["manifest.yaml"] = broken["manifest.yaml"].replace(b"  summary:", b"  sumary:", 1)
    sent = client.post(
        "/vendor/connectors", data={**form, "file": (io.BytesIO(made.zipped(broken)), "a.zip")}
    )
    assert sent.status_code == 303
    (edition,) = rows(ConnectorEdition)
    at = f"/vendor/connectors/{edition.id}"
    assert 'aria-busy="true"' in html(client, f"{at}/live")
    checks.work()
    page = html(client, at)
    assert "yf-source-found" in page
    good = made.folder()["manifest.yaml"].decode()
    saved = client.post(f"{at}/file", data={**form, "file": "manifest.yaml", "text": good})
    assert saved.status_code == 303
    checks.work()
    assert client.post(f"{at}/submit", data=form).status_code == 303
    sign_in(client, None, operator)
    form = {"csrf_token": csrf_of(client, "/operator/connectors"), "decision": "approve"}
    assert edition.id in html(client, "/operator/connectors")
    assert "base_url" in html(client, f"/operator/connectors/{edition.id}?lang=en")
    assert client.post(f"/operator/connectors/{edition.id}", data=form).status_code == 303
    sign_in(client, None, buyer_seat)
    listed = html(client, "/connectors?lang=en")
    assert "by acme Software, version 1.0.0" in listed
    assert "acme.acme-chat@1.0.0" in listed
    assert "acme Software" in html(client, "/connectors/acme.acme-chat@1.0.0?lang=en")
    assert client.get("/connectors/acme.acme-chat@1.0.0/icon.svg").status_code == 200
    assert html(client, "/connections/new?connector=acme.acme-chat@1.0.0")
    assert client.get(at, headers={"Accept": "text/html"}).status_code == 403


def test_a_zip_that_is_refused_is_told_on_the_page(database, app, client):
    with transaction(EVERY) as session:
        owner, _ = made.people(session)
    sign_in(client, None, owner)
    form = {"csrf_token": csrf_of(client, "/vendor/connectors"), "do": "upload"}
    evil = zip_of(MANIFEST, ("../evil.yaml", b"x"))
    sent = client.post(
        "/vendor/connectors?lang=en", data={**form, "file": (io.BytesIO(evil), "a.zip")}
    )
    assert sent.status_code == 422
    assert "no part of a connector" in sent.text
    assert rows(ConnectorEdition) == []


def test_the_command_line_publishes_over_the_api(database, app, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from connectors.cli import group

    with transaction(EVERY) as session:
        owner, _ = made.people(session)
        key = make_api_key(session, session.get(Organization, owner.organization_id))
    folder = tmp_path / "acme-chat"
    archives.unpack(made.folder(), folder)
    monkeypatch.setattr("connectors.publishing.cli.POLL_SECONDS", 0.05)
    with made.serve_app(app) as address:
        monkeypatch.setattr(
            "connectors.publishing.cli._wait",
            lambda at, edition: checks.work() and at.ask("GET", f"/{edition['id']}"),
        )
        arguments = ["publish", str(folder), "--hub", address, "--language", "en"]
        ran = CliRunner().invoke(group, [*arguments, "--key", key])
        assert ran.exit_code == 0, ran.output
        told = json.loads(ran.output.strip().splitlines()[-1])
        assert (told["state"], told["key"]) == ("in_review", "acme.acme-chat@1.0.0")
        again = CliRunner().invoke(group, [*arguments, "--key", key])
        assert again.exit_code == 1
        assert "was sent already" in again.output
        wrong = CliRunner().invoke(group, [*arguments, "--key", "yfk_nobody"])
        assert wrong.exit_code == 1
    (folder / "README.md").unlink()
    local = CliRunner().invoke(group, [*arguments, "--key", key])
    assert local.exit_code == 1
    assert "C07" in local.output


def test_programs_do_what_people_do(database, app, client):
    import base64

    with transaction(EVERY) as session:
        owner, operator = made.people(session)
        key = bearer(make_api_key(session, session.get(Organization, owner.organization_id)))
        hub = bearer(make_api_key(session, session.get(Organization, operator.organization_id)))
    body = {"archive": base64.b64encode(made.zipped(made.folder())).decode()}
    sent = client.post("/api/v1/connector-editions", json=body, headers=key)
    assert (sent.status_code, sent.json["state"]) == (201, "checking")
    at = f"/api/v1/connector-editions/{sent.json['id']}"
    checks.work()
    assert client.get(at, headers=key).json["state"] == "checked"
    assert client.post(f"{at}/submit", json={}, headers=key).json["state"] == "in_review"
    (waiting,) = client.get("/api/v1/connector-reviews", headers=hub).json["items"]
    verdict = {"decision": "approve"}
    decided = client.post(f"/api/v1/connector-reviews/{waiting['id']}", json=verdict, headers=hub)
    assert decided.json["state"] == "published"
    (offered,) = client.get("/api/v1/vendor-connectors", headers=key).json["items"]
    assert offered["key"] == "acme.acme-chat@1.0.0"
    old = client.post(f"{at}/state", json={"state": "deprecated"}, headers=key)
    assert old.json["state"] == "deprecated"
    gone = client.post(
        f"/api/v1/connector-reviews/{waiting['id']}/recall", json={"reason": "x"}, headers=hub
    )
    assert gone.json["state"] == "recalled"
    bad = client.post("/api/v1/connector-editions", json={"archive": "*"}, headers=key)
    assert bad.status_code == 422


def test_an_action_is_tried_without_the_app(acme, client):
    owner, _ = acme
    edition = made.checked(owner)
    value = {"channel": "订单群", "text": "你好"}
    tried = deeds.rehearse(owner, edition.id, "post_message", value, None)
    assert tried["request"]["json"]["text"] == "你好"
    assert tried["request"]["url"].endswith("/messages")
    limited = deeds.rehearse(
        owner, edition.id, "post_message", value, "fixtures/post_message.rate_limited.yaml"
    )
    assert limited["answer"]["kind"] == "retry"
    wrong = deeds.rehearse(owner, edition.id, "post_message", {"text": 5}, None)
    assert wrong["findings"]
    assert deeds.rehearse(owner, edition.id, "nothing", {}, None)["findings"]
    broken = dict(made.folder())
    broken["manifest.yaml"] = b"hub: [\n"
    assert deeds.rehearse(owner, made.checked(owner, broken).id, "x", {}, None)["findings"]


def test_people_who_wait_are_few(acme, monkeypatch):
    owner, _ = acme
    edition = made.checked(owner)
    monkeypatch.setattr(bench, "_PLACES", threading.BoundedSemaphore(1))
    assert bench._PLACES.acquire(blocking=False)
    with pytest.raises(TooMany):
        deeds.rehearse(owner, edition.id, "post_message", {}, None)
