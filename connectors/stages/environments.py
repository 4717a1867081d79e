"""Environments: where connections and sources belong, and what a document names in each."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from connectors import connections, flow_trees
from connectors.errors import InUse, Unfit, finding
from connectors.flow_documents import connections_in
from connectors.flow_shapes import ENVIRONMENTS
from connectors.stages.tables import FlowInTest
from connectors.tables import Connection, Flow, FlowVersion
from kernel.errors import N_
from webhooks import sources
from webhooks.tables import Source

LIVE, TEST = ENVIRONMENTS
Finding = dict[str, Any]


def put_connection(
    session: Session, organization_id: str, connection_id: str, environment: str
) -> Connection:
    """Move a connection to an environment, along with the sources whose hooks are its own.

    Refused while a published flow of the other environment uses it: its runs would change sides.
    """
    _check(environment)
    found = connections.find(session, organization_id, connection_id)
    if found.environment == environment:
        return found
    if _is_used(session, organization_id, connection_id):
        raise InUse(
            N_("Published flows use this connection"),
            N_("Give them another one first, or connect the app once more for the other side."),
        )
    found.environment = environment
    session.add(found)
    session.execute(
        update(Source)
        .where(
            col(Source.organization_id) == organization_id,
            col(Source.connection_id) == connection_id,
        )
        .values(environment=environment)
        .execution_options(synchronize_session="fetch")
    )
    return found


def _is_used(session: Session, organization_id: str, connection_id: str) -> bool:
    """Tell whether a version that runs in either environment names a connection."""
    running = [
        select(col(FlowVersion.document)).join(
            stage,
            (col(stage.organization_id) == col(FlowVersion.organization_id))
            & (col(stage.id) == col(FlowVersion.flow_id))
            & (col(stage.published_version) == col(FlowVersion.number)),
        )
        for stage in (Flow, FlowInTest)
    ]
    gone = running[0].where(col(Flow.deleted_at).is_(None))
    for statement in (gone, running[1]):
        mine = statement.where(col(FlowVersion.organization_id) == organization_id)
        for document in session.execute(mine).scalars():
            if connection_id in connections_in(document):
                return True
    return False


def put_source(session: Session, organization_id: str, source_id: str, environment: str) -> Source:
    """Move a source to an environment; what comes in from now on feeds the flows there."""
    _check(environment)
    source = sources.get(session, organization_id, source_id)
    source.environment = environment
    session.add(source)
    return source


def _check(environment: str) -> None:
    if environment not in ENVIRONMENTS:
        raise Unfit([finding("/environment", "只能是 live 或 test", "It is live or test")])


# --- documents -----------------------------------------------------------------------------------


def chosen(document: Mapping[str, Any], environment: str) -> dict[str, str]:
    """Return the connections that a document names for an environment, by those of its steps."""
    written = (document.get("environments") or {}).get(environment) or {}
    return dict(written.get("connections") or {})


def bound(document: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Return a document with the connections of an environment in place of those it names."""
    swap = chosen(document, environment)
    if not swap:
        return dict(document)

    def bind(step: Mapping[str, Any]) -> dict[str, Any]:
        named = step.get("connection")
        return {**step, "connection": swap.get(named, named)} if named else dict(step)

    made = flow_trees.changed(document, bind)
    named = document["trigger"].get("connection")
    if named:
        made["trigger"] = {**document["trigger"], "connection": swap.get(named, named)}
    return made


def check(
    session: Session, organization_id: str, document: Mapping[str, Any], environment: str
) -> list[Finding]:
    """Return what a bound document names that belongs to the other environment."""
    theirs = _elsewhere(session, organization_id, environment)
    return list(_foreign(document, theirs, environment)) if theirs else []


def _elsewhere(session: Session, organization_id: str, environment: str) -> set[str]:
    """Return the connections and sources that are not of an environment."""
    found: set[str] = set()
    for table in (Connection, Source):
        statement = select(col(table.id)).where(
            col(table.organization_id) == organization_id, col(table.environment) != environment
        )
        found.update(session.execute(statement).scalars())
    return found


def _foreign(document: Mapping[str, Any], theirs: set[str], environment: str) -> Iterator[Finding]:
    zh, en = ("测试", "test") if environment == TEST else ("正式", "live")
    named = [("/trigger/connection", document["trigger"].get("connection"))]
    named.append(("/trigger/source", document["trigger"].get("source")))
    named += [
        (f"{place.pointer}/connection", place.step.get("connection"))
        for place in flow_trees.walk(document)
    ]
    for pointer, one in named:
        if one in theirs:
            yield finding(
                pointer,
                f"这里用的不是{zh}环境的连接；请为{zh}环境选一个",
                f"This is not of the {en} environment; choose one that is",
            )
