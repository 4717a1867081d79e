"""The canvas and what both editors know: samples in steps, fields to pick, proposals, mistakes."""

import json
import random
import re
import time

import pytest
from factories.connectors import Shop, make_flow, rows
from factories.identity import make_member, make_organization, sign_in
from factories.webhooks import make_event

from catalog import event_types
from connectors import flow_editing, flow_trees, flows, mapping_rows
from connectors.editing import layout, one_step, picking, trials
from connectors.editing.matching import Proposal
from connectors.engine import schemas
from connectors.errors import Unfit
from connectors.field_paths import Leaf, offer_of, offers
from connectors.flow_shapes import KINDS
from connectors.tables import Flow
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction

SECRET = "shop-secret-93817"
ORDER = event_types.lookup(None, None, "order.paid").sample


@pytest.fixture
def browser(database, client):
    """A signed-in owner of a shop with an ERP and a chat."""
    with transaction(EVERY) as session:
        client.shop = Shop(session, "http://127.0.0.1:9")
        organization = session.get(Organization, client.shop.organization_id)
        sign_in(client, session, make_member(session, organization))
        made = wired(client.shop.erp, client.shop.chat)
        client.shop.flow = make_flow(session, client.shop.organization_id, made).id
    return client


def wired(erp: str, chat: str) -> dict:
    """Orders of the vocabulary go to the ERP, and the number it gives goes to the chat."""
    data = "${event.data."
    order = {
        "external_no": data + "order_no}", "ordered_at": data + "paid_at}",
        "currency": data + "amount.currency}", "total": data + "amount.value}",
        "customer": {"name": data + "customer.name}"},
        "lines": {"each": data + "lines}", "as": "line", "do": {
            "sku": "${line.item.sku}", "quantity": "${line.quantity.value}",
            "unit_price": "${line.unit_price.value}"}},
    }  # fmt: skip
    tell = {"channel": "订单群", "text": "${steps.erp.output.document_no}"}
    return {"trigger": {"event": "order.paid", "version": None}, "steps": [
        {"key": "enough", "kind": "filter", "when": '${event.data.amount.currency == "CNY"}'},
        {"key": "erp", "kind": "action", "connector": "demo-erp", "connection": erp,
         "action": "create_sales_order", "input": order},
        {"key": "chat", "kind": "action", "connector": "demo-chat", "connection": chat,
         "action": "post_message", "input": tell}]}  # fmt: skip


def text(answer) -> str:
    return answer.get_data(as_text=True)


def studio(browser, **arguments) -> tuple[str, dict, dict]:
    """The panel of a step, what the canvas draws, and what fields are picked from."""
    path = f"/flows/{browser.shop.flow}/canvas"
    return taken_apart(text(browser.get(path, query_string={"part": "1", **arguments})))


def taken_apart(page: str) -> tuple[str, dict, dict]:
    scripts = re.findall(
        r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page, re.S
    )
    found = {name: json.loads(body) for name, body in scripts}
    return page, found["canvas-data"], found["picker-data"]


def post(browser, **form):
    path = f"/flows/{browser.shop.flow}/canvas"
    page = text(browser.get(path))
    token = re.search(r'name="csrf-token" content="([^"]*)"', page)[1]
    revision = re.search(r'name="revision" value="(\d+)"', page)[1]
    sent = {"csrf_token": token, "revision": revision, "part": "1", **form}
    return browser.post(path, data=sent)


def draft(browser) -> dict:
    with reading(EVERY) as session:
        flow = next(one for one in rows(Flow) if one.id == browser.shop.flow)
        return flows.document_of(session, flow)


def box(made: dict, about: str) -> dict:
    return next(one for one in made["nodes"] if one.get("about") == about)


@pytest.mark.parametrize(("language", "word"), [("zh", "画布"), ("en", "Canvas")])
def test_the_canvas_opens_in_both_languages_and_says_where_the_list_is(browser, language, word):
    page = text(browser.get(f"/flows/{browser.shop.flow}/canvas?lang={language}"))
    assert word in page
    assert f"/flows/{browser.shop.flow}/edit?view=list" in page
    for kind in KINDS:
        assert f'<button value="{kind}"' in page


