"""The event catalogue: found by field, told who gets it, what changed, and where its schema is."""

import time

import pytest
from factories import identity
from factories import webhooks as make
from factories.connectors import make_connection, make_flow, order_document
from jsonschema import Draft202012Validator

from catalog import event_types, field_rows, schema_changes, seed
from catalog.tables import CustomEventType
from connectors import flows
from kernel.database import EVERY, transaction

HTML = {"Accept": "text/html"}


def define(session, organization_id, name="visitor.arrived", **properties):
    return event_types.define(
        session,
        organization_id,
        name=name,
        title={"zh": "访客到了", "en": "Visitor arrived"},
        schema={"type": "object", "required": ["badge"], "properties": properties},
        sample=None,
    )


@pytest.fixture
def seat(client):
    return make.seat_of_integrator(client)


def page(client, path):
    answer = client.get(path, headers={**HTML, "Accept-Language": "en"})
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize(
    ("query", "found", "hidden"),
    [
        ("订单已付款", "order.paid", "invoice.issued"),
        ("paid order", "order.paid", "invoice.issued"),
        ("支付单号", "order.paid", "lead.created"),
        ("PAYMENT_NO", "order.paid", "lead.created"),
    ],
)
def test_a_type_is_found_by_name_title_and_field_in_both_languages(client, query, found, hidden):
    text = page(client, f"/events-catalogue?q={query}")
    assert f'href="/events-catalogue/{found}"' in text
    assert f'href="/events-catalogue/{hidden}"' not in text


def test_hundreds_of_own_types_do_not_slow_the_list_down(client, seat):
    with transaction(EVERY) as session:
        for number in range(300):
            fields = {f"field_{n}": {"type": "string", "maxLength": number + n} for n in range(20)}
            session.add(
                CustomEventType(
                    organization_id=seat,
                    name=f"visitor.seen_{number}",
                    version=1,
                    title={"zh": "访客", "en": "Visitor"},
                    json_schema={"type": "object", "properties": fields},
                )
            )
    page(client, "/events-catalogue?q=field_7")
    started = time.thread_time()
    text = page(client, "/events-catalogue?q=field_7")
    assert time.thread_time() - started < 2.0
    assert text.count("/events-catalogue/visitor.seen_") == 300


def test_a_page_tells_which_endpoints_and_flows_get_the_type(client, seat, app):
    def setup(session):
        make.make_endpoint(session, seat, description="Ledger", event_types=["order.*"])
        make.make_endpoint(session, seat, description="Stock", event_types=["stock.*"])
        make.make_endpoint(session, seat, description="Old", event_types=["*"], state="disabled")
        erp = make_connection(session, seat)
        chat = make_connection(session, seat, connector_key="demo-chat")
        make_flow(session, seat, order_document(erp.id, chat.id), name="To the ERP")
        stranger = identity.make_organization(session, name="别家")
        make.make_endpoint(session, stranger.id, description="Theirs")
        return identity.make_member(
            session, session.get(identity.Organization, seat), role="member"
        )

    clerk = make.in_transaction(setup)
    text = page(client, "/events-catalogue/order.paid")
    assert "Ledger" in text
    assert "To the ERP" in text
    for other in ("Stock", "Theirs", ">Old<"):
        assert other not in text
    without = app.test_client()
    assert "Ledger" not in page(without, "/events-catalogue/order.paid")
    identity.sign_in(without, None, clerk)
    assert "Ledger" not in page(without, "/events-catalogue/order.paid")


def test_versions_and_what_changed_between_them(client, seat):
    def setup(session):
        text = {"type": "string"}
        define(session, seat, badge={**text, "maxLength": 9}, host=text, phone=text)
        define(session, seat, badge={**text, "maxLength": 20}, phone={"type": "integer"}, desk=text)

    make.in_transaction(setup)
    text = page(client, "/events-catalogue/visitor.arrived")
    assert "Changed since version 1" in text
    for path in ("/badge", "/phone", "/desk"):
        assert f"<code>{path}</code>" in text
    assert "was called host" in text
    assert text.count("breaking") == 2
    assert text.count("compatible") == 1
    first = page(client, "/events-catalogue/visitor.arrived?version=1")
    assert "There is a newer version." in first
    assert "Changed since" not in first


