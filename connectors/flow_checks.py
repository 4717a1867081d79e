"""Flow checks: what keeps a document from being read, and what keeps it from being published."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from connectors import order_keys
from connectors.engine import flow_templates
from connectors.errors import finding

KINDS = ("filter", "map", "action")
MAX_STEPS = 40
MAX_VERSION = 999_999
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_TRIGGER_PARTS = {"event", "version", "source", "connection", "connector", "trigger"}
_TRIGGER_PARTS |= {"order_key"}
_STEP_PARTS = {
    "filter": {"key", "kind", "title", "when"},
    "map": {"key", "kind", "title", "mapping"},
    "action": {"key", "kind", "title", "connector", "connection", "action", "input"},
}
Finding = dict[str, Any]


def check(
    document: Any,
    event_schema: Mapping[str, Any] | None,
    connections: Mapping[str, str],
) -> list[Finding]:
    """Return everything that keeps a document from being published; [] means it is good.

    `connections` gives the connector of each of the organization's usable connections.
    """
    findings = check_shape(document)
    if findings:
        return findings
    findings += _check_bindings(document, connections)
    for sentence in order_keys.check(_order_key(document), event_schema):
        findings.append({"pointer": "/trigger/order_key", "say": dict(sentence)})
    known = {one["pointer"] for one in findings}
    for problem in flow_templates.check_flow(_as_template(document), event_schema):
        if problem.target not in known:
            findings.append({"pointer": problem.target, "say": dict(problem.say)})
    return findings


def check_shape(document: Any) -> list[Finding]:
    """Return what makes a document unreadable: wrong kinds, unknown parts, unfit keys."""
    if not isinstance(document, dict):
        return [finding("", "流程要写成一个对象", "A flow is written as an object")]
    findings = [
        finding(f"/{name}", f"这里不认识“{name}”", f"“{name}” is not known here")
        for name in sorted(set(document) - {"trigger", "steps"})
    ]
    trigger, steps = document.get("trigger"), document.get("steps")
    if not isinstance(trigger, dict):
        findings.append(
            finding("/trigger", "请选择什么事情会启动流程", "Choose what starts the flow")
        )
    else:
        findings += _check_trigger(trigger)
    if not isinstance(steps, list):
        return [
            *findings,
            finding("/steps", "步骤要写成一个列表", "The steps are written as a list"),
        ]
    if len(steps) > MAX_STEPS:
        text_zh, text_en = f"步骤不能超过 {MAX_STEPS} 个", f"A flow has at most {MAX_STEPS} steps"
        findings.append(finding("/steps", text_zh, text_en))
    seen: set[str] = set()
    for position, step in enumerate(steps):
        findings += _check_step(f"/steps/{position}", step, seen)
    return findings


def _check_trigger(trigger: Mapping[str, Any]) -> Iterable[Finding]:
    for name in sorted(set(trigger) - _TRIGGER_PARTS):
        yield finding(f"/trigger/{name}", f"这里不认识“{name}”", f"“{name}” is not known here")
    for name in sorted(_TRIGGER_PARTS & set(trigger)):
        value = trigger[name]
        fits = _is_version(value) if name == "version" else isinstance(value, str)
        if value is not None and not fits:
            yield finding(f"/trigger/{name}", "这里的写法不对", "This is not written correctly")


def _order_key(document: Mapping[str, Any]) -> str:
    return order_keys.of_trigger(document["trigger"]) or order_keys.NONE


def _is_version(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_VERSION


def _check_step(pointer: str, step: Any, seen: set[str]) -> Iterable[Finding]:
    if not isinstance(step, dict):
        yield finding(pointer, "步骤要写成一个对象", "A step is written as an object")
        return
    kind, key = step.get("kind"), step.get("key")
    if kind not in KINDS:
        yield finding(
            f"{pointer}/kind",
            "步骤的种类只能是 filter、map 或 action",
            "A step is a filter, a map or an action",
        )
        return
    if not isinstance(key, str) or not _KEY.match(key):
        yield finding(
            f"{pointer}/key",
            "步骤名用小写字母开头，只含小写字母、数字和下划线",
            "A step's key starts with a small letter and holds small letters, digits and _",
        )
    elif key in seen:
        yield finding(f"{pointer}/key", f"已有步骤叫“{key}”", f"Another step is called “{key}”")
    else:
        seen.add(key)
    for name in sorted(set(step) - _STEP_PARTS[kind]):
        yield finding(f"{pointer}/{name}", f"这里不认识“{name}”", f"“{name}” is not known here")


def _check_bindings(document: Mapping[str, Any], connections: Mapping[str, str]) -> list[Finding]:
    findings = []
    trigger = document["trigger"]
    if not trigger.get("event"):
        findings.append(
            finding("/trigger/event", "请选择什么事情会启动流程", "Choose what starts the flow")
        )
    if trigger.get("connection") and trigger["connection"] not in connections:
        findings.append(_unknown_connection("/trigger/connection"))
    if not document["steps"]:
        findings.append(finding("/steps", "请至少加一个步骤", "Add at least one step"))
    for position, step in enumerate(document["steps"]):
        if step["kind"] != "action":
            continue
        pointer = f"/steps/{position}/connection"
        chosen = step.get("connection")
        if not chosen:
            findings.append(
                finding(pointer, "请选择用哪个连接", "Choose the connection this step uses")
            )
        elif chosen not in connections:
            findings.append(_unknown_connection(pointer))
        elif connections[chosen] != step.get("connector"):
            findings.append(
                finding(
                    pointer,
                    f"这个连接属于“{connections[chosen]}”，不是“{step.get('connector')}”",
                    f"This connection is to “{connections[chosen]}”, not “{step.get('connector')}”",
                )
            )
    return findings


def _unknown_connection(pointer: str) -> Finding:
    return finding(
        pointer,
        "这个连接不存在或已断开，请换一个",
        "This connection does not exist or is disconnected; choose another one",
    )


def _as_template(document: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only an organization's own document has."""
    trigger = {
        name: value
        for name, value in document["trigger"].items()
        if name not in ("source", "connection", "order_key") and value is not None
    }
    steps = [
        {name: value for name, value in step.items() if name != "connection"}
        for step in document["steps"]
    ]
    return {"trigger": trigger, "steps": steps}


def step_of(pointer: str) -> int | None:
    """Return which step a finding is about; None for the trigger and the flow itself."""
    parts = pointer.split("/")
    return (
        int(parts[2]) if len(parts) > 2 and parts[1] == "steps" and parts[2].isdecimal() else None
    )