def test_the_chosen_editor_is_remembered_and_only_when_it_was_chosen(browser):
    edit, canvas = f"/flows/{browser.shop.flow}/edit", f"/flows/{browser.shop.flow}/canvas"
    assert browser.get(edit).status_code == 200
    browser.get(canvas)
    assert browser.get(edit).status_code == 200
    assert browser.get(f"{edit}?view=canvas").location.endswith("/canvas")
    assert browser.get(edit).location.endswith("/canvas")
    assert browser.get(f"{edit}?view=list").status_code == 200
    assert browser.get(edit).status_code == 200


def test_every_box_shows_what_the_sample_does_in_its_step(browser):
    _, made, _ = studio(browser)
    erp = box(made, "1")
    assert erp["state"] == "succeeded"
    assert erp["is_sample"]
    assert "XS-20261122-0001" in erp["out"]
    assert box(made, "trigger")["into"]
    page, _, _ = studio(browser, about="1")
    assert "连接器给的样例回答" in page
    assert "XS-20261122-0001" in page


def test_a_sample_that_fails_says_so_at_its_step_and_at_its_field(browser):
    document = draft(browser)
    document["steps"][1]["input"]["total"] = "viel"
    with transaction(EVERY) as session:
        flows.save_draft(session, browser.shop.organization_id, browser.shop.flow, document)
    page, made, _ = studio(browser, about="1")
    assert box(made, "1")["state"] == "failed"
    assert not box(made, "1")["say"].startswith("/")
    assert box(made, "2")["state"] == "not_reached"
    assert "用这个样例会停在这里" in page
    row = re.search(
        r'<div class="yf-row yf-row-wrong" data-row>.*?value="total".*?用样例看：', page, re.S
    )
    assert row, page
    assert "请改这一步的字段来源" in page


def test_a_pasted_sample_is_tried_and_stays_out_of_the_store(browser):
    pasted = json.dumps({**ORDER, "order_no": "SO-PASTED", "api_token": SECRET})
    answer = post(browser, about="1", do="save", sample="pasted", pasted=pasted)
    page, made, picker = taken_apart(text(answer))
    assert "SO-PASTED" in box(made, "1")["into"]
    assert not any(SECRET in json.dumps(part) for part in (made, picker))
    assert "SO-PASTED" not in json.dumps([repr(vars(one)) for one in rows(Flow)])
    for wrong in ("[1, 2]", "a: [1", "x" * 70_000):
        page = text(post(browser, about="1", do="save", sample="pasted", pasted=wrong))
        assert "yf-field-wrong" in page


def test_the_list_keeps_the_sample_somebody_chose(browser):
    path = f"/flows/{browser.shop.flow}/edit"
    page = text(browser.get(path))
    token = re.search(r'name="csrf-token" content="([^"]*)"', page)[1]
    sent = {"csrf_token": token, "count": "0", "event": "order.paid", "do": "save"}
    answer = browser.post(path, data={**sent, "sample": "sample"})
    assert answer.location == f"{path}?sample=sample"
    assert 'value="sample" selected' in text(browser.get(answer.location))
    pasted = json.dumps({"data": {"order_no": "SO-PASTED"}})
    answer = browser.post(path, data={**sent, "sample": "pasted", "pasted": pasted})
    assert answer.status_code == 200
    assert "SO-PASTED" in text(answer)
    wrong = browser.post(path, data={**sent, "sample": "pasted", "pasted": "[1]"})
    assert "样例要写成一个对象" in text(wrong)


def test_a_real_event_is_a_sample_but_only_of_ones_own(browser):
    with transaction(EVERY) as session:
        mine = make_event(
            session, browser.shop.organization_id, type="order.paid",
            body=json.dumps({**ORDER, "order_no": "SO-REAL"}).encode(),
        )  # fmt: skip
        other = make_organization(session, name="别家").id
        theirs = make_event(
            session, other, type="order.paid",
            body=json.dumps({**ORDER, "order_no": "SO-THEIRS"}).encode(),
        )  # fmt: skip
    page, made, _ = studio(browser, sample=f"event:{mine}", about="1")
    assert f'value="event:{mine}" selected' in page
    assert "SO-REAL" in box(made, "1")["into"]
    page, made, _ = studio(browser, sample=f"event:{theirs}", about="1")
    assert "SO-THEIRS" not in page
    assert box(made, "1")["into"]


