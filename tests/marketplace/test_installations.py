"""Installations over the API: links of one's own, installing, watching, removing, other tenants."""

import pytest
from factories.identity import bearer, make_api_key, make_organization
from factories.marketplace import BUNDLE, make_installation, start_vendors, stock_the_demo

from kernel.database import EVERY, transaction
from kernel.errors import Invalid
from kernel.settings import settings_override
from marketplace import installations, rollout_turns
from marketplace.installations import is_web_address


@pytest.fixture
def key(database):
    """An owner's API key, as headers."""
    return new_key()


def new_key(**over) -> dict[str, str]:
    """A key of a fresh firm, as headers."""
    with transaction(EVERY) as session:
        return bearer(make_api_key(session, make_organization(session), **over))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The mock vendors, started once."""
    started = start_vendors(tmp_path_factory.mktemp("vendors"))
    yield started
    started.running.close()


@pytest.mark.parametrize(
    ("address", "is_fine"),
    [
        ("https://erp.example.com", True),
        ("http://10.0.0.8:8080/app?x=1", True),
        ("https://例子.中国/", True),
        ("", False),
        ("erp.example.com", False),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://", False),
        ("https://user:pass@erp.example.com", False),
        ("https://erp.example.com:99999", False),
        ("https://erp.example.com\n.evil", False),
        ("https://" + "a" * 2000, False),
    ],
)
def test_only_web_addresses_become_links(address, is_fine):
    assert is_web_address(address) is is_fine


def test_a_link_over_the_api(client, key):
    made = client.post(
        "/api/v1/installations",
        json={"name": "自家 ERP", "open_url": "https://erp.example.com", "slot": "logistics"},
        headers=key,
    )
    assert made.status_code == 201
    body = made.get_json()
    assert body["kind"] == "external"
    assert body["state"] == "active"
    path = f"/api/v1/installations/{body['id']}"
    changed = client.patch(path, json={"name": "老系统"}, headers=key)
    assert changed.get_json()["title"]["zh"] == "老系统"
    assert changed.get_json()["open_url"] == "https://erp.example.com"
    assert [i["id"] for i in client.get("/api/v1/installations", headers=key).json["items"]] == [
        body["id"]
    ]
    assert client.delete(path, headers=key).status_code == 204
    assert client.get("/api/v1/installations", headers=key).json["items"] == []
    assert len(client.get("/api/v1/installations?all=1", headers=key).json["items"]) == 1
    # what is gone cannot be changed or removed once more
    assert client.patch(path, json={"name": "x"}, headers=key).status_code == 409


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x", "open_url": "ftp://x"}, "/open_url"),
        ({"name": "", "open_url": "https://x.example"}, "/name"),
        ({"name": "x", "open_url": "https://x.example", "slot": "moon"}, "/slot"),
        ({"open_url": "https://x.example", "app_key": "no-such-app"}, "/app_key"),
        ({"name": "x", "open_url": "https://x.example", "state": "absent"}, "/state"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(client, key, body, pointer):
    answer = client.post("/api/v1/installations", json=body, headers=key)
    assert answer.status_code == 422
    assert pointer in [e["pointer"] for e in answer.get_json()["errors"]]


def test_a_link_takes_name_and_slot_from_the_catalogue(database, key, client):
    stock_the_demo()
    made = client.post(
        "/api/v1/installations",
        json={"open_url": "https://shop.example.com", "app_key": "demo-shop"},
        headers=key,
    ).get_json()
    assert made["title"]["en"] == "Demo shop"
    assert made["slot"] == "marketing"
    # a link takes no place: the hub may still install the same app
    assert made["app_key"] == "demo-shop"


def test_a_link_is_none_of_the_hubs_apps(session):
    from factories.identity import make_member
    from factories.marketplace import acting

    by = acting(make_member(session))
    hub_app = make_installation(session, by.organization_id, kind="hub")
    with pytest.raises(Exception, match="not a link"):
        installations.remove_link(session, by, hub_app.id)
    with pytest.raises(Invalid):
        installations.add_link(session, by, open_url="x", name="")


def test_the_whole_way_over_the_api(client, key, running):
    running.reset()
    stock_the_demo()
    allowed = tuple(f"127.0.0.1:{running.base_port + n}" for n in range(3))
    with settings_override(demo=True, demo_port=running.base_port, outbound_allow=allowed):
        started = client.post(f"/api/v1/bundles/{BUNDLE}/install", headers=key)
        assert started.status_code == 202
        again = client.post(f"/api/v1/bundles/{BUNDLE}/install", headers=key)
        assert again.get_json()["id"] == started.get_json()["id"]
        path = f"/api/v1/rollouts/{started.get_json()['id']}"
        rollout_turns.advance_rollouts()
        seen = client.get(path, headers=key).get_json()
        assert seen["state"] == "active"
        assert seen["is_finished"]
        assert seen["seconds"] >= 0
        assert {s["state"] for s in seen["steps"]} == {"done"}
        assert seen["steps"][0]["title"].keys() == {"zh", "en"}
        assert client.post(f"/api/v1/bundles/{BUNDLE}/install", headers=key).status_code == 409
        found = client.get("/api/v1/installations", headers=key).get_json()["items"]
        chat = next(one for one in found if one["app_key"] == "demo-chat")
        gone = client.delete(f"/api/v1/installations/{chat['id']}", headers=key)
        assert gone.status_code == 202
        rollout_turns.advance_rollouts()
        now = client.get(f"/api/v1/installations/{chat['id']}", headers=key).get_json()
        assert now["state"] == "absent"
        undone = client.post(f"{path}/cancel", json={}, headers=key)
        assert undone.status_code == 202
        rollout_turns.advance_rollouts()
        assert client.get("/api/v1/installations", headers=key).get_json()["items"] == []
        assert running.all_accounts() == []


def test_what_the_hub_cannot_install_is_refused_with_a_why(client, key):
    from factories.marketplace import stock_the_shop

    stock_the_shop()
    for path in ("bundles/metal-parts", "apps/gitea"):
        answer = client.post(f"/api/v1/{path}/install", headers=key)
        assert answer.status_code == 409
        assert answer.get_json()["code"] == "not_installable"
        assert answer.get_json()["detail"]
    assert client.post("/api/v1/bundles/nothing/install", headers=key).status_code == 404
    assert client.post("/api/v1/apps/nothing/install", headers=key).status_code == 404


def test_rights_and_tenants(client, key):
    stock_the_demo()
    made = client.post(
        "/api/v1/installations", json={"name": "x", "open_url": "https://x.example"}, headers=key
    ).get_json()
    stranger, reader = new_key(), new_key(role="member")
    path = f"/api/v1/installations/{made['id']}"
    assert client.get(path, headers=stranger).status_code == 404
    assert client.patch(path, json={"name": "y"}, headers=stranger).status_code == 404
    assert client.delete(path, headers=stranger).status_code == 404
    assert client.get(path).status_code == 401
    assert client.post(f"/api/v1/bundles/{BUNDLE}/install", headers=reader).status_code == 403
    assert client.get("/api/v1/installations", headers=reader).status_code == 200
