import time

import pytest
from factories.catalog import make_app
from sqlalchemy import select

from catalog import apps, bundles, pictures, seed
from catalog.tables import App, Bundle, Listing
from kernel.errors import NotFound


def test_seeding_twice_writes_once_and_is_quick(session):
    started = time.process_time()
    assert seed.seed(session, include_demo=True) == {"apps": 120, "bundles": 17, "demo_apps": 3}
    session.flush()
    assert time.process_time() - started < 4
    assert seed.seed(session, include_demo=True) == {"apps": 0, "bundles": 0, "demo_apps": 0}
    for table in (App, Listing):
        assert len(session.execute(select(table)).all()) == 123


def test_without_the_demo_no_demo_app_is_offered(session):
    assert seed.seed(session) == {"apps": 120, "bundles": 16}
    session.flush()
    assert len(session.execute(select(Bundle)).all()) == 16
    with pytest.raises(NotFound):
        bundles.by_key(session, "order-to-chat")


def test_an_app_its_vendor_publishes_is_left_alone(session):
    make_app(session, key="gitea", name={"zh": "自己的", "en": "Own"})
    assert seed.seed_apps(session) == 119
    assert apps.by_key(session, "gitea").name["en"] == "Own"


def test_a_changed_row_is_written_again(session):
    seed.seed_apps(session)
    session.flush()
    app = apps.by_key(session, "gitea")
    app.digest = "old"
    session.add(app)
    session.flush()
    assert seed.seed_apps(session) == 1


def test_bundles_know_their_members_and_what_can_be_installed(session):
    seed.seed(session, include_demo=True)
    session.flush()
    bundle = bundles.by_key(session, "order-to-chat")
    present = bundles.members(session, bundle)
    assert [member.app.key for member in present] == ["demo-shop", "demo-erp", "demo-chat"]
    assert not bundles.can_install(bundle, present)
    bundles.INSTALLABLE.append(lambda _session, key: key.startswith("demo-"))
    try:
        assert bundles.can_install(bundle, bundles.members(session, bundle))
        parts = bundles.by_key(session, "metal-parts")
        assert not bundles.can_install(parts, bundles.members(session, parts))
    finally:
        bundles.INSTALLABLE.pop()
    base = bundles.by_key(session, "security-base")
    login = bundles.members(session, base)[0]
    assert [other.key for other in login.alternatives] == ["keycloak"]


def test_an_estimate_is_hours_times_rates_and_marked(session):
    seed.seed_bundles(session, include_demo=True)
    session.flush()
    figures = bundles.estimate(bundles.by_key(session, "metal-parts"))
    assert figures["saved"] == (60 * 60 * 12, 140 * 120 * 12)
    assert figures["running"] == ((150 + 60 + 2 * 60) * 12, (300 + 150 + 6 * 120) * 12)
    assert figures["setup"] == (15 * 1000, 30 * 2500)
    assert figures["is_assumption"] is True
    assert bundles.estimate(bundles.by_key(session, "order-to-chat")) is None


def test_partners_are_those_of_the_same_flow(session):
    seed.seed(session, include_demo=True)
    session.flush()
    offered = bundles.with_app(session, "karrio")
    assert {bundle.key for bundle in offered} == {"electronics-maker", "cross-border-shop"}
    assert "woocommerce" in bundles.partners(offered, "karrio")
    assert "karrio" not in bundles.partners(offered, "karrio")


def test_bundles_are_found_by_words(session):
    seed.seed_bundles(session, include_demo=False)
    session.flush()
    assert [bundle.key for bundle in bundles.matching(session, "餐厅")] == ["restaurant-chain"]
    assert bundles.matching(session, "") == []


def test_the_map_draws_each_hand_over_once():
    flows = [
        {"app": "a", "steps": [{"app": "b"}, {"app": "c"}, {}]},
        {"app": "a", "steps": [{"app": "b"}]},
        {"steps": [{"app": "c"}]},
    ]
    assert pictures.hand_overs(flows) == {("a", "b"): 2, ("b", "c"): 1}
    picture = pictures.bundle_map(
        {"marketing": [("a", "A")], "logistics": [("b", "B"), ("c", "C")]}, flows
    )
    assert len(picture.boxes) == 3
    assert len(picture.arrows) == 2
    assert all(0 <= box.x <= picture.width - pictures.BOX_WIDTH for box in picture.boxes)
    assert all(box.y + pictures.BOX_HEIGHT <= picture.height for box in picture.boxes)
    assert pictures.shortened("Mosquitto MQTT 服务器") == "Mosquitto MQTT 服…"
    assert pictures.shortened("Gitea") == "Gitea"


def test_confidence_never_rises_above_what_was_read():
    def app(**facts):
        return App(
            vendor_id="v", key="k", name={}, layer="", slots=[], sub_scenarios=[], facts=facts
        )

    read = app(confidence="confirmed", checked=["api"], api={"kind": "rest"}, sso={"oidc": "yes"})
    assert apps.confidence_of(read, "api") == "confirmed"
    assert apps.confidence_of(read, "sso") == "likely"
    recalled = {"oidc": "yes", "note": {"en": "SCIM from memory"}}
    assert apps.confidence_of(
        app(confidence="confirmed", checked=["sso"], sso=recalled), "sso"
    ) == ("likely")
    assert apps.confidence_of(app(confidence="confirmed", sso=recalled), "sso") == "memory"
    assert apps.confidence_of(app(confidence="likely"), "sso") == "memory"
    assert apps.confidence_of(app(confidence="vendor"), "sso") == "vendor"