def test_a_form_about_one_step_changes_that_step_alone(browser):
    before = draft(browser)
    post(browser, about="2", do="save", **{
        "s2.kind": "action", "s2.key": "chat", "s2.connection": browser.shop.chat,
        "s2.does": "demo-chat|post_message", "s2.rows": "1", "s2.r0.target": "text",
        "s2.r0.how": "text", "s2.r0.source": "hallo",
    })  # fmt: skip
    after = draft(browser)
    assert after["steps"][:2] == before["steps"][:2]
    assert after["steps"][2]["input"] == {"text": "hallo"}
    assert after["trigger"] == before["trigger"]


def test_steps_are_added_between_others_and_inside_them(browser):
    count = len(draft(browser)["steps"])
    post(browser, about="", do="add:branch@:1")
    assert [one["kind"] for one in draft(browser)["steps"]][1] == "branch"
    answer = post(browser, about="", do="add:delay@1/else:0")
    _, made, _ = taken_apart(text(answer))
    branch = draft(browser)["steps"][1]
    assert [one["kind"] for one in branch["else"]] == ["delay"]
    assert made["chosen"] == "2"
    post(browser, about="", do="remove:1")
    assert len(draft(browser)["steps"]) == count


def test_a_way_that_nobody_needed_yet_can_be_filled_from_the_canvas(browser):
    document = draft(browser)
    document["steps"][0] = {"key": "ask", "kind": "approval", "who": {"roles": ["owner"]}}
    way = {"key": "a", "when": "${true}", "steps": []}
    document["steps"].insert(0, {"key": "fork", "kind": "branch", "ways": [way]})
    with transaction(EVERY) as session:
        flows.save_draft(session, browser.shop.organization_id, browser.shop.flow, document)
    post(browser, about="", do="add:map@1/refused")
    post(browser, about="", do="add:map@0/else")
    steps = draft(browser)["steps"]
    assert [one["kind"] for one in steps[0]["else"]] == ["map"]
    assert [one["kind"] for one in steps[1]["refused"]] == ["map"]


def test_a_form_about_a_branch_keeps_what_stands_in_its_ways():
    inside = {"key": "one", "kind": "map", "mapping": {"a": "b"}}
    document = {"trigger": {"event": "order.paid"}, "steps": [
        {"key": "fork", "kind": "branch", "ways": [{"key": "a", "when": "x", "steps": [inside]}],
         "else": [inside]}]}  # fmt: skip
    form = {
        "s0.kind": "branch",
        "s0.key": "fork",
        "s0.ways": "1",
        "s0.w0.key": "b",
        "s0.w0.when": "y",
    }
    made = one_step.put(document, "0", form, {})
    (way,) = made["steps"][0]["ways"]
    assert way == {"key": "b", "when": "y", "steps": [inside]}
    assert made["steps"][0]["else"] == [inside]


def test_an_error_path_is_kept_changed_and_given_up():
    sorry = {"key": "sorry", "kind": "map", "mapping": {"a": "b"}}
    document = {"trigger": {"event": "order.paid"}, "steps": [
        {"key": "erp", "kind": "action", "connector": "demo-erp", "action": "find_customer",
         "input": {}, "on_error": {"then": "end", "steps": [sorry]}}]}  # fmt: skip
    form = {"s0.kind": "action", "s0.key": "erp", "s0.does": "demo-erp|find_customer"}
    kept = one_step.put(document, "0", {**form, "s0.on_error": "continue"}, {})
    assert kept["steps"][0]["on_error"] == {"then": "continue", "steps": [sorry]}
    given_up = one_step.put(document, "0", {**form, "s0.on_error": ""}, {})
    assert "on_error" not in given_up["steps"][0]


def test_what_is_sure_is_taken_over_and_what_is_filled_stays(browser):
    document = draft(browser)
    erp = document["steps"][1]
    erp["input"] = {"external_no": "MINE-${event.id}"}
    with transaction(EVERY) as session:
        flows.save_draft(session, browser.shop.organization_id, browser.shop.flow, document)
    page, _, _ = studio(browser, about="1")
    assert 'value="match:1"' in page
    assert 'value="match:1/external_no"' not in page
    post(browser, about="", do="match:1")
    made = draft(browser)["steps"][1]["input"]
    assert made["external_no"] == "MINE-${event.id}"
    assert made["customer"]["name"] == "${event.data.customer.name}"
    assert made["lines"]["each"] == "${event.data.lines}"


