"""Flows: drafts, checks, versions that never change, and trials that send nothing."""

import pytest
from factories.connectors import Shop, make_flow, open_shop, order_document, runs, settle, vendor
from factories.identity import make_organization
from sqlmodel import select

from connectors import dry_runs, flow_documents, flow_trees, flows, recovery
from connectors.engine import flow_templates
from connectors.errors import InUse, NotNow, Unfit
from connectors.tables import FlowVersion
from kernel.database import EVERY, transaction
from kernel.errors import NotFound

TEMPLATE = "order-to-erp-to-chat"


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


@pytest.fixture
def shop(session):
    return Shop(session, "http://127.0.0.1:9")


def chosen(session, shop) -> dict[str, str]:
    from factories.connectors import make_connection

    own = make_connection(session, shop.organization_id, connector_key="demo-shop", name="网店").id
    return {"demo-shop": own, "demo-erp": shop.erp, "demo-chat": shop.chat}


def test_a_template_is_published_and_listens(session, shop):
    use = chosen(session, shop)
    flow = flows.create_from_template(session, shop.organization_id, TEMPLATE, use)
    assert flow.name == flow_templates.find(TEMPLATE).title["zh"]
    version = flows.publish(session, shop.organization_id, flow.id, "usr_1")
    assert version.number == 1
    assert (flow.state, flow.listens_to, flow.listens_version) == ("active", "order.paid", 1)
    assert (flow.listens_connection_id, flow.lane) == (use["demo-shop"], shop.erp)


def test_a_template_without_connections_says_what_is_missing(session, shop):
    flow = flows.create_from_template(session, shop.organization_id, TEMPLATE, {})
    with pytest.raises(Unfit) as refused:
        flows.publish(session, shop.organization_id, flow.id)
    places = [one["pointer"] for one in refused.value.findings]
    assert places == ["/steps/2/connection", "/steps/3/connection"]
    assert flow.state == "draft"


def test_publishing_again_makes_a_new_version_and_keeps_the_old(session, shop):
    use = chosen(session, shop)
    flow = flows.create_from_template(session, shop.organization_id, TEMPLATE, use)
    first = flows.publish(session, shop.organization_id, flow.id)
    changed = {**first.document, "steps": first.document["steps"][:3]}
    assert flows.save_draft(session, shop.organization_id, flow.id, changed) == []
    assert flows.publish(session, shop.organization_id, flow.id).number == 2
    kept = flows.version(session, shop.organization_id, flow.id, 1)
    assert len(kept.document["steps"]) == 4
    flows.restore_version(session, shop.organization_id, flow.id, 1)
    assert len(flow.draft["steps"]) == 4


WRONG = [
    ([], ""),
    ({"steps": []}, "/trigger"),
    ({"trigger": {"event": "a"}, "steps": {}}, "/steps"),
    ({"trigger": {"event": 1}, "steps": []}, "/trigger/event"),
    ({"trigger": {"event": "a", "x": 1}, "steps": []}, "/trigger/x"),
    ({"trigger": {"event": "a"}, "steps": [{"kind": "loop", "key": "a"}]}, "/steps/0/kind"),
    ({"trigger": {"event": "a"}, "steps": [{"kind": "map", "key": "A b"}]}, "/steps/0/key"),
    (
        {"trigger": {"event": "a"}, "steps": [{"kind": "map", "key": "a", "when": ""}]},
        "/steps/0/when",
    ),
]


@pytest.mark.parametrize(("document", "place"), WRONG)
def test_what_no_editor_could_show_is_refused(session, shop, document, place):
    with pytest.raises(Unfit) as refused:
        flows.save_draft(session, shop.organization_id, shop.flow, document)
    assert refused.value.findings[0]["pointer"] == place
    assert refused.value.findings[0]["say"]["zh"]


def test_mistakes_in_expressions_are_found_at_save(session, shop):
    document = order_document(shop.erp, shop.chat)
    document["steps"][2]["input"]["text"] = "${steps.nowhere.output.x}"
    found = flows.save_draft(session, shop.organization_id, shop.flow, document)
    assert any(one["pointer"].startswith("/steps/2/input") for one in found)


def test_a_connection_of_another_app_or_organization_is_found(session, shop):
    other = Shop(session, "http://127.0.0.1:9", name="别家")
    for wrong in (shop.chat, other.erp, "con_nothing"):
        document = order_document(wrong, shop.chat)
        found = flows.check(session, shop.organization_id, document)
        assert any(one["pointer"] == "/steps/1/connection" for one in found), wrong


