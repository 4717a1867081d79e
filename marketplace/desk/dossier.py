"""The dossier: everything the desk shows of one tenant, read at once."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from identity import organizations
from marketplace.desk import standing, tenants
from marketplace.desk.standing import Circuit, Contact, Refused, Stopped
from marketplace.desk.tenants import Tenant
from webhooks import figures, limits
from webhooks.figures import Span, Standing


@dataclass(frozen=True, slots=True)
class Dossier:
    """One tenant, for the operator."""

    tenant: Tenant
    suspended_at: datetime | None
    suspended_because: str | None
    contacts: list[Contact]
    standing: Standing
    own_limits: dict[str, int | None]
    stopped: list[Stopped]
    circuits: list[Circuit]
    refused: list[Refused]
    spans: list[Span]


def read(session: Session, organization_id: str, *, is_daily: bool) -> Dossier:
    """Read a tenant's dossier; raises NotFound."""
    organization = organizations.find(session, organization_id)
    count = figures.by_day if is_daily else figures.by_hour
    return Dossier(
        tenant=tenants.find(session, organization_id),
        suspended_at=organization.suspended_at,
        suspended_because=organization.suspended_because,
        contacts=standing.contacts(session, organization_id),
        standing=figures.standing(session, organization_id),
        own_limits=limits.own_numbers(session, organization_id, organization_id),
        stopped=standing.stopped(session, organization_id),
        circuits=standing.circuits(session, organization_id),
        refused=standing.refused(session, organization_id),
        spans=count(session, organization_id),
    )
