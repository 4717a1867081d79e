"""The toolbox's figures: counted from real runs, of one firm, of the last days."""

from datetime import timedelta

import pytest
from factories.identity import make_organization
from factories.marketplace import make_installation

from connectors.tables import Connection, Flow, FlowVersion, Run
from kernel import clock
from kernel.ids import new_id
from marketplace import launchpad
from webhooks import events


@pytest.fixture
def firm(session):
    """A firm's id."""
    return make_organization(session).id


def make_app(session, organization_id, slot="marketing", **over):
    """An installed app with a connection."""
    connection = Connection(
        organization_id=organization_id, id=new_id("con"), connector_key="demo-shop", name="网店"
    )
    session.add(connection)
    session.flush()
    there = make_installation(
        session,
        organization_id,
        kind="hub",
        slot=slot,
        app_key=over.pop("app_key", "demo-shop"),
        connection_id=connection.id,
        **over,
    )
    return there, connection


def make_flow(session, organization_id, *connections):
    """A published flow that uses these connections."""
    flow = Flow(organization_id=organization_id, id=new_id("flw"), name="流程", state="active")
    session.add(flow)
    session.flush()
    version = FlowVersion(
        organization_id=organization_id,
        id=new_id("flv"),
        flow_id=flow.id,
        number=1,
        document={
            "trigger": {"event": "order.paid", "connection": connections[0].id},
            "steps": [{"key": "a", "kind": "action", "connection": c.id} for c in connections[1:]],
        },
        published_at=clock.now(),
    )
    session.add(version)
    session.flush()
    flow.published_version = 1
    session.add(flow)
    session.flush()
    return flow


def make_runs(session, flow, state, count=1, days_ago=0, lane=None):
    """Some runs of a flow, before a connection or none."""
    body = events.NewEvent(type="order.paid", body=b"{}")
    for _ in range(count):
        [accepted] = events.accept(session, flow.organization_id, None, [body])
        session.add(
            Run(
                organization_id=flow.organization_id,
                id=new_id("run"),
                flow_id=flow.id,
                flow_version=1,
                event_id=accepted.id,
                event_type="order.paid",
                lane=lane or flow.id,
                state=state,
                created_at=clock.now() - timedelta(days=days_ago),
            )
        )
    session.flush()


def test_an_empty_toolbox_has_no_shelves(session, firm):
    assert launchpad.shelves(session, firm) == []


def test_tiles_stand_by_slot_in_the_order_of_a_firms_work(session, firm):
    make_app(session, firm, "organization", app_key="demo-chat")
    make_app(session, firm, "rnd", app_key="gitea")
    make_installation(session, firm, slot=None)
    make_installation(session, firm, slot="marketing", state="absent")
    assert [s.slot for s in launchpad.shelves(session, firm)] == ["rnd", "organization", None]


def test_health_counts_runs_of_the_last_days_and_whatever_is_stuck(session, firm):
    there, connection = make_app(session, firm)
    _, other = make_app(session, firm, "logistics", app_key="demo-erp")
    flow = make_flow(session, firm, connection, other)
    make_runs(session, flow, "succeeded", 3)
    make_runs(session, flow, "succeeded", 5, days_ago=launchpad.HEALTH_DAYS + 1)
    make_runs(session, flow, "parked", 1, days_ago=30)
    make_runs(session, flow, "due", 2)
    health = launchpad.health_of(session, firm, [there])[there.id]
    assert (health.flow_count, health.succeeded, health.parked, health.under_way) == (1, 3, 1, 2)
    assert health.success_percent == 75
    assert health.state == "needs_attention"


def test_a_stopped_run_counts_where_it_stopped_and_nowhere_else(session, firm):
    shop, shop_connection = make_app(session, firm)
    erp, erp_connection = make_app(session, firm, "logistics", app_key="demo-erp")
    flow = make_flow(session, firm, shop_connection, erp_connection)
    make_runs(session, flow, "succeeded")
    make_runs(session, flow, "parked", 2, lane=erp_connection.id)
    health = launchpad.health_of(session, firm, [shop, erp])
    assert (health[erp.id].parked, health[erp.id].state) == (2, "needs_attention")
    assert (health[shop.id].parked, health[shop.id].state) == (0, "healthy")
    assert health[shop.id].success_percent == 100


def test_health_knows_its_states(session, firm):
    there, connection = make_app(session, firm)
    assert launchpad.health_of(session, firm, [there])[there.id].state == "ok"
    flow = make_flow(session, firm, connection)
    assert launchpad.health_of(session, firm, [there])[there.id].state == "waiting"
    make_runs(session, flow, "succeeded")
    assert launchpad.health_of(session, firm, [there])[there.id].state == "healthy"
    connection.state = "needs_attention"
    session.flush()
    assert launchpad.health_of(session, firm, [there])[there.id].state == "needs_attention"


def test_a_deleted_flow_is_not_counted(session, firm):
    there, connection = make_app(session, firm)
    flow = make_flow(session, firm, connection)
    flow.deleted_at = clock.now()
    session.flush()
    assert launchpad.health_of(session, firm, [there])[there.id].flow_count == 0


def test_another_firms_runs_do_not_count(session, firm):
    there, connection = make_app(session, firm)
    make_flow(session, firm, connection)
    stranger = make_organization(session).id
    _, theirs = make_app(session, stranger)
    make_runs(session, make_flow(session, stranger, theirs), "succeeded", 4)
    assert launchpad.health_of(session, firm, [there])[there.id].succeeded == 0
