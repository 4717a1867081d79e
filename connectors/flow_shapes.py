"""Flow shapes: what keeps a document from being read, however unfinished it may be."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors import flow_trees
from connectors.engine.flow_steps import MAX_STEPS
from connectors.errors import finding
from connectors.flow_paths import MAX_DEPTH

KINDS = (
    "filter", "map", "action", "branch", "each", "delay", "approval", "call", "wait", "store",
)  # fmt: skip
ENVIRONMENTS = ("live", "test")
MAX_VERSION = 999_999
DEEPEST = 6  # steps inside steps
MAX_WAYS = 12
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_TRIGGER_PARTS = {"event", "version", "source", "connection", "connector", "trigger"}
_TRIGGER_PARTS |= {"order_key", "kind", "input"}
_DOCUMENT_PARTS = {"trigger", "steps", "on_error", "output", "environments"}
_OWN_PARTS: dict[str, set[str]] = {
    "filter": {"when"},
    "map": {"mapping"},
    "action": {"connector", "connection", "action", "input"},
    "branch": {"ways", "else"},
    "each": {"over", "item_key", "on_item_error", "steps"},
    "delay": {"for", "until"},
    "approval": {
        "who", "subject", "text", "deadline", "at_deadline", "remind", "refused", "by_link",
    },
    "call": {"flow", "version", "input"},
    "wait": {"event_type", "match", "when", "for", "at_deadline", "since"},
    "store": {
        "operation", "collection", "entry", "value", "amount", "expires", "prefix", "limit",
    },
}  # fmt: skip
_EVERY = {"key", "kind", "title"}
_TEXTS = (
    "over",
    "item_key",
    "for",
    "until",
    "subject",
    "text",
    "deadline",
    "at_deadline",
    "remind",
    "flow",
    "event_type",
    "since",
    "operation",
    "collection",
    "entry",
    "expires",
    "prefix",
    "by_link",
)
_LISTS = {"branch": ("else",), "each": ("steps",), "approval": ("refused",)}
Finding = dict[str, Any]


def check_shape(document: Any) -> list[Finding]:
    """Return what makes a document unreadable: wrong kinds, unknown parts, unfit keys."""
    if not isinstance(document, dict):
        return [finding("", "流程要写成一个对象", "A flow is written as an object")]
    findings = list(_unknown("", document, _DOCUMENT_PARTS))
    trigger, steps = document.get("trigger"), document.get("steps")
    if not isinstance(trigger, dict):
        findings.append(
            finding("/trigger", "请选择什么事情会启动流程", "Choose what starts the flow")
        )
    else:
        findings += _check_trigger(trigger)
    if not isinstance(steps, list):
        return [*findings, _no_list("/steps")]
    reading = _Reading()
    findings += reading.steps("/steps", steps, 0, 0)
    if "on_error" in document:
        findings += reading.error_path("", document["on_error"], 0, 0)
    findings += _check_environments(document.get("environments"))
    if len(flow_trees.walk(document)) > MAX_STEPS:
        text_zh, text_en = f"步骤不能超过 {MAX_STEPS} 个", f"A flow has at most {MAX_STEPS} steps"
        findings.append(finding("/steps", text_zh, text_en))
    return findings


def _unknown(pointer: str, given: Mapping[str, Any], known: set[str]) -> Iterator[Finding]:
    for name in sorted(set(given) - known):
        yield finding(f"{pointer}/{name}", f"这里不认识“{name}”", f"“{name}” is not known here")


def _no_list(pointer: str) -> Finding:
    return finding(pointer, "步骤要写成一个列表", "The steps are written as a list")


def _wrong(pointer: str) -> Finding:
    return finding(pointer, "这里的写法不对", "This is not written correctly")


def _check_trigger(trigger: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _unknown("/trigger", trigger, _TRIGGER_PARTS)
    for name in sorted(_TRIGGER_PARTS & set(trigger)):
        value = trigger[name]
        fits = isinstance(value, dict if name == "input" else str)
        if name == "version":
            fits = _is_version(value)
        if value is not None and not fits:
            yield _wrong(f"/trigger/{name}")


def _check_environments(given: Any) -> Iterator[Finding]:
    """Each environment may name other connections in place of those the steps name."""
    if given is None:
        return
    if not isinstance(given, dict):
        yield _wrong("/environments")
        return
    yield from _unknown("/environments", given, set(ENVIRONMENTS))
    for name in sorted(set(given) & set(ENVIRONMENTS)):
        chosen = given[name].get("connections") if isinstance(given[name], dict) else None
        fits = isinstance(chosen, dict) and all(isinstance(one, str) for one in chosen.values())
        if not fits or set(given[name]) - {"connections"}:
            yield _wrong(f"/environments/{name}")


def _is_version(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_VERSION


class _Reading:
    """Reads the steps of one document; knows the keys that are taken."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def steps(self, pointer: str, steps: Any, depth: int, loops: int) -> Iterator[Finding]:
        """Check a list of steps that stands inside so many steps, and so many of them loops."""
        if not isinstance(steps, list):
            yield _no_list(pointer)
            return
        if steps and depth > DEEPEST:
            yield finding(
                pointer,
                f"步骤套步骤不能超过 {DEEPEST} 层",
                f"Steps stand inside at most {DEEPEST} others",
            )
            return
        for index, step in enumerate(steps):
            yield from self._step(f"{pointer}/{index}", step, depth, loops)

    def _step(self, pointer: str, step: Any, depth: int, loops: int) -> Iterator[Finding]:
        if not isinstance(step, dict):
            yield finding(pointer, "步骤要写成一个对象", "A step is written as an object")
            return
        kind = step.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            names = ", ".join(KINDS)
            yield finding(
                f"{pointer}/kind",
                f"步骤的种类只能是 {names}",
                f"A step's kind is one of {names}",
            )
            return
        yield from self._key(pointer, step.get("key"))
        catches = {flow_trees.ON_ERROR} if kind in flow_trees.CATCHING else set()
        yield from _unknown(pointer, step, _EVERY | _OWN_PARTS[kind] | catches)
        for name in _TEXTS:
            if name in step and name in _OWN_PARTS[kind] and not isinstance(step[name], str):
                yield _wrong(f"{pointer}/{name}")
        yield from self._inside(pointer, step, depth, loops)

    def _key(self, pointer: str, key: Any) -> Iterator[Finding]:
        if not isinstance(key, str) or not _KEY.match(key):
            yield finding(
                f"{pointer}/key",
                "步骤名用小写字母开头，只含小写字母、数字和下划线",
                "A step's key starts with a small letter and holds small letters, digits and _",
            )
        elif key in self.seen:
            yield finding(f"{pointer}/key", f"已有步骤叫“{key}”", f"Another step is called “{key}”")
        else:
            self.seen.add(key)

    def _inside(
        self, pointer: str, step: Mapping[str, Any], depth: int, loops: int
    ) -> Iterator[Finding]:
        kind = step["kind"]
        loops += kind == "each"
        if loops > MAX_DEPTH:
            yield finding(
                pointer,
                f"逐项处理里最多再套 {MAX_DEPTH - 1} 层逐项处理",
                f"Loops stand inside each other {MAX_DEPTH} deep at most",
            )
            return
        if kind == "approval" and not isinstance(step.get("who", {}), dict):
            yield _wrong(f"{pointer}/who")
        if kind == "wait" and not isinstance(step.get("match", {}), dict):
            yield _wrong(f"{pointer}/match")
        if kind == "call" and step.get("version") is not None and not _is_version(step["version"]):
            yield _wrong(f"{pointer}/version")
        if kind in flow_trees.CATCHING and flow_trees.ON_ERROR in step:
            around = loops - (kind == "each")
            yield from self.error_path(pointer, step[flow_trees.ON_ERROR], depth + 1, around)
        if kind == "branch":
            yield from self._ways(pointer, step.get("ways"), depth, loops)
        for name in _LISTS.get(kind, ()):
            if name in step:
                yield from self.steps(f"{pointer}/{name}", step[name], depth + 1, loops)

    def error_path(self, pointer: str, path: Any, depth: int, loops: int) -> Iterator[Finding]:
        """Check what is done when a step, or the flow, has finally failed."""
        here = f"{pointer}/{flow_trees.ON_ERROR}"
        if not isinstance(path, dict):
            yield _wrong(here)
            return
        yield from _unknown(here, path, {"steps", "then", "on_unknown"})
        for name in ("then", "on_unknown"):
            if name in path and not isinstance(path[name], str):
                yield _wrong(f"{here}/{name}")
        yield from self.steps(f"{here}/steps", path.get("steps", []), depth, loops)

    def _ways(self, pointer: str, ways: Any, depth: int, loops: int) -> Iterator[Finding]:
        if not isinstance(ways, list) or len(ways) > MAX_WAYS:
            yield finding(
                f"{pointer}/ways",
                f"分支要写成一个列表，最多 {MAX_WAYS} 条",
                f"The ways are written as a list of {MAX_WAYS} at most",
            )
            return
        taken = {flow_trees.OTHERWISE}
        for number, way in enumerate(ways):
            here = f"{pointer}/ways/{number}"
            if not isinstance(way, dict):
                yield _wrong(here)
                continue
            yield from _unknown(here, way, {"key", "title", "when", "steps"})
            key = way.get("key")
            if not isinstance(key, str) or not _KEY.match(key) or key in taken:
                yield finding(
                    f"{here}/key",
                    "每条分支要有自己的名字，只含小写字母、数字和下划线",
                    "Each way has a key of its own with small letters, digits and _",
                )
            else:
                taken.add(key)
            yield from self.steps(f"{here}/steps", way.get("steps"), depth + 1, loops)
