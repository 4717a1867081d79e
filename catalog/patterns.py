"""Strangers' patterns: which of them any linear-time engine runs fast, however long the text.

Linear is not fast: `[ab]*a[ab]{900}c` keeps 900 places of the pattern alive at every character and
takes seconds for a megabyte. Engines are quick while all sets of places that can be alive together
are few, for then each set becomes one state. So the sets are counted before a pattern is taken.
"""

import re
from collections import deque
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]  # no other reader of patterns
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import re2

MAX_LENGTH = 1_000
MAX_PLACES = 4_000
MAX_STATES = 2_500
MAX_ALIVE = 100_000  # places in all sets together: engines give up when these fill their memory
MAX_WORK = 400_000  # places looked at while counting: some tenths of a second
MAX_WORK_TOGETHER = 1_500_000  # for all patterns of a schema
SMALL_PROGRAM = 16  # what cannot be counted must be as small as this
_LAST = 0x10FFFF
_CLASSES = {
    ops.CATEGORY_DIGIT: [(48, 57)],
    ops.CATEGORY_WORD: [(48, 57), (65, 90), (95, 95), (97, 122)],
    ops.CATEGORY_SPACE: [(9, 13), (32, 32), (0xA0, 0xA0), (0x2000, 0x200A), (0x3000, 0x3000)],
}
_OPPOSITES = {
    ops.CATEGORY_NOT_DIGIT: ops.CATEGORY_DIGIT,
    ops.CATEGORY_NOT_WORD: ops.CATEGORY_WORD,
    ops.CATEGORY_NOT_SPACE: ops.CATEGORY_SPACE,
}
_PROPERTY = re.compile(r"\\[pP](?:\{\^?\w+\}|\w)")
Ranges = list[tuple[int, int]]


class _Uncounted(Exception):  # noqa: N818 - it says what the pattern is
    """The pattern has something in it that is not counted here, or too much of it."""


class Looked(NamedTuple):
    """Why a pattern is refused, or None; and how much work it was to find out."""

    problem: str | None
    work: int = 0


@lru_cache(maxsize=4_000)
def look(pattern: str) -> Looked:
    """Judge a pattern: refused is what is not linear (look-around, back references) or not fast."""
    if len(pattern) > MAX_LENGTH:
        return Looked(f"longer than {MAX_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        size: int = re2.compile(pattern, options).programsize
    except (re2.error, ValueError) as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return Looked(text.splitlines()[0][:200] if text else "not a pattern")
    if size <= SMALL_PROGRAM:
        return Looked(None, size)
    try:
        # which characters a Unicode property means matters little for how many states there are
        parsed = _parser.parse(_PROPERTY.sub(r"\\w", pattern))
        return Looked(None, _count_states(_Places(parsed)))
    except (_Uncounted, re.error, RecursionError, OverflowError):
        words = "slow on long texts: write fewer or smaller counts such as {1,20}"
        return Looked(words, MAX_WORK)


class _Places:
    """A pattern as places and ways: without a character (`free`) or with one (`ways`)."""

    def __init__(self, parsed: Any) -> None:
        self.free: list[list[int]] = [[]]
        self.anchored: list[list[int]] = [[]]  # ways that exist at the text's beginning alone
        self.ways: list[tuple[Ranges, int] | None] = [None]
        self.end = self._sequence(parsed, 0)

    def _new(self) -> int:
        if len(self.free) >= MAX_PLACES:
            raise _Uncounted
        self.free.append([])
        self.anchored.append([])
        self.ways.append(None)
        return len(self.free) - 1

    def _sequence(self, parsed: Any, at: int) -> int:
        for op, argument in parsed:
            at = self._one(op, argument, at)
        return at

    def _one(self, op: Any, argument: Any, at: int) -> int:
        if op in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            after = self._new()
            start = self._new()
            self.free[at].append(start)
            self.ways[start] = (_ranges(op, argument), after)
            return after
        if op is ops.SUBPATTERN:
            return self._sequence(argument[3], at)
        if op is ops.BRANCH:
            after = self._new()
            for branch in argument[1]:
                first = self._new()
                self.free[at].append(first)
                self.free[self._sequence(branch, first)].append(after)
            return after
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            least, most, inner = argument
            return self._repeat(least, most, inner, at)
        if op is ops.AT and argument is ops.AT_BEGINNING:
            after = self._new()
            self.anchored[at].append(after)
            return after
        if op is ops.AT and argument is ops.AT_END:
            return self._new()  # nothing inside a text leads on from its end
        raise _Uncounted

    def _repeat(self, least: int, most: Any, parsed: Any, at: int) -> int:
        for _ in range(least):
            at = self._sequence(parsed, at)
        if most is ops.MAXREPEAT:
            again = self._new()
            self.free[at].append(again)
            self.free[self._sequence(parsed, again)].append(again)
            return again
        after = self._new()
        self.free[at].append(after)
        for _ in range(most - least):
            at = self._sequence(parsed, at)
            self.free[at].append(after)
        return after


def _ranges(op: Any, argument: Any) -> Ranges:
    if op is ops.ANY:
        return [(0, 9), (11, _LAST)]
    if op is ops.LITERAL:
        return [(argument, argument)]
    if op is ops.NOT_LITERAL:
        return _without([(argument, argument)])
    found: Ranges = []
    negated = False
    for kind, value in argument:
        if kind is ops.NEGATE:
            negated = True
        elif kind is ops.LITERAL:
            found.append((value, value))
        elif kind is ops.RANGE:
            found.append(value)
        elif kind is ops.CATEGORY and value in _CLASSES:
            found += _CLASSES[value]
        elif kind is ops.CATEGORY and value in _OPPOSITES:
            found += _without(_CLASSES[_OPPOSITES[value]])
        else:
            raise _Uncounted
    return _without(found) if negated else found


def _without(ranges: Ranges) -> Ranges:
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return [*found, (start, _LAST)] if start <= _LAST else found


def _count_states(places: _Places) -> int:
    """Walk through all sets of places that can be alive together; _Uncounted when they are many.

    Returns the work it was.
    """
    edges = sorted({e for w in places.ways if w for low, high in w[0] for e in (low, high + 1)})
    work = 0

    def closure(starts: list[int], *, at_beginning: bool) -> frozenset[int]:
        nonlocal work
        seen, todo = set(starts), list(starts)
        while todo:
            place = todo.pop()
            further = places.free[place] + (places.anchored[place] if at_beginning else [])
            work += 1 + len(further)
            for one in further:
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
        return frozenset(one for one in seen if places.ways[one] or one == places.end)

    restart = closure([0], at_beginning=False)  # a search begins anew at every character
    first = closure([0], at_beginning=True)
    known, waiting, alive_in_all = {first}, deque([first]), 0
    while waiting:
        state = waiting.popleft()
        if places.end in state:
            continue  # found: the search is over
        alive = [way for place in state if (way := places.ways[place])]
        for edge in edges:
            work += len(alive)
            if work > MAX_WORK:
                raise _Uncounted
            ends = [after for ranges, after in alive if _holds(ranges, edge)]
            after = closure(ends, at_beginning=False) | restart
            if after not in known:
                known.add(after)
                waiting.append(after)
                alive_in_all += len(after)
        if len(known) > MAX_STATES or alive_in_all > MAX_ALIVE:
            raise _Uncounted
    return work


def _holds(ranges: Ranges, character: int) -> bool:
    return any(low <= character <= high for low, high in ranges)
