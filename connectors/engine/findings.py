"""Findings: what is wrong with a file or a document, where, and what to do, in both languages."""

from dataclasses import dataclass

Say = dict[str, str]


def say(zh: str, en: str) -> Say:
    """Return the two-language sentence every engine message is made of."""
    return {"zh": zh, "en": en}


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule of a connector folder; `line` counts from 1, 0 means the whole file."""

    rule: str
    say: Say
    file: str = "manifest.yaml"
    line: int = 0
    pointer: str = ""

    def plain(self, language: str = "en") -> str:
        """Return one line for a terminal: file:line pointer rule sentence."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        pointer = f" {self.pointer}" if self.pointer else ""
        return f"{place}{pointer} {self.rule} {self.say[language]}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a value, a mapping or a flow; `target` is a JSON pointer."""

    target: str
    say: Say
    source: str | None = None
    is_missing: bool = False

    def plain(self, language: str = "en") -> str:
        """Return one line for a log or a terminal."""
        return f"{self.target or '/'}: {self.say[language]}"


class EngineError(Exception):
    """Something the engine refuses to do; `say` holds the sentence for a person."""

    def __init__(self, sentence: Say) -> None:
        """Keep both languages; the exception's text is the English one."""
        self.say = sentence
        super().__init__(sentence["en"])


def escape(token: str | int) -> str:
    """Return one JSON pointer token, escaped."""
    text = str(token)
    if "/" in text or "~" in text:
        return text.replace("~", "~0").replace("/", "~1")
    return text


def pointer(*tokens: str | int) -> str:
    """Return the JSON pointer of a path of keys and positions."""
    return "".join("/" + escape(token) for token in tokens)


def look(value: object, at: str) -> tuple[bool, object]:
    """Follow a JSON pointer and return (found, value)."""
    if at == "":
        return True, value
    for token in at.removeprefix("/").split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return False, None
    return True, value
