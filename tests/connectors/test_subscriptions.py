"""Ordered webhooks: made once, found again, renewed, never doubled, and gone when not needed."""

import json
from datetime import timedelta

import pytest
from factories import apps
from factories.connectors import make_flow, row, rows
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors import connections
from connectors.engine import loader
from connectors.errors import Unfit
from connectors.lab import mock_vendor, pointing
from connectors.subscriptions import claims, ordering, records, turns
from connectors.subscriptions.tables import VendorHook
from connectors.tables import Connection
from identity.tables import Organization
from kernel import clock, http, ids
from kernel.database import EVERY, reading, transaction, write
from kernel.settings import settings_override
from webhooks import sources
from webhooks.tables import Source

READ = """
look:
  title: {zh: 看, en: Look}
  effect: read
  input: {type: object}
  output: {}
  request: {method: GET, path: /look}
  sample: {input: {}, output: {}}
"""


def parts(extra: str = "", given: str = "") -> str:
    return f"""
auth:
  - id: key
    kind: api_key
    title: {{zh: 密钥, en: Key}}
    fields: {{key: {{title: {{zh: 密钥, en: Key}}, secret: true}}}}
    apply: {{header: {{X-Key: "${{field.key}}"}}}}
http:
  base: "${{settings.base_url}}"
triggers:
  thing_made:
    title: {{zh: 新建, en: Made}}
    event: made-up.thing_made
    verify: {{scheme: hmac, options: {{header: x-sign, algorithm: sha256, encoding: hex}}}}
    type_from: {{pointer: /type, prefix: "made-up."}}
    dedupe: {{pointer: /id}}
    schema: {{type: object, properties: {{id: {{type: string}}}}}}
    sample: {{body: {{id: "1", type: thing_made}}}}
    subscribe:
      {given}
      create:
        request: {{method: POST, path: /hooks, json: {{url: "${{hook.url}}",
          secret: "${{hook.secret}}", topic: "${{hook.topic}}"}}}}
        save: {{id: "${{body.id}}"{extra}}}
      delete: {{request: {{method: DELETE, path: "/hooks/${{hook.id}}"}}}}
      list:
        request: {{method: GET, path: /hooks, query: {{page: {{optional: "${{hook.page}}"}}}}}}
        items: "${{body.hooks}}"
        next: {{value: "${{body.next}}"}}
      match: {{id: "${{item.id}}", url: "${{item.url}}"}}
      sample: {{id: 1, url: "https://hub.example/in/x"}}
"""


class Vendor:
    """An app that keeps webhooks, three to a page, and can fail in many ways."""

    def __init__(self):
        self.hooks, self.number, self.trouble = {}, 0, None
        self.secret = None
        self.hangs_up_after = None

    def __call__(self, call):
        if self.trouble:
            return self.trouble
        if call.method == "GET":
            at = int(call.query.get("page", "0"))
            every = sorted(self.hooks.items())
            page = [{"id": key, "url": one["url"]} for key, one in every[at : at + 3]]
            return 200, {"hooks": page, "next": str(at + 3) if len(every) > at + 3 else None}
        if call.method == "POST":
            self.number += 1
            self.hooks[self.number] = call.json
            if self.hangs_up_after == "create":
                return 500, None
            made = {"id": self.number}
            return 201, {**made, "secret": self.secret} if self.secret else made
        gone = self.hooks.pop(int(call.path.rpartition("/")[2]), None)
        return (204, {}) if gone else (404, {"message": "no such hook"})


@pytest.fixture
def vendor():
    return Vendor()


class Desk:
    """A firm with a connection to an app that sends webhooks."""

    def __init__(self, url: str):
        with transaction(EVERY) as session:
            self.organization_id = make_organization(session).id
            self.connection_id = connections.create(
                session, self.organization_id, "made-up", fields={"key": "k-0123456789"},
                settings={"base_url": url},
            ).id  # fmt: skip

    def order(self, **values) -> str:
        with transaction(EVERY) as session:
            return ordering.order(
                session, self.organization_id, self.connection_id, "thing_made", values
            ).id

    @property
    def hook(self) -> VendorHook:
        return max(rows(VendorHook), key=lambda one: one.id)

    def deeds(self) -> list[str]:
        return [line["did"] for line in reversed(self.hook.ledger)]

    def later(self, hours: float = 25):
        """Take turns so much later."""
        with clock.shifted(seconds=hours * 3600):
            return turns.run_all()

    def url(self) -> str:
        with reading(EVERY) as session:
            return sources.url_of(sources.get(session, self.organization_id, self.hook.id))