def test_all_proposals_or_one_of_them_are_taken_over(browser):
    document = draft(browser)
    document["steps"][2]["input"] = {}
    with transaction(EVERY) as session:
        flows.save_draft(session, browser.shop.organization_id, browser.shop.flow, document)
    page, _, _ = studio(browser, about="2")
    offered = re.findall(r'value="match:2/([\w.]+)"', page)
    assert "channel" in offered  # the same name with another title: likely, and not sure
    post(browser, about="", do="match:2/channel")
    assert list(draft(browser)["steps"][2]["input"]) == ["channel"]
    post(browser, about="", do="match:2/*")
    assert set(draft(browser)["steps"][2]["input"]) == set(offered)


def test_a_proposal_never_overwrites():
    document = {"trigger": {}, "steps": [
        {"key": "a", "kind": "action", "connector": "demo-erp", "action": "create_sales_order",
         "input": {"customer": "${event.data.who}"}}]}  # fmt: skip
    offer = offer_of("event.data", "event", Leaf(("x",), {}, True, "x"))
    late = [
        Proposal("customer.name", "", "text", "${event.data.x}", offer, 90, {}),
        Proposal("note", "", "text", "${event.data.x}", offer, 90, {}),
    ]
    one_step.take_over(document, 0, late)
    assert document["steps"][0]["input"] == {
        "customer": "${event.data.who}",
        "note": "${event.data.x}",
    }


def test_two_canvases_never_overwrite_each_other(browser):
    page, _, _ = studio(browser)
    revision = re.search(r'name="revision" value="(\d+)"', page)[1]
    assert post(browser, about="", do="add:map@:0").status_code == 200
    answer = post(browser, about="", do="add:map@:0", revision=revision)
    assert answer.status_code == 409
    assert "canvas-data" in text(answer)


@pytest.mark.parametrize("about", ["-1", "999", "²", "trigger/../", "1e3", ""])
def test_a_form_about_nothing_changes_nothing(browser, about):
    before = draft(browser)
    assert post(browser, about=about, do="save", **{"s999.kind": "map"}).status_code == 200
    if about != "trigger":
        assert draft(browser)["steps"] == before["steps"]


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("^-?[0-9]{1,15}([.][0-9]{1,6})?$", "例如可以写 12.50"),
        ("^[A-Z]{3}$", "例如可以写 CNY"),
        ("^zz[0-9]{9}$", "：^zz[0-9]{9}$"),
    ],
)
def test_a_form_is_told_by_an_example(pattern, example):
    """Nobody who keeps a shop reads patterns."""
    (found,) = schemas.problems({"type": "string", "pattern": pattern}, "viel zu viel")
    assert found.say["zh"] == f"格式不对{'，' if '例如' in example else ''}{example}"


# --- picking -------------------------------------------------------------------------------------


def test_fields_are_found_by_title_path_and_pinyin(browser):
    _, _, picker = studio(browser, about="1")
    number = next(one for one in picker["pool"].values() if one["path"] == "event.data.order_no")
    for asked in ("订单号", "order no", "order_no", "dingdanhao", "ddh"):
        assert asked in number["words"], asked
    assert number["title"] == "订单号"
    assert number["sample"]
    assert picker["fits"]["array:->string:"]["ok"] is False
    assert "列表" in picker["fits"]["array:->string:"]["why"]


def test_values_are_those_of_the_sample_and_items_the_first_of_their_list(browser):
    document = {"trigger": {"event": "order.paid"}, "steps": [
        {"key": "lines", "kind": "each", "over": "${event.data.lines}", "steps": [
            {"key": "one", "kind": "map", "mapping": {"sku": "${item.item.sku}"}}]}]}  # fmt: skip
    with reading(browser.shop.organization_id) as session:
        found = trials.try_on(session, browser.shop.organization_id, document, {"data": ORDER})
        schema = flows.event_schema(session, browser.shop.organization_id, document)
    values = trials.Values(found, document)
    listed = {one.expression: one for one in offers(document, 1, schema)}
    assert values.at(listed["${item.item.sku}"]) == (True, "BRG-6204")
    assert "${event.data.placed_at}" in picking.absent(list(listed.values()), values)


