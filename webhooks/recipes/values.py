"""What steps work on: bytes, pairs and JSON values, found by name and written as bytes."""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kernel import documents

MAX_BYTES = 2 << 20
MAX_WORK = 24 << 20  # bytes that a run, or all tries at one delivery, may handle
MAX_REFERENCES = 60
MAX_TEMPLATE = 4000
# What the owner gave rather than the sender: when it is not there, the recipe is at fault.
OWNERS = frozenset({"secret", "settings", "field", "token", "state"})
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_PART = re.compile(r"[^.{}$\s]+")
_NOTHING = object()

Path = tuple[str, ...]


class Pairs(tuple[tuple[str, Any], ...]):
    """Names and values in the order they came in, a name perhaps more than once."""

    __slots__ = ()


@dataclass(frozen=True)
class Surroundings:
    """What a recipe may know of the world: the time, and where random bytes come from."""

    now: datetime
    random: Callable[[int], bytes] = secrets.token_bytes


class Refused(Exception):  # noqa: N818 - it says what became of the message
    """A step refused; senders are told no more than that, `say` is for the owner.

    `code` is signature_mismatch, signature_missing, signature_stale, signature_reused or
    recipe_broken; `step` counts from 1, 0 outside of steps.
    """

    def __init__(self, code: str, zh: str, en: str, step: int = 0) -> None:
        """Hold why; neither text may have anything in it that was sent or is secret."""
        self.code, self.step, self.say = code, step, {"zh": zh, "en": en}
        super().__init__(en)

    def at(self, step: int, operation: str) -> "Refused":
        """Return the same refusal, saying at which step it happened."""
        if self.step:
            return self
        zh = f"第 {step} 步（{operation}）：{self.say['zh']}"
        return Refused(self.code, zh, f"Step {step} ({operation}): {self.say['en']}", step)


class Missing(Refused):
    """A text reads what is not there."""

    def __init__(self, path: Path) -> None:
        """Say which name it was; names come from the recipe, so they are no secret."""
        name = ".".join(path)
        if path[0] in OWNERS:
            super().__init__("recipe_broken", f"没有填写 {name}", f"{name} is not filled in")
        else:
            super().__init__("signature_missing", f"缺少 {name}", f"{name} is missing")


class Heavy(Exception):  # noqa: N818 - nothing is wrong, it only takes a thread
    """A run would take longer than whoever waits for it here has."""


@dataclass
class _Left:
    """What is left of the bytes that may be handled."""

    count: int
    is_brief: bool


_left: ContextVar[_Left | None] = ContextVar("recipe_work_left", default=None)


@contextmanager
def bounded_work(most: int = MAX_WORK, *, is_brief: bool = False) -> Iterator[None]:
    """Let what is run inside handle so many bytes in all; within another bound, that one counts.

    Beyond it steps refuse, or raise Heavy when the bound `is_brief`.
    """
    if _left.get() is not None:
        yield
        return
    token = _left.set(_Left(most, is_brief))
    try:
        yield
    finally:
        _left.reset(token)


def spend(count: int) -> None:
    """Count bytes that are handled; raises Refused or Heavy when there were too many."""
    left = _left.get()
    if left is None:
        return
    left.count -= count
    if left.count < 0:
        if left.is_brief:
            raise Heavy
        raise mismatch("要处理的内容太多", "There is too much to work on")


def mismatch(zh: str, en: str) -> Refused:
    """Return the refusal of something that was sent."""
    return Refused("signature_mismatch", zh, en)


def broken(zh: str, en: str) -> Refused:
    """Return the refusal that is the recipe's fault, or that of a secret."""
    return Refused("recipe_broken", zh, en)


def path_of(reference: str) -> Path:
    """Read `name.part.part`; raises ValueError for what is no name."""
    parts = tuple(reference.split("."))
    if len(parts) > 12 or not all(map(_PART.fullmatch, parts)):
        raise ValueError(reference)
    return parts


