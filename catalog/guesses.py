"""Guesses: what somebody meant who typed pinyin, a sound-alike character or a slip of the keys."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

LEAST = 4  # shorter Latin words have too many neighbours
LIKENESS = 0.75
MAX_LETTERS = 40
Reader = Callable[[str], str]  # Chinese characters → their pinyin run together, and its initials
_CJK = "\u3400-\u4dbf\u4e00-\u9fff"


def guess(query: str, words: Mapping[str, int], read: Reader) -> str | None:
    """Return words of the shelf that sound or look like a query; None when nothing comes close.

    `words` are the shelf's own, with how often each stands there: the more usual one wins.
    """
    return _by_sound(query, words, read) or _by_look(query, words)


def _by_sound(query: str, words: Mapping[str, int], read: Reader) -> str | None:
    heard = _sound(query, read)
    if not 2 <= len(heard) <= MAX_LETTERS:
        return None
    parts = _cut(heard, _sounds(words, read))
    if not parts:
        return None
    meant = " ".join(parts)
    return None if meant.replace(" ", "") == "".join(query.split()) else meant


def _sounds(words: Mapping[str, int], read: Reader) -> dict[str, str]:
    """Map how Chinese words sound to the most usual word that sounds so; initials from three on."""
    found: Counter[str] = Counter(
        {word: count for word, count in words.items() if re.fullmatch(f"[{_CJK}]{{2,}}", word)}
    )
    sounds: dict[str, str] = {}
    for word, _ in found.most_common():
        whole, initials = read(word).split()
        sounds.setdefault(whole, word)
        if len(word) > 2:  # two letters mean too many things
            sounds.setdefault(initials, word)
    return sounds


def _cut(heard: str, sounds: Mapping[str, str]) -> list[str]:
    """Cut what was heard into known words without a rest, the fewest words first; else nothing."""
    best: dict[int, list[str]] = {0: []}
    for end in range(2, len(heard) + 1):
        for start in range(end - 1):
            word = sounds.get(heard[start:end])
            if word and start in best and len(best[start]) + 1 < len(best.get(end, heard)):
                best[end] = [*best[start], word]
    return best.get(len(heard), [])


def _by_look(query: str, words: Mapping[str, int]) -> str | None:
    latin = [word for word in words if len(word) >= LEAST and word.isascii()]
    typed = query.casefold().split()
    meant = [_nearest(word, latin) for word in typed]
    return None if meant == typed or not meant else " ".join(meant)


def _nearest(word: str, latin: Iterable[str]) -> str:
    if len(word) < LEAST or not word.isascii():
        return word
    return next(iter(get_close_matches(word[:MAX_LETTERS], list(latin), 1, LIKENESS)), word)


def _sound(text: str, read: Reader) -> str:
    """Return how a text sounds, run together: 库存 and 库村 both give `kucun`."""
    heard = re.sub(f"[{_CJK}]+", lambda run: read(run[0]).split()[0], text.casefold())
    return "".join(re.findall(r"[a-z0-9]+", heard))
