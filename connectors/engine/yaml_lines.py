"""YAML with a memory: plain values, exact numbers, and the line every JSON pointer stands on."""

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from connectors.engine.findings import Say, escape, say

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 40

TAG = "tag:yaml.org,2002:"


class Unreadable(Exception):  # noqa: N818 - it says what the file is
    """The file is not the small, plain YAML we read."""

    def __init__(self, sentence: Say, line: int) -> None:
        """Keep the sentence and the line it is about."""
        self.say, self.line = sentence, line
        super().__init__(f"line {line}: {sentence['en']}")


_Reader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Reader):  # type: ignore[misc]  # libyaml when it is there
    """Only null, booleans and numbers are recognised: no dates, no yes/no, no octal surprises."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_Loader.add_implicit_resolver(TAG + "null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver(TAG + "bool", re.compile(r"^(?:true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver(
    TAG + "int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), list("-0123456789")
)
_Loader.add_implicit_resolver(
    TAG + "float", re.compile(r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$"), list("-0123456789")
)


@dataclass(frozen=True)
class Lines:
    """A file's value and where each JSON pointer of it stands."""

    value: Any
    lines: dict[str, int]

    def line(self, at: str) -> int:
        """Return the line of a pointer, or of its nearest parent that is in the file."""
        while at and at not in self.lines:
            at = at.rpartition("/")[0]
        return self.lines.get(at, 1)


def read(path: Path) -> Lines:
    """Read one file of at most 256 KiB."""
    return parse(path.read_bytes())


def parse(raw: bytes) -> Lines:
    """Read YAML (or JSON) bytes, at most 256 KiB of them."""
    if len(raw) > MAX_FILE_BYTES:
        raise Unreadable(say("内容超过 256 KiB", "This is larger than 256 KiB"), 1)
    try:
        text = raw.decode("utf-8")
        _refuse_depth(text)
        node = _Loader(text).get_single_node()
    except (yaml.YAMLError, UnicodeDecodeError) as broken:
        mark = getattr(broken, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        detail = str(getattr(broken, "problem", None) or broken)
        raise Unreadable(
            say(f"不是可读的 YAML：{detail}", f"This is not readable YAML: {detail}"), line
        ) from broken
    except RecursionError as broken:
        raise _too_deep(1) from broken
    reader = _Walk()
    return Lines(reader.value(node, "", 0) if node is not None else None, reader.lines)


def _refuse_depth(text: str) -> None:
    """Refuse deep nesting by looking at the marks alone: libyaml builds nodes by recursion, and
    100,000 brackets overflow its stack, which ends the whole process.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH + 1:
            mark: Any = event.start_mark
            raise _too_deep(mark.line + 1)


def _too_deep(line: int) -> Unreadable:
    return Unreadable(say("嵌套超过 40 层", "This is nested deeper than 40 levels"), line)


class _Walk:
    """Turns nodes into values and remembers where each pointer stands."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.seen: set[int] = set()

    def value(self, node: yaml.Node, at: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(at, line)
        if depth > MAX_DEPTH:
            raise _too_deep(line)
        if id(node) in self.seen:
            # An alias: it makes bombs, and a reader cannot see where a value comes from.
            raise Unreadable(
                say("不支持 YAML 锚点与别名，请把内容写全", "Anchors and aliases are not read"),
                line,
            )
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.fields(node, at, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(child, f"{at}/{position}", depth + 1)
                for position, child in enumerate(node.value)
            ]
        return _scalar(node, line)

    def fields(self, node: yaml.MappingNode, at: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise Unreadable(say("键必须是文本", "Keys must be text"), line)
            key = key_node.value
            if key in found:
                raise Unreadable(
                    say(f"键“{key}”写了两次", f"The key “{key}” is written twice"), line
                )
            place = f"{at}/{escape(key)}"
            self.lines[place] = line
            found[key] = self.value(child, place, depth + 1)
        return found


def _scalar(node: yaml.Node, line: int) -> Any:
    text = node.value
    if node.tag == TAG + "null":
        return None
    if node.tag == TAG + "bool":
        return text == "true"
    if node.tag == TAG + "int":
        return int(text) if len(text) <= 400 else text
    if node.tag == TAG + "float":
        return Decimal(text)
    if node.tag == TAG + "str":
        return text
    raise Unreadable(say(f"不支持标签 {node.tag}", f"The tag {node.tag} is not read"), line)
