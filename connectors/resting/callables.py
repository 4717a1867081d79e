"""Callables: which flows of an organization may be called, and the versions that callers keep to.

A caller is pinned to the version that is published when it is published itself, so that nobody's
run changes because somebody else works on another flow.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from connectors import flow_trees
from connectors.engine import flow_templates
from connectors.engine.flow_rests import Called
from connectors.errors import finding
from connectors.resting.meeting import MAX_DEPTH
from connectors.stages.tables import FlowInTest
from connectors.tables import Flow, FlowVersion

Finding = dict[str, Any]
_Version = tuple[str, int]


def all_of(session: Session, organization_id: str, environment: str = "live") -> list[Called]:
    """Return the organization's flows that may be called in an environment, by name."""
    stage: Any = FlowInTest if environment == "test" else Flow
    statement = select(Flow, FlowVersion)
    if stage is not Flow:
        same = col(stage.organization_id) == col(Flow.organization_id)
        statement = statement.join(stage, same & (col(stage.id) == col(Flow.id)))
    statement = (
        statement.join(
            FlowVersion,
            (col(Flow.organization_id) == col(FlowVersion.organization_id))
            & (col(Flow.id) == col(FlowVersion.flow_id))
            & (col(stage.published_version) == col(FlowVersion.number)),
        )
        .where(
            col(Flow.organization_id) == organization_id,
            col(Flow.deleted_at).is_(None),
            col(stage.state) == "active",
            col(stage.listens_to).is_(None),
        )
        .order_by(col(Flow.name), col(Flow.id))
    )
    found = []
    known: dict[_Version, Any] = {}
    for flow, version in session.execute(statement):
        if flow_templates.is_called(version.document):
            known[flow.id, version.number] = version.document
            found.append((flow, version))
    return [
        _called(session, organization_id, flow, version.number, version.document, known)
        for flow, version in found
    ]


def by_name(
    session: Session, organization_id: str, document: Any, environment: str = "live"
) -> Mapping[str, Called]:
    """Return what a document's steps may call, by id and by template; reads nothing for no call."""
    if not any(place.step.get("kind") == "call" for place in flow_trees.walk(document)):
        return {}
    found: dict[str, Called] = {}
    for one in all_of(session, organization_id, environment):
        found[one.flow_id] = one
    templates = select(col(Flow.template_key), col(Flow.id)).where(
        col(Flow.organization_id) == organization_id,
        col(Flow.id).in_(list(found)),
        col(Flow.template_key).is_not(None),
    )
    for key, flow_id in session.execute(templates.order_by(col(Flow.id))):
        found[key] = found[flow_id]
    return found


def _called(
    session: Session,
    organization_id: str,
    flow: Flow,
    number: int,
    document: Mapping[str, Any],
    known: dict[_Version, Any],
) -> Called:
    calls, depth = _below(session, organization_id, document, known, MAX_DEPTH)
    trigger = document["trigger"]
    return Called(
        flow_id=flow.id,
        name=flow.name,
        version=number,
        input=trigger.get("input") or None,
        output=document.get("output"),
        calls=tuple(sorted(calls)),
        depth=depth + 1,
    )


def _below(
    session: Session,
    organization_id: str,
    document: Mapping[str, Any],
    known: dict[_Version, Any],
    levels: int,
) -> tuple[set[str], int]:
    """Return the flows that a published document calls, directly or not, and how deep."""
    calls: set[str] = set()
    depth = 0
    for key in _pins(document):
        calls.add(key[0])
        if key not in known:
            statement = FlowVersion.of(organization_id).where(
                col(FlowVersion.flow_id) == key[0], col(FlowVersion.number) == key[1]
            )
            version = session.execute(statement).scalar_one_or_none()
            known[key] = version.document if version else {"trigger": {}, "steps": []}
        if levels > 0:
            more, deeper = _below(session, organization_id, known[key], known, levels - 1)
            calls |= more
            depth = max(depth, deeper + 1)
    return calls, depth


def _pins(document: Mapping[str, Any]) -> list[_Version]:
    return [
        (str(place.step.get("flow")), int(place.step.get("version") or 0))
        for place in flow_trees.walk(document)
        if place.step["kind"] == "call"
    ]


def check(
    document: Mapping[str, Any], called: Mapping[str, Called], flow_id: str | None
) -> Iterator[Finding]:
    """Refuse flows that would call themselves, or each other too deep."""
    for place in flow_trees.walk(document):
        wanted = called.get(str(place.step.get("flow") or ""))
        if place.step.get("kind") != "call" or wanted is None:
            continue
        at = f"{place.pointer}/flow"
        if flow_id is not None and (flow_id == wanted.flow_id or flow_id in wanted.calls):
            yield finding(
                at,
                f"“{wanted.name}”会再调用本流程，没完没了；请换一条",
                f"“{wanted.name}” would call this flow again without end; choose another one",
            )
        elif 1 + wanted.depth > MAX_DEPTH:
            yield finding(
                at,
                f"这样流程互相调用超过 {MAX_DEPTH} 层",
                f"Flows would call each other more than {MAX_DEPTH} deep",
            )


def pinned(document: Mapping[str, Any], called: Mapping[str, Called]) -> dict[str, Any]:
    """Return a document whose calls name the flow and the version that they keep to."""

    def pin(step: Mapping[str, Any]) -> dict[str, Any]:
        wanted = called.get(str(step.get("flow") or ""))
        if step["kind"] != "call" or wanted is None:
            return dict(step)
        return {**step, "flow": wanted.flow_id, "version": wanted.version}

    return flow_trees.changed(document, pin) if called else dict(document)
