"""Requests: what is sent, where it may go, and what is refused before anything leaves."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.engine import grants, loader, requests, urls
from connectors.engine.connector import ConnectionValues
from connectors.engine.requests import CannotBuild
from kernel import clock, documents
from kernel.http import Response

ERP = loader.find("demo-erp")
HTTP = loader.find("generic-http")
GITHUB = loader.find("github")
BASE = {"base_url": "http://127.0.0.1:9802"}
KEY = ConnectionValues(BASE, "key", {"key": "example"})
ORDER = ERP.actions["create_sales_order"].sample["input"]


def build(values=None, connection=KEY, key="effect-1"):
    return requests.build(ERP, "create_sales_order", values or ORDER, connection, key)


def call(connection=None, **values):
    connection = connection or ConnectionValues({"base_url": "https://a.example.com/v1"}, "open")
    return requests.build(
        HTTP, "request", {"method": "GET", "path": "/x", **values}, connection, ""
    )


def test_the_same_step_always_builds_the_same_request():
    assert build() == build()
    assert build().headers["Idempotency-Key"] == "effect-1"


def test_input_that_does_not_fit_is_refused_with_every_place():
    with pytest.raises(CannotBuild) as refused:
        build({**ORDER, "total": 176, "lines": [{"sku": "A", "unit_price": "1"}], "x": 1})
    assert refused.value.cause == "data"
    assert {one.target for one in refused.value.problems} == {
        "/input",
        "/input/lines/0",
        "/input/total",
    }
    assert "lines" in refused.value.say["zh"] or "total" in refused.value.say["zh"]


def test_a_key_that_is_missing_or_breaks_the_header_never_shows_itself():
    with pytest.raises(CannotBuild) as refused:
        build(connection=ConnectionValues(BASE, "key", {}))
    assert refused.value.cause == "auth"
    for secret in ("line\r\nX-Evil: 1", "密钥", "a\x00b"):
        with pytest.raises(CannotBuild) as refused:
            build(connection=ConnectionValues(BASE, "key", {"key": secret}))
        assert secret not in str(refused.value.say)
    assert "example" not in repr(KEY)


@pytest.mark.parametrize("auth", ["nope", "none-such"])
def test_an_auth_nobody_declared_is_refused(auth):
    with pytest.raises(CannotBuild) as refused:
        build(connection=ConnectionValues(BASE, auth, {"key": "x"}))
    assert refused.value.cause == "config"


def test_an_unknown_action_and_step_are_refused():
    with pytest.raises(CannotBuild):
        requests.build(ERP, "fly", {}, KEY, "k")
    with pytest.raises(CannotBuild):
        requests.build_lifecycle(ERP, "subscribe", KEY, {})


def test_basic_bearer_and_client_tokens_go_where_they_belong():
    settings = {"base_url": "https://a.example.com"}
    basic = ConnectionValues(settings, "basic", {"username": "李", "password": "p:w"})
    want = "Basic " + base64.b64encode("李:p:w".encode()).decode()
    assert call(basic).headers["Authorization"] == want
    bearer = ConnectionValues(settings, "bearer", {"key": "t"})
    assert call(bearer).headers["Authorization"] == "Bearer t"
    client = ConnectionValues(settings, "client", {"client_id": "i", "client_secret": "s"})
    with pytest.raises(CannotBuild, match="token"):
        call(client)
    assert call(replace(client, token={"access": "a1"})).headers["Authorization"] == "Bearer a1"
    token = requests.build_token(HTTP, client)
    assert (token.method, token.url) == ("POST", "https://a.example.com/oauth/token")
    assert token.body == b"grant_type=client_credentials"
    assert token.headers["Authorization"] == "Basic " + base64.b64encode(b"i:s").decode()
    assert requests.build_token(HTTP, bearer) is None


def test_a_token_answer_is_read_and_a_refused_one_says_so():
    step = requests.token_steps(HTTP.auth_by_id("client"))[0]
    body = documents.dump({"access_token": "t", "expires_in": "7200"})
    good = grants.read(HTTP, step, Response(200, {}, body, truncated=False, elapsed_ms=1))
    assert good.output.texts == {"access": "t"}
    assert 7190 < (good.output.ends_at - clock.now()).total_seconds() <= 7200
    bad = grants.read(HTTP, step, Response(401, {}, b"{}", truncated=False, elapsed_ms=1))
    assert (bad.kind, bad.cause) == ("fail", "auth")
    odd = Response(200, {}, b'{"token": "t"}', truncated=False, elapsed_ms=1)
    assert grants.read(HTTP, step, odd).cause == "config"


@pytest.mark.parametrize(
    "base",
    [
        "ftp://a.example.com",
        "https://user:pw@a.example.com",
        "https://a.example.com@evil.example",
        "https://a.example.com\\@evil.example",
        "https://a.example.com/x?y=1",
        "https://a.example.com#x",
        "https://a.exam\tple.com",
        "https://a.example.com/../..",
        "https://",
        "//a.example.com",
        "a.example.com",
        "https://a.example.com:99999",
        "https://中文.example",
        "https://a..example.com",
        "https://" + "a" * 5000,
    ],
)
def test_strange_base_addresses_are_refused(base):
    with pytest.raises(CannotBuild) as refused:
        call(ConnectionValues({"base_url": base}, "open"))
    assert refused.value.cause == "config"


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("https://api.github.com", True),
        ("https://api.github.com:443/x", True),
        ("http://api.github.com", False),
        ("https://api.github.com:8443", False),
        ("https://api.github.com.evil.example", False),
        ("https://xapi.github.com", False),
    ],
)
def test_only_hosts_of_the_manifest_may_be_called(base, allowed):
    assert urls.is_allowed(GITHUB, urls.parse_base(base), {}) is allowed


def test_a_wildcard_host_covers_names_below_it_only():
    wide = replace(GITHUB, hosts=("*.example.com",))
    assert urls.is_allowed(wide, urls.parse_base("https://a.b.example.com"), {})
    assert not urls.is_allowed(wide, urls.parse_base("https://example.com"), {})
    assert not urls.is_allowed(wide, urls.parse_base("https://badexample.com"), {})


@given(st.text(min_size=1, max_size=30))
def test_an_id_in_the_path_stays_one_part_of_it(sku):
    if sku in (".", ".."):
        with pytest.raises(CannotBuild):
            requests.build(ERP, "get_stock", {"sku": sku}, KEY, "k")
        return
    request = requests.build(ERP, "get_stock", {"sku": sku}, KEY, "k")
    path = request.url.removeprefix("http://127.0.0.1:9802/api/stock/")
    assert "/" not in path
    assert "?" not in path
    assert "#" not in path
    assert path.isascii()


@pytest.mark.parametrize(
    "path", ["//evil.example", "/a/../b", "/a/%2e%2e/b", "/..", "/\\evil.example", "/a/.", "x"]
)
def test_a_free_path_cannot_leave_its_server(path):
    with pytest.raises(CannotBuild):
        call(path=path)


def test_query_values_are_written_exactly_and_null_is_left_out():
    request = call(query={"a": "1 &=中", "n": None, "t": True, "i": 12345678901234567890})
    assert request.url == (
        "https://a.example.com/v1/x?a=1%20%26%3D%E4%B8%AD&t=true&i=12345678901234567890"
    )


def test_the_body_keeps_every_digit():
    raw = b'{"id":12345678901234567890,"price":12.50,"no":"007"}'
    request = call(method="POST", body=documents.parse(raw))
    assert request.body == raw
    assert request.headers["Content-Type"] == "application/json"
    assert call().body == b""
    assert "Content-Type" not in call().headers


def test_lifecycle_requests_carry_the_facts_and_no_more():
    facts = {"installation": {"id": "ins_1"}, "organization": {"id": "o", "name": "启航"}}
    request = requests.build_lifecycle(ERP, "install", ConnectionValues(BASE), facts)
    assert documents.parse(request.body) == {
        "installation_id": "ins_1",
        "organization": {"id": "o", "name": "启航"},
    }
    assert "Authorization" not in request.headers
    with pytest.raises(CannotBuild, match="installation"):
        requests.build_lifecycle(ERP, "install", ConnectionValues(BASE), {})
    keyed = requests.build_lifecycle(
        ERP, "install", ConnectionValues(BASE), {**facts, "effect_key": "ins_1:install"}
    )
    assert keyed.headers["Idempotency-Key"] == "ins_1:install"
