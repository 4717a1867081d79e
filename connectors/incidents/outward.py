"""What the recovery desk does to deliveries: those that an endpoint did not get go out again."""

from datetime import timedelta

from sqlmodel import Session

from connectors.errors import NotNow
from connectors.incidents import incidents
from identity.principals import Principal
from kernel import clock
from kernel.errors import N_, Forbidden
from webhooks import bulk_replays
from webhooks.tables import BulkReplay

SINCE = timedelta(days=30)


def send_again(session: Session, who: Principal, incident_id: str) -> BulkReplay:
    """Send everything that an endpoint did not get once more, a few events first."""
    if not who.may("deliveries:replay"):
        raise Forbidden(N_("You may not repeat deliveries"))
    incident = incidents.locked(session, who.organization_id, incident_id)
    if incident.kind != "delivery" or incident.endpoint_id is None or incident.state != "open":
        raise NotNow(N_("No delivery waits because of this"))
    made = bulk_replays.begin(
        session, who.organization_id, incident.endpoint_id, since=clock.now() - SINCE
    )
    incidents.remember(incident, who.name, "send_again", incident.stuck_count, "begun")
    session.add(incident)
    return made
