"""Pages: every state of a flow's life in a browser, in both languages."""

import re

import pytest
from factories.connectors import Shop, open_shop, rows, runs, settle, vendor
from factories.identity import make_member, make_organization, sign_in

from connectors import connections, flows, mapping_rows
from connectors.engine import flow_templates
from connectors.tables import Connection, Flow
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction

TEMPLATE = "order-to-erp-to-chat"


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


@pytest.fixture
def browser(database, client, app_vendor):
    """A signed-in owner of a shop with an ERP and a chat."""
    with transaction(EVERY) as session:
        client.shop = Shop(session, app_vendor.url)
        organization = session.get(Organization, client.shop.organization_id)
        member = make_member(session, organization)
        sign_in(client, session, member)
    return client


def token(browser, path: str = "/flows") -> str:
    page = browser.get(path).get_data(as_text=True)
    return re.search(r'name="csrf-token" content="([^"]*)"', page)[1]


def post(browser, path: str, **form):
    return browser.post(path, data={"csrf_token": token(browser), **form})


def text(answer) -> str:
    return answer.get_data(as_text=True)


PAGES = [
    "/connectors",
    "/connectors?q=ERP",
    "/connectors?q=nothing-fits",
    "/connectors/demo-erp",
    "/connections",
    "/connections/new",
    "/connections/new?connector=demo-erp",
    "/flows",
    "/flows/new",
    f"/flows/new?template={TEMPLATE}",
    "/runs",
    "/runs?view=parked",
]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_opens_in_both_languages(browser, language):
    shop = browser.shop
    own = [
        f"/connections/{shop.erp}",
        f"/flows/{shop.flow}",
        f"/flows/{shop.flow}/edit",
        f"/flows/{shop.flow}/edit/yaml",
        f"/flows/{shop.flow}/try",
    ]
    for path in PAGES + own:
        mark = "&" if "?" in path else "?"
        answer = browser.get(f"{path}{mark}lang={language}")
        assert answer.status_code == 200, path
        page = text(answer)
        assert "<style" not in page, path
        assert 'style="' not in page, path
        assert page.count("<h1") == 1, path


def test_the_picture_of_a_connector_is_sent_as_an_image(browser):
    answer = browser.get("/connectors/demo-erp/icon.svg")
    assert answer.mimetype == "image/svg+xml"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_connector_is_explained_in_the_readers_language(browser):
    chinese = text(browser.get("/connectors/demo-erp?lang=zh"))
    assert "如何连接" in chinese
    assert "How to connect" not in chinese
    english = text(browser.get("/connectors/demo-erp?lang=en"))
    assert "How to connect" in english
    assert "如何连接" not in english


def test_connecting_tests_at_once_and_never_shows_the_secret(browser, app_vendor):
    answer = post(
        browser,
        "/connections",
        connector="demo-erp",
        name="新进销存",
        auth="key",
        **{"settings.base_url": app_vendor.url, "fields.key": "very-secret-key"},
    )
    assert answer.status_code == 303
    page = text(browser.get(answer.headers["Location"]))
    assert "新进销存" in page
    assert "very-secret-key" not in page
    made = next(one for one in rows(Connection) if one.name == "新进销存")
    assert connections.open_connection(made).values.fields == {"key": "very-secret-key"}
    assert made.checked_at is not None


def test_wrong_values_are_told_at_their_fields(browser):
    answer = post(browser, "/connections", connector="demo-erp", name="x", auth="key")
    assert answer.status_code == 422
    assert "请填写这一项" in text(answer)


def test_a_private_address_is_refused(browser):
    answer = post(
        browser,
        "/connections",
        connector="demo-erp",
        auth="key",
        **{"settings.base_url": "http://10.0.0.8/", "fields.key": "k"},
    )
    assert answer.status_code == 422
    assert len(rows(Connection)) == 2


def test_a_template_becomes_a_running_flow_in_one_form(browser, app_vendor):
    with transaction(EVERY) as session:
        shop = connections.create(
            session,
            browser.shop.organization_id,
            "demo-shop",
            fields={"key": "k"},
            settings={"base_url": app_vendor.url},
        ).id
    use = {
        "use.demo-shop": shop,
        "use.demo-erp": browser.shop.erp,
        "use.demo-chat": browser.shop.chat,
    }
    answer = post(browser, "/flows", template=TEMPLATE, name="记账", do="publish", **use)
    assert answer.status_code == 303, text(answer)
    flow = next(one for one in rows(Flow) if one.name == "记账")
    assert (flow.state, flow.listens_to) == ("active", "order.paid")
    page = text(browser.get(f"/flows/{flow.id}/try"))
    assert "SO-2026-1189" in page
    sample = mapping_rows.to_yaml(flow_templates.find(TEMPLATE).sample)
    tried = text(post(browser, f"/flows/{flow.id}/try", event=sample))
    assert "/api/sales-orders" in tried
    assert app_vendor.calls == []


