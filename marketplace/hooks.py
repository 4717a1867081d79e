"""Where packages that must not know each other meet: what goes up goes through these lists."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from flask import Flask

from catalog import event_types
from catalog.event_types import EventType
from connectors.engine import check_thin, loader, thin
from connectors.engine.connector import Connector, Trigger
from connectors.engine.declared import Fetch
from connectors.engine.findings import EngineError

_TEXT: Mapping[str, Any] = {"type": ["string", "null"]}
_APPROVAL = {
    "approval_id": "apv_1",
    "flow_id": "flw_1",
    "run_id": "run_1",
    "title": "Pay SO-1001?",
    "text": "176.00 CNY",
    "deadline_at": "2026-11-25T09:30:00+00:00",
    "path": "/approvals/apv_1",
    "link": "https://hub.example.com/decide/…",
}
_INCIDENT = {
    "incident_id": "inc_1",
    "kind": "run",
    "cause": "auth",
    "connector": "demo-erp",
    "action": "create_sales_order",
    "code": "401",
    "who_acts": "signer",
    "sentence": "登录被拒绝",
    "times_opened": "1",
    "count": "12",
    "closed_by": None,
    "path": "/recovery/inc_1",
}
_INSTALLATION = {"installation_id": "ins_1", "app_key": "demo-erp", "release_id": "rel_1"}
# What the hub itself tells a firm: name, title, sample of its data.
_NEWS = (
    ("installation.created", {"zh": "应用已安装", "en": "App installed"}, _INSTALLATION),
    ("installation.removed", {"zh": "应用已卸载", "en": "App uninstalled"}, _INSTALLATION),
    (
        "endpoint.disabled",
        {"zh": "推送地址已关闭", "en": "Endpoint switched off"},
        {"endpoint": "ep_1", "reason": "failing"},
    ),
    ("approval.asked", {"zh": "流程提出审批", "en": "Approval asked for"}, _APPROVAL),
    (
        "connection.drifted",
        {"zh": "应用的数据和连接器不一致", "en": "An app departs from its connector"},
        {
            "connection_id": "con_1",
            "connector": "demo-erp",
            "name": "ERP",
            "new": "2",
            "at": "2026-11-22T09:30:00+08:00",
            "path": "/connections/con_1#drifts",
        },
    ),
    ("approval.reminded", {"zh": "审批提醒", "en": "Approval still open"}, _APPROVAL),
    ("incident.opened", {"zh": "发现新故障", "en": "Trouble found"}, _INCIDENT),
    ("incident.closed", {"zh": "故障已解除", "en": "Trouble over"}, _INCIDENT),
    (
        "connection.expiring",
        {"zh": "连接将到期", "en": "Connection expires soon"},
        {
            "connection_id": "con_1",
            "name": "Orders",
            "connector_key": "demo-erp",
            "what": "consent",
            "ends_at": "2026-12-11T09:30:00+00:00",
            "days_left": "14",
            "path": "/connections/con_1",
        },
    ),
    (
        "approval.decided",
        {"zh": "审批已决定", "en": "Approval decided"},
        {**_APPROVAL, "decision": "approved", "by": "Li Wei", "comment": None},
    ),
)


def install(_app: Flask) -> None:
    """Fill the hook lists, once however many apps are made."""
    install_providers()


def install_providers() -> None:
    """Let the vocabulary know the event types that connectors declare."""
    for provider in (declared_types, own_news):
        if provider not in event_types.PROVIDERS:
            event_types.PROVIDERS.append(provider)


@cache
def declared_types() -> Iterable[EventType]:
    """Give the event types that connectors declare with a schema of their own."""
    return tuple(
        _event_type(connector, trigger)
        for connector in loader.library().values()
        for trigger in connector.triggers.values()
        if trigger.schema and not trigger.event.endswith("*")
    ) + tuple(
        _completed_type(connector, trigger, trigger.fetch)
        for connector in loader.library().values()
        for trigger in connector.triggers.values()
        if trigger.fetch is not None
    )


@cache
def own_news() -> Iterable[EventType]:
    """Give the event types of what the hub itself tells a firm."""
    return tuple(
        EventType(
            name=name,
            version=1,
            title=title,
            schema={
                "type": "object",
                "properties": {field: dict(_TEXT) for field in sample},
            },
            sample=sample,
            origin="hub",
        )
        for name, title, sample in _NEWS
    )


def _completed_type(connector: Connector, trigger: Trigger, fetch: Fetch) -> EventType:
    """Return the type of the whole events that are made of a trigger's."""
    action = connector.actions[fetch.action or ""]
    seen = check_thin.sample_of(connector, trigger) or {"event": {"data": {}}}
    try:
        sample = thin.complete(fetch, seen, action.sample["output"]).data
    except EngineError:
        sample = {}
    return EventType(
        name=fetch.event,
        version=fetch.version,
        title={
            "zh": f"{trigger.title['zh']}（完整）",
            "en": f"{trigger.title['en']} (complete)",
        },
        schema=dict(fetch.schema or {}),
        sample=sample,
        term_source=connector.title["en"],
        origin="connector",
    )


def _event_type(connector: Connector, trigger: Trigger) -> EventType:
    return EventType(
        name=trigger.event,
        version=trigger.version,
        title=dict(trigger.title),
        schema=dict(trigger.schema or {}),
        sample=trigger.sample.get("body", {}),
        term_source=connector.title["en"],
        origin="connector",
    )
