"""Polls: an app that sends nothing is asked, each change comes in once, and nothing is skipped."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from factories.connectors import make_flow
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in
from factories.webhooks import row, rows

from connectors import connections, polls, reconcile_claims, reconcile_threads, reconcile_turns
from connectors.engine import check, loader
from connectors.errors import Unfit as WrongValues
from connectors.tables import Reconciliation
from kernel import clock, http
from kernel.database import EVERY, reading, transaction, write
from kernel.errors import NotFound
from webhooks import quotas, sources
from webhooks.tables import Event, Source

SECRET = "key-0123456789"


def manifest(**poll):
    return {
        "hub": 1,
        "connector": {
            "key": "till",
            "version": "1.0.0",
            "title": {"zh": "收银台", "en": "Till"},
            "summary": {"zh": "只能查询的收银台。", "en": "A till that can only be asked."},
            "slots": ["marketing.sales"],
            "hosts": ["till.example"],
            "support": {"url": "https://till.example"},
        },
        "auth": [
            {
                "id": "key",
                "kind": "api_key",
                "title": {"zh": "密钥", "en": "Key"},
                "fields": {"key": {"title": {"zh": "密钥", "en": "Key"}, "secret": True}},
                "apply": {"header": {"X-Key": "${field.key}"}},
            }
        ],
        "http": {"base": "https://till.example"},
        "triggers": {
            "sale": {
                "title": {"zh": "销售有变化", "en": "A sale changed"},
                "event": "till.sale",
                "subject": "/no",
                "occurred_at": "/changed",
                "sample": {"body": {"no": "S1", "rev": 1, "changed": "2026-11-22T09:00:00+08:00"}},
                "poll": {
                    "every_seconds": 120,
                    "list": {
                        "request": {
                            "method": "GET",
                            "path": "/sales",
                            "query": {
                                "from": "${epoch(look.since)}",
                                "to": "${epoch(look.until)}",
                                "page": {"value": "${look.page}", "default": "1"},
                            },
                        },
                        "items": "${body.sales}",
                        "next": {"value": '${body.more ? plus(body.page, "1") : ""}'},
                    },
                    "event": {
                        "id": "${item.no}:${item.rev}",
                        "body": {
                            "no": "${item.no}",
                            "rev": "${item.rev}",
                            "changed": "${moment(item.changed)}",
                        },
                    },
                    **poll,
                },
            }
        },
    }


class Till:
    """The app: sales with a time of change, listed in pages, oldest first."""

    def __init__(self) -> None:
        self.sales: dict[str, tuple[int, datetime]] = {}
        self.calls: list[dict] = []
        self.answers: list = []
        self.page_size = 2

    def sell(self, no: str, at: datetime | None = None) -> None:
        revision = self.sales.get(no, (0, None))[0] + 1
        self.sales[no] = (revision, at or clock.now())

    def serve(self, request: http.Request):
        assert request.headers["X-Key"] == SECRET
        query = {name: one[0] for name, one in parse_qs(urlsplit(request.url).query).items()}
        self.calls.append(query)
        if self.answers:
            return self.answers.pop(0)
        since, until = int(query["from"]), int(query["to"])
        fitting = sorted(
            (at, no, revision)
            for no, (revision, at) in self.sales.items()
            if since <= at.timestamp() <= until
        )
        page = int(query["page"])
        part = fitting[(page - 1) * self.page_size : page * self.page_size]
        body = {
            "sales": [
                {"no": no, "rev": rev, "changed": str(int(at.timestamp()))} for at, no, rev in part
            ],
            "page": page,
            "more": page * self.page_size < len(fitting),
        }
        return answered(200, body)


def answered(status: int, body: object) -> http.Response:
    return http.Response(status, {}, json.dumps(body).encode(), truncated=False, elapsed_ms=1)


@pytest.fixture
def till(app, tmp_path, monkeypatch):
    """The connector in the library, and the app behind it."""
    quotas.forget()
    put(tmp_path, monkeypatch)
    shop = Till()
    monkeypatch.setattr(http, "send", shop.serve)
    return shop


def put(tmp_path: Path, monkeypatch, **poll) -> None:
    folder = tmp_path / "till"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest(**poll), allow_unicode=True))
    library = {**loader.library(), "till": loader.load(folder)}
    monkeypatch.setattr(loader, "library", lambda: library)


@pytest.fixture
def firm(till):
    with transaction(EVERY) as session:
        return make_organization(session)


@pytest.fixture
def owner(firm):
    return firm.id


@pytest.fixture
def connection(owner):
    with transaction(owner) as session:
        made = connections.create(session, owner, "till", auth="key", fields={"key": SECRET})
        return made.id


def start(owner: str, connection: str, **how) -> str:
    with transaction(owner) as session:
        return polls.start(session, owner, connection, "sale", **how).id


def ask(seconds: float = 0) -> None:
    """Let a worker take every turn due so many seconds from now, resting between them."""
    for number in range(30):
        with clock.shifted(seconds=seconds + 6 * number):
            if not reconcile_threads.look_all("worker-1"):
                return
    raise AssertionError("it never rests")


def came(source: str) -> list[tuple[str, int]]:
    found = [json.loads(one.body) for one in rows(Event) if one.source_id == source]
    return sorted((one["no"], one["rev"]) for one in found)


# --- what comes in -------------------------------------------------------------------------------


def test_each_change_comes_in_once_over_all_pages(till, owner, connection):
    source = start(owner, connection)
    for number in range(5):
        till.sell(f"S{number}", clock.now() - timedelta(seconds=5))
    ask()
    assert came(source) == [(f"S{number}", 1) for number in range(5)]
    assert [call["page"] for call in till.calls] == ["1", "2", "3"]
    ask(140)
    assert len(came(source)) == 5, "the overlap shows them again, and each is known"
    till.sell("S1", clock.now() + timedelta(seconds=200))
    ask(290)
    assert came(source)[1:3] == [("S1", 1), ("S1", 2)], "a change is another event"
    event = next(one for one in rows(Event) if one.source_id == source)
    assert (event.type, event.subject) == ("till.sale", "S0")
    assert event.headers.keys() == {"fetched-at"}


def test_only_what_changes_from_now_on_unless_asked_for_more(till, owner, connection):
    till.sell("old", clock.now() - timedelta(hours=30))
    source = start(owner, connection)
    ask()
    assert came(source) == []
    with transaction(owner) as session:
        polls.start(session, owner, connection, "sale", since=clock.now() - timedelta(hours=40))
    ask(30)
    assert came(source) == [("old", 1)]


def test_nothing_is_skipped_while_the_app_is_down(till, owner, connection):
    source = start(owner, connection)
    ask()
    till.sell("S1", clock.now() + timedelta(seconds=60))
    till.answers = [answered(503, {})] * 200
    ask(140)
    assert came(source) == []
    assert row(Reconciliation, source).problem["cause"] == "down"
    till.answers = []
    ask(9 * 3600)
    assert came(source) == [("S1", 1)]
    assert row(Reconciliation, source).problem is None


def test_a_worker_that_dies_between_the_events_and_the_cursor_loses_and_doubles_nothing(
    till, owner, connection, monkeypatch
):
    source = start(owner, connection)
    for number in range(4):
        till.sell(f"S{number}", clock.now() - timedelta(seconds=5))

    def dies(*_arguments, **_named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(reconcile_turns, "write", dies)
        reconcile_threads.look_all("worker-1")
    assert len(came(source)) == 4
    with clock.shifted(seconds=reconcile_claims.LEASE_SECONDS + 1):
        assert write(reconcile_claims.reclaim) == 1
    ask(reconcile_claims.LEASE_SECONDS + 10)
    assert len(came(source)) == 4


def test_publishing_pausing_and_deleting_flows_moves_no_cursor(till, owner, connection):
    source = start(owner, connection)
    ask()
    before = row(Reconciliation, source)
    with transaction(owner) as session:
        make_flow(session, owner, {"trigger": {"event": "till.sale"}, "steps": []})
    after = row(Reconciliation, source)
    assert (after.cursor, after.look_at, after.lease_epoch) == (
        before.cursor,
        before.look_at,
        before.lease_epoch,
    )


def test_a_pause_asks_nobody_and_the_time_between_is_asked_for_afterwards(till, owner, connection):
    source = start(owner, connection)
    ask()
    calls = len(till.calls)
    with transaction(owner) as session:
        sources.set_state(session, owner, source, "paused")
    till.sell("S1", clock.now() + timedelta(seconds=300))
    ask(600)
    assert len(till.calls) == calls
    with transaction(owner) as session:
        sources.set_state(session, owner, source, "active")
    ask(900)
    assert came(source) == [("S1", 1)]


def test_a_list_may_span_only_a_window_and_the_hub_catches_up_stretch_by_stretch(
    till, owner, connection, tmp_path, monkeypatch
):
    put(tmp_path, monkeypatch, window_seconds=3600, overlap_seconds=60)
    for hours in range(6):
        till.sell(f"S{hours}", clock.now() - timedelta(hours=hours, minutes=5))
    source = start(owner, connection, since=clock.now() - timedelta(hours=6))
    ask()
    assert len(came(source)) == 6
    spans = [int(call["to"]) - int(call["from"]) for call in till.calls]
    assert max(spans) <= 3600
    assert len(till.calls) >= 6


def test_an_app_may_name_where_the_next_look_begins(till, owner, connection, tmp_path, monkeypatch):
    put(
        tmp_path,
        monkeypatch,
        list={
            "request": {
                "method": "GET",
                "path": "/changes",
                "query": {"after": {"value": "${look.token}", "default": "start"}},
            },
            "items": "${body.sales}",
            "token": "${body.mark}",
        },
    )
    source = start(owner, connection)
    sale = {"no": "S1", "rev": 1, "changed": "1763800000"}
    till.answers = [
        answered(200, {"sales": [sale], "mark": "m1"}),
        answered(500, {}),
        *[answered(200, {"sales": [], "mark": "m2"})] * 9,
    ]
    ask()
    assert came(source) == [("S1", 1)]
    ask(150)
    ask(4000)
    assert [call["after"] for call in till.calls[:4]] == ["start", "m1", "m1", "m2"]


# --- who may, and what is refused ----------------------------------------------------------------


def test_nobody_can_send_to_a_poll(till, owner, connection, client):
    source = start(owner, connection)
    with reading(owner) as session:
        address = sources.url_of(sources.get(session, owner, source))
    sent = client.post(urlsplit(address).path, json={"no": "forged", "rev": 1})
    assert sent.status_code in (401, 403)
    assert came(source) == []


def test_how_often_is_bounded_by_what_the_app_bears(till, owner, connection):
    for seconds in (1, 59, 86_401):
        with pytest.raises(WrongValues):
            start(owner, connection, every_seconds=seconds)
    source = start(owner, connection, every_seconds=900)
    assert row(Reconciliation, source).every_seconds == 900
    ask()
    assert row(Reconciliation, source).look_at > clock.now() + timedelta(seconds=800)


def test_a_stranger_starts_and_stops_nothing(till, owner, connection):
    source = start(owner, connection)
    with transaction(EVERY) as session:
        other = make_organization(session).id
    with pytest.raises(NotFound), transaction(other) as session:
        polls.start(session, other, connection, "sale")
    with pytest.raises(NotFound), transaction(other) as session:
        polls.stop(session, other, source)


def test_stopping_keeps_what_came_in_and_starting_again_is_a_new_source(till, owner, connection):
    source = start(owner, connection)
    till.sell("S1", clock.now() - timedelta(seconds=5))
    ask()
    with transaction(owner) as session:
        polls.stop(session, owner, source)
    assert came(source) == [("S1", 1)]
    assert row(Source, source).state == "closed"
    assert rows(Reconciliation) == []
    again = start(owner, connection)
    assert again != source


# --- the checker ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poll", "words"),
    [
        ({"window_seconds": 900, "overlap_seconds": 600}, "overlap_seconds"),
        (
            {
                "list": {
                    "request": {"method": "GET", "path": "/sales"},
                    "items": "${body.sales}",
                }
            },
            "look.since",
        ),
    ],
)
def test_a_poll_that_could_not_work_is_told(tmp_path, poll, words):
    folder = tmp_path / "till"
    folder.mkdir()
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest(**poll), allow_unicode=True))
    told = [one.plain("en") for one in check.check(folder) if one.rule == "C01"]
    assert any(words in one for one in told), told


def test_a_list_may_be_asked_for_with_a_form(tmp_path):
    asked = {"from": "${look.since}", "page": {"value": "${look.page}", "default": "1"}}
    request = {"method": "POST", "path": "/sales", "form": asked}
    listed = {"request": request, "items": "${body.sales}", "next": {"value": "${body.next}"}}
    folder = tmp_path / "till"
    folder.mkdir()
    stated = yaml.safe_dump(manifest(list=listed), allow_unicode=True)
    (folder / "manifest.yaml").write_text(stated)
    assert [one.plain("en") for one in check.check(folder) if one.rule == "C01"] == []
    (folder / "manifest.yaml").write_text(stated.replace("look.since", "look.until"))
    told = [one.plain("en") for one in check.check(folder) if one.rule == "C01"]
    assert any("look.since" in one for one in told), told


@pytest.mark.parametrize(
    ("page", "is_sound"), [("${int(look.page)}", False), ('${int(coalesce(look.page, "1"))}', True)]
)
def test_a_fixtures_first_page_is_null_as_it_is_when_the_app_is_asked(tmp_path, page, is_sound):
    stated = manifest()
    listed = stated["triggers"]["sale"]["poll"]["list"]
    listed["request"]["query"]["page"] = {"value": page, "default": 1}
    folder = tmp_path / "till"
    (folder / "fixtures").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(stated, allow_unicode=True))
    example = {
        "reconcile": "sale",
        "connection": {"auth": "key", "fields": {"key": "example"}},
        "look": {"since": "2026-11-22T01:00:00Z", "until": "2026-11-22T02:00:00Z"},
        "request": {
            "method": "GET",
            "url": "https://till.example/sales?from=1795309200&page=1&to=1795312800",
            "headers": {"Accept": "application/json", "X-Key": "example"},
        },
        "response": {"status": 200, "json": {"sales": [], "page": 1, "more": False}},
        "page": {"items": [], "next": None},
    }
    (folder / "fixtures" / "sale.list.yaml").write_text(yaml.safe_dump(example))
    told = [one.plain("en") for one in check.check(folder) if "sale.list" in one.file]
    assert (told == []) is is_sound, told


def test_a_poll_has_neither_a_signature_nor_a_webhook(tmp_path):
    stated = manifest()
    stated["triggers"]["sale"]["verify"] = {"scheme": "github"}
    folder = tmp_path / "till"
    folder.mkdir()
    (folder / "manifest.yaml").write_text(yaml.safe_dump(stated, allow_unicode=True))
    with pytest.raises(loader.Unfit):
        loader.load(folder)


def test_times_are_read_and_written_as_apps_have_them():
    from connectors.engine import functions

    assert functions.moment("2026-11-22 09:30:00") == "2026-11-22T09:30:00+08:00"
    assert functions.moment("2026/11/22 09:30") == "2026-11-22T09:30:00+08:00"
    assert functions.moment("1763800000") == "2025-11-22T16:26:40+08:00"
    assert functions.moment("1763800000123", "Z") == "2025-11-22T08:26:40.123000+00:00"
    assert functions.moment("2026-11-22T01:30:00Z", "Z") == "2026-11-22T01:30:00+00:00"
    assert functions.epoch("2025-11-22T08:26:40Z") == "1763800000"
    assert functions.epoch("2025-11-22T08:26:40.123Z", "ms") == "1763800000123"
    for bad in ("yesterday", "2026-13-01 00:00:00", ""):
        with pytest.raises(functions.EvaluationError):
            functions.moment(bad)


# --- pages and API -------------------------------------------------------------------------------


def test_the_api_lists_starts_and_stops(firm, owner, connection, client):
    with transaction(EVERY) as session:
        key = make_api_key(session, firm)
    path = f"/api/v1/connections/{connection}/polls"
    (offer,) = client.get(path, headers=bearer(key)).get_json()["items"]
    assert (offer["trigger"], offer["id"], offer["every_seconds"]) == ("sale", None, 120)

    def asked(**body):
        return client.post(path, json=body, headers=bearer(key))

    assert asked(trigger="sale", every_seconds=5).status_code == 422
    assert asked(trigger="none").status_code == 422
    made = asked(trigger="sale", every_seconds=300)
    assert made.status_code == 201
    assert (made.get_json()["every_seconds"], made.get_json()["events"]) == (300, 0)
    ask()
    (offer,) = client.get(path, headers=bearer(key)).get_json()["items"]
    assert offer["id"].startswith("src_")
    assert offer["last_at"]
    one = f"/api/v1/polls/{offer['id']}"
    assert client.delete(one, headers=bearer(key)).status_code == 204
    assert client.delete(one, headers=bearer(key)).status_code == 404


def test_people_start_and_stop_it_on_the_connections_page(till, firm, owner, connection, client):
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, firm, role="integrator"))
    page = client.get(f"/connections/{connection}?lang=en").get_data(as_text=True)
    assert "What the app is asked for" in page
    assert "every two minutes" in page
    token = re.search(r'name="csrf-token" content="([^"]*)"', page)[1]
    path = f"/connections/{connection}/polls"
    form = {"csrf_token": token, "trigger": "sale", "every_seconds": "60", "back_hours": "24"}
    till.sell("S1", clock.now() - timedelta(hours=20))
    assert client.post(path, data=form).status_code == 303
    ask()
    (source,) = [one.id for one in rows(Source)]
    assert came(source) == [("S1", 1)]
    page = client.get(f"/connections/{connection}?lang=zh").get_data(as_text=True)
    assert "已开启" in page
    page = client.get(f"/sources/{source}?lang=en").get_data(as_text=True)
    assert "The hub asks the app" in page
    assert "Show address and secret" not in page
    assert "New secret" not in page
    bad = client.post(path, data={**form, "every_seconds": "7"})
    assert bad.status_code == 422
    assert client.post(f"/polls/{source}/stop", data=form).status_code == 303
    assert rows(Reconciliation) == []


def test_who_only_looks_sees_no_form(firm, connection, client):
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, firm, role="member"))
    answer = client.get(f"/connections/{connection}?lang=en")
    if answer.status_code == 200:
        assert "/polls/" not in answer.get_data(as_text=True)
    else:
        assert answer.status_code == 403