def test_a_flow_is_paused_resumed_and_put_away(browser):
    path = f"/flows/{browser.shop.flow}"
    for deed, state in (("pause", "paused"), ("resume", "active")):
        assert post(browser, f"{path}/{deed}").status_code == 303
        assert rows(Flow)[0].state == state
    assert post(browser, f"{path}/delete").status_code == 303
    assert browser.get(path).status_code == 404


def form_of(page: str) -> dict[str, str]:
    """What a browser would send back of the editor."""
    from html.parser import HTMLParser

    class Form(HTMLParser):
        def __init__(self):
            super().__init__()
            self.sent, self.open, self.name, self.inside = {}, False, None, None

        def handle_starttag(self, tag, attrs):
            a = dict(attrs)
            if tag == "form":
                self.open = a.get("id") == "editor"
            if not self.open:
                return
            if tag == "input" and a.get("name"):
                self.sent[a["name"]] = a.get("value") or ""
            if tag == "select":
                self.name = a.get("name")
                self.sent[self.name] = ""
            if tag == "option" and self.name and "selected" in a:
                self.sent[self.name] = a.get("value") or ""
            if tag == "textarea":
                self.inside = a.get("name")
                self.sent[self.inside] = ""

        def handle_endtag(self, tag):
            if tag == "form":
                self.open = False
            if tag == "select":
                self.name = None
            if tag == "textarea":
                self.inside = None

        def handle_data(self, data):
            if self.open and self.inside:
                self.sent[self.inside] += data

    reader = Form()
    reader.feed(page)
    return reader.sent


def document(flow_id: str) -> dict:
    with reading(EVERY) as session:
        flow = next(one for one in rows(Flow) if one.id == flow_id)
        return flows.document_of(session, flow)


def test_saving_the_editor_unchanged_changes_nothing(browser):
    path = f"/flows/{browser.shop.flow}/edit"
    before = document(browser.shop.flow)
    sent = form_of(text(browser.get(path)))
    assert post(browser, path, **{**sent, "do": "save"}).status_code == 303
    assert document(browser.shop.flow) == before


def test_the_editor_adds_moves_and_removes_steps(browser):
    path = f"/flows/{browser.shop.flow}/edit"

    def press(do, **changed):
        sent = {**form_of(text(browser.get(path))), **changed, "do": do}
        answer = post(browser, path, **sent)
        assert answer.status_code == 303, text(answer)

    press("add:filter")
    assert [one["kind"] for one in document(browser.shop.flow)["steps"]][-1] == "filter"
    press(
        "up:3",
        **{"s3.left": "${event.data.currency}", "s3.op": "==", "s3.right": "CNY"},
    )
    steps = document(browser.shop.flow)["steps"]
    assert steps[2]["when"] == '${event.data.currency == "CNY"}'
    press("remove:2")
    press("apply:1", **{"s1.r0.source": "PRE-${event.data.order_no}"})
    steps = document(browser.shop.flow)["steps"]
    assert [one["key"] for one in steps] == ["enough", "erp", "chat"]
    assert steps[1]["input"]["external_no"] == "PRE-${event.data.order_no}"


def test_the_editor_calls_fields_by_what_people_call_them(browser):
    path = f"/flows/{browser.shop.flow}/edit"
    page = text(browser.get(path))
    assert ">订单号 (事件)<" in page  # what an event offers, out of the vocabulary
    assert "客户 · 名称 (事件)" in page  # a field inside another
    assert ">群" in page  # what the chat wants
    post(browser, path, **{**form_of(page), "do": "add:action"})
    page = text(browser.get(path))
    assert "请选择这一步做什么" in page
    steps = len(document(browser.shop.flow)["steps"])
    chosen = {
        f"s{steps - 1}.connection": browser.shop.chat,
        f"s{steps - 1}.does": "demo-chat|post_message",
    }
    post(browser, path, **{**form_of(page), **chosen, "do": "save"})
    assert "还没有填写必填项“群（channel）”" in text(browser.get(path))


def test_two_editors_never_overwrite_each_other(browser):
    path = f"/flows/{browser.shop.flow}/edit"
    sent = form_of(text(browser.get(path)))
    assert post(browser, path, **{**sent, "do": "save"}).status_code == 303
    assert post(browser, path, **{**sent, "do": "save"}).status_code == 409


def test_the_yaml_tab_tells_mistakes_with_their_line(browser):
    path = f"/flows/{browser.shop.flow}/edit/yaml"
    broken = text(post(browser, path, yaml="trigger: {event: order.paid\nsteps: []\n"))
    assert "第 2 行" in broken or "第 1 行" in broken
    wrong = (
        "trigger:\n  event: order.paid\nsteps:\n  - key: a\n    kind: filter\n    when: ${nope}\n"
    )
    page = text(post(browser, path, yaml=wrong))
    assert "第 6 行" in page
    assert "/steps/0/when" in page


