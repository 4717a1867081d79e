"""Flow shapes: what keeps a document from being read, however unfinished it may be."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors import flow_trees
from connectors.engine.flow_steps import MAX_STEPS
from connectors.errors import finding
from connectors.flow_paths import MAX_DEPTH

KINDS = ("filter", "map", "action", "branch", "each", "delay", "approval")
MAX_VERSION = 999_999
DEEPEST = 6  # steps inside steps
MAX_WAYS = 12
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_TRIGGER_PARTS = {"event", "version", "source", "connection", "connector", "trigger"}
_TRIGGER_PARTS |= {"order_key"}
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
    "by_link",
)
_LISTS = {"branch": ("else",), "each": ("steps",), "approval": ("refused",)}
Finding = dict[str, Any]


def check_shape(document: Any) -> list[Finding]:
    """Return what makes a document unreadable: wrong kinds, unknown parts, unfit keys."""
    if not isinstance(document, dict):
        return [finding("", "流程要写成一个对象", "A flow is written as an object")]
    findings = list(_unknown("", document, {"trigger", "steps"}))
    trigger, steps = document.get("trigger"), document.get("steps")
    if not isinstance(trigger, dict):
        findings.append(
            finding("/trigger", "请选择什么事情会启动流程", "Choose what starts the flow")
        )
    else:
        findings += _check_trigger(trigger)
    if not isinstance(steps, list):
        return [*findings, _no_list("/steps")]
    findings += _Reading().steps("/steps", steps, 0, 0)
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
        fits = _is_version(value) if name == "version" else isinstance(value, str)
        if value is not None and not fits:
            yield _wrong(f"/trigger/{name}")


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
        yield from _unknown(pointer, step, _EVERY | _OWN_PARTS[kind])
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
        if kind == "branch":
            yield from self._ways(pointer, step.get("ways"), depth, loops)
        for name in _LISTS.get(kind, ()):
            if name in step:
                yield from self.steps(f"{pointer}/{name}", step[name], depth + 1, loops)

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
