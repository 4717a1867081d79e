"""The toolbox: what is installed, by slot, with how its flows have really been doing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from connectors.tables import Connection, Flow, FlowVersion, Run
from kernel import clock
from marketplace import installations
from marketplace.tables import Installation

HEALTH_DAYS = 7


@dataclass
class Health:
    """What an app's flows did in the last days; all figures counted from runs."""

    flow_count: int = 0
    succeeded: int = 0
    parked: int = 0
    under_way: int = 0
    needs_reconnecting: bool = False

    @property
    def state(self) -> str:
        """The word for the badge."""
        if self.needs_reconnecting or self.parked:
            return "needs_attention"
        if self.succeeded:
            return "healthy"
        return "waiting" if self.flow_count else "ok"

    @property
    def success_percent(self) -> int | None:
        """Of the runs that are over or stuck, how many succeeded; None while there are none."""
        ended = self.succeeded + self.parked
        return None if ended == 0 else round(100 * self.succeeded / ended)


@dataclass
class Tile:
    """One app on the launchpad."""

    installation: Installation
    health: Health = field(default_factory=Health)


@dataclass
class Shelf:
    """The tiles of one slot; slot None holds the rest."""

    slot: str | None
    tiles: list[Tile]


def shelves(session: Session, organization_id: str) -> list[Shelf]:
    """Return the toolbox by slot, in the order of a firm's work."""
    found = list(
        session.execute(
            installations.of_organization(organization_id).order_by(col(Installation.id))
        ).scalars()
    )
    health = health_of(session, organization_id, found)
    by_slot: dict[str | None, list[Tile]] = defaultdict(list)
    for installation in found:
        tile = Tile(installation, health.get(installation.id, Health()))
        by_slot[installation.slot if installation.slot in installations.SLOTS else None].append(
            tile
        )
    return [Shelf(slot, by_slot[slot]) for slot in (*installations.SLOTS, None) if by_slot[slot]]


def health_of(
    session: Session, organization_id: str, found: Iterable[Installation]
) -> dict[str, Health]:
    """Count, for each installation, its flows and their runs of the last days."""
    by_connection = {i.connection_id: i.id for i in found if i.connection_id}
    if not by_connection:
        return {}
    health = {installation_id: Health() for installation_id in by_connection.values()}
    counts = _run_counts(session, organization_id)
    for flow_id, connection_ids in flow_connections(session, organization_id).items():
        for connection_id in connection_ids & by_connection.keys():
            one = health[by_connection[connection_id]]
            one.flow_count += 1
            for (state, lane), count in counts.get(flow_id, {}).items():
                if state == "succeeded":
                    one.succeeded += count
                elif state == "parked":
                    # a run that stopped at one app says nothing against the others of its flow
                    one.parked += (
                        count if lane == connection_id or lane not in connection_ids else 0
                    )
                elif state in ("due", "leased", "waiting"):
                    one.under_way += count
    troubled = session.execute(
        select(col(Connection.id)).where(
            col(Connection.organization_id) == organization_id,
            col(Connection.id).in_(by_connection),
            col(Connection.state) == "needs_attention",
        )
    ).scalars()
    for connection_id in troubled:
        health[by_connection[connection_id]].needs_reconnecting = True
    return health


def flow_connections(session: Session, organization_id: str) -> dict[str, set[str]]:
    """Return, for each flow that is there, the connections its published version uses."""
    rows = session.execute(
        select(col(Flow.id), col(Flow.draft), col(FlowVersion.document))
        .outerjoin(
            FlowVersion,
            (col(FlowVersion.organization_id) == col(Flow.organization_id))
            & (col(FlowVersion.flow_id) == col(Flow.id))
            & (col(FlowVersion.number) == col(Flow.published_version)),
        )
        .where(col(Flow.organization_id) == organization_id, col(Flow.deleted_at).is_(None))
    )
    return {flow_id: _connections_in(document or draft or {}) for flow_id, draft, document in rows}


def _connections_in(document: Mapping[str, Any]) -> set[str]:
    steps = [s for s in document.get("steps") or [] if isinstance(s, Mapping)]
    nodes = [document.get("trigger") or {}, *steps]
    return {str(node["connection"]) for node in nodes if node.get("connection")}


def _run_counts(session: Session, organization_id: str) -> dict[str, Counter[tuple[str, str]]]:
    """Count runs by flow, state and the connection they stand before."""
    since = clock.now() - timedelta(days=HEALTH_DAYS)
    rows = session.execute(
        select(col(Run.flow_id), col(Run.state), col(Run.lane), func.count())
        .where(
            col(Run.organization_id) == organization_id,
            # what is stuck counts however old it is: somebody still has to look at it
            or_(col(Run.created_at) >= since, col(Run.state) == "parked"),
        )
        .group_by(col(Run.flow_id), col(Run.state), col(Run.lane))
    )
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for flow_id, state, lane, count in rows:
        counts[flow_id][state, lane] += count
    return counts
