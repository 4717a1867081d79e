"""Every field that takes an address, tried with addresses that lead inside: nobody is called.

A canary listens on the loopback; its port counts as an open one, so that nothing but the guard
stands between it and us. Names lead to it, too.
"""

import json
import re
from urllib.parse import urlsplit

import pytest
from factories import catalog as shelf
from factories import kernel as outbound
from factories.connectors import Shop, make_connection, row, rows, runs, settle
from factories.identity import bearer, csrf_of, make_api_key, make_member, make_organization
from factories.identity import sign_in as sign_in_as
from factories.webhooks import make_endpoint, make_event

from catalog import json_schemas, manifests, releases
from catalog.schemas import CustomEventTypeIn
from connectors import connection_checks, tokens
from connectors.engine import loader, requests
from connectors.engine.connector import ConnectionValues
from connectors.tables import Connection
from identity.tables import Member
from kernel import addresses, http
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from marketplace.tables import Installation
from webhooks import drain
from webhooks.tables import Attempt, Endpoint

# {c} is the canary's address, {p} its port
INSIDE = [
    "http://{c}/", "http://localhost:{p}/", "http://127.1:{p}/", "http://2130706433:{p}/",
    "http://0x7f.0.0.1:{p}/", "http://017700000001:{p}/", "http://0:{p}/", "http://[::1]:{p}/",
    "http://[::ffff:127.0.0.1]:{p}/", "http://[64:ff9b::7f00:1]:{p}/", "http://①②⑦.⓪.⓪.①:{p}/",
    "http://inner.example:{p}/", "http://inner.example.:{p}/", "HTTP://INNER.example:{p}/",
    "http://bücher.example:{p}/", "http://user:pass@{c}/", "http://example.com@{c}/",
    "http://example.com\\@{c}/", "http://{c}#@example.com/", "http://{c}\t/", "file:///etc/passwd",
    "gopher://{c}/", "//{c}/", "http:{c}", "http://169.254.169.254/latest/", "http://10.0.0.1/",
    "http://100.100.100.200/", "http://192.168.0.1:8080/", "http://127.0.0.1:5432/",
]  # fmt: skip
PAGE = {"Accept": "text/html"}
# what would run in a browser, or leads nowhere
RUNNING = [
    "javascript:alert(1)", "data:text/html,x", " javascript:x", "java\nscript:x", "//x", "http://",
    "https://user@x/", "vbscript:x", "https:///x", "http://x:99999/",
]  # fmt: skip
# Fields that take an address, and the test below that tries it. A new one must be added here.
FIELDS = {
    "EndpointIn.url": "endpoints", "EndpointPatch.url": "endpoints",
    "ExternalInstallationIn.open_url": "links", "ExternalInstallationPatch.open_url": "links",
    "VendorIn.homepage": "vendors", "ConnectionIn.settings": "connections",
    "ConnectionPatch.settings": "connections",
}  # fmt: skip
MANIFEST_FIELDS = {
    "homepage", "repository", "privacy_url", "terms_url", "support/url", "sign_on/launch_url",
    "sign_on/redirect_uris", "lifecycle/install_url", "lifecycle/uninstall_url",
    "lifecycle/change_plan_url", "lifecycle/suspend_url", "lifecycle/resume_url",
    "lifecycle/export_url",
}  # fmt: skip


@pytest.fixture(scope="module")
def listener():
    with outbound.target() as found:
        yield found


@pytest.fixture
def canary(listener, monkeypatch):
    """Whoever connects to the canary fails the test."""
    monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, listener.port))
    monkeypatch.setattr(addresses, "RESOLVER", lambda _host: ["127.0.0.1"])
    addresses.read_url.cache_clear()
    addresses._ask.cache_clear()
    before = listener.connections
    yield listener
    assert listener.connections == before, "somebody called the canary"


def inside(canary) -> list[str]:
    return [one.format(c=f"127.0.0.1:{canary.port}", p=canary.port) for one in INSIDE]


@pytest.fixture
def owner(database):
    with transaction(EVERY) as session:
        organization = make_organization(session, is_vendor=True)
        shelf.make_vendor(session, organization_id=organization.id)
        return make_member(session, organization), make_api_key(session, organization)


class Browser:
    """An owner at a browser."""

    def __init__(self, app, member: Member) -> None:
        self.client = app.test_client()
        sign_in_as(self.client, None, member)
        self.headers = {**PAGE, "X-CSRF-Token": csrf_of(self.client, "/me")}

    def post(self, path, **form):
        return self.client.post(path, data=form, headers=self.headers)


