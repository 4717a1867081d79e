"""Routing: which events start which flows, once each, in a few queries whatever the batch."""

import json

import pytest
from factories.connectors import ORDER, Shop, make_connection, plan_runs, ready, runs, start_runs
from factories.identity import make_organization
from factories.webhooks import make_event, make_source
from sqlalchemy import event as sqlalchemy_event

from connectors import flows, lanes
from kernel.database import EVERY, transaction
from webhooks.fan_out import Routed
from webhooks.tables import Event


def arrive(session, organization_id: str, source_id: str | None = None, **over):
    values = {"type": "order.paid", "body": json.dumps(ORDER).encode(), **over}
    event_id = make_event(session, organization_id, source_id, **values)
    session.flush()
    return ready(session.get(Event, (organization_id, event_id)))


def test_the_same_event_never_runs_twice(database):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        one = arrive(session, shop.organization_id)
        start_runs(session, [one])
        start_runs(session, [one, one])
    assert len(runs()) == 1


def test_another_type_or_organization_starts_nothing(database):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        stranger = make_organization(session).id
        start_runs(
            session,
            [
                arrive(session, shop.organization_id, type="order.cancelled"),
                arrive(session, stranger),
            ],
        )
    assert runs() == []


@pytest.mark.parametrize(("wanted", "came", "count"), [(1, 1, 1), (2, 1, 0), (1, None, 1)])
def test_versions_must_agree_when_both_say_one(database, wanted, came, count):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9", version=wanted)
        start_runs(session, [arrive(session, shop.organization_id, version=came)])
    assert len(runs()) == count


def test_a_flow_may_listen_to_one_source_only(database):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        organization_id = shop.organization_id
        wanted = make_source(session, organization_id).id
        flow = flows.find(session, organization_id, shop.flow)
        flow.listens_source_id = wanted
        session.flush()
        other = make_source(session, organization_id).id
        start_runs(
            session,
            [arrive(session, organization_id, wanted), arrive(session, organization_id, other)],
        )
    assert len(runs()) == 1


def test_a_flow_may_listen_to_what_one_connection_brings(database):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        owner = shop.organization_id
        mine = make_connection(session, owner, connector_key="demo-shop", name="网店").id
        flows.find(session, owner, shop.flow).listens_connection_id = mine
        hook = make_source(session, owner, connection_id=mine).id
        other = make_source(session, owner).id
        session.flush()
        batch = [arrive(session, owner, hook), arrive(session, owner, other)]
        batch.append(arrive(session, owner))
        start_runs(session, batch)
    assert len(runs()) == 1


def test_a_batch_takes_two_statements(database):
    with transaction(EVERY) as session:
        batch = []
        for _ in range(4):
            shop = Shop(session, "http://127.0.0.1:9")
            batch += [arrive(session, shop.organization_id) for _ in range(10)]
        session.flush()
        seen: list[str] = []

        def watch(connection, cursor, statement, *rest):
            seen.append(statement)

        sqlalchemy_event.listen(session.get_bind(), "before_cursor_execute", watch)
        try:
            start_runs(session, batch)
        finally:
            sqlalchemy_event.remove(session.get_bind(), "before_cursor_execute", watch)
    assert len(runs()) == 40
    wanted = [one for one in seen if "clock_timestamp" not in one]
    # on SQLite rows go in through the driver itself, where nobody watches
    inserts = ["INSERT"] if session.get_bind().dialect.name == "postgresql" else []
    assert [one.split()[0] for one in wanted] == ["SELECT", *inserts]


def test_a_run_goes_on_in_the_process_that_routed_its_event(database):
    """Leased at birth as far as there is room; the follow-up moves it without claiming."""
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        routed = Routed("wrk_1", room=2)
        plan_runs(session, [arrive(session, shop.organization_id) for _ in range(3)], routed)
        assert routed.is_rest_due
    assert sorted(run.state for run in runs()) == ["due", "leased", "leased"]
    assert {run.lease_owner for run in runs()} == {"wrk_1", None}
    (follow_up,) = routed.follow_ups
    assert follow_up() == 2
    # the address leads nowhere, but they were tried
    assert sorted(run.state for run in runs()) == ["due", "parked", "parked"]


def test_runs_of_an_app_known_as_slow_are_left_for_its_pace(database, monkeypatch):
    with transaction(EVERY) as session:
        shop = Shop(session, "http://127.0.0.1:9")
        monkeypatch.setattr(lanes, "_slice", {shop.erp: 4})
        routed = Routed("wrk_1")
        plan_runs(session, [arrive(session, shop.organization_id)], routed)
    assert [run.state for run in runs()] == ["due"]
    assert routed.is_rest_due
    assert routed.follow_ups == []
