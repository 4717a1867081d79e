"""Mappings as rows of target ← source, and back; what a row cannot say stays YAML in its row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from connectors.engine import yaml_lines
from connectors.errors import Unfit, finding

_TABLE = {"table", "of", "unknown"}
_OPERATORS = {"each", "when", "value", "optional", "const", "rest", "code_table", "object"}


@dataclass(frozen=True)
class Row:
    """One target field: a text with expressions, a fixed value, a table of codes, or YAML."""

    target: str
    how: str  # text | optional | const | table | yaml
    source: str
    title: Any = None
    kind: str = ""
    is_required: bool = False
    format: str = ""
    table: str = ""  # lines of `code = what it becomes`
    unknown: str = "keep"  # what a code that is not in the table does: keep | fail


class _Dumper(yaml.SafeDumper):
    """Writes exact decimals as plain numbers."""


_Dumper.add_representer(
    Decimal, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", str(value))
)


def to_yaml(value: Any) -> str:
    """Write a document as YAML for people."""
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=96)
    return text.removesuffix("...\n") if not isinstance(value, dict | list) else text


def read_yaml(text: str) -> Any:
    """Read a document that a person wrote; raises Unfit with the line."""
    try:
        return yaml_lines.parse(text.encode()).value
    except yaml_lines.Unreadable as bad:
        raise Unfit([{"pointer": "", "say": bad.say, "line": bad.line}]) from bad


def line_of(text: str, pointer: str) -> int | None:
    """Return the line that a pointer stands on, the nearest one above it if it has none."""
    try:
        lines = yaml_lines.parse(text.encode()).lines
    except yaml_lines.Unreadable:
        return None
    while pointer and pointer not in lines:
        pointer = pointer.rpartition("/")[0]
    return lines.get(pointer)


def rows_of(node: Any) -> list[Row]:
    """Return the rows of a mapping; one that is no object is a single row of YAML."""
    if node is None:
        return []
    if _is_fields(node):
        return list(_walk(node, ()))
    return [_row("", node)]


def _walk(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[Row]:
    for name, child in node.items():
        here = (*path, str(name))
        if _is_fields(child) and child and all("." not in part for part in here):
            yield from _walk(child, here)
        else:
            yield _row(".".join(here), child)


def _is_fields(node: Any) -> bool:
    return isinstance(node, Mapping) and not _OPERATORS & set(node)


def _row(target: str, node: Any) -> Row:
    if isinstance(node, str):
        return Row(target, "text", node)
    if (
        isinstance(node, Mapping)
        and set(node) == {"optional"}
        and isinstance(node["optional"], str)
    ):
        return Row(target, "optional", node["optional"])
    if isinstance(node, bool | int | Decimal):
        return Row(target, "const", to_yaml(node).strip())
    if isinstance(node, Mapping) and set(node) == {"const"} and isinstance(node["const"], str):
        return Row(target, "const", to_yaml(node["const"]).strip())
    return _table_row(target, node) or Row(target, "yaml", to_yaml(node).rstrip("\n"))


def _table_row(target: str, node: Any) -> Row | None:
    """Return a table of codes as a row; None for one that its lines could not say."""
    if not isinstance(node, Mapping) or set(node) != {"code_table"}:
        return None
    made = node["code_table"]
    if not isinstance(made, Mapping) or not {"table", "of"} <= set(made) <= _TABLE:
        return None
    table, of, unknown = made["table"], made["of"], made.get("unknown", "fail")
    is_plain = isinstance(of, str) and unknown in ("keep", "fail") and isinstance(table, Mapping)
    texts = [text for pair in table.items() for text in pair] if is_plain else []
    if not is_plain or not all(_is_line(one) for one in texts):
        return None
    lines = "\n".join(f"{code} = {value}" for code, value in table.items())
    return Row(target, "table", of, table=lines, unknown=unknown)


def _is_line(text: Any) -> bool:
    """Tell whether a text can be half of a line of a table, and is the same when it is read."""
    return isinstance(text, str) and text == text.strip() != "" and not set(text) & {"=", "\n"}


def _table_node(row: Row) -> dict[str, Any]:
    """Return the table of codes that a row says; raises Unreadable for a line that is no pair."""
    table: dict[str, str] = {}
    for number, line in enumerate(row.table.splitlines(), 1):
        code, sign, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not sign or not code or not value:
            raise yaml_lines.Unreadable(
                {
                    "zh": f"对照表第 {number} 行要写成“代码 = 结果”",
                    "en": f"Line {number} of the table is written as “code = result”",
                },
                number,
            )
        table[code] = value
    unknown = row.unknown if row.unknown in ("keep", "fail") else "keep"
    return {"code_table": {"table": table, "of": row.source, "unknown": unknown}}


def document_of(rows: Iterable[Row], pointer: str) -> Any:
    """Put the rows together again; rows without a source are left out. Raises Unfit."""
    found: dict[str, Any] = {}
    findings = []
    for number, row in enumerate(rows):
        if not row.source.strip():
            continue
        try:
            node = _node(row)
        except yaml_lines.Unreadable as bad:
            findings.append({"pointer": f"{pointer}/{number}", "say": bad.say})
            continue
        if not row.target:
            return node
        if not _put(found, row.target.split("."), node):
            findings.append(
                finding(
                    f"{pointer}/{number}",
                    f"“{row.target}”与另一行冲突",
                    f"“{row.target}” clashes with another row",
                )
            )
    if findings:
        raise Unfit(findings)
    return found


def _node(row: Row) -> Any:
    if row.how in ("yaml", "const"):
        value = yaml_lines.parse(row.source.encode()).value
        # a word stays a word, and what looks like an expression is no expression
        return value if row.how == "yaml" or not isinstance(value, str) else {"const": value}
    if row.how == "table":
        return _table_node(row)
    return {"optional": row.source} if row.how == "optional" else row.source


def _put(found: dict[str, Any], path: list[str], node: Any) -> bool:
    *parents, last = path
    for name in parents:
        found = found.setdefault(name, {})
        if not isinstance(found, dict) or _OPERATORS & set(found):
            return False
    if last in found:
        return False
    found[last] = node
    return True