def test_a_parked_run_is_explained_and_repaired(browser, app_vendor):
    refused = {"code": "PERIOD_CLOSED", "message": "period is closed"}
    app_vendor.answers.append(("sales-orders", 422, refused, {}))
    with transaction(EVERY) as session:
        browser.shop.order(session)
    settle()
    (run,) = runs()
    page = text(browser.get(f"/runs/{run.id}"))
    assert "账期已关闭" in page
    assert "period is closed" in page
    assert "external_no" in page
    assert 'hx-get="/runs' not in page
    edited = "external_no: SO-9\n" + mapping_rows.to_yaml(
        {k: v for k, v in INPUT.items() if k != "external_no"}
    )
    assert post(browser, f"/runs/{run.id}/input", input=edited).status_code == 303
    page = text(browser.get(f"/runs/{run.id}"))
    assert f'hx-get="/runs/{run.id}/live"' in page
    moving = browser.get(f"/runs/{run.id}/live")
    assert 'hx-get="/runs' in text(moving)
    assert "HX-Refresh" not in moving.headers
    settle()
    assert runs()[0].state == "succeeded"
    # what surrounds the moving part changes too: explanation, buttons, "let the others follow"
    assert browser.get(f"/runs/{run.id}/live").headers["HX-Refresh"] == "true"
    assert app_vendor.orders()[0]["external_no"] == "SO-9"


INPUT = {
    "external_no": "SO-1",
    "ordered_at": "2026-11-22T09:30:00+08:00",
    "currency": "CNY",
    "total": "176.00",
    "customer": {"name": "扬州启航轴承有限公司"},
    "lines": [{"sku": "BRG-6204", "quantity": "2", "unit_price": "88.00"}],
}


def test_parked_runs_are_replayed_with_a_canary(browser, app_vendor):
    app_vendor.always["sales-orders"] = (422, {"code": "PERIOD_CLOSED"})
    with transaction(EVERY) as session:
        for number in range(3):
            browser.shop.order(session, number)
    settle()
    page = text(browser.get("/runs?view=parked"))
    assert "3 次运行" in page
    assert "先试第一个" in page
    del app_vendor.always["sales-orders"]
    flow_id = browser.shop.flow
    first = post(browser, "/runs/replay", flow_id=flow_id, cause="data")
    assert first.status_code == 303
    assert "正在重试这次运行" in text(browser.get(first.location))
    settle()
    over = text(browser.get(first.location))
    assert "正在重试这次运行" not in over
    assert "让其余的继续" in over
    assert [run.state for run in runs()].count("succeeded") == 1
    canary = runs()[0].id
    rest = post(browser, "/runs/replay", flow_id=flow_id, cause="data", canary=canary)
    assert rest.status_code == 303
    settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert len(app_vendor.orders()) == 3


def test_strangers_find_nothing(browser, app_vendor):
    other = open_shop(app_vendor.url, orders=1, name="别家")
    (run,) = runs()
    for path in (
        f"/connections/{other.erp}",
        f"/flows/{other.flow}",
        f"/flows/{other.flow}/edit",
        f"/flows/{other.flow}/try",
        f"/runs/{run.id}",
        f"/runs/{run.id}/live",
    ):
        assert browser.get(path).status_code == 404, path
    for path in (
        f"/connections/{other.erp}/test",
        f"/connections/{other.erp}/revoke",
        f"/flows/{other.flow}/pause",
        f"/runs/{run.id}/cancel",
    ):
        assert post(browser, path).status_code == 404, path


def test_whoever_may_not_write_sees_no_buttons(database, client, app_vendor):
    with transaction(EVERY) as session:
        shop = Shop(session, app_vendor.url)
        organization = session.get(Organization, shop.organization_id)
        sign_in(client, session, make_member(session, organization, role="purchaser"))
    page = text(client.get("/connections"))
    assert "/connections/new" not in page
    assert client.get("/connections/new").status_code == 403


def test_a_new_organization_sees_what_to_do_first(database, client):
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, make_organization(session)))
    assert "/flows/new" in text(client.get("/flows"))
    assert "/connections/new" in text(client.get("/connections"))
    assert "/flows" in text(client.get("/runs"))


def test_ready_made_flows_say_what_is_not_yet_checked(database, client):
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, make_organization(session)))
    page = text(client.get("/flows/new"))
    for template in flow_templates.all().values():
        assert f"/flows/new?template={template.key}" in page
    unsure = [t for t in flow_templates.all().values() if t.confidence == "unverified"]
    assert page.count("尚未与厂商核对") == len(unsure) > 0


def test_a_ready_made_flow_may_begin_with_an_event_of_any_app(database, client):
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, make_organization(session)))
    page = client.get("/flows/new?template=contract-signed-to-chat")
    assert page.status_code == 200
    assert "合同签完通知并建履约任务" in text(page)
