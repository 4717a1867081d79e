import copy
import json

import pytest

from catalog import event_types, json_schemas, slots
from catalog.tables import CustomEventType
from kernel.database import reading, transaction
from kernel.errors import Conflict, Invalid, NotFound

TYPES = list(event_types.built_in().values())
SCHEMA = {
    "type": "object",
    "required": ["visitor", "fee"],
    "properties": {
        "visitor": {"type": "string", "minLength": 1},
        "fee": {"$ref": "shapes.json#/$defs/money"},
    },
}
SAMPLE = {"visitor": "李雯", "fee": {"value": "20.00", "currency": "CNY"}}


def at(value, pointer):
    for part in pointer[1:].split("/"):
        value = value[part]
    return value


def test_every_event_of_the_scenarios_is_there():
    assert len(TYPES) == 139
    for sub_id in slots.all_sub_scenarios():
        assert any(found.sub_scenario == sub_id for found in TYPES), sub_id


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
def test_the_sample_fits_and_the_schema_is_safe(found):
    assert json_schemas.check(found.schema) == []
    assert event_types.validator(found)(found.sample) == []
    assert event_types.explain(found, found.sample) == []
    assert found.title["zh"]
    assert found.title["en"]


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
def test_the_key_is_in_the_sample_and_without_a_needed_field_the_event_fails(found):
    assert found.natural_key
    for pointer in found.natural_key:
        assert at(found.sample, pointer) not in (None, "")
    for name in found.schema["required"]:
        broken = {key: value for key, value in found.sample.items() if key != name}
        findings = event_types.validator(found)(broken)
        assert {"pointer": f"/{name}", "message": "This field is missing"} in findings


@pytest.mark.parametrize("found", TYPES, ids=lambda t: t.name)
def test_a_sample_with_a_wrong_type_anywhere_fails(found):
    """Every field the schema names refuses a value of a kind it cannot mean."""
    for name in found.schema["properties"]:
        if name not in found.sample:
            continue
        broken = {**copy.deepcopy(found.sample), name: {"": [None]}}
        if found.schema["properties"][name].get("type") == "object":
            broken[name] = 7
        assert event_types.validator(found)(broken), name


def test_money_is_decimal_text_with_a_currency():
    paid = event_types.find(None, None, "order.paid")
    for amount in (
        176.0,
        {"value": 176.0, "currency": "CNY"},
        {"value": "176,00", "currency": "CNY"},
        {"value": "176.00", "currency": "yuan"},
        {"value": "176.00", "currency": "CNY", "tax": "0"},
    ):
        assert event_types.validator(paid)({**paid.sample, "amount": amount}), amount


def test_a_tax_id_is_a_credit_code_or_a_known_foreign_number():
    invoice = event_types.find(None, None, "supplier_invoice.received")
    for tax_id, is_good in (
        ("91321000MA1Q7XK282", True),
        ("DE123456789", True),
        ("91321000MA1Q7XK28", False),
        ("91321000ma1q7xk282", False),
        ("IOZSV000MA1Q7XK28I", False),
    ):
        supplier = {"name": "某厂", "tax_id": tax_id}
        findings = event_types.validator(invoice)({**invoice.sample, "supplier": supplier})
        assert (findings == []) is is_good, tax_id


def test_times_carry_a_zone_and_exist():
    paid = event_types.find(None, None, "order.paid")
    for moment, is_good in (
        ("2026-11-22T09:30:00+08:00", True),
        ("2026-11-22T01:30:00.5Z", True),
        ("2026-11-22T09:30:00", False),
        ("2026-02-30T09:30:00Z", False),
        ("2026-11-22", False),
    ):
        assert (event_types.validator(paid)({**paid.sample, "paid_at": moment}) == []) is is_good


def test_unknown_names_and_versions_are_not_found():
    with pytest.raises(NotFound):
        event_types.find(None, None, "order.eaten")
    with pytest.raises(NotFound):
        event_types.find(None, None, "order.paid", 9)
    assert event_types.lookup(None, None, "order.eaten") is None


