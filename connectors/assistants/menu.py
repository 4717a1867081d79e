"""The menu: what /mcp lists, and which function serves which tool; plain values, no protocol."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.assistants import calls, drafting, tools
from connectors.assistants.calls import Told
from connectors.errors import Unfit
from identity.principals import Principal
from kernel.database import reading
from kernel.errors import Forbidden, NotFound, Problem

Serve = Callable[[Principal, Mapping[str, Any], str], Told]
PAGE = 100


@dataclass(frozen=True, slots=True)
class Dish:
    """One tool as assistants see it."""

    name: str
    title: str
    description: str
    schema: Mapping[str, Any]
    is_read: bool
    is_idempotent: bool = True


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


_DOCUMENT = {
    "type": "object",
    "description": "A flow: {trigger: {event, connection?}, steps: [{key, kind, …}]}.",
}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}

# name → (titles, descriptions, schema, whether it changes nothing, who serves it)
OWN: Mapping[str, tuple[Mapping[str, str], Mapping[str, str], dict[str, Any], bool, Serve]] = {
    "check_call": (
        {"zh": "查看之前的请求", "en": "Look at an earlier call"},
        {
            "zh": "返回一次会改变数据的请求现在的状态：等待批准、处理中、完成或停下。",
            "en": "Tells how a call that changes data stands: waits, under way, done or stopped.",
        },
        _object(("call_id",), call_id=_TEXT),
        True,
        lambda who, given, language: calls.check(who, given["call_id"], language),
    ),
    "list_wiring": (
        {"zh": "列出可用来搭流程的连接", "en": "List what flows can be made of"},
        {
            "zh": "列出已连接的应用及其触发事件、动作和数据格式，供编写流程使用。",
            "en": "Lists the connected apps with their events, actions and schemas.",
        },
        _object(),
        True,
        lambda who, _, language: drafting.wiring_facts(who, language),
    ),
    "list_flows": (
        {"zh": "列出流程", "en": "List the flows"},
        {"zh": "列出本组织的流程。", "en": "Lists the organization's flows."},
        _object(),
        True,
        lambda who, _given, _language: drafting.list_flows(who),
    ),
    "check_flow": (
        {"zh": "检查流程", "en": "Check a flow"},
        {
            "zh": "检查一个流程文档能否发布，并指出每处问题。",
            "en": "Says what keeps a flow from being published, place by place.",
        },
        _object(("document",), document=_DOCUMENT),
        True,
        lambda who, given, language: drafting.check_flow(who, given["document"], language),
    ),
    "try_flow": (
        {"zh": "试运行流程", "en": "Try a flow"},
        {
            "zh": "用一个示例事件试运行流程文档，显示每一步会发送什么；不会真的发送。",
            "en": "Runs a flow on a sample event and shows what each step would send. "
            "Nothing is sent.",
        },
        _object(
            ("document",),
            document=_DOCUMENT,
            event={"type": "object", "description": "{data: …}, as the trigger brings it."},
        ),
        True,
        lambda who, given, language: drafting.try_flow(
            who, given["document"], given.get("event", {}), language
        ),
    ),
    "draft_flow": (
        {"zh": "起草流程", "en": "Draft a flow"},
        {
            "zh": "把流程文档存为草稿，由人检查后发布；不会自动启用。",
            "en": "Saves a flow as a draft. A person reads and publishes it; it does not run.",
        },
        _object(("name", "document"), name=_TEXT, document=_DOCUMENT),
        False,
        lambda who, given, language: drafting.draft_flow(
            who, given["name"], given["document"], language
        ),
    ),
}


def listed(who: Principal, language: str, cursor: str | None) -> tuple[list[Dish], str | None]:
    """Return a page of tools and what names the next page; raises Forbidden."""
    if not who.may(calls.PERMISSION):
        raise Forbidden
    dishes = [
        Dish(name, titles[language], says[language], schema, is_read)
        for name, (titles, says, schema, is_read, _) in OWN.items()
    ]
    with reading(who.organization_id) as session:
        offered = tools.offered(session, who.organization_id)
    dishes += [
        Dish(
            tool.name,
            tool.title(language),
            tool.describe(language),
            tool.schema(),
            tool.is_read,
            tool.action.is_idempotent,
        )
        for tool in offered
    ]
    start = int(cursor) if cursor and re.fullmatch(r"[0-9]{1,6}", cursor) else 0
    end = start + PAGE
    return dishes[start:end], str(end) if end < len(dishes) else None


def serve(who: Principal, name: str, arguments: Mapping[str, Any], language: str) -> Told:
    """Serve one call; what is refused is told, never raised."""
    try:
        own = OWN.get(name)
        if own is None:
            return calls.call(who, name, arguments, language)
        return _own(own, who, arguments, language)
    except (NotFound, Forbidden) as no:
        return Told({"state": "refused", "code": no.code, "problem": _NOT_HERE[language]}, True)
    except Problem as problem:
        return Told({"state": "refused", "code": problem.code, "problem": problem.plain()}, True)


def _own(own: Any, who: Principal, arguments: Mapping[str, Any], language: str) -> Told:
    _, _, schema, _, work = own
    wrong = calls.problems_of(schema, arguments, language)
    if wrong:
        return Told({"state": "refused", "problems": wrong}, True)
    if not drafting.is_small(dict(arguments)):
        return Told({"state": "refused", "problem": _TOO_LARGE[language]}, True)
    try:
        told: Told = work(who, arguments, language)
    except Unfit as unfit:
        return Told({"ok": False, "problems": drafting.in_words(unfit.findings, language)}, True)
    return told


_NOT_HERE = {
    "zh": "没有这个工具或内容，或这把钥匙没有权限。请让管理员在“连接”页面允许助手使用。",
    "en": "There is no such tool or thing, or this key may not use it. "
    "An administrator allows it on the connection's page.",
}
_TOO_LARGE = {"zh": "内容超过 256 KB", "en": "It is larger than 256 kB"}
