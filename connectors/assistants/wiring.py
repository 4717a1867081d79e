"""Wiring: the flow behind a tool that changes something.

A call becomes an event, and the event a run of this flow: so a call that was taken is never lost,
asks its question where all approvals are, acts once, and is repaired like every other run.
"""

from typing import Any

from sqlmodel import Session, col, select

from connectors import flows, routing
from connectors.assistants.tools import Tool
from connectors.tables import Connection, Flow

PREFIX = routing.ASSISTANTS
APPROVAL, ACTION = "decision", "action"
DEADLINE = "7d"


def event_type(tool: Tool) -> str:
    """Name the events that calls of a tool become; they belong to its connection."""
    return PREFIX + tool.action.key


def ensure(session: Session, tool: Tool, published_by: str | None) -> Flow:
    """Return the published flow of a tool, made or changed when it is not as the tool is now."""
    organization_id = tool.connection.organization_id
    key = f"{PREFIX}{tool.connection.id}.{tool.action.key}"
    # two first calls at once must not make two flows, which would both act
    mine = Connection.of(organization_id).where(col(Connection.id) == tool.connection.id)
    session.execute(mine.with_for_update()).scalar_one()
    found = session.execute(
        select(Flow).where(
            col(Flow.organization_id) == organization_id,
            col(Flow.template_key) == key,
            col(Flow.deleted_at).is_(None),
        )
    ).scalars()
    flow, wanted = found.first(), document(tool)
    if flow is None:
        name = f"助手 · {tool.action.title['zh']} → {tool.connection.name}"[:120]
        flow = flows.create(session, organization_id, name, wanted, template_key=key)
        session.flush()
        flows.publish(session, organization_id, flow.id, published_by)
    elif flow.draft is not None or flows.document_of(session, flow) != wanted:
        flows.save_draft(session, organization_id, flow.id, wanted)
        session.flush()
        flows.publish(session, organization_id, flow.id, published_by)
    return flow


def document(tool: Tool) -> dict[str, Any]:
    """Return the flow of a tool: ask if a person shall decide, then act."""
    act = {
        "key": ACTION,
        "kind": "action",
        "title": dict(tool.action.title),
        "connector": tool.connector.key,
        "connection": tool.connection.id,
        "action": tool.action.key,
        "input": "${event.data.input}",
    }
    ask = {
        "key": APPROVAL,
        "kind": "approval",
        "title": {"zh": "批准助手的请求", "en": "Approve what an assistant asks for"},
        "who": {"roles": ["owner", "admin"]},
        "subject": "${event.data.title}",
        "text": "${event.data.summary}",
        "deadline": DEADLINE,
        "at_deadline": "refuse",
    }
    return {
        "trigger": {"event": event_type(tool), "connection": tool.connection.id},
        "steps": [ask, act] if tool.asks_first else [act],
    }
