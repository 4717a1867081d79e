"""Flows with more than one way in a browser and over JSON: built, run, asked and decided."""

import pytest
from factories.connectors import publish_unchecked, rows, runs, settle, vendor
from factories.editors import draft, enter, form_of, post, text
from factories.identity import bearer, make_api_key
from factories.ways import (
    approval,
    branch,
    delay,
    each,
    open_works,
    send,
    shape,
    texts,
)

from connectors import flows, lanes
from connectors.tables import Approval
from identity.tables import AuditEntry, Organization
from kernel.database import EVERY, reading, transaction


@pytest.fixture
def app_vendor():
    lanes._slice.clear()
    with vendor() as target:
        yield target


def everything() -> list[dict]:
    """One of each kind, in each other."""
    return [
        branch(
            "size",
            (
                "big",
                '${event.data.amount == "5000"}',
                [
                    approval("ok", "付 ${event.data.no}？", text="${event.data.amount}", refused=[
                        send("no", "不付")
                    ]),
                ],
            ),
            ("middle", '${event.data.amount == "100"}', []),
            otherwise=[delay("later", **{"for": "2h"})],
        ),
        each(
            "lines",
            "${event.data.lines}",
            shape("one", {"text": "${item.sku}"}),
            send("tell", "${steps.one.output.text}"),
            item_key="${item.sku}",
            on_item_error="go_on",
        ),
        send("end", "共 ${steps.lines.output.done}"),
    ]  # fmt: skip


def full(step):
    """A step with the empty lists that the form writes."""
    made = dict(step)
    if made["kind"] == "branch":
        made["ways"] = [
            {**way, "steps": [full(one) for one in way["steps"]]} for way in made["ways"]
        ]
        made["else"] = [full(one) for one in made.get("else", [])]
    if made["kind"] == "each":
        made["steps"] = [full(one) for one in made["steps"]]
    if made["kind"] == "approval":
        made["refused"] = [full(one) for one in made.get("refused", [])]
        made.setdefault("at_deadline", "refuse")
    return made


def test_saving_the_editor_unchanged_changes_nothing(app, app_vendor):
    works = open_works(app_vendor.url, *everything())
    browser = enter(app, works)
    path = f"/flows/{works.flow}/edit"
    answer = post(browser, path, **{**form_of(text(browser.get(path))), "do": "save"})
    assert answer.status_code == 303, text(answer)
    assert draft(works)["steps"] == [full(one) for one in works.document["steps"]]


