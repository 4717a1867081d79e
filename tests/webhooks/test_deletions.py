"""Deleting an endpoint: nothing more is sent, what was sent is remembered, nothing hangs."""

from datetime import timedelta

import pytest
from factories import keeping
from factories import webhooks as make
from factories.webhooks import OK, answering, endpoint_with_events, more_events, routed_by, status

from kernel import clock
from kernel.database import EVERY, reading, write
from kernel.errors import NotFound
from webhooks import (
    attempts,
    bulk_replays,
    deletions,
    drain,
    endpoints,
    leases,
    replay,
    results,
)
from webhooks.keeping import records
from webhooks.tables import BulkReplay, Delivery, Endpoint, Event

pytestmark = pytest.mark.usefixtures("database", "quiet")


def delete(endpoint_id):
    make.in_transaction(lambda session: deletions.delete(session, "org_a", endpoint_id))


def ends():
    return [(row.state, row.last_problem, row.next_at) for row in make.rows(Delivery)]


GONE = ("cancelled", "endpoint_deleted", None)


@pytest.mark.parametrize("ordering", ["none", "endpoint", "subject"])
def test_what_waits_is_not_sent_and_what_comes_later_does_not_go_there(ordering):
    endpoint_id, _ = endpoint_with_events(4, ordering=ordering)
    drain.drain("w1", answering(OK, status(500)))
    before = [row.state for row in make.rows(Delivery)]
    delete(endpoint_id)
    more_events(2)
    with clock.shifted(seconds=4 * 86_400):
        drain.drain("w1", lambda requests: pytest.fail("nothing may be sent"))
    assert [end[0] for end in ends() if end[0] == "delivered"] == ["delivered"] * before.count(
        "delivered"
    )
    assert [end for end in ends() if end[0] != "delivered"] == [GONE] * (
        4 - before.count("delivered")
    )
    assert {row.state for row in make.rows(Event)} == {"routed"}


def test_its_secrets_are_erased_and_nobody_finds_it_any_more():
    headers = [{"name": "x-key", "value": "s3cret", "is_secret": True}]
    endpoint_id, _ = endpoint_with_events(headers=headers)
    make.in_transaction(lambda s: endpoints.rotate_secret(s, "org_a", endpoint_id))
    delete(endpoint_id)
    (row,) = make.rows(Endpoint)
    assert (row.secret_sealed, row.old_secrets, row.headers) == ("", [], [])
    with reading(EVERY) as session:
        assert list(session.execute(endpoints.listing("org_a"))) == []
        assert endpoints.receivers(session, "org_a", "test.happened") == []
        assert deletions.remembered(session, "org_a", endpoint_id).url == row.url
    for verb in (
        endpoints.get,
        endpoints.resume,
        endpoints.pause,
        endpoints.disable,
        deletions.delete,
    ):
        with pytest.raises(NotFound):
            make.in_transaction(lambda session, verb=verb: verb(session, "org_a", endpoint_id))


@pytest.mark.parametrize(
    ("answer", "end"), [(OK, "delivered"), (status(500), "cancelled"), (status(410), "cancelled")]
)
def test_what_is_being_sent_may_arrive_and_is_not_repeated(answer, end):
    endpoint_id, _ = endpoint_with_events(1)
    routed_by("w1", room=0)
    parcels = write(lambda s: attempts.claim_due(s, "w1", frozenset(), is_slow=False))
    with reading(EVERY) as session:
        told = deletions.under_way(session, "org_a", endpoint_id)
    assert (told.unsent, told.sending) == (0, 1)
    delete(endpoint_id)
    for batch in attempts.send_waves(parcels, answering(answer)):
        results.write_down(batch)
    assert [row.state for row in make.rows(Delivery)] == [end]
    assert len(make.rows(Endpoint)) == 1
    assert make.rows(Endpoint)[0].state == "deleted"


def test_resending_is_refused():
    endpoint_id, _ = endpoint_with_events(1)
    drain.drain("w1", answering(OK))
    delete(endpoint_id)
    (row,) = make.rows(Delivery)
    with pytest.raises(NotFound):
        make.in_transaction(lambda session: replay.resend(session, "org_a", row.id))


STATES = {
    "deleted": ("cancelled", "endpoint_deleted", False),
    "disabled": ("parked", "endpoint_disabled", False),
    "paused": ("waiting", None, False),
    "active": ("waiting", None, True),
}


@pytest.mark.parametrize("state", STATES)
def test_what_a_dead_worker_held_goes_where_its_endpoint_would_have_put_it(state):
    """It would be due for ever: nobody claims for an endpoint that does not send."""
    endpoint_id, _ = endpoint_with_events(1)
    routed_by("w1")
    verb = {
        "deleted": deletions.delete, "disabled": endpoints.disable, "paused": endpoints.pause,
    }.get(state)  # fmt: skip
    if verb:
        make.in_transaction(lambda session: verb(session, "org_a", endpoint_id))
    assert make.rows(Delivery)[0].state == "leased"
    write(lambda session: leases.release(session, make.rows(Delivery)[0].lease_owner[:2]))
    (row,) = make.rows(Delivery)
    assert (row.state, row.last_problem, row.next_at is not None) == STATES[state]
    with reading(EVERY) as session:
        assert leases.is_delivery_due(session) == (state == "active")


def test_a_bulk_replay_ends_with_it():
    endpoint_id, _ = endpoint_with_events(9)
    drain.drain("w1", answering(OK))
    since = clock.now() - timedelta(hours=1)
    make.in_transaction(
        lambda s: bulk_replays.begin(s, "org_a", endpoint_id, since=since, only_failed=False)
    )
    delete(endpoint_id)
    bulk_replays.sweep()
    (row,) = make.rows(BulkReplay)
    assert (row.state, row.problem, row.next_at) == ("stopped", "endpoint_deleted", None)


def test_one_that_was_planned_at_the_moment_of_the_deletion_is_settled_in_the_end():
    firm = keeping.firm()

    def plan_late(session):
        endpoint = make.make_endpoint(session, firm, state="deleted")
        event_id = make.make_event(session, firm)
        session.get(Event, (firm, event_id)).state = "routed"
        session.add(
            Delivery(
                organization_id=firm, id="dlv_1", event_id=event_id, endpoint_id=endpoint.id,
                next_at=clock.now(),
            )
        )  # fmt: skip

    make.in_transaction(plan_late)
    assert deletions.settle(keeping.claim(firm)) is False
    assert make.rows(Delivery)[0].state == "due", "it may be on its way in a statement still"
    with clock.shifted(seconds=3 * leases.LEASE_SECONDS):
        deletions.settle(keeping.claim(firm))
    assert ends() == [GONE]


def test_events_of_a_deleted_endpoint_can_be_archived():
    endpoint_id, ids = endpoint_with_events(3)
    drain.drain("w1", answering(status(500)))
    delete(endpoint_id)
    with reading(EVERY) as session:
        found = records.standings(session, "org_a", ids)
    assert not any(one.is_moving or one.is_parked for one in found.values())