def test_a_stale_editor_does_not_overwrite(session, shop):
    document = order_document(shop.erp, shop.chat)
    flows.save_draft(session, shop.organization_id, shop.flow, document, 0)
    with pytest.raises(NotNow):
        flows.save_draft(session, shop.organization_id, shop.flow, document, 0)


def test_a_running_run_keeps_its_version(database, app_vendor):
    shop = open_shop(app_vendor.url, orders=1)
    with transaction(EVERY) as session:
        flow = flows.find(session, shop.organization_id, shop.flow)
        flow.draft = {
            "trigger": {"event": "order.paid", "version": None},
            "steps": [{"key": "never", "kind": "filter", "when": False}],
        }
        from factories.connectors import publish_unchecked

        publish_unchecked(session, flow)
        shop.order(session, 2)
    settle()
    assert [(run.flow_version, run.state) for run in runs()] == [(1, "succeeded"), (2, "skipped")]


def test_a_paused_flow_starts_nothing(database, app_vendor):
    shop = open_shop(app_vendor.url)
    with transaction(EVERY) as session:
        flows.pause(session, shop.organization_id, shop.flow)
        shop.order(session)
    assert runs() == []
    with transaction(EVERY) as session:
        flows.resume(session, shop.organization_id, shop.flow)
        shop.order(session, 2)
    assert len(runs()) == 1


def test_deleting_is_refused_while_runs_wait_unless_forced(database, app_vendor):
    app_vendor.always["sales-orders"] = (422, {"code": "UNKNOWN_SKU"})
    shop = open_shop(app_vendor.url, orders=2)
    settle()
    with transaction(EVERY) as session, pytest.raises(InUse):
        flows.delete(session, shop.organization_id, shop.flow)
    with transaction(EVERY) as session:
        flows.delete(session, shop.organization_id, shop.flow, force=True)
    assert {run.state for run in runs()} == {"cancelled"}
    with transaction(EVERY) as session:
        with pytest.raises(NotFound):
            flows.find(session, shop.organization_id, shop.flow)
        assert len(flows.versions(session, shop.organization_id, shop.flow)) == 1


def test_strangers_find_no_flow(session, shop):
    other = make_organization(session).id
    for act in (flows.find, flows.publish, flows.pause, flows.delete):
        with pytest.raises(NotFound):
            act(session, other, shop.flow)
    with pytest.raises(NotFound):
        recovery.replay_canary(session, other, shop.flow, None)


def test_a_trial_shows_every_step_and_sends_nothing(session, shop):
    use = chosen(session, shop)
    template = flow_templates.find(TEMPLATE)
    document = flow_documents.from_template(template.document, use)
    trial = dry_runs.dry_run(session, shop.organization_id, document, template.sample)
    assert (trial.ok, trial.state) == (True, "succeeded")
    erp, chat = trial.steps[2], trial.steps[3]
    assert erp.request["url"].endswith("/api/sales-orders")
    assert erp.request["body"] == template.trials[0].requests["erp"]["json"]
    assert chat.request["body"] == template.trials[0].requests["chat"]["json"]
    assert "key-0123456789" not in str(trial)


def test_a_trial_stops_where_a_value_is_missing(session, shop):
    document = order_document(shop.erp, shop.chat)
    trial = dry_runs.dry_run(
        session, shop.organization_id, document, {"data": {"total": {"value": "1.00"}}}
    )
    assert (trial.ok, trial.state) == (False, "parked")
    assert [step.state for step in trial.steps] == ["succeeded", "failed", "not_reached"]
    assert "order_no" in trial.say["zh"]


def test_an_unfinished_flow_is_tried_as_far_as_it_goes(session, shop):
    document = order_document("", shop.chat)
    trial = dry_runs.dry_run(session, shop.organization_id, document, {"data": {}})
    assert not trial.ok


def test_versions_are_numbered_per_flow(session, shop):
    make_flow(session, shop.organization_id, order_document(shop.erp, shop.chat))
    session.flush()
    numbers = [one.number for one in session.exec(select(FlowVersion))]
    assert numbers == [1, 1]


def test_findings_name_their_step():
    document = {"steps": [{"key": f"s{n}", "kind": "filter"} for n in range(4)]}
    assert flow_trees.number_at(document, "/steps/3/input/a") == 3
    assert flow_trees.number_at(document, "/trigger/event") is None