def test_steps_are_added_moved_and_removed_inside_others(app, app_vendor):
    works = open_works(app_vendor.url, send("first", "x"))
    browser = enter(app, works)
    path = f"/flows/{works.flow}/edit"

    def press(do, **changed):
        answer = post(browser, path, **{**form_of(text(browser.get(path))), **changed, "do": do})
        assert answer.status_code == 303, text(answer)

    press("add:branch")
    press("way:1")
    press(
        "add:each@1/0", **{"s1.w0.left": "${event.data.kind}", "s1.w0.op": "==", "s1.w0.right": "a"}
    )
    press("add:map@2/steps", **{"s2.over": "${event.data.lines}", "s2.on_item_error": "go_on"})
    press("add:delay@2/steps")
    press("up:4", **{"s4.for": "30", "s4.for_unit": "m"})
    press("add:approval@1/else")
    press(
        "add:action@5/refused",
        **{"s5.subject": "行吗", "s5.deadline": "4", "s5.deadline_unit": "h"},
    )
    press("unway:1/1")
    steps = draft(works)["steps"]
    assert [one["kind"] for one in steps] == ["action", "branch"]
    (way,) = steps[1]["ways"]
    assert way["when"] == '${event.data.kind == "a"}'
    (loop,) = way["steps"]
    assert (loop["over"], loop["on_item_error"]) == ("${event.data.lines}", "go_on")
    assert [one["kind"] for one in loop["steps"]] == ["delay", "map"]
    assert loop["steps"][0]["for"] == "30m"
    (ask,) = steps[1]["else"]
    assert (ask["subject"], ask["deadline"]) == ("行吗", "4h")
    assert ask["who"] == {"roles": ["owner", "admin"]}
    assert [one["kind"] for one in ask["refused"]] == ["action"]
    press("down:3")
    assert [one["kind"] for one in draft(works)["steps"][1]["ways"][0]["steps"][0]["steps"]] == [
        "map",
        "delay",
    ]
    press("remove:1")
    assert [one["kind"] for one in draft(works)["steps"]] == ["action"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_shows_every_kind(app, app_vendor, language):
    works = open_works(app_vendor.url, *everything())
    browser = enter(app, works)
    works.happen(no="1", amount="5000", lines=[{"sku": "A"}])
    works.happen(no="2", amount="7", lines=[])
    works.happen(no="3", amount="100", lines=[{"sku": str(n)} for n in range(30)] + [{}])
    settle()
    states = [(run.state, run.cause) for run in runs()]
    assert states == [("waiting", "approval"), ("waiting", "delay"), ("parked", "data")]
    paths = [f"/runs/{run.id}" for run in runs()] + [f"/runs/{run.id}/live" for run in runs()]
    paths += ["/runs", "/approvals", "/approvals?view=others", "/approvals?view=decided", "/flows"]
    paths += [f"/flows/{works.flow}/changes?since=1"]
    paths += [f"/flows/{works.flow}", f"/flows/{works.flow}/edit", f"/flows/{works.flow}/edit/yaml"]
    paths += [f"/flows/{works.flow}/try", f"/approvals/{rows(Approval)[0].id}", "/"]
    for path in paths:
        answer = browser.get(f"{path}{'&' if '?' in path else '?'}lang={language}")
        assert answer.status_code == 200, path
        assert 'style="' not in text(answer), path
    asked = text(browser.get(f"/runs/{runs()[0].id}?lang=zh"))
    assert "等待决定" in asked
    assert rows(Approval)[0].id in asked
    waits = text(browser.get(f"/runs/{runs()[1].id}?lang=en"))
    assert "Go on now" in waits


def test_a_loop_is_shown_item_by_item(app, app_vendor):
    works = open_works(
        app_vendor.url, each("lines", "${event.data.lines}", send("tell", "${item.sku}"))
    )
    browser = enter(app, works)
    works.happen(lines=[{"sku": str(n)} for n in range(30)] + [{}])
    settle()
    page = text(browser.get(f"/runs/{runs()[0].id}?lang=en"))
    assert "30 of 31 items" in page
    assert "Item 1<" in page
    assert "Item 31<" in page
    assert "Item 15<" not in page
    assert "more items" in page


def test_a_person_decides_in_the_browser(app, app_vendor):
    works = open_works(app_vendor.url, approval("ok", "付 ${event.data.no}？"), send("pay", "付了"))
    boss, clerk = enter(app, works, "admin", "王主管"), enter(app, works, "member", "小张")
    works.happen(no="<b>7</b>")
    settle()
    (asked,) = rows(Approval)
    listed = text(boss.get("/approvals"))
    assert "付 &lt;b&gt;7&lt;/b&gt;？" in listed
    assert "审批需要您决定" in text(boss.get("/"))
    assert "/approvals" in text(clerk.get("/approvals"))
    assert asked.id not in text(clerk.get("/approvals"))
    assert clerk.get(f"/approvals/{asked.id}").status_code == 404
    assert post(clerk, f"/approvals/{asked.id}/decide", decision="approve").status_code == 404
    assert post(boss, f"/approvals/{asked.id}/decide", decision="").status_code == 422
    answer = post(boss, f"/approvals/{asked.id}/decide", decision="approve", comment="行")
    assert answer.status_code == 303
    late = post(boss, f"/approvals/{asked.id}/decide", decision="refuse")
    assert late.status_code == 409
    assert "王主管" in text(late)
    settle()
    assert texts(app_vendor) == ["付了"]
    (noted,) = [one for one in rows(AuditEntry) if one.action == "approval.approved"]
    assert (noted.actor_name, noted.object_id) == ("王主管", asked.id)


def test_the_home_page_counts_only_mine(app, app_vendor):
    works = open_works(app_vendor.url, approval("ok", "付？"))
    boss, clerk = enter(app, works, "admin"), enter(app, works, "member", "小张")
    works.happen()
    settle()
    assert 'href="/approvals"' in text(boss.get("/"))
    assert "flow asks for your decision" in text(boss.get("/?lang=en"))
    assert "flow asks for your decision" not in text(clerk.get("/?lang=en"))


def test_programs_read_approvals_and_people_decide(app, client, app_vendor):
    works = open_works(app_vendor.url, approval("ok", "付？"), send("pay", "付了"))
    works.happen()
    settle()
    (asked,) = rows(Approval)
    with transaction(EVERY) as session:
        organization = session.get(Organization, works.organization_id)
        key = make_api_key(session, organization)
        plain = make_api_key(session, organization, "member")
    listed = client.get("/api/v1/approvals?state=open", headers=bearer(key)).get_json()
    assert [one["id"] for one in listed["items"]] == [asked.id]
    assert client.get("/api/v1/approvals", headers=bearer(plain)).get_json()["items"] == []
    path = f"/api/v1/approvals/{asked.id}"
    assert client.get(path, headers=bearer(key)).get_json()["title"] == "付？"
    assert client.get(path, headers=bearer(plain)).status_code == 404
    refused = client.post(f"{path}/decide", json={"decision": "approve"}, headers=bearer(key))
    assert refused.status_code == 403
    run = client.get(f"/api/v1/runs/{asked.run_id}", headers=bearer(key)).get_json()
    assert (run["path"], run["steps"][0]["path"]) == ("ok", "ok")
    assert rows(Approval)[0].state == "open"


def test_a_delay_is_ended_by_a_button_and_over_json(app, client, app_vendor):
    works = open_works(app_vendor.url, delay("wait", **{"for": "2d"}), send("end", "到了"))
    browser = enter(app, works, name="李工")
    works.happen()
    works.happen()
    settle()
    first, second = runs()
    assert post(browser, f"/runs/{first.id}/onward").status_code == 303
    with transaction(EVERY) as session:
        key = make_api_key(session, session.get(Organization, works.organization_id))
    path = f"/api/v1/runs/{second.id}/end-delay"
    assert client.post(path, headers=bearer(key)).status_code == 200
    settle()
    assert [run.state for run in runs()] == ["succeeded"] * 2
    assert client.post(path, headers=bearer(key)).status_code == 409


def test_a_trial_goes_through_every_way(app, app_vendor):
    works = open_works(app_vendor.url, *everything())
    browser = enter(app, works)
    event = 'data: {no: "1", amount: "5000", lines: [{sku: A}, {sku: B}]}'
    page = text(post(browser, f"/flows/{works.flow}/try?lang=zh", event=event))
    assert "lines[1]/tell" in page
    assert app_vendor.calls == []
    assert rows(Approval) == []


def test_strangers_members_cannot_be_asked(app, app_vendor):
    works = open_works(app_vendor.url, send("x", "x"))
    other = open_works(app_vendor.url, send("x", "x"))
    stranger = other.person("admin")
    ask = approval("ok", who={"members": [stranger.member_id]})
    with reading(EVERY) as session:
        found = flows.check(session, works.organization_id, {**works.document, "steps": [ask]})
    assert [one["pointer"] for one in found] == ["/steps/0/who"]


def test_versions_are_compared_and_taken_up_again(app, client, app_vendor):
    works = open_works(app_vendor.url, send("x", "一"), shape("gone", {"a": "1"}))
    browser = enter(app, works)
    with transaction(EVERY) as session:
        flow = flows.find(session, works.organization_id, works.flow)
        steps = [{**works.document["steps"][0], "input": {"channel": "订单群", "text": "二"}}]
        flow.draft = {**works.document, "steps": steps}
        publish_unchecked(session, flow)
        key = make_api_key(session, session.get(Organization, works.organization_id))
    page = text(browser.get(f"/flows/{works.flow}/changes?since=1&lang=en"))
    for word in ("Removed", "gone", "input.text", "一", "二", "Take up version 1 again"):
        assert word in page
    path = f"/api/v1/flows/{works.flow}/changes"
    found = client.get(f"{path}?since=1", headers=bearer(key)).get_json()["items"]
    assert [(one["kind"], one["step"], one["field"]) for one in found] == [
        ("removed", "gone", ""),
        ("changed", "x", "input.text"),
    ]
    assert client.get(f"{path}?since=9", headers=bearer(key)).status_code == 404
    assert post(browser, f"/flows/{works.flow}/restore", number="1").status_code == 303
    assert draft(works) == works.document
    assert "Nothing changed" in text(browser.get(f"/flows/{works.flow}/changes?since=1&lang=en"))
