"""Ways to sign in as manifests state them: what is refused when a connector is saved."""

import pytest
from factories import apps
from factories.identity import make_member, sign_in

from connectors.engine import check, check_manifest, loader
from kernel.database import EVERY, transaction


def folder(made, tmp_path):
    found = object.__new__(check.Folder)
    found.path, found.connector = tmp_path / "made-up", made
    found.manifest = loader.read_manifest(found.path)
    return found


GOOD = """
auth:
  - id: app
    kind: %s
    title: {zh: 应用, en: App}
    fields: {client_id: {title: {zh: 编号, en: Id}}, secret: {title: {zh: 密, en: S}, secret: true}}
%s
http: {base: "https://api.made-up.example", bases: {other: "%s"}}
"""
OTHER = "https://other.made-up.example"
EXCHANGE = """
    token:
      steps:
        - request: {method: GET, path: /t, query: {s: "${field.secret}"}}
          save: {access: "${body.t}"}
    apply: {header: {X: "${token.access}"}}
"""
CODE = """
    authorize: {url: "https://api.made-up.example/authorize"}
    token: {url: "https://api.made-up.example/token"}
"""


def made(tmp_path, kind, parts, other=OTHER):
    return apps.connector(tmp_path, GOOD % (kind, parts, other))


@pytest.mark.parametrize(("kind", "parts"), [("exchange", EXCHANGE), ("oauth2_code", CODE)])
def test_good_ways_pass(tmp_path, kind, parts):
    one = folder(made(tmp_path, kind, parts), tmp_path)
    assert check.c01_manifest(one) == []
    assert check.c09_hosts(one) == []


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("exchange", '    apply: {header: {X: "${token.access}"}}'),
        ("exchange", '    token: {url: "https://api.made-up.example/t"}'),
        ("sign", '    apply: {header: {X: "${field.secret}"}}'),
        ("oauth2_code", '    token: {url: "https://api.made-up.example/t"}'),
        ("oauth2_client", EXCHANGE),
    ],
)
def test_a_way_without_what_its_kind_needs_does_not_load(tmp_path, kind, parts):
    with pytest.raises(loader.Unfit):
        made(tmp_path, kind, parts)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("${field.secret}", "${field.nope}", "nope"),
        ("${token.access}", "${field.nope}", "nope"),
        ("${token.access}", "${body.x}", "body"),
        ("path: /t,", "path: /t, base: third,", "third"),
        ('save: {access: "${body.t}"}', 'save: {access: "${token.x}"}', "token"),
        ("apply: {header", "apply: {at: {third: {}}, header", "third"),
    ],
)
def test_mistakes_of_a_token_are_told_with_their_line(tmp_path, before, after, words):
    assert before in EXCHANGE
    one = folder(made(tmp_path, "exchange", EXCHANGE.replace(before, after)), tmp_path)
    found = check.c01_manifest(one)
    assert any(words in finding.say["en"] for finding in found), found
    assert all(finding.line > 1 for finding in found)


@pytest.mark.parametrize(
    ("kind", "parts", "other"),
    [
        ("exchange", EXCHANGE, "https://evil.example"),
        ("exchange", EXCHANGE, "http://other.made-up.example"),
        ("oauth2_code", CODE.replace("api.made-up.example/authorize", "evil.example/a"), OTHER),
        ("oauth2_code", CODE.replace("api.made-up.example/token", "evil.example/t"), OTHER),
    ],
)
def test_every_address_is_among_the_hosts(tmp_path, kind, parts, other):
    one = folder(made(tmp_path, kind, parts, other), tmp_path)
    assert len(check_manifest.hosts(one.connector, one.manifest)) == 1


def test_how_sure_a_part_is_reaches_it(tmp_path):
    parts = EXCHANGE + "    confidence: unverified\n    source: hearsay\n"
    one = made(tmp_path, "exchange", parts)
    assert (one.auth[0].confidence, one.auth[0].source) == ("unverified", "hearsay")
    assert (one.confidence, one.actions["look"].confidence) == ("documented", "documented")
    assert loader.find("kingdee-k3cloud").auth[0].confidence == "proved"
    rules = loader.find("jushuitan").http.errors
    assert {rule.confidence for rule in rules} == {"documented", "unverified"}


@pytest.fixture
def browser(database, client):
    """A signed-in owner."""
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session))
    return client


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("jushuitan", "尚未与厂商核对"),
        ("kingdee-k3cloud", "依据厂商文档"),
        ("tencent-ess", "依据厂商文档"),
    ],
)
def test_how_sure_it_is_stands_on_the_page_and_in_the_api(browser, key, words):
    assert words in browser.get(f"/connectors/{key}").get_data(as_text=True)
    told = browser.get(f"/api/v1/connectors/{key}").get_json()
    connector = loader.find(key)
    assert (told["confidence"], told["source"]) == (connector.confidence, connector.source)
    assert told["auth"][0]["confidence"] == connector.auth[0].confidence
    by_key = {one["key"]: one["confidence"] for one in told["actions"]}
    assert by_key == {name: one.confidence for name, one in connector.actions.items()}
