"""The vocabulary as a whole: every scenario has its events, every field words, a name one sense."""

import json
import re
from pathlib import Path

import pytest

from catalog import event_types, json_schemas, slots, terms

TYPES = list(event_types.built_in().values())
NEWEST = {found.name: found for found in TYPES}
# What each part of a firm's work tells the others.
WANTED = {
    "rnd.project": "milestone.reached time.logged work_item.created work_item.status_changed",
    "rnd.design": "artwork.approved bom.released design.released engineering_change.approved",
    "rnd.code": "build.finished change.merged quality_gate.failed release.published",
    "rnd.lab": "component.low experiment.completed model.registered sample.registered",
    "procurement.sourcing": "goods.received purchase_order.approved purchase_order.confirmed"
    " quotation.received requisition.submitted supplier_invoice.received",
    "procurement.materials": "item.created item.updated stock.below_minimum supplier_price.changed",
    "production.planning": "forecast.updated material.shortage plan.published work_order.planned",
    "production.execution": "material.consumed nonconformance.raised operation.completed"
    " production.reported quality.inspected work_order.released",
    "production.iot": "alarm.cleared alarm.raised device.registered machine.state_changed"
    " measurement.recorded",
    "production.maintenance": "asset.registered maintenance.due maintenance_order.completed"
    " maintenance_request.created",
    "logistics.warehouse": "lot.expiring pick.completed stock.changed stock.counted"
    " stock.transferred",
    "logistics.transport": "geofence.crossed route.planned shipment.created shipment.delivered"
    " shipment.dispatched shipment.status_changed vehicle.position_recorded",
    "marketing.store": "order.cancelled order.fulfilled order.paid order.placed pos_sale.closed"
    " price.changed refund.issued return.requested",
    "marketing.content": "content.published goal.reached member.subscribed visit_report.ready",
    "marketing.campaign": "attendee.checked_in campaign.sent consent.changed email.bounced"
    " survey.response_submitted ticket.sold",
    "marketing.crm": "customer.created customer.updated lead.created lead.qualified"
    " opportunity.stage_changed opportunity.won quote.sent",
    "marketing.service": "appointment.booked appointment.cancelled conversation.started"
    " feedback.received service_visit.completed ticket.created ticket.resolved"
    " ticket.status_changed warranty.registered",
    "organization.finance": "expense.approved expense.paid expense.submitted invoice.cancelled"
    " invoice.issued invoice.overdue journal.posted payment.received payment.sent period.closed",
    "organization.people": "attendance.recorded candidate.applied course.completed"
    " employee.changed employee.joined employee.left enrolment.created leave.approved"
    " payroll.closed",
    "organization.office": "decision.recorded document.updated document.uploaded"
    " meeting.scheduled message.posted page.published",
    "organization.contract": "approval.decided approval.requested contract.expiring contract.sent"
    " contract.signed record.archived",
    "organization.bi": "dataset.refreshed kpi.threshold_crossed objective.updated report.delivered",
    "organization.it": "asset.assigned backup.failed login.failed service.down service.recovered"
    " user.deprovisioned user.provisioned vulnerability.found",
    "organization.automation": "file.imported flow.failed form.submitted record.created"
    " record.updated",
}
# Objects that take no field but their own, and those that take any: everything else may grow.
CLOSED = {"money", "quantity", "signed_quantity"}
FREE = {
    "customer.updated/changes",
    "employee.changed/changes",
    "form.submitted/fields",
    "item.updated/changes",
    "model.registered/metrics",
    "record.created/fields",
    "record.updated/changes",
}
# Names that say which thing is meant; they have one kind wherever they stand.
IDENTIFIER = re.compile(
    r".*_(no|id|code|ref)$|^(sku|gtin|mpn|lot|serial|uid|ver|carrier|user_name|currency|email"
    r"|phone|language|project|vehicle|device|asset|ledger|store|plant|crm|desk|engine|dataset"
    r"|sscc|gln|country|invoices|work_order|sales_order|contract|ticket|cost_centre)$"
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def inside(part, where):
    """Give every schema inside one, with where it stands."""
    yield where, part
    for name, child in part.get("properties", {}).items():
        yield from inside(child, f"{where}/{name}")
    if isinstance(part.get("items"), dict):
        yield from inside(part["items"], f"{where}/*")
    if isinstance(part.get("additionalProperties"), dict):
        yield from inside(part["additionalProperties"], f"{where}/*")


def all_parts():
    for found in TYPES:
        yield from inside(found.schema, found.name)
    for name, shape in event_types.shapes().items():
        yield from inside(shape, name)


FIELDS = [
    (f"{where}/{name}", name, field)
    for where, part in all_parts()
    for name, field in part.get("properties", {}).items()
]


def kind(part):
    if "$ref" in part:
        return part["$ref"].rpartition("/")[2]
    if part.get("type") == "array":
        return f"{kind(part['items'])}[]"
    return "enum" if "enum" in part else part.get("type", "const")


def test_every_part_of_a_firms_work_has_its_events():
    assert WANTED.keys() == slots.all_sub_scenarios().keys()
    for sub_scenario, names in WANTED.items():
        here = {found.name for found in TYPES if found.sub_scenario == sub_scenario}
        assert here == set(names.split())


def test_every_field_has_a_title_and_an_explanation_in_both_languages():
    assert len(FIELDS) > 1_000
    for where, _, field in FIELDS:
        for words in (field["x-title"], field["x-about"]):
            assert words.keys() == {"zh", "en"}, where
            assert CHINESE.search(words["zh"]) or words["zh"] in ("GTIN", "SKU"), where
            assert not CHINESE.search(words["en"]), where
        assert field["x-about"]["en"].endswith("."), where
        assert field["x-about"]["zh"].endswith("。"), where


def test_every_code_has_a_label_in_both_languages():
    seen = 0
    for where, part in all_parts():
        labels = part.get("x-labels")
        if "enum" in part:
            assert set(labels) == set(part["enum"]), where
        for code, words in (labels or {}).items():
            assert words["zh"], (where, code)
            assert words["en"], (where, code)
            schema = {**part, "$defs": event_types.shapes()}
            assert json_schemas.explain(schema, code) == [], (where, code)
            seen += 1
    assert seen > 200


def test_every_object_is_closed_or_open_on_purpose():
    for where, part in all_parts():
        if part.get("type") != "object":
            continue
        rest = part.get("additionalProperties")
        if where in CLOSED:
            assert rest is False, where
        elif where in FREE:
            assert rest not in (None, False), where
        else:
            # open for the fields of newer editions, while a flow that names an unknown one is told
            assert part.get("properties"), where
            assert rest is None, where


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
def test_the_natural_key_is_made_of_fields_that_are_always_there(found):
    assert found.natural_key
    for pointer in found.natural_key:
        part = found.schema
        for name in pointer[1:].split("/"):
            shape = part.get("$ref", "").rpartition("/")[2]
            whole = event_types.shapes()[shape] if shape else part
            assert name in {*part.get("required", ()), *whole.get("required", ())}, pointer
            part = whole["properties"][name]
    for pointer in found.key_if_given:
        assert pointer[1:] in found.schema["properties"]
        assert pointer[1:] not in found.schema["required"]


def test_only_what_some_firms_do_not_keep_joins_a_key_when_given():
    given = {found.name: found.key_if_given for found in TYPES if found.key_if_given}
    assert given == {
        "maintenance.due": ("/due_on",),
        "material.consumed": ("/lot",),
        "production.reported": ("/lot",),
        "stock.changed": ("/lot",),
    }


def test_a_name_that_says_which_thing_is_meant_has_one_kind_everywhere():
    kinds = {}
    for where, name, field in FIELDS:
        if IDENTIFIER.match(name):
            kinds.setdefault(name, {}).setdefault(kind(field), []).append(where)
    assert len(kinds) > 60
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_no_order_is_spoken_of_under_a_second_name():
    """An order speaks of itself by `order_no`; another document names it by `order`."""
    names = {name for _, name, _ in FIELDS}
    assert names.isdisjoint({"orderno", "order_id", "order_number", "so_no", "po_no"})
    for event in ("shipment.created", "shipment.delivered", "pick.completed", "invoice.issued"):
        assert "order" in NEWEST[event].schema["properties"]


def test_the_samples_tell_one_story():
    """What one sample calls its order, shipment or document, the others call the same."""
    sample = {name: found.sample for name, found in NEWEST.items()}
    order = sample["order.placed"]["order_no"]
    for name in ("order.paid", "order.cancelled", "order.fulfilled", "pick.completed",
                 "shipment.created", "shipment.delivered", "refund.issued", "return.requested",
                 "invoice.issued"):  # fmt: skip
        assert sample[name].get("order_no", sample[name].get("order")) == order, name
    assert sample["order.paid"]["payment_no"] == sample["refund.issued"]["payment_no"]
    for name in ("shipment.dispatched", "shipment.status_changed", "shipment.delivered"):
        assert sample[name]["tracking_no"] == sample["shipment.created"]["tracking_no"]
    assert sample["goods.received"]["order_no"] == sample["purchase_order.approved"]["order_no"]
    assert sample["material.shortage"]["work_order"] == sample["work_order.planned"]["order_no"]
    assert sample["contract.signed"]["id"] == sample["opportunity.won"]["contract"]


def amount(money):
    return round(float(money["value"]) * 100)


@pytest.mark.parametrize(
    "name", ["order.placed", "purchase_order.approved", "quote.sent", "expense.submitted"]
)
def test_the_sums_in_the_samples_are_right(name):
    sample = NEWEST[name].sample
    lines = [amount(line.get("line_amount") or line["amount"]) for line in sample["lines"]]
    taxes = [
        amount(line["tax_amount"])
        for line in sample["lines"]
        if line.get("price_includes_tax") is False
    ]
    off = [amount(one["amount"]) for one in sample.get("discounts", ())]
    shipping = amount(sample["shipping"]) if "shipping" in sample else 0
    assert sum(lines) + sum(taxes) + shipping - sum(off) == amount(sample["total"])


def test_debit_equals_credit():
    lines = NEWEST["journal.posted"].sample["lines"]
    debit, credit = (
        sum(amount(line[side]) for line in lines if side in line) for side in ("debit", "credit")
    )
    assert debit == credit > 0


# Their fields are codes and numbers alone.
WITHOUT_PROSE = {
    "build.finished",
    "dataset.refreshed",
    "employee.left",
    "expense.paid",
    "login.failed",
    "machine.state_changed",
    "measurement.recorded",
    "model.registered",
    "payroll.closed",
    "plan.published",
    "quality_gate.failed",
    "service.recovered",
    "user.deprovisioned",
    "visit_report.ready",
    "vulnerability.found",
}


def test_samples_are_business_and_no_filler():
    filler = re.compile(r"-001\"|lorem|foo\b|TODO|请尽快处理|\"(附件|用户|事项)\"")
    texts = {found.name: json.dumps(found.sample, ensure_ascii=False) for found in TYPES}
    assert [name for name, text in texts.items() if filler.search(text)] == []
    assert {name for name, text in texts.items() if not CHINESE.search(text)} == WITHOUT_PROSE


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
def test_every_word_says_where_it_comes_from_and_how_sure_that_is(found):
    assert found.terms
    for term in found.terms:
        assert term.standard in terms.standards()
        if term.standard == terms.OWN:
            assert (term.term, term.confidence) == ("", "")
        else:
            assert term.term
            # nobody has held a term against the standard's own text, so none counts as checked
            assert term.confidence in ("likely", "memory")
    assert found.term_source == terms.said(found.terms)


def test_only_terms_that_were_seen_in_a_published_list_are_more_than_memory():
    likely = {t.term for found in TYPES for t in found.terms if t.confidence == "likely"}
    assert all(term for term in likely)
    assert {t.standard for found in TYPES for t in found.terms if t.confidence == "likely"} == {
        "oagis"
    }


def test_every_standard_is_named_in_both_languages_and_used():
    used = {term.standard for found in TYPES for term in found.terms}
    assert used == terms.standards().keys()
    for name in terms.standards().values():
        assert name["zh"]
        assert name["en"]


def test_files_are_named_after_what_is_in_them():
    for path in Path(event_types.FOLDER).glob("*.v*.json"):
        raw = json.loads(path.read_text("utf-8"))
        assert path.name == f"{raw['name']}.v{raw['version']}.json"
