"""The committed data agrees with itself."""

import re

import pytest

from catalog import apps, event_types, slots
from catalog.tables import App

APPS = slots.read_data("apps.yaml")["apps"]
BUNDLES = slots.read_data("bundles.yaml")["bundles"]
DEMO = {manifest["id"] for manifest in slots.read_data("demo_apps.yaml")["releases"]}
KEYS = {app["key"] for app in APPS}


def test_120_apps_with_unique_keys_and_known_places():
    assert len(APPS) == len(KEYS) == 120
    subs = slots.all_sub_scenarios()
    for app in APPS:
        assert set(app["slots"]) <= set(slots.slot_names()), app["key"]
        assert set(app["sub_scenarios"]) <= set(subs), app["key"]
        assert {s.split(".")[0] for s in app["sub_scenarios"]} == set(app["slots"]), app["key"]
        assert app["layer"] in slots.layer_names()
        assert app["description"]["zh"]
        assert app["description"]["en"]
        assert app["name"]["zh"]
        assert app["name"]["en"]


def test_nothing_unread_is_called_confirmed():
    for entry in APPS:
        app = App(vendor_id="", key=entry["key"], name={}, layer="", slots=[], sub_scenarios=[])
        app.facts = entry
        for field in ("licence", "api", "sso", "deployment", "hosted_price", "data_export"):
            sure = apps.confidence_of(app, field)
            assert sure in apps.CONFIDENCES
            if field not in entry["checked"]:
                assert sure != "confirmed", (entry["key"], field)


def test_a_price_says_its_currency_and_only_known_dates():
    priced = [app for app in APPS if app["hosted_price"]]
    assert len(priced) == 10
    for app in priced:
        price = app["hosted_price"]
        assert re.fullmatch(r"\d+(\.\d+)?", price["amount"])
        assert re.fullmatch(r"[A-Z]{3}", price["currency"])
        assert price["source"]
        assert "as_of" not in price or re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", price["as_of"])


def test_fifteen_bundles_the_base_and_the_demo():
    assert len(BUNDLES) == 17
    assert [b["key"] for b in BUNDLES if b.get("is_base")] == ["security-base"]
    (demo,) = [b for b in BUNDLES if b.get("is_demo")]
    assert demo["key"] == "order-to-chat"
    assert demo["flow_template"] == "order-to-erp-to-chat"
    assert {item["app"] for item in demo["items"]} == DEMO == {"demo-shop", "demo-erp", "demo-chat"}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda b: b["key"])
def test_a_bundle_names_only_what_exists(bundle):
    members = {item["app"] for item in bundle["items"]}
    known = event_types.built_in()
    by_key = {app["key"]: app for app in APPS}
    for item in bundle["items"]:
        for key in (item["app"], *item.get("or", ())):
            assert key in KEYS | DEMO
        if item["app"] in by_key:
            assert set(item["slots"]) <= set(by_key[item["app"]]["slots"])
        assert item["use"]["zh"]
        assert item["use"]["en"]
    for flow in bundle["flows"]:
        assert ("event" in flow) != ("when" in flow)
        if "event" in flow:
            assert (flow["event"], 1) in known
        assert flow.get("app", next(iter(members))) in members
        for step in flow["steps"]:
            assert step.get("app", next(iter(members))) in members
            assert step["do"]["zh"]
            assert step["do"]["en"]
            for name in re.findall(r"\b([a-z_]+\.[a-z_]+)\b", step["do"]["en"]):
                assert (name, 1) in known, name


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda b: b["key"])
def test_every_estimate_is_marked_as_an_assumption(bundle):
    hours, costs = bundle["hours_saved_per_month"], bundle["costs"]
    if bundle.get("is_demo"):
        assert hours is None
        return
    assert hours["is_assumption"] is True
    assert 0 < hours["low"] < hours["high"]
    assert costs["is_assumption"] is True
    assert 0 < costs["setup_days"]["low"] < costs["setup_days"]["high"]
    assert set(costs["server_gb"]) <= {4, 8, 16}