@lru_cache(maxsize=4096)
def pieces(template: str) -> tuple[bytes | Path, ...]:
    """Cut a text into its bytes and references; raises ValueError when it cannot be read."""
    found: list[bytes | Path] = []
    end = 0
    for match in _REFERENCE.finditer(template):
        found += [template[end : match.start()].encode(), path_of(match[1])]
        end = match.end()
    found.append(template[end:].encode())
    fixed = b"".join(piece for piece in found if isinstance(piece, bytes))
    if b"${" in fixed or len(template) > MAX_TEMPLATE or len(found) > 2 * MAX_REFERENCES:
        raise ValueError(template)
    return tuple(piece for piece in found if piece)


def references(template: str) -> list[Path]:
    """Return what a text reads; raises ValueError when it cannot be read."""
    return [piece for piece in pieces(template) if isinstance(piece, tuple)]


def find(path: Path, values: Mapping[str, Any]) -> Any:
    """Return what a name stands for; raises Missing, also for a null.

    A parameter that was sent twice stands for nothing: whoever reads it next might take the other.
    """
    value: Any = values.get(path[0], _NOTHING)
    inside = path[0]
    for part in path[1:]:
        name = part.lower() if inside == "header" else part
        value, inside = _part(value, name), name
    if value is _NOTHING or value is None:
        raise Missing(path)
    return value


def _part(value: Any, name: str) -> Any:
    if isinstance(value, Pairs):
        spend(len(value))
        found = [one for key, one in value if key == name]
        return found[0] if len(found) == 1 else _NOTHING
    if isinstance(value, Mapping):
        return value.get(name, _NOTHING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 6:
        return value[int(name)] if int(name) < len(value) else _NOTHING
    return _NOTHING


def as_bytes(value: Any) -> bytes:
    """Write a value the way it is signed: text as UTF-8, numbers as they came, objects as JSON."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            # bytes of a query or form that were no UTF-8 are the same bytes again
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise mismatch("文字无法写成 UTF-8", "A text cannot be written as UTF-8") from None
    if isinstance(value, bool | int | Decimal | dict | list):
        return bounded(documents.dump(value))
    if isinstance(value, Pairs):
        return bounded(documents.dump(plain(value)))
    raise broken("这个值不能写成文字", "This value cannot be written as text")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: pairs become an object, repeated names lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, Pairs):
        return value
    found: dict[str, Any] = {}
    for name, one in value:
        if name not in found:
            found[name] = one
        elif isinstance(found[name], list):
            found[name].append(one)
        else:
            found[name] = [found[name], one]
    return found


def text(template: str, values: Mapping[str, Any], *, optional: bool = False) -> bytes:
    """Put bytes together; raises Refused when it reads what is not there, unless `optional`."""
    try:
        parts = pieces(template)
    except (ValueError, AttributeError, TypeError):
        raise broken("这段文字写得不对", "This text cannot be read") from None
    found: list[bytes] = []
    size = 0
    for part in parts:
        if isinstance(part, tuple):
            try:
                part = as_bytes(find(part, values))  # noqa: PLW2901 - the reference is done with
            except Missing:
                if not optional:
                    raise
                continue
        size += len(part)
        if size > MAX_BYTES:
            raise too_large()
        spend(len(part))
        found.append(part)
    return b"".join(found)


def pairs_of(value: Any) -> Iterable[tuple[str, Any]]:
    """Return names and values of pairs or an object."""
    if isinstance(value, Pairs):
        return value
    if isinstance(value, Mapping):
        return value.items()
    raise mismatch("这里需要参数", "Parameters are expected here")


def bounded(value: bytes) -> bytes:
    """Return the bytes if there are not too many of them."""
    if len(value) > MAX_BYTES:
        raise too_large()
    return value


def too_large() -> Refused:
    """Return the refusal of a value that is too large."""
    return mismatch("某个值超过 2 MiB", "A value is larger than 2 MiB")
