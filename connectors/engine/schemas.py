"""JSON Schemas: checks of values in plain words, and looks into what a schema declares."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs

from catalog import schema_costs
from connectors.engine.findings import Problem, Say, pointer, say
from kernel import documents

Schema = Mapping[str, Any] | bool
MAX_PROBLEMS = 20
MAX_WEIGHT = 400_000  # parts, of which a long number is many
MAX_LISTED = 2_000  # parts of a value whose mistakes are all listed; of a larger one the first is
MAX_PLACED = 10_000  # beyond, even to say where the first mistake is takes too long
_QUOTED = re.compile(r"'([^']*)'")
_KINDS = {
    "string": ("文本", "text"),
    "number": ("数字", "a number"),
    "integer": ("整数", "a whole number"),
    "boolean": ("是/否", "true or false"),
    "object": ("对象", "an object"),
    "array": ("列表", "a list"),
    "null": ("空值", "null"),
}
_FORMATS = {
    "date-time": ("带时区的时间", "a time with a zone"),
    "date": ("日期", "a day"),
    "email": ("电子邮件地址", "an e-mail address"),
    "uri": ("网址", "a web address"),
}


class BadSchema(ValueError):  # noqa: N818 - it says what the schema is
    """The schema itself is not valid or reaches outside of its file."""


@lru_cache(maxsize=1024)
def _compiled(raw: bytes) -> Any:
    schema = documents.parse(raw)
    _refuse_far_references(schema)
    try:
        return jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as broken:
        raise BadSchema(str(broken).splitlines()[0]) from broken


# A schema object of the library lives as long as the process, so its identity is a safe key;
# the schema is kept beside the validator, so the id cannot be taken over by another object.
_KNOWN: dict[int, tuple[Schema, Any]] = {}


def validator(schema: Schema) -> Any:
    """Return the compiled validator of a schema; raises BadSchema."""
    known = _KNOWN.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    compiled = _compiled(documents.dump(schema))
    if len(_KNOWN) < 4096:
        _KNOWN[id(schema)] = (schema, compiled)
    return compiled


def _refuse_far_references(schema: Any) -> None:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for word in ("$ref", "$dynamicRef", "$recursiveRef"):
                target = node.get(word)
                if isinstance(target, str) and not target.startswith("#/$defs/"):
                    raise BadSchema(f"{word} may only point to #/$defs/…, not to {target}")
            if "$id" in node and isinstance(node["$id"], str) and node is not schema:
                raise BadSchema("$id belongs to the top of a schema only")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def problems(schema: Schema, value: Any, at: str = "") -> list[Problem]:
    """Return what is wrong with a value, each with its JSON pointer below `at`; [] when it fits."""
    check = validator(schema)
    weight = schema_costs.weigh(value)
    parts = weight.containers + weight.plain
    if parts > MAX_WEIGHT:
        return [Problem(at, say("内容太多，请分成几次", "This is too much at once; send less"))]
    try:
        if check.is_valid(value):
            return []
        if parts > MAX_PLACED:
            words = say("有内容不符合要求，数据太大，无法指出位置", "Something in it does not fit")
            return [Problem(at, words)]
        errors = _first(check, value) if parts > MAX_LISTED else check.iter_errors(value)
        return [
            Problem(at + pointer(*error.instance_path), _words(error, schema))
            for error in islice(errors, MAX_PROBLEMS)
        ]
    except UnicodeEncodeError:
        return [Problem(at, say("文本里有半个字符", "A text contains half a character"))]


def _first(check: Any, value: Any) -> Iterator[Any]:
    """Give the first error alone: the engine makes all of them before it hands out one."""
    try:
        check.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield error


def _required(error: Any) -> Say:
    name = error.message.split('"')[1] if '"' in error.message else "?"
    return say(f"缺少必填项“{name}”", f"“{name}” is required")


def _type(error: Any) -> Say:
    names = re.findall(r'"(\w+)"', error.message.rpartition("not of type")[2])
    zh = "或".join(_KINDS.get(name, (name, name))[0] for name in names)
    en = " or ".join(_KINDS.get(name, (name, name))[1] for name in names)
    return say(f"应为{zh}", f"This must be {en}")


def _extra(error: Any) -> Say:
    names = "、".join(_QUOTED.findall(error.message)) or "?"
    if " " in names:  # what stands behind a comma in YAML's {…} becomes a field of its own
        return say(
            f"不认识的字段：{names}（花括号里带逗号的文字要加引号）",
            f"Unknown fields: {names} (in braces, a text with a comma needs quotes)",
        )
    return say(f"不认识的字段：{names}", f"Unknown fields: {names}")


def _format(error: Any) -> Say:
    name = error.message.rpartition('"')[0].rpartition('"')[2]
    zh, en = _FORMATS.get(name, (name, name))
    return say(f"应为{zh}", f"This must be {en}")


def _nothing(_error: Any) -> Say:
    return say("这里不能写这一项", "This has no place here")


_MAKERS: dict[str, Callable[[Any], Say]] = {
    "required": _required,
    "type": _type,
    "additionalProperties": _extra,
    "format": _format,
    "falseSchema": _nothing,
}
_LIMITS = {
    "enum": ("不在可选值之内", "This is not one of the choices"),
    "const": ("只能是固定值", "This must be the fixed value"),
    "pattern": ("格式不对", "This does not have the right form"),
    "minLength": ("太短，最少字符数", "This is too short; least characters"),
    "maxLength": ("太长，最多字符数", "This is too long; most characters"),
    "minItems": ("条目太少，最少条数", "There are too few entries; least"),
    "maxItems": ("条目太多，最多条数", "There are too many entries; most"),
    "minimum": ("数值太小，最小", "This is too small; least"),
    "exclusiveMinimum": ("数值须大于", "This must be more than"),
    "maximum": ("数值太大，最大", "This is too large; most"),
    "exclusiveMaximum": ("数值须小于", "This must be less than"),
    "multipleOf": ("须是它的整数倍", "This must be a multiple of"),
}


_EXAMPLES = (
    "12.50", "12", "CNY", "abc", "ABC-1", "2026-11-22", "https://example.com/a", "/a", "a/b",
)  # fmt: skip


@lru_cache(maxsize=1024)
def _example(pattern: str) -> str:
    """Return a plain text that has the form a pattern asks for, "" when none of a few has it."""
    try:
        check = _compiled(documents.dump({"type": "string", "pattern": pattern}))
    except BadSchema:
        return ""
    return next((one for one in _EXAMPLES if check.is_valid(one)), "")


def _words(error: Any, schema: Schema) -> Say:
    name = error.kind.name
    maker = _MAKERS.get(name)
    if maker is not None:
        return maker(error)
    if name in _LIMITS:
        zh, en = _LIMITS[name]
        limit = _at(schema, error.schema_path)
        if name == "minLength" and limit == "1":
            return say("还没有填写，请填写", "This is still empty; please fill it in")
        example = _example(limit) if name == "pattern" else ""
        if example:
            return say(f"{zh}，例如可以写 {example}", f"{en}; {example} would have it")
        return say(f"{zh}：{limit}", f"{en}: {limit}") if limit else say(zh, en)
    return say("不符合要求的任何一种形式", "This fits none of the allowed forms")


def _at(schema: Any, path: list[str | int]) -> str:
    node = schema
    for step in path:
        node = deref(schema, node)
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(node, list):
        return "、".join(str(one) for one in node[:12])
    return str(node)[:120]


def declared_below(root: Any, node: Any, step: str | int) -> tuple[bool, Any]:
    """Take one step down a schema: (may exist, its schema or None where the schema is silent)."""
    node = deref(root, node)
    if node is None or isinstance(node, bool):
        return node is not False, None
    return _element(node, step) if isinstance(step, int) else _property(root, node, step)


def deref(root: Schema | None, node: Any) -> Any:
    """Return the schema a local $ref stands for."""
    for _ in range(20):
        if not isinstance(node, Mapping) or not isinstance(node.get("$ref"), str):
            return node
        name = node["$ref"].removeprefix("#/$defs/")
        node = root.get("$defs", {}).get(name) if isinstance(root, Mapping) else None
    return None


def _element(node: Mapping[str, Any], step: int) -> tuple[bool, Any]:
    if kinds(node) and "array" not in kinds(node):
        return False, None
    first = node.get("prefixItems", [])
    return True, first[step] if step < len(first) else node.get("items")


def _property(root: Any, node: Mapping[str, Any], step: str) -> tuple[bool, Any]:
    options = [option for word in ("allOf", "anyOf", "oneOf") for option in node.get(word, [])]
    properties = node.get("properties", {})
    if step in properties:
        return True, properties[step]
    for option in options:
        branch = deref(root, option)
        if isinstance(branch, Mapping) and step in branch.get("properties", {}):
            return True, branch["properties"][step]
    if kinds(node) and "object" not in kinds(node):
        return False, None
    extra = node.get("additionalProperties")
    if extra is False:
        return False, None
    if extra is not None or "patternProperties" in node:
        return True, extra if isinstance(extra, Mapping) else None
    # Silence about further fields means "none that a mapping should rely on" once some are named.
    return not properties and not options, None


def kinds(schema: Schema | None) -> set[str]:
    """Return the JSON types a schema allows; empty when it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    stated = schema.get("type")
    if isinstance(stated, str):
        return {stated}
    if isinstance(stated, list):
        return set(stated)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {kind(value) for value in values}


def kind(value: Any) -> str:
    """Return the JSON Schema type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, Mapping) else "number"