def test_long_lists_are_shortened_for_a_trial_and_told(browser):
    owner = browser.shop.organization_id
    document = {"trigger": {"event": "x.y"}, "steps": [
        {"key": "all", "kind": "each", "over": "${event.data.lines}",
         "steps": [{"key": "one", "kind": "map", "mapping": {"n": "${item}"}}]}]}  # fmt: skip
    with reading(owner) as session:
        found = trials.try_on(session, owner, document, {"data": {"lines": list(range(900))}})
    assert found.is_cut
    assert found.steps[0].output["count"] == trials.MAX_ITEMS


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        {"a": 5, "b": True, "c": {"const": "${no expression}"}, "d": "text"},
        {"pay": {"code_table": {"table": {"alipay": "支付宝"}, "of": "${event.data.m}",
                                "unknown": "keep"}}},
        {"pay": {"code_table": {"table": {"a": "b", "c": "d"}, "of": "${event.data.m}",
                                "unknown": "fail"}}},
        {"pay": {"code_table": {"table": {"a = b": 5}, "of": "${event.data.m}"}}},
    ],
)  # fmt: skip
def test_fixed_values_and_code_tables_are_rows_and_come_back(node):
    assert mapping_rows.document_of(mapping_rows.rows_of(node), "") == node


def test_a_line_that_is_no_pair_is_told_in_plain_words():
    row = mapping_rows.Row("pay", "table", "${event.data.m}", table="alipay = 支付宝\nwechat")
    with pytest.raises(Unfit) as refused:
        mapping_rows.document_of([row], "/steps/0/input")
    assert "第 2 行" in refused.value.findings[0]["say"]["zh"]


# --- whatever a draft looks like -----------------------------------------------------------------


WORDS = ("", "${event.data.lines}", "${", "${nope.x}", "1", "${item.a}")


@pytest.mark.parametrize("seed", range(8))
def test_every_unfinished_draft_can_be_looked_at(session, seed):
    """Steps of every kind, added anywhere, with nonsense in them: drawn, tried and told about."""
    shop, chance = Shop(session, "http://127.0.0.1:9"), random.Random(seed)
    for _ in range(12):
        document = {"trigger": {"event": "order.paid", "version": None}, "steps": []}
        for _ in range(chance.randint(1, 7)):
            count = len(flow_trees.walk(document))
            inside = f"{chance.randrange(count)}/0" if count and chance.random() < 0.5 else ""
            number = flow_editing.add_step(document, chance.choice(KINDS), None, inside)
            step = flow_trees.walk(document)[number].step
            for name in ("when", "over", "until", "subject"):
                if name in step:
                    step[name] = chance.choice(WORDS)
            more = sorted(set(step) - {"key", "kind"})
            if more and chance.random() < 0.3:
                del step[chance.choice(more)]
        found = trials.try_on(session, shop.organization_id, document, {"data": ORDER})
        assert found.say is None or found.say != trials._BROKE, document
        assert {one.state for one in found.steps.values()} <= set(trials.STATES)
        assert len(found.steps) in (0, len(flow_trees.walk(document)))
        assert layout.picture(document).nodes


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_large_flow_is_shown_quickly(browser):
    """Eighty actions, each with proposals: a page is drawn in a few seconds even so."""
    step = {"kind": "action", "connector": "demo-erp", "connection": browser.shop.erp,
            "action": "create_sales_order", "input": {}}  # fmt: skip
    document = {"trigger": {"event": "order.paid", "version": None},
                "steps": [{**step, "key": f"s{n}"} for n in range(80)]}  # fmt: skip
    with transaction(EVERY) as session:
        browser.shop.flow = make_flow(
            session, browser.shop.organization_id, document, publish=False
        ).id
    for path in ("canvas", "edit?view=list"):
        begun = time.monotonic()
        assert browser.get(f"/flows/{browser.shop.flow}/{path}").status_code == 200
        assert time.monotonic() - begun < 15
        print(path, round(time.monotonic() - begun, 2))
