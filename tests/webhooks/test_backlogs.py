"""Backlogs: counted now and then, for whoever has sent lately or still waits."""

import pytest
from factories import webhooks as make

from kernel import clock
from kernel.database import EVERY, reading
from kernel.settings import settings_override
from webhooks import backlogs, usage
from webhooks.tables import Backlog, Delivery, Event

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def _fresh_memory():
    usage.take()


def sent(organization_id="org_a", count=1):
    """Somebody has sent events, which wait."""

    def work(session):
        for _ in range(count):
            make.make_event(session, organization_id)
        key = (organization_id, "", int(clock.now().timestamp() // 3600))
        usage.store(session, {key: {"admitted": count}})

    make.in_transaction(work)


def counted():
    return {row.organization_id: (row.events, row.deliveries) for row in make.rows(Backlog)}


def test_who_has_sent_is_counted_once_in_a_while():
    sent("org_a", 3)
    sent("org_b", 1)
    assert backlogs.sweep() == 2
    assert counted() == {"org_a": (3, 0), "org_b": (1, 0)}
    sent("org_a", 2)
    assert backlogs.sweep() == 0, "just counted"
    with clock.shifted(seconds=backlogs.AGAIN_SECONDS + 1):
        assert backlogs.sweep() == 2
    assert counted()["org_a"] == (5, 0)


def test_what_waits_is_counted_and_what_is_done_is_not():
    def work(session):
        endpoint = make.make_endpoint(session, "org_a")
        for number, state in enumerate(("due", "waiting", "delivered", "parked", "cancelled")):
            session.add(
                Delivery(
                    organization_id="org_a", id=f"dlv_{number}", endpoint_id=endpoint.id,
                    event_id=make.make_event(session, "org_a"), state=state,
                )
            )  # fmt: skip

    sent("org_a", 1)
    make.in_transaction(work)
    make.in_transaction(lambda s: s.exec(Event.__table__.update().values(state="routed")))
    backlogs.sweep()
    assert counted() == {"org_a": (0, 2)}


def test_a_count_stops_above_the_limit():
    sent("org_a", 9)
    with settings_override(backlog_limit=5):
        backlogs.sweep()
    assert counted() == {"org_a": (6, 0)}


def test_who_sends_no_more_is_counted_until_nothing_waits():
    sent("org_a", 2)
    backlogs.sweep()
    with clock.shifted(seconds=3 * 3600):
        assert backlogs.sweep() == 1
        make.in_transaction(lambda s: s.exec(Event.__table__.update().values(state="routed")))
    with clock.shifted(seconds=3 * 3600 + backlogs.AGAIN_SECONDS + 1):
        assert backlogs.sweep() == 0, "at rest it is enough to look once a minute"
    with clock.shifted(seconds=3 * 3600 + backlogs.RESTING_SECONDS + 1):
        assert backlogs.sweep() == 1
    assert counted() == {"org_a": (0, 0)}
    with clock.shifted(seconds=6 * 3600):
        assert backlogs.sweep() == 0


def test_everybody_has_a_turn():
    for number in range(backlogs.AT_ONCE + 5):
        sent(f"org_{number:02d}")
    assert backlogs.sweep() == backlogs.AT_ONCE
    backlogs.sweep()
    assert len(counted()) == backlogs.AT_ONCE + 5
    assert all(events == 1 for events, _ in counted().values())


def test_an_organization_is_found_by_its_own_id():
    sent("org_a", 1)
    backlogs.sweep()
    with reading(EVERY) as session:
        assert backlogs.find(session, "org_a").events == 1
        assert backlogs.find(session, "org_b") is None
