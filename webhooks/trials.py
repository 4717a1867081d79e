"""Trials: a test event for one endpoint, sent at once and never stored."""

from kernel import clock
from kernel.ids import new_id
from webhooks.parcels import Parcel, cloud_event, target_of
from webhooks.tables import Endpoint

TYPE = "endpoint.tested"


def parcel(endpoint: Endpoint) -> Parcel:
    """Pack a test event for an endpoint."""
    event_id, now = new_id("evt"), clock.now()
    event = {
        "id": event_id,
        "origin": "hub",
        "type": TYPE,
        "occurred_at": now,
        "content_type": "application/json",
        "subject": endpoint.id,
        "version": None,
        "body": b'{"message":"Hello from Yangfan"}',
    }
    return Parcel(
        organization_id=endpoint.organization_id,
        delivery_id="",
        event_id=event_id,
        target=target_of(endpoint.model_dump(), now),
        body=cloud_event(event),
        attempt_no=1,
        ladder_step=1,
        lease_owner="",
    )
