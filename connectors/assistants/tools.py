"""Tools: the actions of the connections that an assistant may use, each with its JSON Schema."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from connectors import connections
from connectors.assistants import access
from connectors.engine import loader
from connectors.engine.connector import Action, Connector
from connectors.engine.findings import Say
from connectors.tables import Connection
from kernel.errors import NotFound

MAX_NAME = 64  # what assistants take
_TAIL = 10  # characters of the connection's id that tell two connections of one app apart


@dataclass(frozen=True, slots=True)
class Tool:
    """One action over one connection."""

    name: str
    connection: Connection
    connector: Connector
    action: Action

    @property
    def is_read(self) -> bool:
        """Tell whether it changes nothing."""
        return self.action.effect == "read"

    @property
    def asks_first(self) -> bool:
        """Tell whether a person decides before anything is done."""
        return not self.is_read and self.connection.assistant_access != access.ACT

    def title(self, language: str) -> str:
        """Return what the tool is called."""
        return f"{self.action.title[language]} · {self.connection.name}"

    def describe(self, language: str) -> str:
        """Return in a few sentences what it does, and what becomes of a call."""
        summary: Say = self.action.summary or {"zh": "", "en": ""}
        parts = [self.title(language), summary[language], _HOW[_manner(self)][language]]
        return "\n".join(part for part in parts if part)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its arguments: the action's input, and how it is meant."""
        properties: dict[str, Any] = {"input": dict(self.action.input)}
        if not self.is_read:
            properties |= {"dry_run": _DRY_RUN, "request_id": _REQUEST_ID}
        return {
            "type": "object",
            "required": ["input"],
            "additionalProperties": False,
            "properties": properties,
        }


_DRY_RUN = {
    "type": "boolean",
    "description": "true: show the request that would be sent, and send nothing.",
}
_REQUEST_ID = {
    "type": "string",
    "minLength": 1,
    "maxLength": 100,
    "description": "Your own id of this request: the same id is never carried out twice.",
}
_HOW: Mapping[str, Say] = {
    "read": {"zh": "只读取，不改变任何内容。", "en": "Reads; changes nothing."},
    "ask": {
        "zh": "会改变数据：先由组织里的人批准，之后才执行。可用 dry_run 先看会发送什么。",
        "en": "Changes data: somebody of the organization approves first. "
        "Use dry_run to see what would be sent.",
    },
    "act": {
        "zh": "会改变数据，直接执行一次。可用 dry_run 先看会发送什么。",
        "en": "Changes data, at once and once. Use dry_run to see what would be sent.",
    },
}


def _manner(tool: Tool) -> str:
    return "read" if tool.is_read else "ask" if tool.asks_first else "act"


def offered(session: Session, organization_id: str) -> list[Tool]:
    """List an organization's tools by name."""
    usable = [one for one in connections.all_of(session, organization_id) if one.state == "ready"]
    return sorted((tool for one in usable for tool in _of(one)), key=lambda tool: tool.name)


def _of(connection: Connection) -> Iterator[Tool]:
    connector = loader.known(connection.connector_key)
    if connector is None or connection.assistant_access == access.NONE:
        return
    for action in connector.actions.values():
        if action.effect == "read" or access.may_write(connection):
            yield Tool(name_of(connection, action), connection, connector, action)


def name_of(connection: Connection, action: Action) -> str:
    """Return a tool's name: the action's, and the end of the connection's id."""
    tail = connection.id[-_TAIL:].lower()
    return f"{action.key[: MAX_NAME - _TAIL - 1]}-{tail}"


def find(session: Session, organization_id: str, name: str) -> Tool:
    """Return the tool of that name; raises NotFound, also for one that is not given."""
    for tool in offered(session, organization_id):
        if tool.name == name:
            return tool
    raise NotFound
