"""Flow steps: what each kind needs, and the check of what steps read, also inside others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.engine import flow_rests, loader, mapping, mapping_check
from connectors.engine.expressions import BadExpression, compile_expression
from connectors.engine.findings import Problem, say
from connectors.engine.flow_rests import World
from connectors.engine.mapping_check import Sources, check_condition
from connectors.engine.schemas import Schema

KINDS = {
    "filter": {"when"},
    "map": {"mapping"},
    "action": {"connector", "action", "input"},
    "branch": {"ways"},
    "each": {"over", "steps"},
    "delay": set[str](),
    "approval": {"subject"},
    "call": {"flow", "input"},
    "wait": {"event_type", "match"},
    "store": {"operation", "collection"},
}
MAX_STEPS = 80  # those inside others counted
MAX_ITEMS = 1_000
KEY = r"^[a-z][a-z0-9_]{0,40}$"


def _object(**properties: tuple[str, str, str]) -> dict[str, Any]:
    """Return the schema of an object from its fields' kinds and titles."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": kind, "x-title": {"zh": zh, "en": en}}
            for name, (kind, zh, en) in properties.items()
        },
    }


# what steps that lead elsewhere or wait give to later ones
WAY = _object(way=("string", "走的分支", "The way it went"))
WAITED = _object(until=("string", "等到的时间", "Until when it waited"))
COUNTED = _object(
    count=("integer", "项数", "Items"),
    done=("integer", "完成的项数", "Items done"),
    skipped=("integer", "略过的项数", "Items left out"),
    failed=("integer", "失败的项数", "Items that failed"),
    results=("array", "每项的结果", "The result of each item"),
    errors=("array", "失败的原因", "Why items failed"),
)
DECIDED = _object(
    decision=("string", "决定（approved 或 refused）", "The decision (approved or refused)"),
    by=("string", "谁决定的", "Who decided"),
    comment=("string", "说明", "The comment"),
    at=("string", "何时决定的", "When it was decided"),
    how=("string", "由人或到期（person、deadline）", "By a person or the deadline"),
)


@dataclass
class Known:
    """What steps may read at some place of a flow."""

    event: Schema | None
    outputs: dict[str, Schema | None] = field(default_factory=dict)
    items: dict[str, Schema | None] = field(default_factory=dict)  # of the loops around, by key
    world: World = field(default_factory=World)
    has_failed: bool = False  # in an error path

    def sources(self) -> Sources:
        """Return it as mappings are checked against it; the innermost loop's item is `item`."""
        outputs = {**self.outputs, **dict.fromkeys(self.items)}
        found: dict[str, Any] = dict(mapping.source_schema(self.event, outputs))
        for key, item in self.items.items():
            named = {"item": {}, "index": {"type": "integer"}}
            found["steps"]["properties"][key]["properties"] = named
            found["item"] = {} if item is None else item
            found["index"] = {"type": "integer"}
            if item is not None:
                found[f"steps.{key}.item"] = item
        if self.has_failed:
            found["error"] = flow_rests.ERROR
        return found


