"""What a lab vendor expects and answers, derived from a connector's manifest and fixtures."""

import re
from collections.abc import Mapping
from typing import Any

from connectors.engine import fixtures, schemas
from connectors.engine.check_manifest import schema_of
from connectors.engine.connector import Action, Connector
from connectors.engine.expressions import ROOTS
from connectors.engine.fixtures import Fixture
from connectors.engine.mapping_check import TEXT_CALLS
from connectors.engine.mapping_nodes import (
    Const,
    Each,
    Fields,
    Items,
    Leaf,
    Node,
    Optional,
    Reader,
)
from connectors.engine.nodes import Call, Path
from kernel import clock

Schema = Any
_TAIL = re.compile(r"^(.*?)([0-9]+)$", re.DOTALL)


def recorded(connector: Connector) -> dict[str, dict[str, Fixture]]:
    """Return the connector's fixtures as {action or step: {case: fixture}}."""
    found: dict[str, dict[str, Fixture]] = {}
    for fixture in fixtures.load(connector.folder)[0]:
        if fixture.kind != "trigger" and "response" in fixture.value:
            case = fixture.name.removesuffix(".yaml").partition(".")[2] or "ok"
            found.setdefault(fixture.key, {})[case] = fixture
    return found


def response(fixture: Fixture | None, status: int, body: Any) -> tuple[int, dict[str, str], Any]:
    """Return the (status, headers, body) of a recorded answer, or the stand-ins given."""
    if fixture is None:
        return status, {}, body
    stated = fixture.value["response"]
    return stated.get("status", status), dict(stated.get("headers", {})), stated.get("json", body)


def rejecting(cases: Mapping[str, Fixture], wanted: str | None) -> Fixture | None:
    """Return the recorded refusal of an action's data: a named case, else the first there is."""
    if wanted and wanted in cases:
        return cases[wanted]
    for fixture in cases.values():
        answer = fixture.value.get("answer", {})
        if answer.get("kind") == "fail" and answer.get("cause") == "data":
            return fixture
    return None


def fresh(sample: Any, asked: Mapping[str, Any], number: int | None, name: str = "") -> Any:
    """Return a sample as a new answer: own numbers (unless None), times now, the rest echoed."""
    if isinstance(sample, dict):
        return {key: fresh(one, asked, number, key) for key, one in sample.items()}
    if isinstance(sample, list):
        return [fresh(one, asked, number, name) for one in sample]
    if name in asked and type(asked[name]) is type(sample):
        return asked[name]
    if name.endswith("_at") and isinstance(sample, str):
        return clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")
    if number is None:
        return sample
    if (name == "id" or name.endswith(("_no", "number"))) and not isinstance(sample, bool):
        return numbered(sample, number)
    return sample


def numbered(sample: Any, number: int) -> Any:
    """Return a sample number with its tail counted on: XS-0001 → XS-0042."""
    if isinstance(sample, int):
        return sample + number
    match = _TAIL.match(sample) if isinstance(sample, str) else None
    if match is None:
        return sample
    width = len(match[2])
    kept = match[2][: max(0, width - 8)]
    return match[1] + kept + str(number).zfill(width - len(kept))


def body_schema(action: Action) -> Schema | None:
    """Return the schema of the request body an action's template makes; None without a body."""
    if action.request.json is None:
        return None
    reader = Reader(ROOTS)
    node = reader.read(action.request.json, "", ROOTS)
    schema = _schema(node, {"input": action.input}, action.input)
    defs = action.input.get("$defs")
    return {**schema, "$defs": defs} if defs and isinstance(schema, dict) else schema


def has_more_in_body(connector: Connector, action: Action) -> bool:
    """Tell whether bodies hold more than the action's template: a key, a proof, a signature."""
    ways = [one for one in connector.auth if action.request.auth in (None, one.id)]
    placed = any(one.json or one.sign or any(at.json for at in one.at.values()) for one in ways)
    return placed or action.key_field is not None


def _schema(node: Node, scope: Mapping[str, Any], root: Any) -> Any:
    if isinstance(node, Fields):
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _schema(one, scope, root) for name, one in node.fields},
            "required": [name for name, one in node.fields if not isinstance(one, Optional)],
        }
    if isinstance(node, Optional):
        return _schema(node.value, scope, root)
    if isinstance(node, Const):
        return {"const": node.value}
    if isinstance(node, Items):
        return {"type": "array"}
    if isinstance(node, Each):
        source = node.source.node
        found = _follow(source, scope, root) if isinstance(source, Path) else {}
        item = found.get("items", {}) if isinstance(found, Mapping) else {}
        inner = {**scope, node.name: schemas.deref(root, item)}
        return {"type": "array", "items": _schema(node.do, inner, root)}
    if isinstance(node, Leaf):
        if not node.template.is_typed:
            return {"type": "string"}
        source = node.template.expressions[0].node
        if isinstance(source, Call) and source.name in TEXT_CALLS:
            return {"type": "string"}
        return _follow(source, scope, root) if isinstance(source, Path) else {}
    return {}


def _follow(path: Path, scope: Mapping[str, Any], root: Any) -> Any:
    node = scope.get(str(path.steps[0]))
    for step in path.steps[1:]:
        if node is None:
            return {}
        node = schemas.declared_below(root, node, step)[1]
    return node if node is not None else {}


def sample_data(connector: Connector, trigger_key: str) -> Mapping[str, Any]:
    """Return the whole body of a trigger's sample."""
    body = connector.triggers[trigger_key].sample.get("body", {})
    return body if isinstance(body, Mapping) else {}


def labels(connector: Connector, language: str) -> dict[str, str]:
    """Return what the connector's schemas call their fields, in one language.

    A field inside another stands there as `outer.name` too: a customer's name is not an item's.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [
        *(("", schema_of(one)) for one in connector.triggers.values()),
        *(("", one.output) for one in connector.actions.values()),
        *(("", one.input) for one in connector.actions.values()),
    ]
    while waiting:
        outer, node = waiting.pop()
        if isinstance(node, Mapping):
            named = node.get("properties", {})
            for name, one in named.items():
                if isinstance(one, Mapping) and "x-title" in one:
                    found[name] = found[f"{outer}.{name}"] = one["x-title"][language]
            waiting.extend(named.items())
            waiting.extend((outer, one) for key, one in node.items() if key != "properties")
        elif isinstance(node, list):
            waiting.extend((outer, one) for one in node)
    return found


def example(value: Any, names: Mapping[str, str], outer: str = "") -> str:
    """Return a short one-line picture of a call, or of its field `outer`, for the page."""
    if isinstance(value, dict):
        if value.keys() <= {"value", "currency", "unit_code"}:
            return " ".join(str(one) for one in value.values())
        return " · ".join(
            f"{names.get(f'{outer}.{key}') or names.get(key, key)} {example(one, names, key)}"
            for key, one in list(value.items())[:8]
        )
    if isinstance(value, list):
        shown = " / ".join(example(one, names, outer) for one in value[:3])
        return f"[{shown}{' …' if len(value) > 3 else ''}]"
    return str(value)
