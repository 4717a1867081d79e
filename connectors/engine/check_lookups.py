"""Rules about lookups: a reading action, options that can be read, and fields that name them."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.engine import choices, mapping, schemas
from connectors.engine.check_parts import check_template
from connectors.engine.connector import Connector
from connectors.engine.declared import Lookup
from connectors.engine.findings import EngineError, Finding, Problem, say
from connectors.engine.yaml_lines import Lines

_SEARCH = {"type": "object", "properties": {"search": {"type": ["string", "null"]}}}


def findings(connector: Connector, manifest: Lines) -> list[Finding]:
    """Return every mistake in a connector's lookups and in fields that name one."""
    return [
        Finding("C01", problem.say, "manifest.yaml", manifest.line(place + problem.target), place)
        for place, problem in _problems(connector)
    ]


def _problems(connector: Connector) -> Iterator[tuple[str, Problem]]:
    for key, lookup in connector.lookups.items():
        yield from _lookup(f"/lookups/{key}", connector, lookup)
    for key, action in connector.actions.items():
        for path, schema in _fields(action.input, ""):
            named = choices.of_field(schema)
            if named is not None:
                at = f"/actions/{key}/input"
                yield from ((at, one) for one in _named(connector, action.input, path, *named))


def _lookup(place: str, connector: Connector, lookup: Lookup) -> Iterator[tuple[str, Problem]]:
    action = connector.actions.get(lookup.action)
    if action is None or action.effect != "read":
        text = say(
            f"可选项要用一个读取动作，{lookup.action} 不是",
            f"Choices come from an action that reads; {lookup.action} is none",
        )
        yield f"{place}/action", Problem("", text)
        return
    sources = {"input": lookup.input, "settings": connector.settings, "look": _SEARCH}
    roots = frozenset(sources) | {"item", "index"}
    for wrong in mapping.check_mapping(lookup.given, sources, action.input, roots):
        yield f"{place}/with", wrong
    yield from check_template(f"{place}/items", lookup.items, frozenset({"data"}))
    yield from check_template(f"{place}/value", lookup.value, frozenset({"item"}))
    yield from check_template(f"{place}/label", lookup.label, frozenset({"item"}))
    try:
        options, _ = choices.read(lookup, action.sample.get("output"))
    except EngineError as lost:
        yield f"{place}/items", Problem("", lost.say)
        return
    if not options:
        text = say(
            f"从 {lookup.action} 的样例里读不出任何可选项",
            f"The sample of {lookup.action} gives no choice at all",
        )
        yield f"{place}/items", Problem("", text)


def _fields(schema: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give every field of a schema that can be seen without following references."""
    if not isinstance(schema, Mapping):
        return
    for name, child in (schema.get("properties") or {}).items():
        if isinstance(child, Mapping):
            yield f"{path}.{name}".removeprefix("."), child
            yield from _fields(child, f"{path}.{name}")
    yield from _fields(schema.get("items"), path)


def _named(
    connector: Connector, schema: Any, path: str, key: str, depends: Mapping[str, str]
) -> Iterator[Problem]:
    lookup = connector.lookups.get(key)
    if lookup is None:
        text = say(f"{path}：没有可选项 {key}", f"{path}: there is no lookup {key}")
        yield Problem("", text)
        return
    for name, field in depends.items():
        if not schemas.declared_below(lookup.input, lookup.input, name)[0]:
            text = say(f"{path}：{key} 不需要 {name}", f"{path}: {key} takes no {name}")
            yield Problem("", text)
        if not schemas.declared_below(schema, schema, str(field).split(".")[0])[0]:
            text = say(f"{path}：没有字段 {field}", f"{path}: there is no field {field}")
            yield Problem("", text)
    missing = [name for name in lookup.input.get("required", []) if name not in depends]
    if missing:
        text = say(
            f"{path}：{key} 需要 {missing[0]}，请在 x-lookup.with 里写明",
            f"{path}: {key} needs {missing[0]}; say under x-lookup.with where it comes from",
        )
        yield Problem("", text)
