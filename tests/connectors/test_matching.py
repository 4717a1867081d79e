"""Matching of fields: what is proposed, how sure, and how much of people's work it finds."""

import json
from collections.abc import Iterator

import pytest

from connectors import field_paths, flow_trees, mapping_rows
from connectors.editing import fitting, matching, meanings
from connectors.engine import flow_templates, mapping_nodes
from connectors.engine.mapping_check import _all_paths
from connectors.field_paths import Leaf, Offer, Wanted

TEXT = {"type": "string"}


def wanted(path: str, zh: str = "", en: str = "", required: bool = True, **schema) -> Wanted:
    node = schema or TEXT
    title = {"zh": zh, "en": en} if zh or en else path
    return Wanted(path, title, field_paths.kind_of(node), required, node)


def offer(path: str, zh: str = "", en: str = "", sure: bool = True, **schema) -> Offer:
    title = {"zh": zh, "en": en} if zh or en else path
    leaf = Leaf(tuple(path.split(".")), schema or TEXT, sure, title)
    return field_paths.offer_of("event.data", "event", leaf)


def pairs(found) -> dict[str, str]:
    return {one.target: one.source for one in found}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (wanted("customer_name"), offer("buyer.name")),
        (wanted("kh_mc", "客户名称", ""), offer("buyer_name")),
        (wanted("customerName"), offer("customer.name", "客户 · 名称", "Customer · Name")),
        (wanted("phone", "联系电话"), offer("mobile", "手机号")),
        (wanted("qty"), offer("quantity.value")),
        (wanted("taxno", "税号"), offer("customer.tax_id", "客户 · 税号")),
    ],
)
def test_fields_that_mean_the_same_are_found_in_both_languages(left, right):
    (found,) = matching.propose([left], [offer("weather"), right, offer("colour", "颜色")])
    assert found.origin == right
    assert found.why["zh"]
    assert found.why["en"]
    assert matching.ENOUGH * 100 <= found.percent <= 99


def test_a_source_is_proposed_once_and_the_better_field_gets_it():
    found = matching.propose(
        [wanted("buyer", required=False), wanted("customer_name")],
        [offer("customer_name"), offer("note")],
    )
    assert pairs(found) == {"customer_name": "${event.data.customer_name}"}


def test_what_a_person_has_filled_is_left_alone():
    offers = [offer("customer.name"), offer("customer.phone"), offer("note")]
    fields = [wanted("customer.name"), wanted("customer.phone"), wanted("note")]
    assert "customer.name" not in pairs(matching.propose(fields, offers, ["customer.name"]))
    assert set(pairs(matching.propose(fields, offers, ["customer"]))) == {"note"}


def test_kinds_decide_and_numbers_become_texts():
    number = offer("order_no", type="integer")
    assert pairs(matching.propose([wanted("order_no")], [number])) == {
        "order_no": "${text(event.data.order_no)}"
    }
    listed = offer("order_no", type="array")
    assert matching.propose([wanted("order_no")], [listed]) == []
    said = fitting.fit("array", "string").why
    assert "列表" in said["zh"]
    assert "list" in said["en"]
    when = offer("order_date", type="string", format="date-time")
    day = wanted("order_date", type="string", format="date")
    assert pairs(matching.propose([day], [when])) == {
        "order_date": "${date(event.data.order_date)}"
    }


def test_a_time_goes_into_fields_of_time_alone():
    assert matching.propose([wanted("delivery_date")], [offer("delivery_status")]) == []
    assert matching.propose([wanted("delivery")], [offer("delivery_time")]) == []


def test_what_the_sample_does_not_have_fills_no_field_that_is_needed():
    offers = [offer("order_no", sure=False), offer("order_number", sure=False)]
    absent = {"${event.data.order_no}"}
    (found,) = matching.propose([wanted("order_no")], offers, absent=absent)
    assert found.source == "${event.data.order_number}"
    (found,) = matching.propose([wanted("order_no", required=False)], offers[:1], absent=absent)
    assert (found.how, found.source) == ("optional", "${event.data.order_no}")


def test_the_same_name_with_another_title_is_not_sure():
    (found,) = matching.propose([wanted("channel", "群")], [offer("channel", "渠道")])
    assert not found.is_sure
    assert "名称不同" in found.why["zh"]


def test_a_list_is_proposed_with_the_fields_of_its_items():
    item = {"type": "object", "required": ["sku", "qty"], "properties": {
        "sku": TEXT, "qty": TEXT, "name": TEXT}}  # fmt: skip
    line = {"type": "object", "required": ["item", "quantity"], "properties": {
        "item": {"type": "object", "required": ["sku"], "properties": {"sku": TEXT, "name": TEXT}},
        "quantity": {"type": "object", "required": ["value"], "properties": {"value": TEXT}},
    }}  # fmt: skip
    (found,) = matching.propose(
        [wanted("lines", type="array", items=item)], [offer("lines", type="array", items=line)]
    )
    assert found.how == "yaml"
    assert mapping_rows.read_yaml(found.source) == {
        "each": "${event.data.lines}",
        "as": "line",
        "do": {
            "sku": "${line.item.sku}",
            "qty": "${line.quantity.value}",
            "name": {"optional": "${line.item.name}"},
        },
    }
    other = {"type": "object", "properties": {"weather": TEXT}}
    unlike = offer("lines", type="array", items=other)
    assert matching.propose([wanted("lines", type="array", items=item)], [unlike]) == []


