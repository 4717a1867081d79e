"""Release manifests as text: YAML or JSON in, a checked document and findings with lines out."""

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from catalog import json_schemas, slots
from catalog.findings import say
from kernel.errors import N_, FieldError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"^-?(0|[1-9][0-9]*)$")
_FRACTION = re.compile(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$")
Place = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """One thing about a manifest, where it stands (lines and columns count from 1) and how bad."""

    pointer: str
    message: str
    line: int
    column: int
    level: str = "error"  # error | warning


@dataclass
class Checked:
    """A manifest as read: the document (None when unreadable) and what was found."""

    document: dict[str, Any] | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that stop a submission."""
        return [finding for finding in self.findings if finding.level == "error"]


@cache
def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema that every manifest is held against."""
    path = Path(__file__).parent / "release.schema.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def check(text: str) -> Checked:
    """Read a manifest and say everything that is wrong with it, line by line."""
    if len(text.encode()) > MAX_BYTES:
        words = say(N_("The manifest is larger than %(limit)s kB"), limit=MAX_BYTES // 1024)
        return Checked(None, [Finding("", words, 1, 1)])
    try:
        document, places, doubles = _read(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = say(N_("This line cannot be read: %(why)s"), why=error.problem or error.context)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Checked(None, [Finding("", words, line, column)])
    except yaml.YAMLError:
        words = say(N_("The text holds characters that cannot be read"))
        return Checked(None, [Finding("", words, 1, 1)])
    if not isinstance(document, dict):
        words = say(N_("A manifest is a list of names and values, such as “id: my-app”"))
        return Checked(None, [Finding("", words, 1, 1)])
    problems = list(json_schemas.validator_of(manifest_schema())(document))
    if not problems:
        problems = _check_meaning(document)
    findings = [_placed(problem, places) for problem in doubles + problems]
    hints = [] if problems else _hints(document)
    findings += [_placed(hint, places, "warning") for hint in hints]
    return Checked(document, sorted(findings, key=lambda found: (found.line, found.column)))


def _placed(problem: FieldError, places: dict[str, Place], level: str = "error") -> Finding:
    """Give a finding the line of its value, or of the nearest thing around it."""
    pointer = problem["pointer"]
    while pointer not in places and pointer:
        pointer = pointer.rpartition("/")[0]
    line, column = places.get(pointer, (1, 1))
    return Finding(problem["pointer"], problem["message"], line, column, level)


# --- reading -------------------------------------------------------------------------------------


def _read(text: str) -> tuple[Any, dict[str, Place], list[FieldError]]:
    """Build JSON values from YAML, with the place of every value; no tags, aliases or dates."""
    _refuse_tricks(text)
    node = yaml.compose(text, Loader=_LOADER)
    places: dict[str, Place] = {}
    doubles: list[FieldError] = []
    value = None if node is None else _build(node, "", places, doubles)
    return value, places, doubles


def _refuse_tricks(text: str) -> None:
    """Refuse what makes a small text grow or sink without end before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        why = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            why = N_("anchors and aliases are not allowed")
        elif getattr(event, "tag", None):
            why = N_("tags are not allowed")
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            depth += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            why = N_("nested too deeply")
        if why:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=say(why), problem_mark=mark)


def _build(node: Any, pointer: str, places: dict[str, Place], doubles: list[FieldError]) -> Any:
    places[pointer] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(child, f"{pointer}/{index}", places, doubles)
            for index, child in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, child in node.value:
            name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in built:
                words = say(N_("“%(name)s” is written twice"), name=name)
                doubles.append({"pointer": below, "message": words})
            built[name] = _build(child, below, places, doubles)
            mark = key_node.start_mark
            places[below] = (mark.line + 1, mark.column + 1)
        return built
    return node.value if node.style else _plain(node.value)


def _plain(word: str) -> Any:
    """Read an unquoted word the way JSON would; everything else is text (also yes, no, dates)."""
    if word in {"true", "false"}:
        return word == "true"
    if word in {"", "null", "~"}:
        return None
    if _INTEGER.match(word):
        return int(word) if len(word) < 40 else word
    return Decimal(word) if _FRACTION.match(word) else word


# --- meaning -------------------------------------------------------------------------------------


def _check_meaning(document: dict[str, Any]) -> list[FieldError]:
    """Say what a schema cannot see: unknown sub-scenarios, slots that do not match, double ids."""
    found: list[FieldError] = []
    known = slots.all_sub_scenarios()
    for index, sub_id in enumerate(document["sub_scenarios"]):
        place = f"/sub_scenarios/{index}"
        if sub_id not in known:
            words = say(N_("There is no sub-scenario “%(name)s”"), name=sub_id)
            found.append({"pointer": place, "message": words})
        elif known[sub_id].slot_id not in document["slots"]:
            words = say(N_("“%(name)s” belongs to a slot that is not listed"), name=sub_id)
            found.append({"pointer": place, "message": words})
    covered = {name.partition(".")[0] for name in document["sub_scenarios"]}
    for index, slot_id in enumerate(document["slots"]):
        if slot_id not in covered:
            words = say(N_("Name at least one sub-scenario of this slot"))
            found.append({"pointer": f"/slots/{index}", "message": words})
    for group in ("plans", "scopes"):
        seen: set[str] = set()
        for index, entry in enumerate(document[group]):
            if entry["id"] in seen:
                words = say(N_("“%(name)s” is written twice"), name=entry["id"])
                found.append({"pointer": f"/{group}/{index}/id", "message": words})
            seen.add(entry["id"])
    for index, plan in enumerate(document["plans"]):
        if plan["period"] == "none" and plan["price_fen"]:
            words = say(N_("A price needs a period: once, month or year"))
            found.append({"pointer": f"/plans/{index}/period", "message": words})
    return found


def _hints(document: dict[str, Any]) -> list[FieldError]:
    """Say what reviewers will ask about; none of it stops a submission."""
    hints: list[FieldError] = []
    handled = [*document.get("scopes", []), *document.get("data_table", [])]
    sensitive = any(isinstance(e, dict) and e.get("sensitivity") == "high" for e in handled)
    if sensitive and "privacy_url" not in document:
        words = say(N_("Sensitive data is handled, but there is no privacy_url"))
        hints.append({"pointer": "/scopes", "message": words})
    for name, url in (document.get("lifecycle") or {}).items():
        if isinstance(url, str) and url.startswith("http://"):
            words = say(N_("This address is not encrypted; https is expected"))
            hints.append({"pointer": f"/lifecycle/{name}", "message": words})
    if "connector" not in document:
        words = say(N_("Without a connector the app cannot take part in flows"))
        hints.append({"pointer": "", "message": words})
    return hints


def example() -> str:
    """Return a complete manifest to start from."""
    return (slots.DATA / "example_manifest.yaml").read_text("utf-8")
