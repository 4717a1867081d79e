"""Bulk replays: a few first, the rest when those arrived, and nothing that was not asked for."""

from datetime import timedelta

import pytest
from factories import webhooks as make
from factories.webhooks import OK, answering, endpoint_with_events, states, status

from kernel import clock
from kernel.database import reading
from kernel.errors import Conflict, Invalid, NotFound
from webhooks import bulk_replays, circuits, drain, endpoints, replay
from webhooks.tables import DELIVERY, BulkReplay, Delivery

pytestmark = pytest.mark.usefixtures("database", "quiet")


def given_up(count=8, **over):
    """An endpoint with deliveries that were given up."""

    endpoint_id, ids = endpoint_with_events(count, **over)
    drain.drain("w1", answering(OK))
    values = {"state": "parked", "last_problem": "exhausted", "delivered_at": None}
    make.in_transaction(lambda session: session.execute(DELIVERY.update().values(**values)))
    return endpoint_id, ids


def begin(endpoint_id, **over):
    values = {"since": clock.now() - timedelta(hours=1), **over}
    return make.in_transaction(
        lambda session: bulk_replays.begin(session, "org_a", endpoint_id, **values).id
    )


def turns(send, seconds):
    """Sweep and drain once a second."""
    for second in seconds:
        with clock.shifted(seconds=second):
            bulk_replays.sweep()
            drain.drain("w1", send)


def the_row() -> BulkReplay:
    (found,) = make.rows(BulkReplay)
    return found


def ids_of(send):
    return [request.headers["webhook-id"] for request in send.sent]


def test_three_go_first_and_the_rest_when_they_arrived():
    endpoint_id, ids = given_up()
    begin(endpoint_id)
    send = answering(OK)
    bulk_replays.sweep()
    assert states(Delivery).count("due") == 3
    assert bulk_replays.sweep() == 0, "nobody else takes the same turn"
    drain.drain("w1", send)
    assert ids_of(send) == ids[:3]
    turns(send, range(1, 20))
    assert sorted(ids_of(send)) == ids
    assert (the_row().state, the_row().started) == ("done", 8)
    with reading("org_a") as session:
        assert bulk_replays.progress(session, the_row()) == {
            "delivered": 8, "on_the_way": 0, "failed": 0,
        }  # fmt: skip


def test_the_rest_stays_where_it_is_when_one_of_the_first_fails():
    endpoint_id, _ = given_up()
    begin(endpoint_id)
    send = answering(OK, status(500), OK)
    turns(send, range(4))
    assert len(send.sent) == 3
    assert (the_row().state, the_row().problem) == ("stopped", "status")
    assert states(Delivery)[3:] == ["parked"] * 5


def test_the_rest_waits_for_an_answer():
    endpoint_id, _ = given_up()
    begin(endpoint_id)
    for second in range(4):  # nobody drains
        with clock.shifted(seconds=second):
            bulk_replays.sweep()
    assert states(Delivery).count("due") == 3
    assert the_row().state == "trying"


def test_what_arrived_goes_again_only_when_asked_for():
    endpoint_id, ids = given_up(4)
    make.in_transaction(
        lambda session: session.execute(
            DELIVERY.update().where(DELIVERY.c.event_id == ids[0]).values(state="delivered")
        )
    )
    begin(endpoint_id)
    send = answering(OK)
    turns(send, range(8))
    assert sorted(ids_of(send)) == ids[1:]
    with clock.shifted(seconds=10):
        begin(endpoint_id, only_failed=False)
        turns(send, range(8))
    assert sorted(ids_of(send)[3:]) == ids


def test_only_the_types_and_the_time_that_were_chosen():
    endpoint_id, _ = given_up(2)
    other = make.in_transaction(
        lambda session: make.make_event(session, "org_a", type="other.happened")
    )
    drain.drain("w1", answering(OK))
    begin(endpoint_id, only_failed=False, event_types=["other.*"])
    send = answering(OK)
    turns(send, range(8))
    assert ids_of(send) == [other]
    begin(
        endpoint_id, since=clock.now() - timedelta(hours=3), until=clock.now() - timedelta(1 / 24)
    )
    turns(send, range(8))
    assert ids_of(send) == [other]
    assert [row.state for row in make.rows(BulkReplay)] == ["done", "done"]


