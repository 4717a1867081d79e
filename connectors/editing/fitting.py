"""Fitting: whether a value of one kind may go into a field of another, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Say = dict[str, str]
_NAMES = {
    "string": ("文本", "text"),
    "number": ("数字", "a number"),
    "integer": ("整数", "a whole number"),
    "boolean": ("是/否", "yes or no"),
    "object": ("一组字段", "a group of fields"),
    "array": ("列表", "a list"),
    "any": ("任何内容", "anything"),
}


@dataclass(frozen=True)
class Fit:
    """How a value goes into a field: as it is, through a function (`wrap`), or not (`why`)."""

    ok: bool
    wrap: str = ""  # "text" → ${text(…)}
    why: Say | None = None


def kind_words(kind: str) -> Say:
    """Return what people call a kind such as `integer/string`."""
    known = [_NAMES.get(one, (one, one)) for one in kind.split("/")]
    return {"zh": " / ".join(zh for zh, _ in known), "en": " / ".join(en for _, en in known)}


@lru_cache(maxsize=4096)
def fit(given: str, wanted: str, *, given_format: str = "", wanted_format: str = "") -> Fit:
    """Tell whether a value of kind `given` goes into a field of kind `wanted` ("a/b" are both)."""
    have, need = set(given.split("/")), set(wanted.split("/"))
    if "number" in need:
        need |= {"integer"}
    if "any" in have | need or have & need:
        if have <= {"string"} and given_format == "date-time" and wanted_format == "date":
            return Fit(ok=True, wrap="date")
        return Fit(ok=True)
    if "string" in need and have <= {"number", "integer", "boolean"}:
        return Fit(ok=True, wrap="text")
    if "integer" in need and have <= {"string", "number"}:
        return Fit(ok=True, wrap="int")
    if "array" in have:
        return Fit(
            ok=False,
            why={
                "zh": "这是列表，这里要的是单个值；请放进“逐项处理”，或选列表里的一项",
                "en": "This is a list, and one value is wanted; use a loop or one of its items",
            },
        )
    zh, en = kind_words(wanted)["zh"], kind_words(wanted)["en"]
    mine = kind_words(given)
    why = {"zh": f"这里要{zh}，它是{mine['zh']}", "en": f"This takes {en}, and it is {mine['en']}"}
    return Fit(ok=False, why=why)


def expression(path_expression: str, how: Fit) -> str:
    """Return the expression that puts a value in: `${a.b}` → `${text(a.b)}`."""
    if not how.wrap:
        return path_expression
    inner = path_expression.removeprefix("${").removesuffix("}")
    return f"${{{how.wrap}({inner})}}"


def format_of(schema: Mapping[str, Any]) -> str:
    """Return the format a schema names, `date-time` or `date`; "" for none."""
    found = schema.get("format")
    return found if isinstance(found, str) else ""