def test_connectors_add_types_but_never_replace_the_house_words():
    declared = event_types.EventType(
        "acme.thing_seen",
        2,
        {"zh": "看到", "en": "Seen"},
        {"type": "object"},
        {},
        origin="connector",
    )
    shadow = event_types.EventType("order.paid", 9, {}, {"type": "string"}, "", origin="connector")
    event_types.PROVIDERS.append(lambda: [declared, shadow])
    try:
        assert event_types.find(None, None, "acme.thing_seen") is declared
        assert event_types.find(None, None, "order.paid").origin == "canonical"
        assert "acme.thing_seen" in {t.name for t in event_types.all_types(None, None)}
    finally:
        event_types.PROVIDERS.pop()


def test_own_types_get_versions_and_stand_alone(session):
    for number in (1, 2):
        row = event_types.define(
            session,
            "org_a",
            name="visitor.arrived",
            title={"zh": "到访", "en": "Arrived"},
            schema=SCHEMA,
            sample=SAMPLE,
            natural_key=["/visitor"],
        )
        assert row.version == number
    session.flush()
    found = event_types.find(session, "org_a", "visitor.arrived")
    assert (found.version, found.origin) == (2, "custom")
    assert "money" in found.schema["$defs"]
    assert "shapes.json" not in json.dumps(found.schema)
    assert event_types.validator(found)(SAMPLE) == []
    (finding,) = event_types.validator(found)({**SAMPLE, "visitor": ""})
    assert finding["pointer"] == "/visitor"
    assert event_types.find(session, "org_a", "visitor.arrived", 1).version == 1


def test_a_stranger_does_not_see_own_types(session):
    row = event_types.define(
        session, "org_a", name="visitor.arrived", title={}, schema=SCHEMA, sample=SAMPLE
    )
    session.flush()
    assert event_types.lookup(session, "org_b", "visitor.arrived") is None
    with pytest.raises(NotFound):
        event_types.retire(session, "org_b", row.id)


def test_the_database_itself_hides_own_types_from_strangers(database):
    with transaction("org_a") as session:
        event_types.define(
            session, "org_a", name="visitor.arrived", title={}, schema=SCHEMA, sample=SAMPLE
        )
    with reading("org_a") as session:
        assert event_types.lookup(session, "org_a", "visitor.arrived")
    with reading("org_b") as session:
        rows = session.execute(CustomEventType.of("org_a")).scalars().all()
        assert len(rows) == (0 if "postgresql" in database.url else 1)


def test_a_retired_type_is_found_by_version_only(session):
    row = event_types.define(
        session, "org_a", name="visitor.arrived", title={}, schema=SCHEMA, sample=SAMPLE
    )
    session.flush()
    event_types.retire(session, "org_a", row.id)
    session.flush()
    assert event_types.lookup(session, "org_a", "visitor.arrived") is None
    assert event_types.lookup(session, "org_a", "visitor.arrived", 1).version == 1
    assert event_types.own_types(session, "org_a") == []


def test_definitions_that_are_unsafe_or_untrue_are_refused(session):
    def define(**over):
        values = {"name": "visitor.arrived", "title": {}, "schema": SCHEMA, "sample": SAMPLE}
        return event_types.define(session, "org_a", **{**values, **over})

    with pytest.raises(Conflict):
        define(name="order.paid")
    with pytest.raises(Invalid) as refused:
        define(schema={"$ref": "https://example.com/schema.json"})
    assert refused.value.errors[0]["pointer"] == "/$ref"
    with pytest.raises(Invalid) as refused:
        define(sample={"visitor": "李雯"})
    assert refused.value.errors == [{"pointer": "/fee", "message": "This field is missing"}]
    with pytest.raises(Conflict):
        define(schema={**SCHEMA, "$defs": {"money": {"type": "number"}}})


def test_types_of_every_organization_stay_apart_in_a_list(session):
    event_types.define(session, "org_a", name="a.done", title={}, schema={"type": "object"})
    event_types.define(session, "org_b", name="b.done", title={}, schema={"type": "object"})
    session.flush()
    names = {found.name for found in event_types.all_types(session, "org_a")}
    assert "a.done" in names
    assert "b.done" not in names
    assert "order.paid" in names
