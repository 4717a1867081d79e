"""Flow templates: each one checks clean and makes exactly the requests its example promises."""

import copy

import pytest

from connectors import masking, proofs, rehearsals
from connectors.engine import flow_templates
from connectors.engine.findings import Problem
from kernel.errors import NotFound

EVERY = flow_templates.all()
ORDER = EVERY["order-to-erp-to-chat"]


@pytest.mark.parametrize("template", EVERY.values(), ids=lambda one: one.key)
def test_template_checks_clean(template):
    assert flow_templates.check_flow(template.document, world=proofs.world()) == []
    assert template.title["zh"] != template.title["en"]
    assert (flow_templates.FOLDER / f"{template.key}.yaml").is_file()


def test_a_template_names_the_connectors_it_needs():
    assert ORDER.connectors == ("demo-shop", "demo-erp", "demo-chat")
    assert flow_templates.find("order-to-erp-to-chat") is ORDER
    with pytest.raises(NotFound):
        flow_templates.find("nothing")


def test_an_order_without_lines_or_customer_still_books():
    event = copy.deepcopy(dict(ORDER.sample))
    for name in ("lines", "customer", "note", "total"):
        del event["data"][name]
    steps = rehearsals.rehearse(ORDER.document, event).steps
    booked = steps[2].request["body"]
    assert booked["customer"] == {"name": "零售客户"}
    assert booked["lines"] == [{"sku": "SO-2026-1189", "quantity": "1", "unit_price": "176.00"}]


def test_a_free_order_ends_at_the_filter():
    event = copy.deepcopy(dict(ORDER.sample))
    event["data"]["amount"]["value"] = "0.00"
    run = rehearsals.rehearse(ORDER.document, event)
    assert run.state == "skipped"
    assert [one.state for one in run.steps] == ["skipped", *["not_reached"] * 3]


def test_a_step_that_cannot_run_stops_the_rehearsal_with_words():
    event = copy.deepcopy(dict(ORDER.sample))
    event["data"]["amount"]["value"] = "twelve"
    run = rehearsals.rehearse(ORDER.document, event)
    assert run.state == "parked"
    assert "twelve" in run.say["zh"]


def test_a_rehearsal_shows_no_credentials():
    steps = rehearsals.rehearse(ORDER.document, ORDER.sample).steps
    assert steps[2].request["headers"]["Authorization"] == masking.HIDDEN


def broken(change):
    document = copy.deepcopy(dict(ORDER.document))
    change(document)
    return {one.target for one in flow_templates.check_flow(document)}


@pytest.mark.parametrize(
    ("change", "target"),
    [
        (lambda d: d["steps"].clear(), "/steps"),
        (lambda d: d["steps"][0].pop("when"), "/steps/0"),
        (lambda d: d["steps"][0].update(kind="loop"), "/steps/0/kind"),
        (lambda d: d["steps"][0].update(key="Big Key"), "/steps/0/key"),
        (lambda d: d["steps"][0].update(when="event.data.nope == 1"), "/steps/0/when"),
        (lambda d: d["steps"][0].update(when="1 +"), "/steps/0/when"),
        (lambda d: d["steps"][1].update(key="only_paid"), "/steps/1/key"),
        (lambda d: d["steps"][2].update(action="fly"), "/steps/2/action"),
        (lambda d: d["steps"][2].update(connector="none"), "/steps/2/action"),
        (lambda d: d["steps"][2]["input"].pop("currency"), "/steps/2/input/currency"),
        (
            lambda d: d["steps"][2]["input"].update(note="${steps.chat.output.message_no}"),
            "/steps/2/input/note",
        ),
        (
            lambda d: d["steps"][3]["input"].update(text="${steps.erp.output.doc_no}"),
            "/steps/3/input/text",
        ),
    ],
)
def test_mistakes_in_a_flow_are_found_when_it_is_saved(change, target):
    assert target in broken(change)


def test_problems_read_in_both_languages():
    one = Problem("/steps/0", {"zh": "错", "en": "wrong"})
    assert (one.plain("zh"), one.plain()) == ("/steps/0: 错", "/steps/0: wrong")
