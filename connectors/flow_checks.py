"""Flow checks: what keeps a document from being published."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from connectors import durations, edge_checks, flow_trees, order_keys
from connectors.edge_checks import wrong_choice, wrong_duration
from connectors.engine import flow_templates
from connectors.engine.flow_rests import World
from connectors.errors import finding
from connectors.flow_shapes import check_shape
from identity import roles

BY_LINK = ("sign_in", "named")
AT_DEADLINE = ("refuse", "approve")
_OWN_NEWS = "approval."  # what approvals themselves tell
Finding = dict[str, Any]


def check(
    document: Any,
    event_schema: Mapping[str, Any] | None,
    connections: Mapping[str, str],
    members: Collection[str] = (),
    world: World | None = None,
) -> list[Finding]:
    """Return everything that keeps a document from being published; [] means it is good.

    `connections` gives the connector of each of the organization's usable connections, `members`
    the ids of its members, `world` the flows that may be called and the events that are known.
    """
    findings = check_shape(document)
    if findings:
        return findings
    findings += _check_bindings(document, connections)
    findings += edge_checks.check_trigger(document)
    findings += edge_checks.check_error_path(document, "")
    for place in flow_trees.walk(document):
        findings += _check_control(document, place, members)
        findings += edge_checks.check_step(place)
    for sentence in order_keys.check(_order_key(document), event_schema):
        findings.append({"pointer": "/trigger/order_key", "say": dict(sentence)})
    known = {one["pointer"] for one in findings}
    for problem in flow_templates.check_flow(_as_template(document), event_schema, world):
        if problem.target not in known:
            findings.append({"pointer": problem.target, "say": dict(problem.say)})
    return findings


def _order_key(document: Mapping[str, Any]) -> str:
    return order_keys.of_trigger(document["trigger"]) or order_keys.NONE


def _check_bindings(document: Mapping[str, Any], connections: Mapping[str, str]) -> list[Finding]:
    findings = []
    trigger = document["trigger"]
    if not trigger.get("event") and not flow_templates.is_called(document):
        findings.append(
            finding("/trigger/event", "请选择什么事情会启动流程", "Choose what starts the flow")
        )
    if trigger.get("connection") and trigger["connection"] not in connections:
        findings.append(_unknown_connection("/trigger/connection"))
    if not document["steps"]:
        findings.append(finding("/steps", "请至少加一个步骤", "Add at least one step"))
    for place in flow_trees.walk(document):
        step = place.step
        if step["kind"] != "action":
            continue
        pointer = f"{place.pointer}/connection"
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
    bare = flow_trees.changed(
        document, lambda step: {name: one for name, one in step.items() if name != "connection"}
    )
    return {**bare, "trigger": trigger}


# --- what has to do with time and people ---------------------------------------------------------


def _check_control(
    document: Mapping[str, Any], place: flow_trees.Place, members: Collection[str]
) -> Iterator[Finding]:
    step, at = place.step, place.pointer
    if step["kind"] == "branch" and not step["ways"]:
        yield finding(f"{at}/ways", "请至少加一条分支", "Add at least one way")
    if step["kind"] == "each" and step.get("on_item_error", "stop") not in ("stop", "go_on"):
        yield wrong_choice(f"{at}/on_item_error", ("stop", "go_on"))
    if step["kind"] == "delay":
        yield from _check_delay(step, at)
    if step["kind"] == "approval":
        if str(document["trigger"].get("event") or "").startswith(_OWN_NEWS):
            yield finding(
                at,
                "由审批启动的流程不能再提出审批，否则会没完没了",
                "A flow that approvals start cannot ask for one: it would never end",
            )
        yield from _check_approval(step, at, members)


def _check_delay(step: Mapping[str, Any], at: str) -> Iterator[Finding]:
    if bool(step.get("for")) == bool(step.get("until")):
        yield finding(
            f"{at}/for",
            "请写等多久，或等到什么时间，两者选一",
            "Say either how long it waits or until when",
        )
    elif step.get("for") and durations.read(step["for"]) is None:
        yield wrong_duration(f"{at}/for")


def _check_approval(
    step: Mapping[str, Any], at: str, members: Collection[str]
) -> Iterator[Finding]:
    for name in ("deadline", "remind"):
        if step.get(name) and durations.read(step[name]) is None:
            yield wrong_duration(f"{at}/{name}")
    if step.get("at_deadline", "refuse") not in AT_DEADLINE:
        yield wrong_choice(f"{at}/at_deadline", AT_DEADLINE)
    who = step.get("who") or {}
    named, held = who.get("members") or [], who.get("roles") or []
    if not isinstance(named, list) or not isinstance(held, list) or set(who) - {"members", "roles"}:
        yield finding(f"{at}/who", "这里的写法不对", "This is not written correctly")
        return
    if not named and not held:
        yield finding(f"{at}/who", "请选择由谁审批", "Choose who is asked")
    for role in held:
        if role not in roles.ROLES:
            yield finding(f"{at}/who", f"没有角色“{role}”", f"There is no role “{role}”")
    if step.get("by_link", "sign_in") not in BY_LINK:
        yield wrong_choice(f"{at}/by_link", BY_LINK)
    elif step.get("by_link") == "named" and (held or len(named) != 1):
        yield finding(
            f"{at}/by_link",
            "凭链接直接决定时，审批人只能选一位成员，不能选角色",
            "A link decides in the name of one person: ask one member, and no role",
        )
    if any(one not in members for one in named):
        yield finding(
            f"{at}/who",
            "选的审批人已不在本组织，请换一位",
            "Somebody who is asked is no member any more; choose another one",
        )