@pytest.fixture
def make(database, tmp_path, monkeypatch, vendor):
    """Gives a desk whose app's manifest has these parts."""
    with apps.serve(vendor) as app, settings_override(base_url="https://hub.example"):

        def made(extra: str = "", given: str = "") -> Desk:
            apps.in_library(monkeypatch, apps.connector(tmp_path, parts(extra, given), READ))
            return Desk(app.url)

        yield made


def test_an_order_is_made_at_the_app_with_address_and_secret(make, vendor):
    desk = make()
    desk.order()
    assert turns.run_all() == 1
    assert (desk.hook.state, desk.hook.remote_id) == ("active", "1")
    sent = vendor.hooks[1]
    with reading(EVERY) as session:
        source = sources.get(session, desk.organization_id, desk.hook.id)
        assert sent["secret"] == sources.secret_of(source)
    assert (sent["url"], sent["topic"]) == (desk.url(), "thing_made")
    assert turns.run_all() == 0
    kept = json.dumps(desk.hook.model_dump(), default=str)
    assert sent["secret"] not in kept
    assert sent["url"] not in kept


def test_the_nightly_look_finds_it_and_changes_nothing(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    desk.later()
    assert list(vendor.hooks) == [1]
    assert desk.deeds() == ["created"]


def test_a_missing_one_is_made_again(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    vendor.hooks.clear()
    desk.later()
    assert [one["url"] for one in vendor.hooks.values()] == [desk.url()]
    assert desk.deeds() == ["created", "missing", "created"]


def test_one_behind_the_pages_that_are_read_is_not_ordered_again(make, vendor):
    vendor.hooks = {n: {"url": f"https://other.example/{n}"} for n in range(1, 40)}
    vendor.number = 40
    desk = make()
    desk.order()
    turns.run_all()
    desk.later()
    desk.later(50)
    ours = [one for one in vendor.hooks.values() if one["url"] == desk.url()]
    assert len(ours) == 1
    assert desk.deeds() == ["created"]


@pytest.mark.parametrize("dies", ["after_answer", "before_answer"])
def test_a_crash_after_the_order_makes_no_second_one(make, vendor, monkeypatch, dies):
    desk = make()
    desk.order()
    if dies == "before_answer":
        vendor.hangs_up_after = "create"
        turns.run_all()
        vendor.hangs_up_after = None
    else:
        with monkeypatch.context() as patched:

            def killed(session, turn):
                raise ValueError

            patched.setattr(records, "record", killed)
            with pytest.raises(ValueError):
                turns.run_all()
    assert len(vendor.hooks) == 1
    assert turns.run_all() == 0, "its lease still runs, or it waits"
    desk.later(1)
    assert len(vendor.hooks) == 1
    assert (desk.hook.state, desk.hook.remote_id) == ("active", "1")
    assert "adopted" in desk.deeds()


def test_doubles_and_ghosts_of_ours_go_and_strangers_stay(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    ours, other = desk.url(), "https://other.example/in/abc"
    for number, url in enumerate(
        [ours, "https://hub.example/in/nobody-knows-this", other, "https://hub.example.evil/in/x"],
        start=100,
    ):
        vendor.hooks[number] = {"url": url}
    desk.later()
    assert sorted(one["url"] for one in vendor.hooks.values()) == sorted(
        [ours, other, "https://hub.example.evil/in/x"]
    )
    assert {"double_removed", "ghost_removed"} <= set(desk.deeds())


def test_another_firms_webhook_at_the_same_app_is_no_ghost(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    with transaction(EVERY) as session:
        other = make_organization(session).id
        source = sources.create(session, other, name="x")
        session.flush()
        vendor.hooks[50] = {"url": sources.url_of(source)}
    desk.later()
    assert 50 in vendor.hooks


def test_a_new_address_is_told_to_the_app(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    with transaction(EVERY) as session:
        sources.rotate_token(session, desk.organization_id, desk.hook.id)
    desk.later()
    assert [one["url"] for one in vendor.hooks.values()] == [desk.url()]


def test_ending_deletes_it_at_the_app(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    with transaction(EVERY) as session:
        ordering.end(session, desk.organization_id, desk.hook.id)
    turns.run_all()
    assert vendor.hooks == {}
    assert desk.hook.state == "gone"
    assert all(one.state == "closed" for one in rows(Source) if one.id == desk.hook.id)


def test_a_closed_source_ends_its_webhook(make, vendor):
    desk = make()
    desk.order()
    turns.run_all()
    with transaction(EVERY) as session:
        sources.close(session, desk.organization_id, desk.hook.id)
    assert write(ordering.settle) == 1
    turns.run_all()
    assert vendor.hooks == {}


def test_disconnecting_ends_them_first(make, vendor, app):
    desk = make()
    desk.order()
    turns.run_all()
    with transaction(EVERY) as session:
        key = make_api_key(session, session.get(Organization, desk.organization_id))
    path = f"/api/v1/connections/{desk.connection_id}"
    assert app.test_client().delete(path, headers=bearer(key)).status_code == 204
    assert vendor.hooks == {}
    assert row(Connection, desk.connection_id).state == "revoked"


def test_what_cannot_be_deleted_is_told(make, vendor, app):
    desk = make()
    desk.order()
    turns.run_all()
    vendor.trouble = (500, {})
    with transaction(EVERY) as session:
        key = make_api_key(session, session.get(Organization, desk.organization_id))
    path = f"/api/v1/connections/{desk.connection_id}"
    assert app.test_client().delete(path, headers=bearer(key)).status_code == 204
    assert desk.hook.state == "gone"
    assert "手动删除" in desk.hook.problem["say"]["zh"]
    assert desk.deeds()[-1] == "left_to_you"


def test_disconnecting_that_is_refused_ends_nothing(make, vendor, app):
    desk = make()
    desk.order()
    turns.run_all()
    step = {
        "key": "look", "kind": "action", "connector": "made-up",
        "connection": desk.connection_id, "action": "look", "input": {},
    }  # fmt: skip
    document = {"trigger": {"event": "made.up", "version": None}, "steps": [step]}
    with transaction(EVERY) as session:
        make_flow(session, desk.organization_id, document)
        key = make_api_key(session, session.get(Organization, desk.organization_id))
    path = f"/api/v1/connections/{desk.connection_id}"
    assert app.test_client().delete(path, headers=bearer(key)).status_code == 409
    assert len(vendor.hooks) == 1


@pytest.mark.parametrize(
    ("trouble", "cause"), [((500, {}), "unknown"), ((401, {}), "auth"), ((422, {}), "data")]
)
def test_refusals_are_told_and_tried_again_later_each_time(make, vendor, trouble, cause):
    desk = make()
    vendor.trouble = trouble
    desk.order()
    turns.run_all()
    assert desk.hook.problem["say"]["zh"]
    first = desk.hook.next_at
    desk.later(1)
    assert desk.hook.next_at > first
    vendor.trouble = None
    desk.later(24)
    assert (desk.hook.state, desk.hook.problem) == ("active", None)


def test_a_secret_that_the_app_makes_is_kept(make, vendor):
    desk = make(extra=', secret: "${body.secret}"')
    vendor.secret = "made-by-the-app-0123456789"
    desk.order()
    turns.run_all()
    with reading(EVERY) as session:
        source = sources.get(session, desk.organization_id, desk.hook.id)
        assert sources.secret_of(source) == vendor.secret
    # one that was ordered by a worker that died has a secret nobody knows: it is made anew
    with transaction(EVERY) as session:
        hook = session.get(VendorHook, (desk.organization_id, desk.hook.id))
        hook.remote_id, hook.next_at = None, clock.now()
        session.add(hook)
    turns.run_all()
    assert list(vendor.hooks) == [2]


def test_one_that_ends_is_renewed_ahead(make, vendor):
    desk = make(given="lasts_hours: 72")
    desk.order()
    turns.run_all()
    for hours in range(20, 400, 20):
        desk.later(hours)
        assert len(vendor.hooks) == 1
    assert desk.hook.expires_at > clock.now() + timedelta(hours=380)
    assert "replaced" in desk.deeds()


def test_what_a_person_must_say_is_asked_for(make):
    given = "input: {type: object, required: [repo], properties: {repo: {type: string}}}"
    desk = make(given=given)
    with pytest.raises(Unfit) as refused:
        desk.order()
    assert refused.value.findings[0]["pointer"] == "/input/repo"
    assert rows(VendorHook) == []
    one = desk.order(repo="demo")
    assert desk.order(repo="demo") == one, "the same order twice is one"
    assert desk.order(repo="other") != one


def test_a_flow_that_listens_to_a_connection_gets_its_webhook(make, vendor):
    desk = make()
    step = {
        "key": "look", "kind": "action", "connector": "made-up",
        "connection": desk.connection_id, "action": "look", "input": {},
    }  # fmt: skip
    trigger = {"event": "made-up.thing_made", "version": None, "connection": desk.connection_id}
    with transaction(EVERY) as session:
        make_flow(session, desk.organization_id, {"trigger": trigger, "steps": [step]})
    assert write(ordering.settle) == 1
    assert write(ordering.settle) == 0
    turns.run_all()
    assert len(vendor.hooks) == 1


def test_a_paused_connection_orders_nothing(make, vendor):
    desk = make()
    with transaction(EVERY) as session:
        found = connections.find(session, desk.organization_id, desk.connection_id)
        found.paused_at = clock.now()
        session.add(found)
    desk.order()
    turns.run_all()
    assert vendor.hooks == {}
    assert desk.hook.problem is None


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_orders_and_shows(make, vendor, app, language):
    desk = make()
    browser = app.test_client()
    with transaction(EVERY) as session:
        owner = make_member(session, session.get(Organization, desk.organization_id))
        sign_in(browser, session, owner)
        key = make_api_key(session, session.get(Organization, desk.organization_id))
    path = f"/api/v1/connections/{desk.connection_id}/webhooks"
    made = browser.post(path, json={"trigger": "thing_made"}, headers=bearer(key))
    assert (made.status_code, made.json["state"]) == (201, "wanted")
    turns.run_all()
    said = browser.get(f"/connections/{desk.connection_id}?lang={language}")
    said = said.get_data(as_text=True)
    assert f"/webhooks/{desk.hook.id}/end" in said
    assert desk.url() not in said
    assert browser.delete(f"{path}/{desk.hook.id}", headers=bearer(key)).status_code == 204
    turns.run_all()
    assert vendor.hooks == {}


def test_calls_go_where_the_manifest_says_alone(make, vendor, monkeypatch):
    """A page's name comes from the app; the address never does."""
    desk = make()
    desk.order()
    asked = []
    real = http.send

    def send(request):
        asked.append(request.url)
        return real(request)

    monkeypatch.setattr(turns.http, "send", send)
    turns.run_all()
    base = row(Connection, desk.connection_id).settings["base_url"]
    assert all(one.startswith(base) for one in asked)


# --- the library ---------------------------------------------------------------------------------


_LIBRARY = dict(loader.library())


def able() -> list[str]:
    return sorted(
        key
        for key, one in loader.library().items()
        if any(trigger.subscribe for trigger in one.triggers.values())
    )


def test_at_least_six_apps_of_the_library_are_ordered_from():
    assert {"github", "gitlab", "gitea", "gitee", "woocommerce", "stripe"} <= set(able())


@pytest.mark.parametrize("key", able())
def test_an_app_of_the_library_is_ordered_from_and_sends(database, tmp_path, monkeypatch, key):
    """Against the stand-in that its own manifest makes: ordered, listed, proved, ended."""
    made = loader.library()[key]
    pointed = pointing.pointed(made)
    monkeypatch.setattr(loader, "library", lambda: {**_LIBRARY, key: pointed})
    vendors = mock_vendor.serve([key], base_port=0, state_dir=tmp_path)
    try:
        port = int(vendors[key].url.rpartition(":")[2])
        with settings_override(
            outbound_allow=(f"127.0.0.1:{port}",), base_url="https://hub.example"
        ):
            _order_and_end(pointed, vendors[key])
    finally:
        vendors.close()


def _order_and_end(connector, vendor) -> None:
    way = connector.auth[0]
    trigger = next(one for one in connector.triggers.values() if one.subscribe)
    given = {"owner": "yangfan", "repo": "demo", "project": "yangfan/demo"}
    given = {n: v for n, v in given.items() if n in trigger.subscribe.input.get("properties", {})}
    chosen = dict.fromkeys(connector.settings_hosts, vendor.url)
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        made = Connection(
            organization_id=owner, id=ids.new_id("con"), connector_key=connector.key,
            name=connector.key, auth=way.id, settings=chosen,
        )  # fmt: skip
        secret = dict.fromkeys(way.fields, "example-0123456789")
        made.fields_sealed = connections.seal(made, "fields_sealed", secret)
        session.add(made)
        session.flush()
        hook_id = ordering.order(session, owner, made.id, trigger.key, given).id
    turns.run_all()
    hook = row(VendorHook, hook_id)
    assert (hook.state, hook.problem) == ("active", None)
    kept = vendor.app.ledger.run("SELECT * FROM subscription")
    with reading(EVERY) as session:
        source = sources.get(session, owner, hook_id)
        assert [one["url"] for one in kept] == [sources.url_of(source)]
        assert kept[0]["secret"] == claims.secret_of(source)
    with clock.shifted(seconds=25 * 3600):
        turns.run_all()
    assert [line["did"] for line in row(VendorHook, hook_id).ledger] == ["created"]
    with clock.shifted(seconds=26 * 3600):
        with transaction(EVERY) as session:
            ordering.end(session, owner, hook_id)
        turns.run_all()
    ended = row(VendorHook, hook_id)
    assert (ended.state, ended.problem) == ("gone", None)
    assert vendor.app.ledger.run("SELECT * FROM subscription") == []
