"""Flow rests: what steps that call a flow, await an event or use the store need and give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.engine import mapping
from connectors.engine.expressions import BadExpression, compile_expression
from connectors.engine.findings import Problem, say
from connectors.engine.mapping_check import EVENT, Sources, check_condition
from connectors.engine.schemas import Schema

OPERATIONS = ("get", "put", "add", "delete", "list")
SINCE = ("start", "step")
AT_DEADLINE = ("fail", "go_on", "end")
TEXT = {"type": "string"}
_ANY: dict[str, Any] = {}


def shape(**properties: tuple[dict[str, Any], str, str]) -> dict[str, Any]:
    """Return the schema of an object from its fields' schemas and titles."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {**schema, "x-title": {"zh": zh, "en": en}}
            for name, (schema, zh, en) in properties.items()
        },
    }


@dataclass(frozen=True)
class Called:
    """A flow that may be called: a published version of it."""

    flow_id: str
    name: str
    version: int
    input: Schema | None
    output: Any = None  # the mapping of what it gives back
    calls: tuple[str, ...] = ()  # the flows it calls itself, and those they call
    depth: int = 1  # how many flows deep it goes, itself counted


@dataclass(frozen=True)
class World:
    """What a document refers to outside of itself."""

    called: Mapping[str, Called] = field(default_factory=dict)  # by what a step may call it
    schema_of: Callable[[str], Schema | None] = lambda _name: None  # of an event type's data


# what went wrong, as the steps of an error path read it
_FAILED: dict[str, tuple[dict[str, Any], str, str]] = {
    "class": (TEXT, "哪一类问题", "What kind of trouble"),
    "code": (TEXT, "代码", "Code"),
    "message": (TEXT, "中文说明", "In Chinese"),
    "message_en": (TEXT, "英文说明", "In English"),
    "detail": (TEXT, "对方应用的原话", "The app's own words"),
    "step": (TEXT, "哪一步", "Which step"),
    "status": ({"type": ["integer", "null"]}, "HTTP 状态", "HTTP status"),
}
ERROR = shape(**_FAILED)
_GIVEN: dict[str, dict[str, Any]] = {
    "get": shape(
        found=({"type": "boolean"}, "有没有", "Whether it is there"), value=(_ANY, "值", "Value")
    ),
    "put": shape(is_new=({"type": "boolean"}, "原来没有", "It was not there before")),
    "add": shape(value=({"type": ["number"]}, "加后的数", "The number now")),
    "delete": shape(found=({"type": "boolean"}, "原来有", "It was there")),
    "list": shape(
        items=({"type": "array", "items": _ANY}, "各项（entry、value）", "Items (entry, value)"),
        count=({"type": "integer"}, "几项", "How many"),
        more=({"type": "boolean"}, "还有更多", "There are more"),
    ),
}


def stored(operation: str) -> dict[str, Any]:
    """Return the schema of what an operation on the store gives."""
    return _GIVEN.get(operation, {})


def awaited(data: Schema | None) -> dict[str, Any]:
    """Return the schema of what a wait gives."""
    found = shape(
        came=({"type": "boolean"}, "等到了没有", "Whether it came"),
        until=(TEXT, "最晚等到", "Until when it waited"),
        id=(TEXT, "等到的事件编号", "Id of the event"),
        type=(TEXT, "等到的事件类型", "Type of the event"),
        time=(TEXT, "等到的事件时间", "Time of the event"),
        subject=({"type": ["string", "null"]}, "等到的事件主题", "Subject of the event"),
        data=(_ANY, "等到的事件内容", "Data of the event"),
    )
    if isinstance(data, Mapping):
        found["properties"]["data"] = {
            name: value for name, value in data.items() if name != "$defs"
        }
        found |= {"$defs": data["$defs"]} if "$defs" in data else {}
    return found


def given_back(called: Called) -> Schema | None:
    """Return the schema of what a called flow gives, as far as its mapping tells."""
    if called.output is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(called.output, Mapping) or len(called.output) == 0:
        return None
    return {"type": "object", "properties": {str(name): {} for name in called.output}}


def check_call(
    step: Mapping[str, Any], sources: Sources, world: World
) -> tuple[list[Problem], Schema | None]:
    """Check a call's input against what the flow wants; returns also what it gives."""
    wanted = str(step.get("flow") or "")
    if not wanted:
        return [Problem("/flow", say("请选择调用哪条流程", "Choose the flow to call"))], None
    called = world.called.get(wanted)
    if called is None:
        text = say(
            "没有这条可以调用的流程：它须由“被调用”启动，并已发布",
            "No such flow can be called: it must be one that starts by being called, "
            "and be published",
        )
        return [Problem("/flow", text)], None
    found = mapping.check_mapping(step["input"], sources, called.input)
    return _below("/input", found), given_back(called)


def check_wait(
    step: Mapping[str, Any], sources: Sources, world: World
) -> tuple[list[Problem], Schema | None]:
    """Check what a wait correlates; returns also what it gives."""
    data = world.schema_of(str(step.get("event_type") or ""))
    return list(_wait_problems(step, sources, data)), awaited(data)


def _wait_problems(
    step: Mapping[str, Any], sources: Sources, data: Schema | None
) -> Iterator[Problem]:
    match = step["match"]
    for name in ("value", "path"):
        if not isinstance(match.get(name), str) or not match[name].strip():
            text = say(
                "请写出拿什么值、和等到的事件里哪个字段比较",
                "Say which value is compared with which field of the awaited event",
            )
            yield Problem(f"/match/{name}", text)
            return
    if "${" not in match["value"]:
        text = say("要比较的值须取自本次运行", "The value must be read from the run")
        yield Problem("/match/value", text)
    yield from _below("/match/value", mapping.check_mapping(match["value"], sources))
    seen: dict[str, Schema] = {"awaited": EVENT}
    if data is not None:
        seen["awaited.data"] = data
    try:
        path = compile_expression(f"awaited.{match['path'].strip()}")
    except BadExpression:
        path = None
    if path is None or not path.is_path:
        text = say("请写成 data.order_no 这样的路径", "Write a path such as data.order_no")
        yield Problem("/match/path", text)
    else:
        yield from check_condition(path, seen, "/match/path")
    when = str(step.get("when") or "").strip()
    if when:
        bare = when[2:-1].strip() if when.startswith("${") and when.endswith("}") else when
        try:
            yield from check_condition(compile_expression(bare), {**sources, **seen}, "/when")
        except BadExpression as bad:
            yield Problem("/when", bad.say, bare)


def check_store(step: Mapping[str, Any], sources: Sources) -> tuple[list[Problem], Schema | None]:
    """Check what a step does with the store; returns also what it gives."""
    operation = step.get("operation")
    if operation not in OPERATIONS:
        known = ", ".join(OPERATIONS)
        return [Problem("/operation", say(f"只能是 {known}", f"It is one of {known}"))], None
    found = []
    if operation != "list" and not str(step.get("entry") or "").strip():
        text = say("请写存在哪个键下", "Say which key it is kept under")
        found.append(Problem("/entry", text))
    if operation == "put" and "value" not in step:
        found.append(Problem("/value", say("请写要存什么", "Say what is to be kept")))
    for name in ("entry", "value", "amount", "prefix"):
        if step.get(name) is not None:
            found += _below(f"/{name}", mapping.check_mapping(step[name], sources))
    return found, stored(str(operation))


def _below(at: str, problems: Sequence[Problem]) -> list[Problem]:
    return [Problem(at + one.target, one.say, one.source) for one in problems]
