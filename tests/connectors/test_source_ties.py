"""A source opened by hand can be tied to a connection; flows that listen to it then hear it."""

import json

import pytest
from factories.connectors import make_connection, make_flow, order_document, rows
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in
from factories.webhooks import make_event

from connectors import source_ties
from connectors.errors import Unfit
from connectors.routing import hears
from connectors.tables import Flow
from kernel.database import EVERY, reading, transaction
from webhooks import sources
from webhooks.tables import Source


@pytest.fixture
def desk(database, app):
    """A flow that listens to one connection, and a source that was opened by hand."""
    client = app.test_client()
    with transaction(EVERY) as session:
        owner = make_organization(session)
        sign_in(client, session, make_member(session, owner))
        client.key = make_api_key(session, owner)
        client.owner = owner.id
        client.erp = make_connection(session, owner.id).id
        chat = make_connection(session, owner.id, connector_key="demo-chat").id
        client.source_id = sources.create(session, owner.id, name="by hand").id
        session.flush()
        document = order_document(client.erp, chat, connection=client.erp)
        client.flow_id = make_flow(session, owner.id, document).id
    return client


def put(client, source_id, connection_id):
    path = f"/api/v1/sources/{source_id}/connection"
    return client.put(path, json={"connection_id": connection_id}, headers=bearer(client.key))


def unheard(client):
    path = f"/api/v1/connections/{client.erp}/health"
    return client.get(path, headers=bearer(client.key)).json["unheard_flows"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_tie_lets_the_flow_hear(desk, language):
    assert unheard(desk) == [desk.flow_id]
    page = desk.get(f"/connections/{desk.erp}?lang={language}").get_data(as_text=True)
    assert f"/flows/{desk.flow_id}" in page
    assert "/sources/new" in page
    assert put(desk, desk.source_id, desk.erp).status_code == 200
    assert unheard(desk) == []
    with transaction(EVERY) as session:
        source = session.get(Source, (desk.owner, desk.source_id))
        body = json.dumps({}).encode()
        make_event(session, desk.owner, source.id, type="order.paid", body=body)
        flow = session.get(Flow, (desk.owner, desk.flow_id))

        class Told:
            version, source_id, origin = None, source.id, source.id

        assert hears(flow, Told, source.connection_id)
        assert not hears(flow, Told, None)
    shown = desk.get(f"/sources/{desk.source_id}?lang={language}").get_data(as_text=True)
    assert f"/connections/{desk.erp}" in shown
    assert put(desk, desk.source_id, None).json["connection_id"] is None
    assert unheard(desk) == [desk.flow_id]


def test_only_what_fits_can_be_tied(desk):
    with transaction(EVERY) as session:
        other = make_organization(session).id
        strange = make_connection(session, other).id
        known = sources.create(session, desk.owner, name="erp", connector_key="demo-chat").id
    assert put(desk, desk.source_id, strange).status_code == 422
    assert put(desk, known, desk.erp).status_code == 422
    assert put(desk, "src_none", desk.erp).status_code == 404
    assert all(one.connection_id is None for one in rows(Source))


def test_a_closed_source_cannot_be_tied(desk):
    with transaction(EVERY) as session:
        make_event(session, desk.owner, desk.source_id)
        session.flush()
        sources.close(session, desk.owner, desk.source_id)
    assert put(desk, desk.source_id, desk.erp).status_code == 409


def test_words_say_where(desk):
    with reading(EVERY) as session, pytest.raises(Unfit) as refused:
        source_ties.tie(session, desk.owner, desk.source_id, "con_none")
    assert refused.value.findings[0]["pointer"] == "/connection_id"
