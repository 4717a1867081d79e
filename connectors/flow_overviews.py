"""Flows at a glance: what joins what, how it went in the last days, and as a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from connectors import flow_trees, flows
from connectors.keys import among
from connectors.tables import Flow, FlowVersion, Run

OVER = ("succeeded", "skipped", "parked", "cancelled")


@dataclass(frozen=True)
class Overview:
    """A flow in a list: its document, its last run, and real figures of some days."""

    flow: Flow
    document: dict[str, Any]
    last: Run | None
    counts: Mapping[str, int]

    @property
    def good(self) -> int:
        """Count the runs that came to a good end."""
        return self.counts.get("succeeded", 0) + self.counts.get("skipped", 0)

    @property
    def over(self) -> int:
        """Count the runs that came to an end or stopped."""
        return sum(self.counts.get(state, 0) for state in OVER)

    @property
    def parked(self) -> int:
        """Count the runs that wait for a person."""
        return self.counts.get("parked", 0)

    @property
    def percent(self) -> int | None:
        """Return the share of good ends, rounded down; None without runs."""
        return None if not self.over else self.good * 100 // self.over


def overviews(session: Session, organization_id: str, since: datetime) -> list[Overview]:
    """Return every flow of the organization at a glance; five queries, however many there are."""
    found = flows.all_of(session, organization_id)
    documents = _published(session, organization_id)
    figures = flows.figures(session, organization_id, since)
    last = _last_runs(session, organization_id)
    return [
        Overview(
            flow=flow,
            document=documents.get(flow.id) or flow.draft or {"trigger": {}, "steps": []},
            last=last.get(flow.id),
            counts=figures.get(flow.id, {}),
        )
        for flow in found
    ]


def overview(session: Session, flow: Flow, since: datetime) -> Overview:
    """Return one flow at a glance."""
    document = (
        flows.version(session, flow.organization_id, flow.id, flow.published_version).document
        if flow.published_version
        else flows.document_of(session, flow)
    )
    last = Run.of(flow.organization_id).where(col(Run.flow_id) == flow.id)
    return Overview(
        flow=flow,
        document=document,
        last=session.execute(last.order_by(col(Run.id).desc()).limit(1)).scalar_one_or_none(),
        counts=flows.figures(session, flow.organization_id, since).get(flow.id, {}),
    )


def _published(session: Session, organization_id: str) -> dict[str, dict[str, Any]]:
    statement = (
        select(col(FlowVersion.flow_id), col(FlowVersion.document))
        .join(
            Flow,
            (col(Flow.organization_id) == col(FlowVersion.organization_id))
            & (col(Flow.id) == col(FlowVersion.flow_id))
            & (col(Flow.published_version) == col(FlowVersion.number)),
        )
        .where(col(FlowVersion.organization_id) == organization_id)
    )
    return {row[0]: row[1] for row in session.execute(statement)}


def _last_runs(session: Session, organization_id: str) -> dict[str, Run]:
    newest = (
        select(func.max(col(Run.id)))
        .where(col(Run.organization_id) == organization_id)
        .group_by(col(Run.flow_id))
    )
    keys = [(organization_id, run_id) for run_id in session.execute(newest).scalars()]
    if not keys:
        return {}
    statement = select(Run).where(among(Run, keys))
    return {run.flow_id: run for run in session.execute(statement).scalars()}


def joined(document: Mapping[str, Any]) -> list[str]:
    """List the connectors a document joins, in the order of the flow; neighbours once."""
    keys = [(document.get("trigger") or {}).get("connector")]
    keys += [place.step.get("connector") for place in flow_trees.walk(document)]
    found: list[str] = []
    for key in keys:
        if key and (not found or found[-1] != key):
            found.append(key)
    return found
