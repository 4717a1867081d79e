"""Rules about actions in parts: pages that are asked for by name, items that are told apart."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.engine import mapping, schemas, templates
from connectors.engine.connector import Action, RequestTemplate
from connectors.engine.declared import Batch, Pages
from connectors.engine.findings import Problem, say
from connectors.engine.schemas import Schema
from connectors.engine.tokens import BadExpression
from kernel import documents

ANSWER = frozenset({"body", "data", "header", "status"})
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_ASKS = {"number": "look.page", "offset": "look.offset"}  # other kinds: look.page too


def look_schema(action: Action) -> Schema:
    """Return what the request of an action in parts may read as `look`."""
    if action.pages is not None:
        page = _WHOLE if action.pages.kind == "number" else _TEXT
        return _closed(page=page, offset=_WHOLE, size=_WHOLE)
    assert action.batch is not None
    item = _element(action.input, action.batch.over)
    entry = _closed(item={} if item is None else item, index=_WHOLE, effect_key=_TEXT)
    bare = {"type": "array", "items": {} if item is None else item}
    found = _closed(items={"type": "array", "items": entry}, batch=bare)
    return {**found, "$defs": action.input["$defs"]} if "$defs" in action.input else found


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def problems(place: str, action: Action) -> Iterator[tuple[str, Problem]]:
    """Return what is wrong with an action's pages or batch."""
    if action.pages is not None:
        yield from _pages(f"{place}/pages", action, action.pages)
    if action.batch is not None:
        yield from _batch(f"{place}/batch", action, action.batch)


def _pages(place: str, action: Action, pages: Pages) -> Iterator[tuple[str, Problem]]:
    declared = schemas.declared_below(action.output, action.output, pages.items)[1]
    if "array" not in schemas.kinds(schemas.deref(action.output, declared)):
        text = say(
            f"输出里的 {pages.items} 须是列表", f"{pages.items} must be a list of the output"
        )
        yield f"{place}/items", Problem("", text)
    if pages.cut is not None:
        told = schemas.declared_below(action.output, action.output, pages.cut)[1]
        if schemas.kinds(schemas.deref(action.output, told)) != {"boolean"}:
            text = say(
                f"输出里的 {pages.cut} 须是布尔值", f"{pages.cut} must be a boolean of the output"
            )
            yield f"{place}/cut", Problem("", text)
    asks = _ASKS.get(pages.kind, "look.page")
    if asks not in written(action.request):
        text = say(
            f"请求里要用 ${{{asks}}} 取下一页",
            f"The request must ask for its page with ${{{asks}}}",
        )
        yield f"{place}/kind", Problem("", text)
    for name, template in (("next", pages.next), ("more", pages.more)):
        yield from check_template(f"{place}/{name}", template, ANSWER | {"item", "look"})


def _batch(place: str, action: Action, batch: Batch) -> Iterator[tuple[str, Problem]]:
    declared = schemas.declared_below(action.input, action.input, batch.over)[1]
    if "array" not in schemas.kinds(schemas.deref(action.input, declared)):
        text = say(f"输入里的 {batch.over} 须是列表", f"{batch.over} must be a list of the input")
        yield f"{place}/over", Problem("", text)
    asked = written(action.request)
    if "look.items" not in asked and "look.batch" not in asked:
        text = say(
            "请求里要用 ${look.items} 或 ${look.batch} 取这一批的内容",
            "The request must take its items from ${look.items} or ${look.batch}",
        )
        yield f"{place}/over", Problem("", text)
    if action.key_field is not None or action.find is not None:
        text = say(
            "批量动作里每项自带编号：请在请求里写 ${….effect_key}，不用 field 和 find",
            "Each item of a batch has a key of its own: write ${….effect_key} in the request, "
            "without field and find",
        )
        yield place.removesuffix("/batch") + "/idempotency", Problem("", text)
    yield from check_template(f"{place}/results", batch.results, ANSWER)
    yield from check_template(
        f"{place}/match/item", batch.match_item, frozenset({"item", "effect_key"})
    )
    yield from check_template(f"{place}/match/result", batch.match_result, ANSWER | {"item"})
    if batch.result is not None:
        roots = ANSWER | {"item", "index"}
        for wrong in mapping.check_mapping(batch.result, None, batch.output, roots):
            yield f"{place}/result", wrong


def check_template(
    place: str, text: str | None, roots: frozenset[str]
) -> Iterator[tuple[str, Problem]]:
    """Return what keeps a template from compiling."""
    try:
        templates.parse(text or "", roots)
    except BadExpression as bad:
        yield place, Problem("", bad.say, text)


def written(request: RequestTemplate) -> str:
    """Return everything that a request's template reads, as one text."""
    parts = [request.query, request.json, request.form, dict(request.headers)]
    raw = request.raw.text if request.raw else ""
    return request.path + raw + documents.dump(parts).decode()


def _element(schema: Mapping[str, Any], name: str) -> Schema | None:
    declared = schemas.deref(schema, schemas.declared_below(schema, schema, name)[1])
    return declared.get("items") if isinstance(declared, Mapping) else None
