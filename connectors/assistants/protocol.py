"""The protocol: the official package's server over the menu; loaded when it is first needed."""

from typing import Any

import mcp_types as types
import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from connectors.assistants import menu
from connectors.assistants.calling import caller, in_thread
from identity.principals import Principal
from kernel.errors import Forbidden

NAME = "yangfan"


def manager() -> StreamableHTTPSessionManager:
    """Return what serves the protocol, one request at a time, keeping nothing in between."""
    return StreamableHTTPSessionManager(app=_server(), json_response=True, stateless=True)


def _server() -> Server[Any]:
    return Server(
        NAME,
        title="扬帆 Yangfan",
        instructions=_INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
    )


async def _list_tools(_context: Any, asked: Any) -> types.ListToolsResult:
    who, language = caller.get()
    cursor = asked.cursor if asked is not None else None
    dishes, following = await in_thread(lambda: _listed(who, language, cursor))
    tools = [
        types.Tool(
            name=one.name,
            title=one.title,
            description=one.description,
            input_schema=dict(one.schema),
            annotations=types.ToolAnnotations(
                title=one.title,
                read_only_hint=one.is_read,
                destructive_hint=not one.is_read,
                idempotent_hint=one.is_idempotent,
                open_world_hint=True,
            ),
        )
        for one in dishes
    ]
    return types.ListToolsResult(tools=tools, next_cursor=following)


def _listed(who: Principal, language: str, cursor: str | None) -> Any:
    try:
        return menu.listed(who, language, cursor)
    except Forbidden:
        return [], None  # a key without the permission sees an empty menu


async def _call_tool(_context: Any, asked: Any) -> types.CallToolResult:
    who, language = caller.get()
    told = await in_thread(lambda: menu.serve(who, asked.name, asked.arguments or {}, language))
    text = orjson.dumps(told.value, default=str).decode()
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=orjson.loads(text),
        is_error=told.is_error,
    )


_INSTRUCTIONS = (
    "Tools of an organization's business apps. Tools that change data may wait for a person's "
    "approval: you are given a call_id; look again with check_call and never ask a second time. "
    "Give a request_id of your own so that nothing is done twice. Flows are drafted with "
    "list_wiring, check_flow, try_flow and draft_flow; a person publishes them."
)
