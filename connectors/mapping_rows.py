"""Mappings as rows of target ← source, and back; what a row cannot say stays YAML in its row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from connectors.engine import yaml_lines
from connectors.errors import Unfit, finding

_OPERATORS = {"each", "when", "value", "optional", "const", "rest", "code_table", "object"}


@dataclass(frozen=True)
class Row:
    """One target field: a text with expressions (text, optional) or a piece of YAML."""

    target: str
    how: str  # text | optional | yaml
    source: str
    title: Any = None
    kind: str = ""
    is_required: bool = False


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
    return Row(target, "yaml", to_yaml(node).rstrip("\n"))


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
    if row.how == "yaml":
        return yaml_lines.parse(row.source.encode()).value
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
