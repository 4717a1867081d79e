"""Every page in both languages, every state, and the way of a release in a browser."""

import re

import pytest
from factories.catalog import manifest_text
from factories.identity import make_member, make_organization, sign_in
from factories.marketplace import stock_the_shop

from catalog import bundles, search
from kernel.database import EVERY, transaction

HTML = {"Accept": "text/html"}
PUBLIC = [
    "/slots",
    "/slots/production",
    "/apps",
    "/apps?slot=marketing&sso=oidc&q=客户",
    "/apps?q=zzzz",
    "/apps?q=库存&slot=rnd&layer=security",
    "/apps?order=name&cursor=MjQ=",
    "/apps/gitea",
    "/apps/erpnext",
    "/apps/demo-erp",
    "/compare",
    "/compare?a=gitea&a=gitlab-ce&a=demo-erp",
    "/compare?a=gitea&a=gitlab-ce&differences=1",
    "/bundles",
    "/bundles/metal-parts",
    "/bundles/order-to-chat",
    "/bundles/security-base",
    "/events-catalogue",
    "/events-catalogue?q=order&slot=marketing",
    "/events-catalogue?q=zzzz",
    "/events-catalogue/order.paid",
    "/search?q=网店",
    "/search?q=zzzz",
    "/search",
]


@pytest.fixture
def hub(database):
    stock_the_shop()
    return database


def enter(client, role="owner", **over):
    with transaction(EVERY) as session:
        organization = make_organization(session, **over)
        member = make_member(session, organization, role=role)
        sign_in(client, session, member)
    return organization


def post(client, path, data, **more):
    page = client.get("/slots", headers=HTML).text
    token = re.search(r'name="csrf-token" content="([^"]+)"', page)[1]
    return client.post(path, data={"csrf_token": token, **data}, headers=HTML, **more)


def test_every_public_page_draws_in_both_languages(hub, client):
    for path in PUBLIC:
        for language in ("zh", "en"):
            mark = "&" if "?" in path else "?"
            answer = client.get(f"{path}{mark}lang={language}", headers=HTML)
            assert answer.status_code == 200, path
            assert "<h1" in answer.text, path
            # nothing of Python or Jinja leaks, and a strict CSP finds nothing to refuse
            assert not re.search(r"\bNone\b(?!\.)|Undefined|&lt;built-in", _visible(answer.text)), (
                path
            )
            assert "<script>" not in answer.text
            assert " style=" not in answer.text


def _visible(html):
    return re.sub(r"<[^>]+>", " ", html)


def test_an_empty_hub_says_so_instead_of_breaking(database, client):
    for path in ("/apps", "/bundles", "/slots", "/slots/rnd", "/compare", "/search?q=a"):
        assert client.get(path, headers=HTML).status_code == 200, path


@pytest.mark.parametrize(
    "path", ["/slots/none", "/apps/none", "/bundles/none", "/events-catalogue/none.done"]
)
def test_unknown_things_are_not_found(database, client, path):
    assert client.get(path, headers=HTML).status_code == 404


def test_facets_keep_their_choice_in_the_address(hub, client):
    page = client.get("/apps?slot=rnd&lang=en", headers=HTML).text
    assert 'href="/apps"' in page
    assert "/apps?slot=rnd&amp;layer=security" in page or "slot=rnd&amp;layer=" in page


@pytest.mark.parametrize("facet", search.FACETS)
def test_a_filter_nobody_knows_is_shown_as_written_and_never_as_markup(hub, client, facet):
    answer = client.get("/apps", query_string={facet: "<b id=x>%("}, headers=HTML)
    assert answer.status_code == 200
    assert "<b id=x>" not in answer.text
    assert "&lt;b id=x&gt;%(" in answer.text


def test_a_bundle_names_its_events_in_words(hub, client):
    page = client.get("/bundles/order-to-chat?lang=zh", headers=HTML).text
    assert "订单已付款" in page
    assert "<dd>–</dd>" not in page  # a cost that is not there is left out


def test_who_may_not_install_is_told_who_may(hub, client, monkeypatch):
    monkeypatch.setattr(bundles, "INSTALLABLE", [lambda _session, key: key.startswith("demo-")])
    assert "/bundles/order-to-chat/install" in client.get("/bundles/order-to-chat").text
    enter(client, role="member")
    for path in ("/bundles/order-to-chat", "/apps/demo-erp"):
        page = client.get(f"{path}?lang=en", headers=HTML).text
        assert f"{path}/install" not in page
        assert "An owner, administrator or purchaser" in page


def test_a_firm_that_is_no_vendor_is_shown_how_to_become_one(hub, client):
    enter(client)
    refused = client.get("/vendor?lang=en", headers=HTML)
    assert refused.status_code == 403
    assert "/vendor/apply" in refused.text
    assert "can give you a role" not in refused.text


def test_a_fact_shows_how_sure_it_is(hub, client):
    page = client.get("/apps/gitea?lang=zh", headers=HTML).text
    assert "已核实" in page
    assert "大致可信" in page
    assert "还没有评分" in page
    price = client.get("/apps/dolibarr?lang=zh", headers=HTML).text
    assert "此价格日期不详" in price


