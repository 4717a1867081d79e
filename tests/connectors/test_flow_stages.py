"""Test and live: other versions, other connections, and nothing crosses over."""

import json

import pytest
from factories.connectors import make_connection, ready, runs, settle, start_runs, vendor
from factories.ways import open_works, send, texts
from factories.webhooks import make_event, make_source

from connectors import flow_shapes, flows, lanes, recovery
from connectors.errors import InUse, NotNow, Unfit
from connectors.resting import waits
from connectors.stages import environments, publishing
from connectors.stores import values
from kernel.database import EVERY, reading, transaction
from webhooks.tables import Event


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


class Stage:
    """A works whose flow also has a test source and a test connection to the chat."""

    def __init__(self, url, *steps, **trigger):
        self.works = open_works(url, *steps, **trigger)
        self.owner, self.flow = self.works.organization_id, self.works.flow
        with transaction(EVERY) as session:
            self.source = make_source(session, self.owner).id
            environments.put_source(session, self.owner, self.source, "test")
            self.chat = make_connection(
                session, self.owner, url, connector_key="demo-chat", name="测试群"
            ).id
            environments.put_connection(session, self.owner, self.chat, "test")

    def draft(self, *steps, **more):
        document = {
            "trigger": {"event": "order.paid", "version": None},
            "steps": json.loads(json.dumps(list(steps)).replace("CHAT", self.works.chat)),
            "environments": {"test": {"connections": {self.works.chat: self.chat}}},
            **more,
        }
        with transaction(EVERY) as session:
            flows.save_draft(session, self.owner, self.flow, document)

    def test(self):
        with transaction(EVERY) as session:
            return publishing.publish(session, self.owner, self.flow)

    def arrive(self, source_id, kind="order.paid", **data):
        with transaction(EVERY) as session:
            event_id = make_event(
                session, self.owner, source_id=source_id, type=kind, body=json.dumps(data).encode()
            )
            session.flush()
            event = session.get(Event, (self.owner, event_id))
            event.state = "routed"
            session.flush()
            start_runs(session, [ready(event)])


def test_each_source_feeds_its_own_side(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "正式 ${event.data.order_no}"))
    stage.draft(send("tell", "测试 ${event.data.order_no}"))
    version = stage.test()
    assert (version.number, version.environment) == (2, "test")
    assert version.document["steps"][0]["connection"] == stage.chat
    stage.arrive(stage.source, order_no="1")
    stage.arrive(None, order_no="2")
    settle()
    assert sorted(texts(app_vendor)) == ["正式 2", "测试 1"]
    found = {(run.environment, run.flow_version, run.lane) for run in runs()}
    assert found == {("test", 2, stage.chat), (None, 1, stage.works.chat)}


def test_without_a_test_version_a_test_source_starts_nothing(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "正式"))
    stage.arrive(stage.source)
    settle()
    assert runs() == []


def test_what_was_tested_goes_live_with_the_live_connections(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "旧"))
    stage.draft(send("tell", "新"))
    stage.test()
    with reading(stage.owner) as session:
        found = publishing.changes(session, stage.owner, stage.flow)
    assert ("changed", "tell", "input.text") in {
        (one.kind, one.step["key"] if one.step else None, one.field) for one in found
    }
    assert not any(one.field == "connection" for one in found)
    stage.draft(send("tell", "更新的草稿"))
    with transaction(EVERY) as session:
        made = publishing.promote(session, stage.owner, stage.flow)
    assert (made.number, made.environment) == (3, "live")
    assert made.document["steps"][0]["connection"] == stage.works.chat
    stage.arrive(None)
    settle()
    assert texts(app_vendor) == ["新"]
    with reading(stage.owner) as session:
        flow = flows.find(session, stage.owner, stage.flow)
        assert flow.published_version == 3
        assert flow.draft["steps"][0]["input"]["text"] == "更新的草稿"


def test_connections_of_the_other_side_are_refused(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "旧"))
    stage.draft(send("tell", "新"), environments={})
    with pytest.raises(Unfit) as told:
        stage.test()
    assert [one["pointer"] for one in told.value.findings] == ["/steps/0/connection"]
    stage.draft(send("tell", "新", chat=stage.chat))
    with pytest.raises(Unfit) as told, transaction(EVERY) as session:
        flows.publish(session, stage.owner, stage.flow)
    assert [one["pointer"] for one in told.value.findings] == ["/steps/0/connection"]


def test_a_connection_in_use_does_not_change_sides(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "旧"))
    with pytest.raises(InUse), transaction(EVERY) as session:
        environments.put_connection(session, stage.owner, stage.works.chat, "test")
    with pytest.raises(Unfit), transaction(EVERY) as session:
        environments.put_connection(session, stage.owner, stage.works.erp, "nowhere")


def test_stopping_in_test_ends_new_test_runs_alone(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "正式"))
    with pytest.raises(NotNow), transaction(EVERY) as session:
        publishing.stop(session, stage.owner, stage.flow)
    with pytest.raises(NotNow), transaction(EVERY) as session:
        publishing.promote(session, stage.owner, stage.flow)
    stage.draft(send("tell", "测试"))
    stage.test()
    with transaction(EVERY) as session:
        publishing.stop(session, stage.owner, stage.flow)
    stage.arrive(stage.source)
    stage.arrive(None)
    settle()
    assert texts(app_vendor) == ["正式"]


def test_what_is_tried_out_keeps_and_awaits_apart(database, app_vendor):
    keep = {"key": "n", "kind": "store", "operation": "add", "collection": "c", "entry": "n"}
    wait = {
        "key": "w",
        "kind": "wait",
        "event_type": "order.fulfilled",
        "match": {"value": "${event.data.order_no}", "path": "data.order_no"},
        "for": "1d",
    }
    stage = Stage(app_vendor.url, keep, wait, send("tell", "正式"))
    stage.draft(keep, wait, send("tell", "测试"))
    stage.test()
    stage.arrive(stage.source, order_no="1")
    stage.arrive(None, order_no="1")
    settle()
    with reading(stage.owner) as session:
        found = [one.collection for one in values.collections(session, stage.owner)]
    assert found == ["c", "test-c"]
    stage.arrive(stage.source, kind="order.fulfilled", order_no="1")
    waits.sweep()
    settle()
    assert texts(app_vendor) == ["测试"]
    stage.arrive(None, kind="order.fulfilled", order_no="1")
    waits.sweep()
    settle()
    assert texts(app_vendor) == ["测试", "正式"]


def test_a_test_run_from_the_beginning_stays_in_test(database, app_vendor):
    stage = Stage(app_vendor.url, send("tell", "正式"))
    stage.draft(send("tell", "测试"))
    stage.test()
    stage.arrive(stage.source)
    settle()
    with transaction(EVERY) as session:
        again = recovery.replay_start(session, stage.owner, runs()[0].id)
        assert (again.environment, again.flow_version) == ("test", 2)
    settle()
    assert texts(app_vendor) == ["测试", "测试"]


def test_environments_are_written_as_they_are_read():
    document = {"trigger": {"event": "a.b"}, "steps": [], "environments": {"nowhere": {}}}
    assert flow_shapes.check_shape(document)
    document["environments"] = {"test": {"connections": {"con_a": 1}}}
    assert flow_shapes.check_shape(document)
    document["environments"] = {"test": {"connections": {"con_a": "con_b"}}}
    assert flow_shapes.check_shape(document) == []
