"""Edge forms: what the editor's form says about calls, awaited events, the store, error paths."""

from collections.abc import Mapping
from typing import Any, Protocol

from connectors import flow_trees, mapping_rows
from connectors.edge_checks import CONTINUE, END, ERROR_PATH
from connectors.engine import flow_rests, flow_templates
from connectors.errors import Unfit
from connectors.mapping_rows import Row

KINDS = ("call", "wait", "store")
NEW_PARTS: dict[str, dict[str, Any]] = {
    "call": {"flow": "", "input": {}},
    "wait": {
        "event_type": "",
        "match": {"value": "", "path": ""},
        "for": "3d",
        "at_deadline": "go_on",
    },
    "store": {"operation": "put", "collection": "", "entry": "", "value": ""},
}
WORDS = {"call": "call", "wait": "await", "store": "store"}


class Fields(Protocol):
    """The fields of one step in a form."""

    def text(self, name: str) -> str:
        """Return what stands in a field, "" for nothing."""

    def duration(self, name: str) -> dict[str, str]:
        """Return a duration of a number and a unit under its name, {} for none."""


def read_step(kind: str, fields: Fields, rows: list[Row], pointer: str) -> dict[str, Any]:
    """Return what the form says of such a step; raises Unfit for rows that clash."""
    if kind == "call":
        handed = mapping_rows.document_of(rows, f"{pointer}/input")
        return {"flow": fields.text("flow"), "input": handed}
    if kind == "wait":
        return _read_wait(fields)
    return _read_store(fields, pointer)


def _read_wait(fields: Fields) -> dict[str, Any]:
    made: dict[str, Any] = {
        "event_type": fields.text("event_type"),
        "match": {"value": fields.text("match_value"), "path": fields.text("match_path")},
        **fields.duration("for"),
        "at_deadline": _one_of(fields.text("at_deadline"), flow_rests.AT_DEADLINE),
    }
    if fields.text("wait_when"):
        made["when"] = fields.text("wait_when")
    if fields.text("since") == "step":
        made["since"] = "step"
    return made


def _read_store(fields: Fields, pointer: str) -> dict[str, Any]:
    operation = _one_of(fields.text("operation"), flow_rests.OPERATIONS)
    made: dict[str, Any] = {"operation": operation, "collection": fields.text("collection")}
    if operation == "list":
        return made | ({"prefix": fields.text("entry")} if fields.text("entry") else {})
    made["entry"] = fields.text("entry")
    if operation == "put":
        made["value"] = _value(fields.text("value"), f"{pointer}/value")
    elif operation == "add" and fields.text("amount"):
        made["amount"] = fields.text("amount")
    return made | (fields.duration("expires") if operation in ("put", "add") else {})


def _value(text: str, pointer: str) -> Any:
    """Return a value as it is written: one text with fields in it, or several fields as YAML."""
    if "\n" not in text and not text.endswith(":"):
        return text
    try:
        return mapping_rows.read_yaml(text)
    except Unfit as bad:
        raise Unfit([{**one, "pointer": pointer} for one in bad.findings]) from bad


def value_text(value: Any) -> str:
    """Return a kept value as the form shows it."""
    return value if isinstance(value, str) else mapping_rows.to_yaml(value).strip()


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    return text if text in choices else choices[0]


# --- error paths ---------------------------------------------------------------------------------


def read_error_path(kind: str, fields: Fields) -> dict[str, Any]:
    """Return a step's error path without its steps, {} when it stops for a person."""
    then = fields.text("on_error")
    if kind not in flow_trees.CATCHING or then not in (CONTINUE, END):
        return {}
    path: dict[str, Any] = {"steps": [], "then": then}
    if fields.text("on_unknown") == "1":
        path["on_unknown"] = ERROR_PATH
    return {flow_trees.ON_ERROR: path}


def read_document(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the form says of the flow as a whole: its own error path, that it is called."""
    made: dict[str, Any] = {}
    if form.get("flow_error") == END:
        made[flow_trees.ON_ERROR] = {"steps": [], "then": END}
        if form.get("flow_unknown") == "1":
            made[flow_trees.ON_ERROR]["on_unknown"] = ERROR_PATH
    return made


def read_called(form: Mapping[str, str]) -> tuple[dict[str, Any] | None, Any]:
    """Return the trigger of a flow that others call, and what it gives back; None for others."""
    if form.get("trigger_kind") != flow_templates.CALLED:
        return None, None
    trigger: dict[str, Any] = {"kind": flow_templates.CALLED}
    schema = _yaml(form.get("called_input", ""), "/trigger/input")
    if schema:
        trigger["input"] = schema
    return trigger, _yaml(form.get("called_output", ""), "/output")


def _yaml(text: str, pointer: str) -> Any:
    text = text.replace("\r\n", "\n").strip()
    if not text:
        return None
    try:
        return mapping_rows.read_yaml(text)
    except Unfit as bad:
        raise Unfit([{**one, "pointer": pointer} for one in bad.findings]) from bad
