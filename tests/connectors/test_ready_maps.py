"""Ready mappings: an app's events in the hub's words, and the hub's events as an action's input."""

import json
import re
from dataclasses import replace

import pytest
from factories.connectors import make_connection, make_flow, rows
from factories.identity import make_member, make_organization, sign_in

from catalog import event_types
from connectors import ready_maps
from connectors.completing.tables import Completion
from connectors.engine import check_thin, loader, mapping, schemas, thin
from connectors.engine.check import Folder
from connectors.tables import Flow
from identity.tables import Organization
from kernel.database import EVERY, transaction
from webhooks import drain, sources, workers
from webhooks import events as door
from webhooks.events import NewEvent
from webhooks.tables import Event

MAPS = sorted(
    (connector.key, key) for connector in loader.library().values() for key in connector.maps
)


def test_apps_of_many_kinds_have_ready_mappings():
    assert len({key for key, _ in MAPS}) >= 10


@pytest.mark.parametrize(("key", "name"), MAPS)
def test_a_ready_mapping_gives_what_its_other_end_takes(key, name):
    connector = loader.find(key)
    one = connector.maps[name]
    if one.action is not None:
        value = mapping.prepare_once(one.rules).apply(check_thin.canonical_sample(one))
        assert schemas.problems(connector.actions[one.action].input, value) == []
        return
    trigger = connector.triggers[one.trigger]
    made = thin.translate(one, check_thin.sample_of(connector, trigger))
    assert made is not None
    known = event_types.built_in()[one.event, one.version]
    assert schemas.problems(known.schema, made.data) == []


def test_each_mistake_in_a_map_is_named_with_its_place():
    connector = loader.find("github")
    good = connector.maps["work_item_created"]
    bad = {
        "/maps/a/rules": replace(good, rules={"object": {**good.rules["object"], "nothing": "x"}}),
        "/maps/b/to": replace(good, event="no.such"),
        "/maps/c/from": replace(good, trigger="nowhere"),
    }
    maps = {place.split("/")[2]: one for place, one in bad.items()}
    found = {place for place, _ in check_thin._problems(replace(connector, maps=maps))}
    assert {"/maps/b/to", "/maps/c/from"} <= found
    missing = replace(good, rules={"object": {"id": "${event.data.gone}"}})
    wrong = list(check_thin._problems(replace(connector, maps={"d": missing})))
    assert any("gone" in one.say["en"] for _, one in wrong)
    assert any("title" in one.target for _, one in wrong)


def test_checked_folders_have_no_findings():
    for key in sorted({key for key, _ in MAPS}):
        connector = loader.find(key)
        assert check_thin.findings(connector, Folder(connector.folder).manifest) == []


def test_an_apps_event_is_told_in_the_hubs_words_beside_its_own(database, app):
    body = loader.find("github").triggers["issues"].sample["body"]
    closed = {**body, "action": "closed"}
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        source = sources.create(
            session,
            owner,
            name="github",
            scheme="github",
            connector_key="github",
            trigger_key="issues",
        ).id
        new = [
            NewEvent(type="github.issues", body=json.dumps(one).encode(), dedupe_key=key)
            for key, one in (("1", body), ("2", closed))
        ]
        session.flush()
        door.accept(session, owner, source, new)
    for _ in range(10):
        if not drain.drain(workers.name()):
            break
    told = [one for one in rows(Event) if one.type == "work_item.created"]
    assert [json.loads(one.body)["title"] for one in told] == [body["issue"]["title"]]
    assert sorted(one.type for one in rows(Event)).count("github.issues") == 2
    assert [one.state for one in rows(Completion)] == ["done", "done"]


def flow_with(session, organization_id, given):
    connection = make_connection(session, organization_id)
    step = {
        "key": "erp",
        "kind": "action",
        "connector": "demo-erp",
        "connection": connection.id,
        "action": "create_sales_order",
        "input": given,
    }
    document = {"trigger": {"event": "order.placed", "version": None}, "steps": [step]}
    return make_flow(session, organization_id, document, publish=False)


def test_filling_keeps_what_a_person_set():
    step = {
        "key": "erp",
        "kind": "action",
        "connector": "demo-erp",
        "action": "create_sales_order",
        "input": {"external_no": "mine", "customer": {"name": "某某"}},
    }
    document = {"trigger": {"event": "order.placed", "version": None}, "steps": [step]}
    assert ready_maps.fill(document, 0)
    assert step["input"]["external_no"] == "mine"
    assert step["input"]["customer"]["name"] == "某某"
    assert "tax_id" in step["input"]["customer"]
    assert step["input"]["lines"]["each"] == "${event.data.lines}"
    document["trigger"]["event"] = "order.unknown"
    assert not ready_maps.fill(document, 0)
    assert not ready_maps.fill(document, 7)


def test_the_editor_offers_it_and_fills_the_fields(database, client):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        flow_id = flow_with(session, organization.id, {}).id
        member = make_member(session, session.get(Organization, organization.id))
    sign_in(client, None, member)
    page = client.get(f"/flows/{flow_id}/edit").get_data(as_text=True)
    assert 'value="ready:0"' in page
    fields = re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    form = {name: value for name, value in fields if not name.startswith("search")}
    chosen = re.findall(
        r'<select[^>]*name="([^"]+)"[^>]*>.*?<option value="([^"]*)" selected', page, re.S
    )
    answer = client.post(f"/flows/{flow_id}/edit", data={**form, **dict(chosen), "do": "ready:0"})
    assert answer.status_code in (200, 303), answer.get_data(as_text=True)[:2000]
    (flow,) = rows(Flow)
    assert flow.draft["steps"][0]["input"]["external_no"] == "${event.data.order_no}"