def test_each_kind_of_change_is_named():
    text, number = {"type": "string"}, {"type": "number"}
    old = {"properties": {"a": text, "b": text, "c": text, "d": text}, "required": ["c"]}
    new = {"properties": {"b": number, "c": text, "d": {**text, "maxLength": 3},
                          "e": {**text, "minLength": 1}}, "required": ["d"]}  # fmt: skip
    found = {(one.what, one.path) for one in schema_changes.changes(old, new)}
    assert found == {
        ("removed", "/a"),
        ("kind", "/b"),
        ("optional", "/c"),
        ("needed", "/d"),
        ("narrowed", "/d"),
        ("added", "/e"),
    }
    assert schema_changes.changes(old, old) == []


def test_every_schema_has_an_address_that_stays(client, seat, app):
    make.in_transaction(lambda session: define(session, seat, badge={"type": "string"}))
    make.in_transaction(lambda session: define(session, seat, badge={"type": "integer"}))
    open_client = app.test_client()
    answer = open_client.get("/schemas/order.paid/1.json")
    assert answer.status_code == 200
    assert answer.content_type == "application/schema+json"
    schema = answer.json
    assert schema["$id"].endswith("/schemas/order.paid/1.json")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(event_types.built_in()["order.paid", 1].sample)
    etag = {"If-None-Match": answer.headers["ETag"]}
    assert open_client.get("/schemas/order.paid/1.json", headers=etag).status_code == 304
    first = client.get("/schemas/visitor.arrived/1.json")
    assert first.json["properties"]["badge"] == {"type": "string"}
    assert "private" in first.headers["Cache-Control"]
    assert (
        client.get("/schemas/visitor.arrived/2.json").json["properties"] != first.json["properties"]
    )
    assert open_client.get("/schemas/visitor.arrived/1.json").status_code == 404
    for path in ("/schemas/order.paid/2.json", "/schemas/none.done/1.json"):
        assert client.get(path).status_code == 404


def test_a_retired_version_keeps_its_address(client, seat):
    row = make.in_transaction(lambda s: define(s, seat, badge={"type": "string"}))
    make.in_transaction(lambda s: event_types.retire(s, seat, row.id))
    assert client.get("/schemas/visitor.arrived/1.json").status_code == 200


def test_a_draft_and_a_deleted_flow_get_nothing(client, seat):
    def setup(session):
        erp = make_connection(session, seat)
        chat = make_connection(session, seat, connector_key="demo-chat")
        document = order_document(erp.id, chat.id)
        flows.create(session, seat, "Only a draft", document)

    make.in_transaction(setup)
    assert "Only a draft" not in page(client, "/events-catalogue/order.paid")


def test_a_page_explains_its_fields_codes_and_where_its_words_come_from(client):
    text = page(client, "/events-catalogue/purchase_order.confirmed")
    for said in ("The supplier&#39;s answer", "OrderResponse", "From memory", "Rejected"):
        assert said in text
    assert "where it is given" in page(client, "/events-catalogue/stock.changed")
    assert "Our own word" in page(client, "/events-catalogue/milestone.reached")


def test_a_type_is_found_by_the_label_of_a_code(client):
    text = page(client, "/events-catalogue?q=顺丰速运")
    assert 'href="/events-catalogue/shipment.created"' in text
    assert 'href="/events-catalogue/lead.created"' not in text


@pytest.mark.usefixtures("app")
def test_a_page_says_who_tells_the_type(client):
    text = page(client, "/events-catalogue/order.paid")
    assert 'href="/connectors/demo-shop"' in text
    alone = page(client, "/events-catalogue/period.closed")
    assert "No connector and no app of the catalogue yet." in alone


def test_apps_of_bundles_are_shown_as_plans(client, database):
    with transaction(EVERY) as session:
        seed.seed(session)
    text = page(client, "/events-catalogue/work_order.released")
    assert 'href="/apps/erpnext"' in text
    assert "planned, not run" in text
    assert 'href="/bundles/metal-parts"' in text


def test_the_pages_stay_small(client):
    """The list, and the longest type's page; in kB of HTML as sent, before compression."""
    largest = max(
        event_types.built_in().values(), key=lambda found: len(field_rows.fields_of(found.schema))
    )
    assert len(page(client, "/events-catalogue")) < 110_000
    assert len(page(client, f"/events-catalogue/{largest.name}")) < 200_000