def test_a_portion_is_bounded_and_spread_over_its_turn(monkeypatch):
    monkeypatch.setattr(circuits, "RATE_PER_SECOND", 2)
    monkeypatch.setattr(bulk_replays, "PER_TURN", 10)
    monkeypatch.setattr(bulk_replays, "MOST_UNFINISHED", 20)
    endpoint_id, ids = given_up(30)
    begin(endpoint_id)
    send = answering(OK)
    before = 0
    for second in range(40):
        with clock.shifted(seconds=second):
            bulk_replays.sweep()
            drain.drain("w1", send)
        assert len(send.sent) - before <= 3
        before = len(send.sent)
    assert sorted(ids_of(send)) == ids
    assert the_row().state == "done"


def test_cancelling_sets_aside_what_is_not_sent():
    endpoint_id, _ = given_up(12)
    bulk_id = begin(endpoint_id)
    send = answering(OK)
    turns(send, [0])
    with clock.shifted(seconds=2):
        bulk_replays.sweep()
        assert states(Delivery).count("due") == 9
        make.in_transaction(lambda session: bulk_replays.cancel(session, "org_a", bulk_id))
    turns(send, range(3, 12))
    assert len(send.sent) == 3
    assert states(Delivery).count("parked") == 9
    assert the_row().state == "cancelled"
    with pytest.raises(Conflict):
        make.in_transaction(lambda session: bulk_replays.cancel(session, "org_a", bulk_id))


def test_an_endpoint_that_goes_off_stops_it_and_one_that_is_paused_lets_it_wait():
    endpoint_id, _ = given_up(12)
    begin(endpoint_id)
    send = answering(OK)
    turns(send, [0])
    make.in_transaction(lambda session: endpoints.pause(session, "org_a", endpoint_id))
    turns(send, range(2, 9))
    assert (the_row().state, len(send.sent)) == ("trying", 3)
    make.in_transaction(lambda session: endpoints.disable(session, "org_a", endpoint_id))
    turns(send, range(10, 12))
    assert (the_row().state, the_row().problem) == ("stopped", "endpoint_disabled")


def test_an_ordered_endpoint_gets_it_in_order():
    endpoint_id, ids = given_up(ordering="endpoint")
    begin(endpoint_id)
    send = answering(OK)
    turns(send, range(15))
    assert ids_of(send) == ids


def test_what_cannot_begin():
    endpoint_id, _ = given_up(1)
    with pytest.raises(Invalid):
        begin(endpoint_id, since=clock.now() + timedelta(hours=1))
    with pytest.raises(Invalid):
        begin(endpoint_id, until=clock.now() - timedelta(hours=2))
    begin(endpoint_id)
    with pytest.raises(Conflict):
        begin(endpoint_id)
    with pytest.raises(NotFound):
        begin("ep_of_somebody_else")


def test_a_condition_is_asked_again_before_what_was_set_aside_goes_out(app):
    """Recovering an endpoint once sent events that its condition had not let through."""

    def setup(session):
        endpoint = make.make_endpoint(session, "org_a", condition="event.data.level > 3")
        return endpoint.id, [make.make_event(session, "org_a", body=b'{"lvl": 9}')]

    endpoint_id, ids = make.in_transaction(setup)
    send = answering(OK)
    drain.drain("w1", send)
    since = clock.now() - timedelta(hours=1)

    def recover(condition):
        def work(session):
            endpoints.change(session, "org_a", endpoint_id, condition=condition)
            session.flush()
            return replay.recover(session, "org_a", endpoint_id, since)

        found = make.in_transaction(work)
        drain.drain("w1", send)
        return found

    assert recover("event.data.level > 3") == 0
    assert (send.sent, states(Delivery)) == ([], ["parked"])
    assert recover("event.data.lvl > 3") == 1
    assert ids_of(send) == ids
    make.in_transaction(
        lambda s: s.execute(
            DELIVERY.update().values(state="parked", last_problem="condition_failed")
        )
    )
    assert recover("event.data.lvl > 10") == 0
    assert states(Delivery) == ["cancelled"]
