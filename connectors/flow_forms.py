"""Flow forms: what the editor's form says about each step, and conditions as three fields."""

import re
from collections.abc import Mapping
from typing import Any

from connectors import durations, edge_forms, flow_trees
from connectors.engine import loader
from connectors.flow_shapes import KINDS, MAX_WAYS
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
Form = Mapping[str, str]


def number_in(text: str) -> int:
    """Read a small whole number; 0 for everything that is none, however it came here."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def read_steps(
    form: Form, connections: Mapping[str, str], caught: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Put the steps of a form together; raises Unfit for rows that clash.

    Those of the flow's own error path are added to `caught`.

    They come in the order of reading, and each says which list it stands in, as
    flow_trees.Place.inside.
    """
    count = min(number_in(form.get("count", "")), 100)
    steps: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for number in range(count):
        step = read_step(form, number, connections)
        inside = form.get(f"s{number}.in", "")
        is_caught = caught is not None and inside == flow_trees.OF_THE_FLOW
        (caught if is_caught else _home(made, inside, steps)).append(step)  # type: ignore[union-attr]
        made.append(step)
    return steps


def _home(made: list[dict[str, Any]], inside: str, top: list[dict[str, Any]]) -> list[Any]:
    """Return the list that a step belongs to; the flow's own when the form names none."""
    number, _, name = inside.partition("/")
    around = made[number_in(number)] if number and number_in(number) < len(made) else None
    for known, _, steps in flow_trees.lists_in(around):
        if known == name:
            return steps
    return top


def read_step(form: Form, number: int, connections: Mapping[str, str]) -> dict[str, Any]:
    """Read the fields of one step; lists inside it stay empty. Raises Unfit for rows that clash."""
    fields = _Fields(form, f"s{number}.")
    kind = fields.text("kind")
    kind = kind if kind in KINDS else "action"
    step: dict[str, Any] = {"key": fields.text("key"), "kind": kind}
    if fields.text("title"):
        step["title"] = fields.text("title")
    if kind == "filter":
        step["when"] = fields.condition()
    elif kind == "map":
        step["mapping"] = document_of(_read_rows(form, number), f"/steps/{number}/mapping")
    elif kind == "action":
        step |= _read_action(fields, connections)
        step["input"] = document_of(_read_rows(form, number), f"/steps/{number}/input")
    elif kind == "branch":
        step |= _read_branch(form, fields, number)
    elif kind == "each":
        step |= _read_loop(fields)
    elif kind in edge_forms.KINDS:
        rows = _read_rows(form, number)
        step |= edge_forms.read_step(kind, fields, rows, f"/steps/{number}")
    elif kind == "delay":
        step |= {"until": fields.text("until")} if fields.text("until") else {}
        step |= fields.duration("for") if "until" not in step else {}
    else:
        step |= _read_approval(form, fields)
    return step | edge_forms.read_error_path(kind, fields)


class _Fields:
    """The fields of one thing in a form, whose names begin alike."""

    def __init__(self, form: Form, prefix: str) -> None:
        self.form, self.prefix = form, prefix

    def text(self, name: str) -> str:
        return self.form.get(self.prefix + name, "").replace("\r\n", "\n").strip()

    def condition(self) -> str:
        """Return the condition of the three fields, else the one that was written out."""
        if self.text("left") and self.text("op") in OPERATORS:
            return condition_of(self.text("left"), self.text("op"), self.text("right"))
        return self.text("when")

    def duration(self, name: str) -> dict[str, str]:
        """Return a duration of a number and a unit under its name, {} for none."""
        number, unit = self.text(name), self.text(f"{name}_unit")
        return {name: f"{number}{unit if unit in durations.UNITS else 'h'}"} if number else {}


def _read_action(fields: _Fields, connections: Mapping[str, str]) -> dict[str, Any]:
    chosen, _, action = fields.text("does").partition("|")
    connection = fields.text("connection")
    if chosen and not connection:
        # an app that is connected once needs no choice
        fitting = [one for one, connector in connections.items() if connector == chosen]
        connection = fitting[0] if len(fitting) == 1 else ""
    made = {"connector": connections.get(connection, "") or chosen}
    if connection:
        made["connection"] = connection
    # an action of another app cannot stay when the connection changes
    known = loader.known(made["connector"])
    fits = known is not None and chosen == known.key and action in known.actions
    return {**made, "action": action if fits else ""}


def _read_branch(form: Form, fields: _Fields, number: int) -> dict[str, Any]:
    ways: list[dict[str, Any]] = []
    for place in range(min(number_in(fields.text("ways")), MAX_WAYS)):
        way = _Fields(form, f"s{number}.w{place}.")
        made: dict[str, Any] = {"key": way.text("key")}
        if way.text("title"):
            made["title"] = way.text("title")
        ways.append({**made, "when": way.condition(), "steps": []})
    return {"ways": ways, "else": []}


def _read_loop(fields: _Fields) -> dict[str, Any]:
    made: dict[str, Any] = {"over": fields.text("over"), "steps": []}
    if fields.text("item_key"):
        made["item_key"] = fields.text("item_key")
    if fields.text("on_item_error") == "go_on":
        made["on_item_error"] = "go_on"
    return made


def _read_approval(form: Form, fields: _Fields) -> dict[str, Any]:
    chosen: dict[str, list[str]] = {"roles": [], "members": []}
    for what, name in (("roles", "role."), ("members", "member.")):
        prefix = fields.prefix + name
        chosen[what] = [key.removeprefix(prefix) for key in form if key.startswith(prefix)][:50]
    made: dict[str, Any] = {
        "who": {what: found for what, found in chosen.items() if found},
        "subject": fields.text("subject"),
        **fields.duration("deadline"),
        "at_deadline": "approve" if fields.text("at_deadline") == "approve" else "refuse",
        **fields.duration("remind"),
        "refused": [],
    }
    if fields.text("text"):
        made["text"] = fields.text("text")
    if fields.text("by_link") == "named":
        made["by_link"] = "named"
    return made


def _read_rows(form: Mapping[str, str], number: int) -> list[Row]:
    rows = []
    count = min(number_in(form.get(f"s{number}.rows", "")), 300)
    for place in range(count):
        name = f"s{number}.r{place}"
        rows.append(
            Row(
                target=form.get(f"{name}.target", "").strip(),
                how=form.get(f"{name}.how", "text"),
                # a choice that was picked from the app's list counts instead of what stood there
                source=form.get(f"{name}.choice", "").strip()
                or form.get(f"{name}.source", "").replace("\r\n", "\n"),
                table=form.get(f"{name}.table", "").replace("\r\n", "\n"),
                unknown=form.get(f"{name}.unknown", "keep"),
            )
        )
    return [row for row in rows if row.target or row.how == "yaml"]


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
