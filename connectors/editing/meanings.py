"""Meanings: what a field is about, read from its name and its titles in both languages."""

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).parent / "synonyms.yaml"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")
WEAK = 0.5  # what a word counts that says little on its own
OUTER = 0.4  # what a word counts that is only about what a field is part of
Weights = Mapping[str, float]  # meaning → what it counts


class _Words:
    """The file of synonyms, turned around: word → meaning."""

    def __init__(self) -> None:
        read: dict[str, Any] = yaml.safe_load(_FILE.read_text("utf-8"))
        self.weak = frozenset(read["weak"])
        self.silent_en = frozenset(read["silent"]["en"])
        self.silent_zh = frozenset(read["silent"]["zh"])
        self.en: dict[str, str] = {}
        self.zh: dict[str, str] = {}
        self.told: dict[str, dict[str, str]] = {}
        for meaning, words in {**read["meanings"], **read["weak"]}.items():
            self.en |= dict.fromkeys(words["en"], meaning)
            self.zh |= dict.fromkeys(words["zh"], meaning)
            self.told[meaning] = {"en": words["en"][0].replace("_", " "), "zh": words["zh"][0]}
        self.longest = max(map(len, self.zh))


@cache
def _words() -> _Words:
    return _Words()


@lru_cache(maxsize=4096)
def of_name(name: str) -> frozenset[str]:
    """Return the meanings in a field's name, `buyer_name` → customer, name."""
    known = _words()
    parts = [one.lower() for one in _WORD.findall(name)]
    whole = "_".join(parts)
    if whole in known.en:
        return frozenset({known.en[whole]})
    found: set[str] = set()
    at = 0
    while at < len(parts):
        pair = "_".join(parts[at : at + 2])
        if len(parts) > at + 1 and pair in known.en:
            found.add(known.en[pair])
            at += 2
            continue
        if parts[at] not in known.silent_en:
            found.add(known.en.get(parts[at], parts[at]))
        at += 1
    return frozenset(found)


@lru_cache(maxsize=4096)
def of_chinese(text: str) -> frozenset[str]:
    """Return the meanings in a Chinese title, longest words first: 客户名称 → customer, name."""
    known, found = _words(), set()
    for run in _CHINESE.findall(text):
        rest, at = "", 0
        while at < len(run):
            size = next(
                (n for n in range(min(known.longest, len(run) - at), 0, -1)
                 if run[at : at + n] in known.zh or run[at : at + n] in known.silent_zh),
                0,
            )  # fmt: skip
            if not size:
                rest, at = rest + run[at], at + 1
                continue
            word = run[at : at + size]
            found |= {known.zh[word]} if word in known.zh else set()
            at += size
        found |= {rest} if rest else set()
    return frozenset(found)


def weighed(own: Iterable[str], outer: Iterable[str] = ()) -> Weights:
    """Return what each meaning of a field counts: its own more than what it is part of."""
    weak = _words().weak
    found = {one: (WEAK if one in weak else 1.0) * OUTER for one in outer}
    return found | {one: WEAK if one in weak else 1.0 for one in own}


def likeness(left: Weights, right: Weights) -> float:
    """Return how much two fields have in common, from 0 to 1."""
    if not left or not right:
        return 0.0
    shared = sum(left[one] + right[one] for one in left.keys() & right.keys())
    return shared / (sum(left.values()) + sum(right.values()))


@lru_cache(maxsize=8192)
def readings(path: tuple[str, ...], zh: str, en: str) -> tuple[Weights, ...]:
    """Return what a field may be about: once by its names, once by its title in each language."""
    names = [of_name(one) for one in path]
    while len(names) > 1 and not names[-1]:
        names.pop()  # `amount.value` is an amount
    outer = frozenset().union(*names[:-1]) if names else frozenset()
    found = [weighed(names[-1] if names else (), outer)]
    for text, read in ((zh, of_chinese), (en, of_name)):
        *around, own = text.split(" · ")
        found.append(weighed(read(own), frozenset().union(*map(read, around))))
    return tuple(one for one in found if one)


def is_weak(shared: Iterable[str]) -> bool:
    """Tell whether all that is shared are words that say little on their own."""
    return set(shared) <= _words().weak


def told(shared: Iterable[str]) -> dict[str, str]:
    """Say meanings in both languages."""
    known = [_words().told[one] for one in sorted(shared) if one in _words().told]
    return {
        "zh": "、".join(one["zh"] for one in known),
        "en": ", ".join(one["en"] for one in known),
    }