def all_steps(steps: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Give every step of a list, and those inside others."""
    for step in steps:
        yield step
        lists = [way.get("steps") for way in step.get("ways") or ()]
        lists += [step.get("else"), step.get("steps"), step.get("refused")]
        lists.append((step.get("on_error") or {}).get("steps"))
        for inner in lists:
            yield from all_steps(inner or ())


def check_steps(steps: Sequence[Mapping[str, Any]], at: str, known: Known) -> list[Problem]:
    """Return what is wrong with a list of steps; what they give is added to `known`."""
    problems: list[Problem] = []
    for position, step in enumerate(steps):
        here = f"{at}/{position}"
        if step["key"] in known.outputs:
            text = say(f"步骤名 {step['key']} 重复", f"The step key {step['key']} is used twice")
            problems.append(Problem(f"{here}/key", text))
        problems += _below(here, _check_step(step, known))
    return problems


def _check_step(step: Mapping[str, Any], known: Known) -> list[Problem]:
    kind, output = step["kind"], _GIVES.get(step["kind"])
    if kind == "filter":
        found = check_when(step["when"], known.sources(), "/when")
    elif kind == "map":
        found = _below("/mapping", mapping.check_mapping(step["mapping"], known.sources()))
    elif kind == "branch":
        found = list(_check_branch(step, known))
    elif kind == "each":
        found, output = _check_each(step, known)
    elif kind == "delay":
        found = []
        if step.get("until"):
            checked = mapping.check_mapping(step["until"], known.sources(), {"type": "string"})
            found = _below("/until", checked)
    elif kind == "approval":
        found = list(_check_approval(step, known))
    else:
        found, output = _check_edge(step, known)
    # what failed gave nothing that its error path could read
    found += check_error_path(step, replace(known, outputs={**known.outputs, step["key"]: {}}))
    known.outputs[step["key"]] = output
    return found


def _check_edge(step: Mapping[str, Any], known: Known) -> tuple[list[Problem], Schema | None]:
    """Check a step that reaches outside of the run."""
    sources = known.sources()
    if step["kind"] == "call":
        return flow_rests.check_call(step, sources, known.world)
    if step["kind"] == "wait":
        return flow_rests.check_wait(step, sources, known.world)
    if step["kind"] == "store":
        return flow_rests.check_store(step, sources)
    return _check_action(step, sources)


def check_error_path(holder: Mapping[str, Any], known: Known) -> list[Problem]:
    """Check the steps that a step, or a flow, does when it has finally failed."""
    path = holder.get("on_error") or {}
    inner = replace(known, outputs=dict(known.outputs), has_failed=True)
    return check_steps(path.get("steps") or [], "/on_error/steps", inner)


_GIVES: dict[str, Schema | None] = {"branch": WAY, "delay": WAITED, "approval": DECIDED}


def _below(at: str, problems: Sequence[Problem]) -> list[Problem]:
    return [Problem(at + one.target, one.say, one.source) for one in problems]


def _check_action(step: Mapping[str, Any], sources: Sources) -> tuple[list[Problem], Schema | None]:
    connector = loader.known(step["connector"])
    action = connector.actions.get(step["action"]) if connector else None
    if action is None:
        name = f"{step['connector']}.{step['action']}"
        text = say("请选择这一步做什么", "Choose what this step does")
        if step["action"]:
            text = say(f"没有动作 {name}", f"There is no action {name}")
        return [Problem("/action", text)], None
    found = mapping.check_mapping(step["input"], sources, action.input)
    return _below("/input", found), action.output


def check_when(when: Any, sources: Sources, at: str) -> list[Problem]:
    """Return what is wrong with a condition."""
    if isinstance(when, bool):
        return []
    text = when.strip()
    if text.startswith("${") and text.endswith("}"):
        text = text[2:-1].strip()
    try:
        return check_condition(compile_expression(text), sources, at)
    except BadExpression as bad:
        return [Problem(at, bad.say, text)]


def _check_branch(step: Mapping[str, Any], known: Known) -> Iterator[Problem]:
    """Steps behind a branch may read what its ways gave, if it was there."""
    given: dict[str, Schema | None] = {}
    lists = [(f"/ways/{n}/steps", way["steps"]) for n, way in enumerate(step["ways"])]
    for number, way in enumerate(step["ways"]):
        yield from check_when(way["when"], known.sources(), f"/ways/{number}/when")
    for at, steps in [*lists, ("/else", step.get("else") or [])]:
        # what another way gave is not there in this one, though its keys are taken
        readable = replace(known, outputs=dict(known.outputs))
        yield from check_steps(steps, at, readable)
        fresh = {k: v for k, v in readable.outputs.items() if k not in known.outputs}
        for key in sorted(set(given) & set(fresh)):
            yield Problem(at, say(f"步骤名 {key} 重复", f"The step key {key} is used twice"))
        given |= fresh
    known.outputs |= given


def _check_each(step: Mapping[str, Any], known: Known) -> tuple[list[Problem], Schema | None]:
    sources = known.sources()
    found = _below("/over", mapping.check_mapping({"each": step["over"], "do": ""}, sources))
    item, fewest = None, 0
    if not found:
        item, fewest = mapping_check.element_of(step["over"], sources)
    if fewest > MAX_ITEMS:
        text = f"逐项处理最多 {MAX_ITEMS} 项", f"A loop goes through {MAX_ITEMS} items at most"
        found.append(Problem("/over", say(*text)))
    inner = replace(known, outputs=dict(known.outputs), items={**known.items, step["key"]: item})
    if step.get("item_key"):
        checked = mapping.check_mapping(step["item_key"], inner.sources())
        found += _below("/item_key", checked)
    found += check_steps(step["steps"], "/steps", inner)
    if not step["steps"]:
        found.append(Problem("/steps", say("请加上每一项要做的步骤", "Add what is done for each")))
        return found, None
    result = inner.outputs.get(step["steps"][-1]["key"])
    results = {"type": "array", "items": {} if result is None else result}
    return found, {**COUNTED, "properties": {**COUNTED["properties"], "results": results}}


def _check_approval(step: Mapping[str, Any], known: Known) -> Iterator[Problem]:
    for name in ("subject", "text"):
        if step.get(name):
            yield from _below(f"/{name}", mapping.check_mapping(step[name], known.sources()))
    inner = replace(known, outputs={**known.outputs, step["key"]: DECIDED})
    yield from check_steps(step.get("refused") or [], "/refused", inner)


STEP: dict[str, Any] = {
    "type": "object",
    "required": ["key", "kind"],
    "properties": {
        "key": {"type": "string", "pattern": KEY},
        "kind": {"enum": sorted(KINDS)},
        "title": {},
        "when": {"type": ["string", "boolean"]},
        "connector": {"type": "string"},
        "action": {"type": "string"},
        "ways": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["key", "when", "steps"],
                "properties": {
                    "key": {"type": "string", "pattern": KEY},
                    "title": {},
                    "when": {"type": ["string", "boolean"]},
                    "steps": {"$ref": "#/$defs/steps"},
                },
            },
        },
        "else": {"$ref": "#/$defs/steps"},
        "steps": {"$ref": "#/$defs/steps"},
        "refused": {"$ref": "#/$defs/steps"},
        "over": {"type": "string", "minLength": 1},
        "item_key": {"type": "string"},
        "on_item_error": {"enum": ["stop", "go_on"]},
        "subject": {"type": "string", "minLength": 1},
        "text": {"type": "string"},
        "flow": {"type": "string"},
        "event_type": {"type": "string"},
        "match": {"type": "object"},
        "on_error": {
            "type": "object",
            "properties": {"steps": {"$ref": "#/$defs/steps"}},
        },
    },
    "allOf": [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"required": sorted(needed)},
        }
        for kind, needed in KINDS.items()
    ],
}
STEPS: dict[str, Any] = {"type": "array", "maxItems": MAX_STEPS, "items": {"$ref": "#/$defs/step"}}
