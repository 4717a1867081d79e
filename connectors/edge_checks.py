"""Edge checks: error paths, calls, awaited events and the store, as a document writes them."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from catalog import json_schemas
from connectors import durations, flow_trees
from connectors.engine import flow_rests, flow_templates
from connectors.errors import finding

CONTINUE, END = "continue", "end"
ERROR_PATH = "error_path"
COLLECTION = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
_EVENT_TYPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+\Z")
MOST_LISTED = 100
Finding = dict[str, Any]


def check_trigger(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the trigger of a flow that others call, and that only such a flow gives back."""
    trigger = document["trigger"]
    kind = trigger.get("kind")
    if kind not in (None, flow_templates.CALLED):
        yield wrong_choice("/trigger/kind", (flow_templates.CALLED,))
        return
    if kind is None:
        for name, holder in (("output", document), ("input", trigger)):
            if holder.get(name) is not None:
                yield finding(
                    f"/{name}" if name == "output" else "/trigger/input",
                    "只有被其他流程调用的流程才能写这一项",
                    "Only a flow that others call may have this",
                )
        return
    for name in ("event", "version", "source", "connection", "connector", "trigger", "order_key"):
        if trigger.get(name):
            yield finding(
                f"/trigger/{name}",
                "被调用的流程不由事件启动，请去掉这一项",
                "A flow that others call starts by no event; leave this out",
            )
    for problem in json_schemas.check(trigger.get("input") or {"type": "object"}):
        words = problem["message"]
        at = f"/trigger/input{problem['pointer']}"
        yield finding(at, f"输入的结构不对：{words}", f"The input has no usable schema: {words}")


def check_error_path(holder: Mapping[str, Any], at: str) -> Iterator[Finding]:
    """Check what a step, or a flow, does when it has finally failed."""
    path = holder.get(flow_trees.ON_ERROR)
    if path is None:
        return
    here = f"{at}/{flow_trees.ON_ERROR}"
    choices = (CONTINUE, END) if at else (END,)
    if path.get("then", choices[-1] if not at else CONTINUE) not in choices:
        yield wrong_choice(f"{here}/then", choices)
    if path.get("on_unknown", ERROR_PATH) != ERROR_PATH:
        yield wrong_choice(f"{here}/on_unknown", (ERROR_PATH,))
    if not at and not path.get("steps"):
        yield finding(
            f"{here}/steps",
            "请写出流程出错时做什么",
            "Say what is done when the flow has failed",
        )


def check_step(place: flow_trees.Place) -> Iterator[Finding]:
    """Check what a step says about time, names and choices; what it reads is checked elsewhere."""
    step, at = place.step, place.pointer
    yield from check_error_path(step, at)
    if step["kind"] == "wait":
        yield from _check_wait(step, at)
    elif step["kind"] == "store":
        yield from _check_store(step, at)


def _check_wait(step: Mapping[str, Any], at: str) -> Iterator[Finding]:
    if not _EVENT_TYPE.match(str(step.get("event_type") or "")):
        yield finding(
            f"{at}/event_type",
            "请选择等哪一种事件，例如 order.shipped",
            "Choose which kind of event it waits for, for example order.shipped",
        )
    if not step.get("match"):
        yield finding(
            f"{at}/match",
            "请写出怎样认出等到的事件：比较哪两个值",
            "Say how the awaited event is recognised: which two values are compared",
        )
    if durations.read(step.get("for")) is None:
        yield wrong_duration(f"{at}/for")
    if step.get("at_deadline", "fail") not in flow_rests.AT_DEADLINE:
        yield wrong_choice(f"{at}/at_deadline", flow_rests.AT_DEADLINE)
    if step.get("since", "start") not in flow_rests.SINCE:
        yield wrong_choice(f"{at}/since", flow_rests.SINCE)


def _check_store(step: Mapping[str, Any], at: str) -> Iterator[Finding]:
    if not COLLECTION.match(str(step.get("collection") or "")):
        yield finding(
            f"{at}/collection",
            "数据集的名称用小写字母开头，只含小写字母、数字、- 和 _",
            "A collection's name starts with a small letter and holds small letters, digits, - "
            "and _",
        )
    if step.get("expires") and durations.read(step["expires"]) is None:
        yield wrong_duration(f"{at}/expires")
    limit = step.get("limit", 1)
    if type(limit) is not int or not 0 < limit <= MOST_LISTED:
        yield finding(
            f"{at}/limit", f"请写 1 到 {MOST_LISTED}", f"Write a number from 1 to {MOST_LISTED}"
        )


def wrong_duration(pointer: str) -> Finding:
    """Return the finding about a duration that cannot be read."""
    return finding(
        pointer,
        "请写成数字加单位，例如 30m、2h、3d，最长 366 天",
        "Write a number and a unit, such as 30m, 2h or 3d, 366 days at most",
    )


def wrong_choice(pointer: str, choices: Collection[str]) -> Finding:
    """Return the finding about a word that is none of those to choose from."""
    known = ", ".join(choices)
    return finding(pointer, f"只能是 {known}", f"It is one of {known}")
