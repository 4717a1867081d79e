"""Every connector folder keeps every rule and every fixture holds; new folders need no code."""

import pytest

from catalog import slots
from connectors.engine import check, fixtures, loader, triggers
from connectors.engine.check_manifest import schema_of
from connectors.lab import offline, vendor_signing
from kernel import clock, documents
from webhooks import signing

FOLDERS = sorted(path.parent for path in loader.LIBRARY.glob("*/manifest.yaml"))
EVERY = [(folder, one) for folder in FOLDERS for one in fixtures.load(folder)[0]]
STANDARD = ("github", "standard_webhooks")  # what others than the lab can sign
TRIGGERS = [
    (one, key)
    for one in loader.library().values()
    for key, trigger in one.triggers.items()
    if not trigger.every
]


def test_the_library_is_not_empty_and_holds_no_code():
    assert {folder.name for folder in FOLDERS} >= {"github", "demo-shop", "demo-erp", "demo-chat"}
    assert not list(loader.LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("rule", check.RULES)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_keeps_rule(folder, rule):
    found = check.RULES[rule](check.Folder(folder))
    assert [one.plain() for one in found] == []


@pytest.mark.parametrize(
    ("folder", "fixture"), EVERY, ids=lambda value: getattr(value, "name", None)
)
def test_fixture_holds(folder, fixture):
    found = offline.play(check.Folder(folder), fixture)
    assert [one.plain() for one in found] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_conforms(folder):
    """Fixtures hold; every action reads refusals, limits and rubbish soundly; forgeries fail."""
    outcomes = offline.run(folder)
    assert [one.plain() for outcome in outcomes for one in outcome.findings] == []
    connector = loader.load(folder)
    names = {outcome.name for outcome in outcomes}
    for key in connector.actions:
        assert f"{key}.ok.yaml" in names
        assert {f"{key} · {probe}" for probe in ("auth", "limit", "html", "half")} <= names
    for key, trigger in connector.triggers.items():
        assert trigger.sample, key
        if trigger.verify["scheme"] in vendor_signing.PLAIN - {"none"}:
            assert f"{key} · forged" in names, key


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_names_slots_of_the_catalogue_and_speaks_both_languages(folder):
    connector = loader.load(folder)
    known = {one.id for slot in slots.all_slots() for one in (slot, *slot.sub_scenarios)}
    assert set(connector.slots) <= known
    assert connector.slots, "say where it helps a firm"
    about = loader.read_manifest(folder).value["connector"]
    assert about.get("confidence") or about.get("source"), "say how sure this is, and whence"
    parts = [connector, *connector.actions.values(), *connector.triggers.values()]
    for part in parts:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in part.title["zh"]) or (
            part.title["zh"].isascii()
        ), part.title
        assert part.title["en"].isascii(), part.title
    assert any("\u4e00" <= letter <= "\u9fff" for letter in connector.summary["zh"])


@pytest.mark.parametrize(
    ("connector", "key"),
    [one for one in TRIGGERS if one[0].triggers[one[1]].verify["scheme"] in STANDARD],
    ids=lambda value: getattr(value, "key", value),
)
def test_a_signed_sample_passes_the_scheme_the_trigger_names(connector, key):
    """The source made from a trigger accepts what its vendor signs, and nothing altered."""
    config = triggers.source_config(connector, key)
    headers, raw = triggers.sample_delivery(connector, key)
    lower = {name.lower(): value for name, value in headers.items()}
    now = clock.now()
    secret = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
    lower |= sign(config, lower, raw, secret, now)
    options = config["scheme_options"]
    signing.verify(config["scheme"], raw, lower, [secret], options, now)
    with pytest.raises(Exception, match=r"(?i)signature"):
        signing.verify(config["scheme"], raw + b" ", lower, [secret], options, now)


def sign(config, headers, raw, secret, now):
    import hashlib
    import hmac

    from standardwebhooks import Webhook

    if config["scheme"] == "github":
        plain = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        return {"x-hub-signature-256": f"sha256={plain}"}
    key = headers.get("webhook-id", "msg_1")
    return {
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(key, now, raw.decode()),
    }


@pytest.mark.parametrize(
    ("connector", "key"), TRIGGERS, ids=lambda value: getattr(value, "key", value)
)
def test_every_trigger_has_a_schema_for_the_flow_editor(connector, key):
    assert schema_of(connector.triggers[key]) is not None


def test_a_github_event_nobody_described_is_taken_as_it_is():
    trigger = loader.find("github").triggers["any"]
    raw = documents.dump({"zen": 1, "id": 12345678901234567890})
    headers = {"X-GitHub-Event": "merge_group", "X-GitHub-Delivery": "d-1"}
    [fired] = triggers.read(trigger, headers, raw)
    assert (fired.type, fired.dedupe_key) == ("github.merge_group", "d-1")
    assert fired.data["id"] == 12345678901234567890
    assert triggers.matches(trigger, "github.push")
    assert not triggers.matches(trigger, "gitlab.push")


def test_the_shop_speaks_the_hubs_own_vocabulary():
    shop = loader.find("demo-shop")
    assert shop.triggers["order_paid"].schema is None
    assert schema_of(shop.triggers["order_paid"])["required"]
