"""Triggers that prove with recipes: genuine deliveries come in, forged ones never do."""

import copy
import json
from datetime import datetime

import pytest
from factories import connectors as apps
from factories import webhooks as make
from factories.apps import READ
from factories.apps import connector as made_up
from wechatpy.enterprise.crypto import WeChatCrypto

from connectors import triggers_in
from connectors.engine import check, deliveries, fixtures, loader
from connectors.engine.deliveries import Given, Refused
from kernel import clock
from kernel.errors import Invalid
from webhooks import intake, offers
from webhooks.tables import Event, Source

LIBRARY = loader.library()
RECIPES = [
    (one, key)
    for one in LIBRARY.values()
    for key, trigger in one.triggers.items()
    if deliveries.uses_recipe(trigger)
]
FIXTURES = [
    (one, fixture)
    for one in LIBRARY.values()
    for fixture in fixtures.load(one.folder)[0]
    if fixture.kind == "trigger" and deliveries.uses_recipe(one.triggers[fixture.key])
]
GENUINE = [(one, fixture) for one, fixture in FIXTURES if "refused" not in fixture.value]
EVENTFUL = [(one, fixture) for one, fixture in GENUINE if fixture.value.get("events")]
# these sign a time and no content, which their pages say
TIMED = {"dingtalk-robot_message", *(f"gitee-{key}" for key in LIBRARY["gitee"].triggers)}
SIGNED = [(one, fixture) for one, fixture in EVENTFUL if f"{one.key}-{fixture.key}" not in TIMED]


def name_of(value):
    return getattr(value, "key", None) if not hasattr(value, "name") else value.name


def test_there_are_recipes_in_the_library():
    assert {one.key for one, _ in RECIPES} >= {
        "wecom", "dingtalk", "feishu", "wechat-pay", "alipay"
    }  # fmt: skip


@pytest.mark.parametrize("key", sorted({one.key for one, _ in RECIPES}))
def test_every_app_is_shown_taking_and_refusing(key):
    shown = [fixture for one, fixture in FIXTURES if one.key == key]
    assert any(fixture.value.get("events") for fixture in shown)
    assert any("refused" in fixture.value for fixture in shown)


def read(connector, fixture, delivery=None, filled=None):
    value = fixture.value
    return deliveries.read(
        connector.triggers[fixture.key],
        delivery or deliveries.of_fixture(value),
        Given(filled or {name: str(one) for name, one in value["filled"].items()}),
        deliveries.around_of(value),
    )


@pytest.mark.parametrize(("connector", "fixture"), EVENTFUL, ids=name_of)
def test_another_secret_takes_nothing(connector, fixture):
    asked = connector.triggers[fixture.key].verify["options"]["secrets"]
    for name, one in asked.items():
        filled = {key: str(value) for key, value in fixture.value["filled"].items()}
        text = filled[name]
        filled[name] = ("B" if text[0] != "B" else "C") + text[1:]
        assert one
        with pytest.raises(Refused):
            read(connector, fixture, filled=filled)