# --- is anything forgotten? --------------------------------------------------------------------


def looks_like_an_address(name: str) -> bool:
    return bool(re.search(r"url|uri|homepage|webhook|callback|address|logo|icon|settings", name))


def test_every_field_that_takes_an_address_is_tried(app):
    found = set()
    for view in app.view_functions.values():
        described = getattr(view, "operation", None)
        if described is not None and described.body is not None:
            names = [n for n in described.body.model_fields if looks_like_an_address(n)]
            found |= {f"{described.body.__name__}.{name}" for name in names}
    assert found == set(FIELDS)
    schema, taken = manifests.manifest_schema(), set()
    for name, part in schema["properties"].items():
        inside_it = {
            name: part,
            **{f"{name}/{k}": v for k, v in part.get("properties", {}).items()},
        }
        for path, one in inside_it.items():
            if "#/$defs/url" in json.dumps({k: v for k, v in one.items() if k != "properties"}):
                taken.add(path)
    assert taken == MANIFEST_FIELDS


# --- endpoints ---------------------------------------------------------------------------------


def test_endpoints_are_refused_when_they_are_registered_or_changed(app, canary, owner):
    member, key = owner
    browser, program = Browser(app, member), app.test_client()
    with transaction(EVERY) as session:
        there = make_endpoint(session, member.organization_id, "https://example.com/").id
    for url in inside(canary):
        body = {"url": url, "event_types": ["*"]}
        made = program.post("/api/v1/endpoints", json=body, headers=bearer(key))
        assert made.status_code == 422, url
        changed = program.patch(
            f"/api/v1/endpoints/{there}", json={"url": url}, headers=bearer(key)
        )
        assert changed.status_code == 422, url
        assert browser.post("/endpoints", url=url, event_types="*").status_code == 422, url
        page = browser.post(f"/endpoints/{there}/change", url=url, event_types="*")
        assert page.status_code == 422, url
    assert [one.url for one in rows(Endpoint)] == ["https://example.com/"]


def test_what_was_saved_before_is_refused_when_it_is_sent(app, canary, owner):
    """The name was public once: test buttons and deliveries judge what it is now."""
    member, key = owner
    browser, program = Browser(app, member), app.test_client()
    with transaction(EVERY) as session:
        made = [make_endpoint(session, member.organization_id, url) for url in inside(canary)]
        make_event(session, member.organization_id)
    for endpoint in made:
        tried = program.post(f"/api/v1/endpoints/{endpoint.id}/test", headers=bearer(key))
        assert tried.json["failure"] == "refused_address", endpoint.url
        assert tried.json["response_body"] == ""
    assert browser.post(f"/endpoints/{made[0].id}/test").status_code == 200
    drain.drain("w1")
    tries = rows(Attempt)
    assert len(tries) == len(made)
    assert {one.failure for one in tries} == {"refused_address"}


def test_a_redirecting_endpoint_leads_nowhere(app, canary, owner):
    member, key = owner
    play = f"HTTP/1.1 307 X\r\nLocation: {canary.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    with (
        outbound.target(outbound.plays(play)) as door,
        settings_override(outbound_allow=(door.authority,)),
    ):
        with transaction(EVERY) as session:
            there = make_endpoint(session, member.organization_id, door.url()).id
            make_event(session, member.organization_id)
        path = f"/api/v1/endpoints/{there}/test"
        assert app.test_client().post(path, headers=bearer(key)).json["status"] == 307
        drain.drain("w1")
        assert [one.status for one in rows(Attempt)] == [307]


# --- connections -------------------------------------------------------------------------------


def test_connections_are_refused_when_they_are_made_or_changed(app, canary, owner):
    member, key = owner
    browser, program = Browser(app, member), app.test_client()
    with transaction(EVERY) as session:
        there = make_connection(session, member.organization_id, "https://example.com").id
    stated = {c.key: c for c in loader.library().values() if c.settings_hosts}
    assert len(stated) >= 4
    for number, url in enumerate(inside(canary)):
        # every connector with a few addresses, one of them with all
        for connector in stated.values() if number % 10 == 0 else [stated["generic-http"]]:
            settings = dict.fromkeys(connector.settings_hosts, url)
            way = connector.auth_by_id(None)
            fields = dict.fromkeys(way.fields, "key-0123456789") if way else {}
            body = {"connector": connector.key, "settings": settings, "fields": fields}
            made = program.post("/api/v1/connections", json=body, headers=bearer(key))
            assert made.status_code == 422, (connector.key, url)
        form = {"connector": "demo-erp", "settings.base_url": url, "fields.key": "key-0123456789"}
        assert browser.post("/connections", **form).status_code == 422, url
        assert browser.post(f"/connections/{there}/reconnect", **form).status_code == 422, url
        changed = program.patch(
            f"/api/v1/connections/{there}",
            json={"settings": {"base_url": url}},
            headers=bearer(key),
        )
        assert changed.status_code == 422, url
    assert [one.settings for one in rows(Connection)] == [{"base_url": "https://example.com"}]


