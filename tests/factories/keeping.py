"""Finished events with all that hangs on them, and somebody who keeps house."""

from datetime import timedelta

from factories import webhooks as make
from factories.identity import make_organization

from connectors.tables import Run, Step
from kernel import clock, ids
from kernel.database import EVERY, reading, transaction
from webhooks.hooks import CHORES
from webhooks.keeping import turns
from webhooks.keeping.tables import Keeping
from webhooks.tables import Attempt, Delivery, Event

OLD_SECONDS = 91 * 86_400


def firm() -> str:
    """An organization whose turn it is."""

    def setup(session):
        organization = make_organization(session)
        session.add(
            Keeping(
                organization_id=organization.id,
                id=organization.id,
                next_at=clock.now() - timedelta(days=1),
            )
        )
        return organization.id

    return make.in_transaction(setup)


def finished(session, organization_id: str, endpoint_id: str, flow=None, **over) -> str:
    """An event that came to rest: delivered once with one attempt, and run through a flow."""
    state = over.pop("state", "routed")
    event_id = make.make_event(session, organization_id, **over)
    session.get(Event, (organization_id, event_id)).state = state
    delivery = Delivery(
        organization_id=organization_id,
        id=ids.new_id("dlv"),
        event_id=event_id,
        endpoint_id=endpoint_id,
        state="delivered",
        attempt_count=1,
    )
    session.add(delivery)
    session.flush()
    session.add(
        Attempt(
            organization_id=organization_id,
            id=ids.new_id("att"),
            delivery_id=delivery.id,
            number=1,
            started_at=clock.now(),
            elapsed_ms=12,
            status=200,
            request_headers={"webhook-id": event_id},
            response_body=b"\xff\x00ok",
        )
    )
    if flow is not None:
        _run(session, flow, event_id)
    session.flush()
    return event_id


def _run(session, flow, event_id: str) -> None:
    run = Run(
        organization_id=flow.organization_id,
        id=ids.new_id("run"),
        flow_id=flow.id,
        flow_version=1,
        event_id=event_id,
        event_type="order.paid",
        lane=flow.id,
        state="succeeded",
    )
    session.add(run)
    session.flush()
    session.add(
        Step(
            organization_id=flow.organization_id,
            id=ids.new_id("stp"),
            run_id=run.id,
            position=0,
            key="erp",
            kind="action",
            state="succeeded",
            input={"price": 12},
        )
    )


def claim(organization_id: str | None = None) -> turns.Lease:
    """The lease of whoever's turn it is."""
    with transaction(EVERY) as session:
        lease = turns.claim(session, "wrk_test")
    assert lease is not None
    assert organization_id in (None, lease.organization_id)
    return lease


def keep_house(seconds: float = OLD_SECONDS) -> int:
    """Let time pass, and one worker take every turn there is."""
    count = 0
    with clock.shifted(seconds=seconds):
        while turns.turn(CHORES):
            count += 1
    return count


def everything(*models) -> list:
    """The rows of some tables."""
    with reading(EVERY):
        return [row for model in models for row in make.rows(model)]
