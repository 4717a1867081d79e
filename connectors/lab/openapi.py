"""A connector's first draft from an OpenAPI 3 document: settings, sign-in, actions, samples.

What the document says is taken; what only a person can say (Chinese titles, what a call changes)
stands in the draft as TODO, which the checker reports until it is filled in.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from connectors.engine import schemas
from connectors.engine.findings import EngineError, Say, pointer, say
from connectors.engine.mapping_nodes import OPERATORS
from connectors.lab import openapi_shape, openapi_ways
from connectors.lab.openapi_schemas import Book, example, fitting, is_too_much
from kernel import documents
from kernel.errors import Problem

MAX_BYTES = 16 << 20
MAX_ACTIONS = 50
EFFECTS = {"get": "read", "post": "create", "put": "upsert", "patch": "update", "delete": "delete"}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotOpenApi(EngineError):  # noqa: N818 - it says what the file is
    """The file is not an OpenAPI 3 document that can be read."""


@dataclass
class Draft:
    """What a new folder is made of; `answers` are the recorded bodies of each action."""

    manifest: dict[str, Any]
    schemas: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    left_out: list[Say] = field(default_factory=list)


def read(path: Path) -> dict[str, Any]:
    """Read an OpenAPI document in JSON or YAML, 16 MiB at most; raises NotOpenApi."""
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise NotOpenApi(say("文件超过 16 MiB", "The file is over 16 MiB"))
    try:
        if raw.lstrip()[:1] == b"{":
            document = documents.parse(raw, MAX_BYTES, exact=False)
        else:
            document = _LOADER(raw).get_single_data()
    except (Problem, yaml.YAMLError, UnicodeDecodeError, RecursionError) as broken:
        text = str(broken).splitlines()[0]
        raise NotOpenApi(say(f"文件读不懂：{text}", f"The file cannot be read: {text}")) from broken
    if is_too_much(document):
        raise NotOpenApi(say("文件的别名展开后太大", "Its aliases stand for too much"))
    document = openapi_shape.as_json(document)
    if isinstance(document, dict) and "swagger" in document:
        raise NotOpenApi(
            say(
                "/swagger：这是 Swagger 2.0 文件，请先转换成 OpenAPI 3",
                "/swagger: this is Swagger 2.0; convert it to OpenAPI 3 first",
            )
        )
    version = str(document.get("openapi", "")) if isinstance(document, dict) else ""
    if not version.startswith("3.") or not isinstance(document.get("paths"), dict):
        raise NotOpenApi(
            say(
                "这不是 OpenAPI 3 文件（缺少 openapi: 3.x 或 paths）",
                "This is not an OpenAPI 3 document (openapi: 3.x or paths is missing)",
            )
        )
    found: dict[str, Any] = document
    return found


def draft(document: Mapping[str, Any], key: str, only: tuple[str, ...] = ()) -> Draft:
    """Return the draft of a connector; `only` names operations or tags, () means all up to 50."""
    book = Book(document)
    made = Draft({"hub": 1, "connector": {}, "http": {}})
    try:
        _about(made, document, key)
    except openapi_shape.BROKEN as broken:
        raise NotOpenApi(openapi_shape.odd("/info, /servers")) from broken
    made.manifest["auth"] = openapi_ways.ways(book, document, made.left_out)
    hosts = made.manifest["connector"]["hosts"]
    doors = [
        urlsplit(one["token"]["url"]).hostname for one in made.manifest["auth"] if "token" in one
    ]
    hosts += [host for host in doors if host not in hosts]
    actions: dict[str, Any] = {}
    beyond = 0
    for path, method, operation in _operations(book, only, made):
        if len(actions) == MAX_ACTIONS:
            beyond += 1
            continue
        name = _free(
            openapi_shape.name_of(operation.get("operationId") or f"{method}_{path}"), actions
        )
        try:
            action = _Reading(book, made, name).action(path, method, operation)
        except openapi_shape.BROKEN:
            for kept in (f"{name}.in.json", f"{name}.out.json"):
                made.schemas.pop(kept, None)
            made.answers.pop(name, None)
            made.left_out.append(openapi_shape.odd(pointer("paths", path, method)))
            continue
        if action is not None:
            actions[name] = action
    if beyond:
        zh = f"还有 {beyond} 个接口没有写入（最多 {MAX_ACTIONS} 个），请用 --only 选择"
        en = f"{beyond} more operations are left out ({MAX_ACTIONS} at most); choose with --only"
        made.left_out.append(say(zh, en))
    made.manifest["actions"] = actions
    _add_test(made)
    return made


def _about(made: Draft, document: Mapping[str, Any], key: str) -> None:
    info = document.get("info", {})
    title = str(info.get("title") or key)[:100]
    words = " ".join(str(info.get("description") or title).split())[:300]
    base, settings, hosts = _base(document)
    contact = info.get("contact", {}).get("url") if isinstance(info.get("contact"), dict) else None
    about: dict[str, Any] = {
        "key": key,
        "version": "0.1.0",
        "title": {"zh": f"TODO {title}", "en": title},
        "summary": {"zh": "TODO 一句话说明它能做什么。", "en": words},
        "slots": [],
        "hosts": hosts,
    }
    if settings:
        about["settings_hosts"] = ["base_url"]
        made.manifest["settings"] = settings
    about["support"] = {"url": str(contact or "https://example.com/TODO")}
    made.manifest["connector"] = about
    made.manifest["http"] = {
        "base": base,
        "timeout_seconds": 15,
        "max_response_bytes": 1_048_576,
        "errors": [
            {"when": {"status": 401}, "do": "reauth", "class": "auth"},
            {"when": {"status": 429}, "do": "wait", "class": "limit"},
            {"when": {"status": [502, 503, 504]}, "do": "retry", "class": "down"},
        ],
    }


def _base(document: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None, list[str]]:
    """Return (base address, the settings it needs or None, the hosts that may be called)."""
    servers = document.get("servers") or [{}]
    stated = servers[0] if isinstance(servers[0], dict) else {}
    url = str(stated.get("url", ""))
    for name, one in (stated.get("variables") or {}).items():
        url = url.replace("{" + name + "}", str(one.get("default", "")))
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname and parts.port in (None, 443) and "{" not in url:
        return url.rstrip("/"), None, [parts.hostname]
    path = parts.path.rstrip("/") if "{" not in parts.path else ""
    wanted = {
        "type": "string",
        "format": "uri",
        "maxLength": 300,
        "x-title": {"zh": "服务地址", "en": "Server address"},
    }
    settings = {
        "type": "object",
        "required": ["base_url"],
        "additionalProperties": False,
        "properties": {"base_url": wanted},
    }
    return "${settings.base_url}" + path, settings, []


def _operations(
    book: Book, only: tuple[str, ...], made: Draft
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, stated in book.document["paths"].items():
        item = book.follow(stated)
        if not isinstance(item, Mapping):
            made.left_out.append(openapi_shape.odd(pointer("paths", path)))
            continue
        for method in EFFECTS:
            operation = item.get(method)
            if operation is None:
                continue
            try:
                names = {operation.get("operationId"), *operation.get("tags", [])}
                parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
            except openapi_shape.BROKEN:
                made.left_out.append(openapi_shape.odd(pointer("paths", path, method)))
                continue
            if not only or names & set(only):
                yield path, method, {**operation, "parameters": parameters}


class _Reading:
    """Turns one operation into one action."""

    def __init__(self, book: Book, made: Draft, name: str) -> None:
        self.book, self.made, self.name = book, made, name
        self.properties: dict[str, Any] = {}
        self.needed: list[str] = []
        self.examples: dict[str, Any] = {}

    def action(self, path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the action, or None with a note why it is left out."""
        request: dict[str, Any] = {"method": method.upper(), "path": path}
        self._parameters(request, operation)
        is_fine, kind, body = self._body(operation)
        if not is_fine:
            text = f"{method.upper()} {path}"
            note = say(f"{text}：请求内容不是 JSON 或表单", f"{text}: its body is no JSON or form")
            self.made.left_out.append(note)
            return None
        if body is not None:
            request[kind] = body
        entered = {"type": "object", "additionalProperties": False, "properties": self.properties}
        if self.needed:
            entered["required"] = self.needed
        output, result, answer = self._output(operation)
        self.made.schemas[f"{self.name}.in.json"] = entered
        self.made.schemas[f"{self.name}.out.json"] = output
        title = " ".join(str(operation.get("summary") or self.name.replace("_", " ")).split())[:100]
        self.made.answers[self.name] = answer
        sample_in = example(entered, self.examples)
        action = {
            "title": {"zh": f"TODO {title}", "en": title},
            "effect": EFFECTS[method],
            "input": {"$ref": f"schemas/{self.name}.in.json"},
            "output": {"$ref": f"schemas/{self.name}.out.json"},
            "request": request,
        }
        if result is not None:
            action["result"] = result
        action["sample"] = {"input": sample_in, "output": self._shown(result, answer)}
        return action

    def _shown(self, result: Any, answer: tuple[int, Any]) -> Any:
        if result is None:
            return answer[1]
        return {"items": answer[1]} if "items" in result else {"status": answer[0]}

    def _take(self, name: str, schema: dict[str, Any], stated: Any, *, is_needed: bool) -> str:
        """Add one field to the input; returns the expression that reads it."""
        own = _free(openapi_shape.name_of(name), self.properties)
        schema, value = self._fit(own, schema, stated)
        self.properties[own] = schema
        if is_needed:
            self.needed.append(own)
        if is_needed or stated is not None:
            self.examples[own] = value
        return "${input." + own + "}"

    def _fit(self, where: str, schema: dict[str, Any], stated: Any) -> tuple[dict[str, Any], Any]:
        schema, value, is_loosened = fitting(schema, stated)
        if is_loosened:
            text = f"{self.name} {where}"
            self.made.left_out.append(
                say(
                    f"{text}：没有符合规则的例子，规则已放宽，请补上例子和规则",
                    f"{text}: no example fits its rules, so they were loosened; add both",
                )
            )
        return schema, value

    def _parameters(self, request: dict[str, Any], operation: Mapping[str, Any]) -> None:
        query: dict[str, Any] = {}
        for stated in operation["parameters"]:
            one = self.book.follow(stated)
            name, place = str(one.get("name", "")), one.get("in")
            if place not in ("path", "query") or (place == "query" and name in query):
                continue
            schema = self.book.schema(one.get("schema", {"type": "string"}), is_input=True)
            if not schema or "object" in str(schema.get("type")):
                schema = {"type": "string"}
            is_needed = place == "path" or bool(one.get("required"))
            text = self._take(name, schema, one.get("example"), is_needed=is_needed)
            if place == "path":
                request["path"] = request["path"].replace("{" + name + "}", text)
            else:
                query[name] = text if is_needed else {"optional": text}
        for name in re.findall(r"(?<!\$)\{([^{}]+)\}", request["path"]):  # undeclared ones
            text = self._take(name, {"type": "string"}, None, is_needed=True)
            request["path"] = request["path"].replace("{" + name + "}", text)
        if query:
            request["query"] = dict(list(query.items())[:40])

    def _body(self, operation: Mapping[str, Any]) -> tuple[bool, str, Any]:
        """Return (whether it can be sent, json or form, the mapping that makes it or None)."""
        stated = self.book.follow(operation.get("requestBody") or {})
        content = stated.get("content")
        if not content:
            return True, "json", None
        kind, one = "json", _json_of(content)
        if one is None:
            kind, one = "form", content.get("application/x-www-form-urlencoded")
        if one is None:
            return not stated.get("required"), kind, None
        schema = self.book.schema(one.get("schema", {}), is_input=True)
        given = _example_of(one, self.book)
        if "object" not in str(schema.get("type")) or not schema.get("properties"):
            is_needed = bool(stated.get("required"))
            text = self._take("body", schema, given, is_needed=is_needed)
            return kind == "json", kind, text if is_needed else {"optional": text}
        needed, body = schema.get("required", []), {}
        for name, part in schema["properties"].items():
            if kind == "form" and schemas.kinds(part) & {"object", "array"}:
                continue  # every app writes lists into forms in its own way
            value = given.get(name) if isinstance(given, Mapping) else None
            text = self._take(name, part, value, is_needed=name in needed)
            body[name] = text if name in needed else {"optional": text}
        return True, kind, {"object": body} if body.keys() & OPERATORS.keys() else body

    def _output(self, operation: Mapping[str, Any]) -> tuple[dict[str, Any], Any, tuple[int, Any]]:
        """Return (output schema, result mapping or None, (status, body) of a recorded answer)."""
        status, one = 200, None
        for code, stated in operation.get("responses", {}).items():
            if str(code)[:1] == "2":
                status = int(code) if str(code).isdecimal() else 200
                one = _json_of(self.book.follow(stated).get("content") or {})
                break
        schema = self.book.schema(one.get("schema", {}), is_input=False) if one else {}
        given = _example_of(one, self.book) if one else None
        kinds = str(schema.get("type"))
        if "object" in kinds and schema.get("properties"):
            schema, value = self._fit("output", {**schema, "type": "object"}, given)
            return schema, None, (status, value)
        if "array" in kinds:
            listed, value = self._fit("output", {**schema, "type": "array"}, given)
            whole = {"type": "object", "required": ["items"], "properties": {"items": listed}}
            return whole, {"items": "${body}"}, (status, value)
        told = {"type": "object", "required": ["status"]}
        return (
            {**told, "properties": {"status": {"type": "integer"}}},
            {"status": "${status}"},
            (status, None),
        )


def _json_of(content: Mapping[str, Any]) -> Any:
    for media, one in content.items():
        kind = media.partition(";")[0].strip()
        if kind == "application/json" or kind.endswith("+json") or kind == "*/*":
            return one
    return None


def _example_of(one: Mapping[str, Any], book: Book) -> Any:
    if "example" in one:
        return one["example"]
    for stated in (one.get("examples") or {}).values():
        return book.follow(stated).get("value")
    schema = book.follow(one.get("schema") or {})
    return schema.get("example") if isinstance(schema, Mapping) else None


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return the name, with a number behind it when it is taken."""
    number, found = 2, name
    while found in taken:
        found, number = f"{name[:57]}_{number}", number + 1
    return found


def _add_test(made: Draft) -> None:
    """Let the first plain reading without needed fields check a connection."""
    for action in made.manifest["actions"].values():
        entered = made.schemas[action["input"]["$ref"].removeprefix("schemas/")]
        if action["effect"] == "read" and not entered.get("required"):
            request = {"method": "GET", "path": action["request"]["path"]}
            made.manifest["lifecycle"] = {"test": {"request": request}}
            return