def test_a_connection_saved_before_calls_nobody_inside(app, canary, owner):
    """Test button, token address and a run's action, all with settings that turned inwards."""
    member, _ = owner
    browser = Browser(app, member)
    for url in (f"http://inner.example:{canary.port}", f"http://127.0.0.1:{canary.port}"):
        with transaction(EVERY) as session:
            made = make_connection(session, member.organization_id, url)
            client = make_connection(
                session, member.organization_id, url, connector_key="generic-http", auth="client",
                fields={"client_id": "id-012345", "client_secret": "secret-012345"},
            )  # fmt: skip
            shop = Shop(session, url)
            shop.order(session)
        assert browser.post(f"/connections/{made.id}/test").status_code == 303
        assert row(Connection, made.id).problem["cause"] == "config"
        opened = connection_checks.connections.open_connection(client)
        lost = tokens.ensure(opened)
        assert isinstance(lost, tokens.NoToken)
        assert lost.outcome.kind == "refused_address"
        settle()
        (run,) = [one for one in runs() if one.organization_id == shop.organization_id]
        assert (run.state, run.cause) == ("parked", "config")


PARTS = [
    "//127.0.0.1:{p}/", "/\\127.0.0.1:{p}/", "@127.0.0.1:{p}/", ":{p}@127.0.0.1/", "/../../x",
    "/..%2f..%2fx", "/%2e%2e/x", "http://127.0.0.1:{p}/", "\\\\127.0.0.1\\x", "/a\r\nHost: x",
    "/a b", "/#@127.0.0.1:{p}", "/?@127.0.0.1:{p}", ".evil.example/", "", "/\u2028", "/\x00",
    "/;@127.0.0.1:{p}/", "/%0d%0aX:1", "/.%2e/x", "#", "?", "//", "///127.0.0.1", "/.\\../x",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_path_from_the_data_stays_at_the_connections_host(part):
    """Nothing is sent: the request that would be is looked at."""
    connector = loader.find("generic-http")
    values = ConnectionValues(
        settings={"base_url": "https://api.example.com/v1"}, auth="bearer", fields={"key": "k" * 9}
    )
    written = part.format(p=8080)
    given = {"method": "GET", "path": written}
    try:
        request = requests.build(connector, "request", given, values, "eff_1")
    except requests.CannotBuild:
        return
    split = urlsplit(request.url)
    assert (split.scheme, split.netloc) == ("https", "api.example.com")
    assert split.path.startswith("/v1/")
    assert "/../" not in request.url
    addresses.read_url(request.url, ())


# --- schemas, manifests, vendors, links: kept and shown, never called ----------------------------


def references(url: str):
    yield {"$ref": url}
    yield {"properties": {"a": {"$ref": url}}}
    yield {"$ref": "#/default", "default": {"$ref": url}}
    yield {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": url}}}
    yield {"$id": url, "$ref": "x"}
    yield {"$id": url, "$ref": "#/$defs/a", "$defs": {"a": {"$ref": "b.json"}}}
    yield {"$schema": url}
    yield {"$dynamicRef": url}
    yield {"$recursiveRef": url}
    yield {"items": {"$id": url, "$ref": "#/x"}}
    yield {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": url}
    yield {"definitions": {"a": {"$ref": url}}, "$ref": "#/definitions/a"}
    yield {"allOf": [{"not": {"if": {"$ref": url}}}]}
    yield {"contentMediaType": "application/json", "contentSchema": {"$ref": url}}


def test_schemas_refer_to_nothing_outside(app, canary, owner):
    _, key = owner
    title = {"zh": "t", "en": "t"}
    for scheme in ("http", "HTTP", "file", "ftp", "//"):
        url = canary.url("/s.json") if scheme != "//" else f"//127.0.0.1:{canary.port}/s.json"
        url = url.replace("http", scheme) if scheme != "//" else url
        for number, schema in enumerate(references(url)):
            body = {"name": "my.own", "title": title, "schema": schema, "sample": {"a": 1}}
            CustomEventTypeIn.model_validate(body)
            made = app.test_client().post(
                "/api/v1/custom-event-types", json=body, headers=bearer(key)
            )
            assert made.status_code == 422, (number, made.json)
            assert json_schemas.check(schema), number


def test_a_manifests_addresses_are_never_called(app, canary, owner):
    member, key = owner
    url = canary.url("/x")
    links = dict.fromkeys(("homepage", "repository", "privacy_url", "terms_url"), url)
    links["support"] = {"email": "a@example.com", "url": url}
    links["sign_on"] = {"protocol": "oidc", "launch_url": url, "redirect_uris": [url]}
    links["lifecycle"] = {
        path.partition("/")[2]: url for path in MANIFEST_FIELDS if path.startswith("lifecycle/")
    }
    program, browser = app.test_client(), Browser(app, member)
    text = shelf.manifest_text(**links)
    for path in ("/api/v1/releases/check", "/api/v1/releases"):
        answer = program.post(path, json={"manifest": text}, headers=bearer(key))
        assert answer.status_code in (200, 201), answer.json
    release = answer.json["id"]
    with transaction(EVERY) as session:
        releases.approve(session, release, None, "usr_operator")
    assert (
        program.post(f"/api/v1/releases/{release}/publish", headers=bearer(key)).status_code == 200
    )
    for path in ("/apps/acme-desk", "/apps", f"/vendor/releases/{release}", "/compare?a=acme-desk"):
        assert browser.client.get(path, headers=PAGE).status_code == 200
    for path in ("/apps/acme-desk/install", "/api/v1/apps/acme-desk/install"):
        browser.post(path, is_agreed="1")
    for odd in ("javascript:alert(1)", "file:///etc/passwd", "//x/", "x", "http:", "https:// x"):
        bad = shelf.manifest_text(**{**links, "homepage": odd, "version": "2.0.0"})
        answer = program.post("/api/v1/releases", json={"manifest": bad}, headers=bearer(key))
        assert answer.status_code == 422, odd


def test_links_and_homepages_are_only_shown(app, canary, owner):
    member, key = owner
    program, browser = app.test_client(), Browser(app, member)
    body = {"name": "x", "open_url": canary.url()}
    made = program.post("/api/v1/installations", json=body, headers=bearer(key))
    assert made.status_code == 201  # a tool of the firm's own may stand in its own network
    about = {"name": {"zh": "名", "en": "N"}, "contact_email": "a@example.com"}
    applied = program.post(
        "/api/v1/vendor", json={**about, "homepage": canary.url()}, headers=bearer(key)
    )
    assert applied.status_code in (201, 409)
    assert browser.client.get("/toolbox", headers=PAGE).status_code == 200
    for odd in RUNNING:
        refused = program.post(
            "/api/v1/installations", json={**body, "open_url": odd}, headers=bearer(key)
        )
        assert refused.status_code == 422, odd
        assert browser.post("/toolbox/links", name="x", open_url=odd).status_code == 422, odd
        there = f"/api/v1/installations/{made.json['id']}"
        assert program.patch(there, json={"open_url": odd}, headers=bearer(key)).status_code == 422
    assert [one.open_url for one in rows(Installation)] == [canary.url()]


# --- could any of it fail? ---------------------------------------------------------------------


def test_with_the_guard_away_the_canary_is_called(app, listener, owner, monkeypatch):
    """The break that the tests above must notice, at each kind of door."""
    member, key = owner
    monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, listener.port))
    monkeypatch.setattr(addresses, "RESOLVER", lambda _host: ["127.0.0.1"])
    monkeypatch.setattr(addresses, "is_forbidden", lambda _address: False)
    monkeypatch.setattr(http, "is_forbidden", lambda _address: False)
    addresses.read_url.cache_clear()
    addresses._ask.cache_clear()
    url = f"http://inner.example:{listener.port}"
    try:
        program = app.test_client()
        body = {"url": f"{url}/", "event_types": ["*"]}
        made = program.post("/api/v1/endpoints", json=body, headers=bearer(key))
        assert made.status_code == 201
        path = f"/api/v1/endpoints/{made.json['id']}/test"
        assert program.post(path, headers=bearer(key)).json["status"] == 200
        with transaction(EVERY) as session:
            make_event(session, member.organization_id)
            connection = make_connection(session, member.organization_id, url)
        drain.drain("w1")
        connection_checks.test(member.organization_id, connection.id)
        asked = b"".join(listener.requests)
        assert b"Yangfan-Webhooks" in asked
        assert b"/api/ping" in asked
    finally:
        addresses.read_url.cache_clear()
        addresses._ask.cache_clear()
        http._POOLS.clear()
