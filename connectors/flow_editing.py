"""Editing a flow document step by step: add, move, remove, and read what a form sent."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors import order_keys
from connectors.engine import loader
from connectors.flow_shapes import KINDS
from connectors.mapping_rows import Row, document_of

OPERATORS = ("==", "!=", ">", ">=", "<", "<=", "contains", "startsWith")
_COMPARED = re.compile(
    r"""\$\{\s*(?P<left>[a-zA-Z_][\w.\[\]"]*)\s*(?P<op>==|!=|>=|<=|>|<)\s*"""
    r"""(?P<right>"[^"\\]*"|'[^'\\]*'|-?\d+(?:\.\d+)?|true|false|null)\s*\}"""
)
_CALLED = re.compile(
    r"""\$\{\s*(?P<left>[a-zA-Z_][\w.\[\]"]*)\.(?P<op>contains|startsWith)\("""
    r"""(?P<right>"[^"\\]*"|'[^'\\]*')\)\s*\}"""
)
Document = dict[str, Any]


_NEW_PARTS: dict[str, dict[str, Any]] = {
    "filter": {"when": ""},
    "map": {"mapping": {}},
    "action": {"connector": "", "action": "", "input": {}},
}


def add_step(document: Document, kind: str, position: int | None = None) -> int:
    """Put a new step in and return where it stands."""
    if kind not in KINDS:
        kind = "action"
    step: dict[str, Any] = {"key": _free_key(document, kind), "kind": kind}
    step.update(copy.deepcopy(_NEW_PARTS[kind]))
    at = len(document["steps"]) if position is None else max(0, position)
    document["steps"].insert(at, step)
    return min(at, len(document["steps"]) - 1)


def move_step(document: Document, position: int, by: int) -> int:
    """Move a step up or down and return where it stands now."""
    steps = document["steps"]
    target = position + by
    if 0 <= position < len(steps) and 0 <= target < len(steps):
        steps.insert(target, steps.pop(position))
        return target
    return position


def remove_step(document: Document, position: int) -> None:
    """Take a step out."""
    if 0 <= position < len(document["steps"]):
        del document["steps"][position]


def _free_key(document: Document, kind: str) -> str:
    taken = {step.get("key") for step in document["steps"]}
    word = {"filter": "check", "map": "shape", "action": "do"}[kind]
    number = 1
    while f"{word}{number}" in taken:
        number += 1
    return f"{word}{number}"


# --- conditions as three fields ------------------------------------------------------------------


def condition_parts(when: Any) -> dict[str, str] | None:
    """Return {left, op, right} of a simple condition; None when only its text can show it."""
    if not isinstance(when, str):
        return None
    found = _COMPARED.fullmatch(when.strip()) or _CALLED.fullmatch(when.strip())
    if found is None:
        return None
    right = found["right"]
    if right[:1] in "\"'":
        right = right[1:-1]
    elif found["op"] in ("==", "!="):
        return None  # a bare number or word compares otherwise than the same text
    return {"left": f"${{{found['left']}}}", "op": found["op"], "right": right}


def condition_of(left: str, op: str, right: str) -> str:
    """Return the condition that compares a field with a text, or with a number for < and >."""
    path = left.strip().removeprefix("${").removesuffix("}").strip()
    if op in ("contains", "startsWith"):
        return f"${{{path}.{op}({_quoted(right)})}}"
    if op in (">", ">=", "<", "<=") and re.fullmatch(r"-?\d+(\.\d+)?", right.strip()):
        return f"${{{path} {op} {right.strip()}}}"
    return f"${{{path} {op} {_quoted(right)}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- order -------------------------------------------------------------------------------------


def order_parts(trigger: Mapping[str, Any]) -> tuple[str, str]:
    """Return which order a trigger asks for, none, flow, subject or value, and the value's text."""
    written = order_keys.of_trigger(trigger) or order_keys.NONE
    return (written, "") if written in order_keys.WORDS else ("value", written)


def order_key_of(choice: str, value: str) -> str | None:
    """Return the order key that two fields of a form mean; None for no order."""
    if choice in (order_keys.FLOW, order_keys.SUBJECT):
        return choice
    if choice != "value":
        return None
    text = value.strip()
    return text if "${" in text else f"${{{text}}}"


# --- forms ---------------------------------------------------------------------------------------


def read_form(form: Mapping[str, str], connections: Mapping[str, str]) -> Document:
    """Build the document that an editor's form describes; raises Unfit for rows that clash.

    `connections` gives the connector of each connection.
    """
    trigger: dict[str, Any] = {"event": form.get("event", "").strip(), "version": None}
    version = form.get("version", "").strip()
    if _number(version):
        trigger["version"] = _number(version)
    source = form.get("starts", "").split("|")
    if len(source) == 3:
        trigger |= {"connection": source[0], "connector": source[1], "trigger": source[2]}
    order_key = order_key_of(form.get("order", ""), form.get("order_value", ""))
    if order_key:
        trigger["order_key"] = order_key
    count = min(_number(form.get("count", "")), 100)
    steps = [_read_step(form, number, connections) for number in range(count)]
    return {"trigger": trigger, "steps": steps}


def _number(text: str) -> int:
    """Read a small whole number; 0 for everything that is none, however it came here."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _read_step(
    form: Mapping[str, str], number: int, connections: Mapping[str, str]
) -> dict[str, Any]:
    def value(name: str) -> str:
        return form.get(f"s{number}.{name}", "").strip()

    kind = value("kind")
    step: dict[str, Any] = {"key": value("key"), "kind": kind if kind in KINDS else "action"}
    if value("title"):
        step["title"] = value("title")
    if kind == "filter":
        simple = value("left") and value("op") in OPERATORS
        step["when"] = (
            condition_of(value("left"), value("op"), value("right")) if simple else value("when")
        )
    elif kind == "map":
        step["mapping"] = document_of(_read_rows(form, number), f"/steps/{number}/mapping")
    else:
        chosen, _, action = value("does").partition("|")
        step["connector"] = connections.get(value("connection"), "") or chosen
        if value("connection"):
            step["connection"] = value("connection")
        # an action of another app cannot stay when the connection changes
        known = loader.library().get(step["connector"])
        step["action"] = action if known and chosen == known.key and action in known.actions else ""
        step["input"] = document_of(_read_rows(form, number), f"/steps/{number}/input")
    return step


def _read_rows(form: Mapping[str, str], number: int) -> list[Row]:
    rows = []
    count = min(_number(form.get(f"s{number}.rows", "")), 300)
    for place in range(count):
        name = f"s{number}.r{place}"
        rows.append(
            Row(
                target=form.get(f"{name}.target", "").strip(),
                how=form.get(f"{name}.how", "text"),
                source=form.get(f"{name}.source", "").replace("\r\n", "\n"),
            )
        )
    return [row for row in rows if row.target or row.how == "yaml"]


def rows_for(rows: Sequence[Row], wanted: Sequence[Any]) -> list[Row]:
    """Return an action's rows in the order of its fields, with an empty row for each unset one."""
    known = {one.path: one for one in wanted}
    shown = []
    for one in wanted:
        row = next((row for row in rows if row.target == one.path), None)
        # a field inside a list or object that is set as a whole needs no row of its own
        covered = any(one.path.startswith(f"{row.target}.") for row in rows if row.target)
        if row is None and covered:
            continue
        how = row.how if row else ("text" if one.is_required else "optional")
        shown.append(
            Row(one.path, how, row.source if row else "", one.title, one.kind, one.is_required)
        )
    return shown + [row for row in rows if row.target not in known]