@pytest.mark.parametrize(("connector", "fixture"), SIGNED, ids=name_of)
def test_altered_deliveries_say_nothing_else(connector, fixture):
    """Bytes around what is signed may change; what is read from it may not."""
    genuine = deliveries.of_fixture(fixture.value)
    good, _ = read(connector, fixture)
    for at in range(0, len(genuine.body), max(1, len(genuine.body) // 60)):
        body = genuine.body[:at] + bytes([genuine.body[at] ^ 1]) + genuine.body[at + 1 :]
        altered = deliveries.Delivery(
            genuine.method, genuine.path, genuine.query, genuine.header, body
        )
        try:
            fired, _ = read(connector, fixture, altered)
        except (Refused, deliveries.Unread):
            continue
        assert [one.data for one in fired] == [one.data for one in good]


@pytest.mark.parametrize(("connector", "fixture"), GENUINE, ids=name_of)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_deliveries_at_the_hubs_own_door(database, client, connector, fixture, monkeypatch):
    """The whole way: a source is opened, the fixture's request arrives, its events are stored."""
    value = fixture.value
    moment = datetime.fromisoformat(str(value["moment"]))
    config = deliveries.triggers.source_config(connector, fixture.key)
    filled = {name: str(one) for name, one in value["filled"].items()}
    source = make.in_transaction(
        lambda session: make.make_source(
            session, "org_a", scheme="recipe", scheme_options=config["scheme_options"],
            rules=config["type_rules"], filled=filled,
        )
    )  # fmt: skip
    intake.forget()
    sent = deliveries.of_fixture(value)
    door = "/in/" + triggers_in.sources.url_of(source).rsplit("/", 1)[1]
    monkeypatch.setattr(clock, "now", lambda: moment)
    answer = client.open(
        f"{door}?{sent.query.decode()}", method=sent.method, data=sent.body,
        headers=dict(sent.header),
    )  # fmt: skip
    assert answer.status_code == value.get("reply", {"status": 202})["status"]
    stored = [row for row in make.rows(Event) if row.source_id == source.id]
    assert [row.type for row in stored] == [one["type"] for one in value.get("events", [])]
    assert all(row.state != "rejected" for row in stored)
    for row, one in zip(stored, value.get("events", []), strict=True):
        assert fixtures.same(json.loads(row.body), one["data"])


def test_dingtalk_reads_our_answer_with_its_own_kit():
    connector = LIBRARY["dingtalk"]
    fixture = next(one for holder, one in GENUINE if holder is connector and one.key == "any")
    _, reply = read(connector, fixture)
    said = json.loads(reply.body)
    filled = fixture.value["filled"]
    kit = WeChatCrypto(filled["token"], filled["aes_key"], filled["app_key"])
    sent = {"Encrypt": said["encrypt"]}
    opened = kit.decrypt_message(sent, said["msg_signature"], said["timeStamp"], said["nonce"])
    assert opened == "success"


BROKEN = """
auth:
  - {id: none, kind: none, title: {zh: 无, en: None}}
http: {base: "https://api.made-up.example"}
triggers:
  thing:
    title: {zh: 事, en: Thing}
    event: made.up
    schema: {type: object, properties: {}}
    verify:
      scheme: recipe
      options:
        steps:
          - {as: mac, hash: sha256, of: "${secret.key}${body}"}
          - equal: ["${mac}", "${header.x-mac}"]
    sample: {body: {}}
"""


def test_a_wrong_recipe_is_found_with_its_line(tmp_path):
    folder = made_up(tmp_path, BROKEN, READ).folder
    [found] = [one for one in check.RULES["C01"](check.Folder(folder)) if "verify" in one.pointer]
    assert found.pointer == "/triggers/thing/verify/options/steps/0/of"
    line = (folder / "manifest.yaml").read_text("utf-8").splitlines()[found.line - 1]
    assert "${secret.key}" in line
    assert "secret.key" in found.say["en"]


def test_known_senders_are_offered():
    known = {offer.key: offer for offer in offers.listing()}
    assert known["wecom"].trigger_key == "any"
    assert [ask["name"] for ask in known["wecom"].asks] == ["token", "aes_key", "corp_id"]
    assert known["dingtalk/robot_message"].confidence == "unverified"


def test_apps_that_sign_without_a_recipe_are_offered_too():
    known = {offer.key: offer for offer in offers.listing()}
    assert {"github", "shopify", "stripe", "gitlab"} <= set(known)
    shopify = known["shopify"]
    assert (shopify.scheme, shopify.asks) == ("hmac", [])
    assert shopify.connector_key == "shopify"
    assert len([one for one in known.values() if one.connector_key == "github"]) == 1


@pytest.mark.usefixtures("database")
def test_a_connection_fills_in_what_it_knows(database):
    fields = {"corp_id": "ww1", "secret": "example"}

    def work(session, filled):
        connection = apps.make_connection(
            session, "org_a", connector_key="wecom", settings={}, auth="app", fields=fields
        )
        return triggers_in.open_source(session, connection, "any", filled).source_id

    with pytest.raises(Invalid) as refused:
        make.in_transaction(lambda session: work(session, None))
    assert [one["pointer"] for one in refused.value.errors] == ["/filled/token", "/filled/aes_key"]
    filled = {"token": "tok", "aes_key": "a" * 43}
    source_id = make.in_transaction(lambda session: work(session, filled))
    source = make.row(Source, source_id)
    given = triggers_in.sources.fillings.get(source)
    assert given == {"corp_id": "ww1", **filled}
    assert copy.deepcopy(given) == given