def test_words_are_read_longest_first_and_unknown_ones_stay():
    assert meanings.of_chinese("纳税人识别号") == {"tax_id"}
    assert meanings.of_chinese("客户的名称") == {"customer", "name"}
    assert meanings.of_chinese("轴承型号") == {"轴承型", "number"}
    assert meanings.of_name("FMaterialId") == {"item", "number"}
    assert meanings.of_name("unitPrice") == {"price"}


# --- how much of what people wrote is found ------------------------------------------------------


def reads(node) -> set[str]:
    """The paths that a mapping reads, as they are written; texts around them count as a path.

    No comparison of fields can find what somebody has written into a sentence.
    """
    reader = mapping_nodes.Reader()
    found: set[str] = set()

    def look(part) -> None:
        if isinstance(part, mapping_nodes.Leaf):
            for expression in part.template.expressions:
                found.update(path.plain() for path in _all_paths(expression.node))
            if not part.template.is_typed:
                found.add("a text")
        elif isinstance(part, mapping_nodes.Each):
            found.update(path.plain() for path in _all_paths(part.source.node))
        elif isinstance(part, mapping_nodes.Default | mapping_nodes.Optional):
            look(part.value)
        elif isinstance(part, mapping_nodes.CodeTable):
            look(part.of)

    look(reader.read(node, "", mapping_nodes.ROOTS))
    return found


def origin_of(path: str, document) -> str:
    """Where a value comes from in the end: what a data step only hands on is followed."""
    for place in flow_trees.walk(document):
        root = f"steps.{place.step['key']}.output."
        if place.step["kind"] == "map" and path.startswith(root):
            node = place.step["mapping"].get(path.removeprefix(root))
            read = reads(node) if node is not None else set()
            return origin_of(next(iter(read)), document) if len(read) == 1 else path
    return path


def written() -> Iterator[tuple]:
    """Each field of an action that a template's author filled from one value, with its place."""
    for template in flow_templates.all().values():
        document = template.document
        schema = flow_templates.event_schema(document)
        for place in flow_trees.walk(document):
            step = place.step
            if step["kind"] != "action":
                continue
            fields = field_paths.wanted(step["connector"], step["action"])
            known = {one.path for one in fields}
            rows = {}
            for row in mapping_rows.rows_of(step["input"]):
                node = mapping_rows.document_of([row], "")
                for part in row.target.split(".") if row.target else ():
                    node = node[part]
                read = reads(node) if row.target else set()
                if row.target in known and len(read) == 1:
                    rows[row.target] = origin_of(read.pop(), document)
            if rows:
                yield template, place, fields, schema, rows


def test_what_people_wrote_in_the_templates_is_found():
    """Counts the honest way: a field counts when the same value is proposed, whatever wraps it."""
    total = proposed = found = sure = sure_right = 0
    for template, place, fields, schema, rows in written():
        offers = field_paths.offers(template.document, place.number, schema)
        absent = {
            one.expression
            for one in offers
            if one.root == "event.data" and not _is_there(template.sample["data"], one.path)
        }
        said = {one.target: one for one in matching.propose(fields, offers, absent=absent)}
        for target, origin in rows.items():
            total += 1
            if target not in said:
                continue
            proposed += 1
            mine = origin_of(said[target].origin.expression[2:-1], template.document)
            found += mine == origin
            sure += said[target].is_sure
            sure_right += said[target].is_sure and mine == origin
    print(json.dumps({"written": total, "proposed": proposed, "found": found,
                      "sure": sure, "sure_and_the_same": sure_right}))  # fmt: skip
    assert found / total >= 0.5
    assert found / proposed >= 0.6
    assert sure_right / sure >= 0.7


def _is_there(value, path) -> bool:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return value is not None


def test_every_word_of_the_file_is_a_text_and_means_one_thing():
    known = meanings._words()
    read = meanings.yaml.safe_load(meanings._FILE.read_text("utf-8"))
    for words in [*read["meanings"].values(), *read["weak"].values(), read["silent"]]:
        assert all(isinstance(one, str) for one in [*words["en"], *words["zh"]]), words
    for language in ("en", "zh"):
        listed = [
            word
            for words in [*read["meanings"].values(), *read["weak"].values()]
            for word in words[language]
        ]
        assert len(listed) == len(set(listed)), sorted({w for w in listed if listed.count(w) > 1})
        assert set(listed) == set(getattr(known, language))
