"""Proofs of flow templates: each holds, and each way a template can be wrong is found."""

import copy
from dataclasses import replace

import pytest
from click.testing import CliRunner

from connectors import flow_cli, proofs, rehearsals
from connectors.engine import flow_steps, flow_templates, loader
from kernel import documents

EVERY = flow_templates.all()
ORDER = EVERY["order-to-erp-to-chat"]


@pytest.mark.parametrize("template", EVERY.values(), ids=lambda one: one.key)
def test_every_template_is_proved(template):
    assert [one.plain("en") for one in proofs.prove(template).problems] == []


@pytest.mark.parametrize("template", EVERY.values(), ids=lambda one: one.key)
def test_every_template_is_written_for_people_in_both_languages(template):
    said = [template.title, template.summary]
    said += [step["title"] for step in flow_steps.all_steps(template.document["steps"])]
    for one in said:
        assert set(one) == {"zh", "en"}
        assert one["zh"].strip()
        assert one["en"].strip()
    assert template.summary["zh"] != template.summary["en"]


@pytest.mark.parametrize("template", EVERY.values(), ids=lambda one: one.key)
def test_the_trials_of_a_template_reach_every_step(template):
    reached = set()
    for trial in template.trials:
        run = proofs.rehearse(template, trial)
        reached |= {one.key for one in run.steps if one.state != "not_reached"}
    assert reached == {one["key"] for one in flow_steps.all_steps(template.document["steps"])}


@pytest.mark.parametrize("template", EVERY.values(), ids=lambda one: one.key)
def test_a_template_with_an_approval_also_tries_a_refusal(template):
    kinds = {one["kind"] for one in flow_steps.all_steps(template.document["steps"])}
    decisions = {trial.decision for trial in template.trials}
    assert ("approval" not in kinds) or decisions == {"approved", "refused"}


def test_all_kinds_of_steps_are_in_use():
    steps = [one for each in EVERY.values() for one in flow_steps.all_steps(each.document["steps"])]
    assert {one["kind"] for one in steps} == set(flow_steps.KINDS)


def test_what_rests_on_unchecked_parts_says_so():
    assert EVERY["low-stock-purchase"].confidence == "unverified"
    assert EVERY["wecom-approval-to-task"].stated == "documented"
    assert EVERY["wecom-approval-to-task"].confidence == "unverified"
    assert ORDER.confidence == "documented"
    for template in EVERY.values():
        if "kingdee-k3cloud" in template.connectors:
            assert template.confidence == "unverified"


def problems_of(change=None, trial=None):
    """Return what is wrong with the order template after a change to its document or trial."""
    document = copy.deepcopy(dict(ORDER.document))
    if change:
        change(document)
    first = replace(ORDER.trials[0], **(trial or {}))
    template = replace(ORDER, document=document, trials=(first,))
    return {one.target for one in proofs.prove(template).problems}


@pytest.mark.parametrize(
    ("change", "target"),
    [
        (lambda d: d["steps"][3].update(action="fly"), "/steps/3/action"),
        (lambda d: d["steps"][3].update(connector="nobody"), "/steps/3/action"),
        (lambda d: d["trigger"].update(event="order.lost"), "/acceptance/event/type"),
        (lambda d: d["steps"][3]["input"].update(text="别的"), "/sample/chat/json"),
        (lambda d: d["steps"].pop(), "/sample/chat"),
        (lambda d: d["steps"][3]["input"].update(colour="red"), "/steps/3/input/colour"),
    ],
)  # fmt: skip
def test_a_template_that_does_something_else_is_not_proved(change, target):
    assert target in problems_of(change)


@pytest.mark.parametrize(
    ("trial", "target"),
    [
        ({"ends": "skipped"}, "/sample/ends"),
        ({"requests": {}}, "/sample/erp"),
        ({"inputs": {"erp": {"total": "1"}}}, "/sample/erp/input"),
        ({"inputs": {"ghost": {}}}, "/sample/ghost"),
        ({"answers": {"erp": {"document_no": 7}}}, "/sample/erp/output/document_no"),
        ({"change": {"/data/paid_at": "soon"}}, "/sample/event/data/paid_at"),
        ({"without": ("/data/order_no",)}, "/sample/event/data"),
    ],
)
def test_a_trial_that_promises_something_else_is_found(trial, target):
    assert target in problems_of(trial=trial)


def test_a_refusal_inside_a_loop_ends_only_its_item():
    ask = {"key": "ask", "kind": "approval", "who": {"roles": ["owner"]}, "subject": "${item}"}
    note = {"connector": "demo-chat", "action": "post_message", "kind": "action", "key": "note"}
    inner = [ask, {**note, "input": {"channel": "a", "text": "${item}"}}]
    last = {
        **note,
        "key": "last",
        "input": {"channel": "a", "text": "${text(steps.all.output.count)}"},
    }
    each = {"key": "all", "kind": "each", "over": "${event.data.names}", "steps": inner}
    document = {"trigger": {"event": "x.y"}, "steps": [each, last]}
    event = {"data": {"names": ["a", "b"]}}

    def asked(decision):
        run = rehearsals.rehearse(document, event, decision=decision)
        assert run.state == "succeeded"
        return [one.path for one in run.steps if one.request]

    assert sorted(asked("approved")) == ["all[0]/note", "all[1]/note", "last"]
    assert asked("refused") == ["last"]


def test_every_app_of_the_library_has_an_example_connection():
    for connector in loader.library().values():
        for key in connector.actions:
            rehearsals.example_connection(connector, key)


def run_command(*arguments):
    return CliRunner().invoke(flow_cli.group, ["prove", *arguments])


def test_the_command_proves_all_and_ends_with_figures():
    result = run_command("--all")
    assert result.exit_code == 0, result.output
    figures = documents.parse(result.stdout.splitlines()[-1].encode())
    assert figures == {"templates": len(EVERY), "passed": len(EVERY), "failed": 0}
    assert len(EVERY) >= 20


def test_the_command_tells_what_failed(monkeypatch):
    wrong = replace(ORDER, trials=(replace(ORDER.trials[0], ends="skipped"),))
    monkeypatch.setattr(flow_templates, "all", lambda: {ORDER.key: wrong})
    result = run_command("--all", "--language", "en")
    assert result.exit_code == 1
    assert "FAIL order-to-erp-to-chat" in result.stdout
    assert "/sample/ends: It ends succeeded, not skipped" in result.output
    assert documents.parse(result.stdout.splitlines()[-1].encode())["failed"] == 1


def test_the_command_wants_templates_that_are_there():
    assert run_command().exit_code == 2
    unknown = run_command("nothing")
    assert unknown.exit_code == 1
    assert "order-to-erp-to-chat" in unknown.output