def test_a_bundle_offers_to_install_only_what_the_hub_can(hub, client):
    assert "先当作规划采用" in client.get("/bundles/order-to-chat?lang=zh", headers=HTML).text
    bundles.INSTALLABLE.append(lambda _session, key: key.startswith("demo-"))
    try:
        page = client.get("/bundles/order-to-chat?lang=zh", headers=HTML).text
        assert "/bundles/order-to-chat/install" in page
        assert "先当作规划采用" not in page
        assert "先当作规划采用" in client.get("/bundles/clinic?lang=zh", headers=HTML).text
    finally:
        bundles.INSTALLABLE.pop()


def test_strangers_are_sent_to_the_door_and_members_are_refused(hub, client):
    closed = ["/vendor", "/vendor/releases/new", "/operator/review", "/operator/vendors"]
    for path in closed:
        assert client.get(path, headers=HTML).status_code == 303, path
    enter(client)
    for path in closed:
        assert client.get(path, headers=HTML).status_code == 403, path
    assert client.get("/vendor/apply", headers=HTML).status_code == 200


def test_the_way_of_a_release_in_a_browser(hub, app):
    vendor, operator = app.test_client(), app.test_client()
    enter(vendor, is_vendor=True)
    enter(operator, is_operator=True)
    assert "还没有提交过版本" in vendor.get("/vendor?lang=zh", headers=HTML).text
    assert "schema_version" in vendor.get("/vendor/releases/new", headers=HTML).text
    wrong = manifest_text(layer="attic", scopes=[])
    page = post(vendor, "/vendor/releases/new", {"manifest": wrong, "submit": "1"})
    assert page.status_code == 422
    line = next(i for i, row in enumerate(wrong.splitlines(), 1) if row.startswith("layer:"))
    assert f'id="line-{line}"' in page.text
    assert "/layer" in page.text
    checked = post(vendor, "/vendor/releases/new", {"manifest": manifest_text(), "check": "1"})
    assert checked.status_code == 200
    assert "全部处理完毕" in operator.get("/operator/review?lang=zh", headers=HTML).text
    sent = post(vendor, "/vendor/releases/new", {"manifest": manifest_text(), "submit": "1"})
    assert sent.status_code == 303
    own = vendor.get(sent.location, headers=HTML)
    assert own.status_code == 200
    again = post(vendor, "/vendor/releases/new", {"manifest": manifest_text(), "submit": "1"})
    assert again.status_code == 409
    queue = operator.get("/operator/review?lang=zh", headers=HTML).text
    path = re.search(r"/operator/review/rel_\w+", queue)[0]
    detail = operator.get(f"{path}?lang=zh", headers=HTML).text
    assert "新增权限" in detail
    assert post(operator, path, {"decision": "reject", "reason": ""}).status_code == 422
    assert post(operator, path, {"decision": "approve", "reason": "很好"}).status_code == 303
    assert vendor.get(sent.location, headers=HTML).status_code == 200
    assert post(vendor, f"{sent.location}/publish", {}).status_code == 303
    shelf = vendor.get("/apps/acme-desk?lang=zh", headers=HTML)
    assert shelf.status_code == 200
    assert "¥99.00" in shelf.text
    assert "服务商声明" in shelf.text
    assert operator.get("/operator/review", headers=HTML).status_code == 200


def test_a_firm_applies_and_is_admitted(hub, app):
    firm, operator = app.test_client(), app.test_client()
    enter(firm)
    enter(operator, is_operator=True)
    form = {
        "name_zh": "艾克美",
        "name_en": "Acme",
        "contact_email": "a@example.com",
        "credit_code": "91321000ma1q7xk283",
    }
    wrong = post(firm, "/vendor/apply", form)
    assert wrong.status_code == 422
    assert "统一社会信用代码" in wrong.text
    good = {**form, "credit_code": "91321000ma1q7xk282"}
    assert post(firm, "/vendor/apply", good).status_code == 303
    page = operator.get("/operator/vendors", headers=HTML).text
    path = re.search(r"/operator/vendors/ven_\w+", page)[0]
    assert post(operator, path, {"decision": "reject", "reason": ""}).status_code == 422
    assert post(operator, path, {"decision": "approve"}).status_code == 303
    assert firm.get("/vendor", headers=HTML).status_code == 200


def test_own_event_types_from_a_form(hub, client):
    enter(client, role="integrator")
    form = {
        "name": "visitor.arrived",
        "title_zh": "到访",
        "title_en": "Visitor arrived",
        "schema": '{"type": "object", "required": ["visitor"]}',
        "sample": '{"visitor": 1',
    }
    wrong = post(client, "/settings/event-types", form)
    assert wrong.status_code == 422
    assert "visitor.arrived" in wrong.text
    good = {**form, "sample": '{"visitor": "李雯"}'}
    assert post(client, "/settings/event-types", good).status_code == 303
    page = client.get("/settings/event-types", headers=HTML).text
    path = re.search(r"/settings/event-types/cet_\w+/retire", page)[0]
    assert client.get("/events-catalogue/visitor.arrived", headers=HTML).status_code == 200
    assert post(client, path, {}).status_code == 303
    assert client.get("/events-catalogue/visitor.arrived", headers=HTML).status_code == 404
