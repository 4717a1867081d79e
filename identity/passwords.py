"""Passwords: hashing with argon2id, and a plain check that refuses what others guess first.

Hashing takes tens of milliseconds and much memory on purpose: do it outside any transaction.
"""

import os
import re
import threading
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from kernel.errors import N_, Invalid

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 128
_ENOUGH_LEFT: Final = 5

# RFC 9106's second choice with one lane: the machines we run on have few cores.
_hasher = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
# Each hash holds 64 MiB: without a limit a burst of sign-ins would take the machine down.
_places = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))

_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "!qaz@wsx#edc$rfv",
    "!@#$%^&*()",
)
_LOOKALIKES: Final = str.maketrans("@4310$5!7", "aaeiossit")


def hash_password(password: str) -> str:
    """Return the argon2id digest of a password."""
    with _places:
        return _hasher.hash(normalise(password))


def verify(stored_digest: str | None, password: str) -> bool:
    """Say whether the password fits; an account without one costs exactly the same work."""
    fits = True
    if stored_digest is None:
        stored_digest, fits = _decoy(), False
    if len(password) > MAX_LENGTH * 4:
        password, fits = password[:MAX_LENGTH], False
    with _places:
        try:
            return _hasher.verify(stored_digest, normalise(password)) and fits
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(stored_digest: str) -> bool:
    """Say whether a digest was made with older parameters than today's."""
    return _hasher.check_needs_rehash(stored_digest)


def normalise(password: str) -> str:
    """Make the same typed characters the same bytes on every keyboard (NFKC)."""
    return unicodedata.normalize("NFKC", password)


@cache
def _decoy() -> str:
    return _hasher.hash(os.urandom(16).hex())


def check_strength(password: str, *, about: Iterable[str] = ()) -> None:
    """Refuse a password that is too short, too long or easily guessed.

    `about` holds what strangers know of the person: e-mail, name, organization. Raises Invalid.
    """
    message = weakness(password, about=about)
    if message is not None:
        raise Invalid(
            N_("Please choose another password"),
            message,
            code="weak_password",
            errors=[{"pointer": "/password", "message": message}],
        )


def weakness(password: str, *, about: Iterable[str] = ()) -> str | None:
    """Say in one sentence what is wrong with a password, or None when it will do."""
    password = normalise(password)
    if len(password) < MIN_LENGTH:
        return N_("Use at least 10 characters; a short sentence is easy to remember.")
    if len(password) > MAX_LENGTH:
        return N_("Use at most 128 characters.")
    if password.isdecimal() and len(password) < 14:
        return N_("Digits alone are guessed quickly, dates and phone numbers first.")
    lowered = password.casefold()
    # Three ways to read it: as typed, with look-alike signs as letters, and without its runs
    # first, because "12345" must not turn into letters.
    readings = (
        lowered,
        lowered.translate(_LOOKALIKES),
        _leftover(lowered, ()).translate(_LOOKALIKES),
    )
    personal = _pieces(about)
    if any(_is_spent(reading, _common_words()) for reading in readings):
        return N_("It is one of the passwords that are tried first.")
    if any(_is_spent(reading, [*personal, *_common_words()]) for reading in readings):
        return N_("It is made of your e-mail, your name or your organization's name.")
    return None


def _is_spent(text: str, words: Iterable[str]) -> bool:
    """Say whether almost nothing is left once the words are struck out."""
    return len(set(_leftover(text, words))) < _ENOUGH_LEFT


def _pieces(about: Iterable[str]) -> list[str]:
    """Take e-mail addresses and names apart; the longest pieces come first."""
    found: set[str] = set()
    for text in about:
        whole = normalise(text).casefold()
        found.add(whole)
        found.update(re.split(r"[\s@._+\-]+", whole))
        if not whole.isascii():
            found.update(whole[i : i + 2] for i in range(len(whole) - 1))
    return sorted((p for p in found if len(p) >= (2 if not p.isascii() else 3)), key=len)[::-1]


def _leftover(text: str, words: Iterable[str]) -> str:
    """Return what remains once known words, years, runs and repeats are struck out."""
    for word in words:
        text = text.replace(word, "")
    text = re.sub(r"(19|20)\d\d", "", text)
    text = re.sub(r"(.)\1{2,}", "", text)
    return re.sub(r"(.{1,4}?)\1{2,}", "", _without_runs(text))


def _without_runs(text: str) -> str:
    """Strike out three or more neighbours of the alphabet, the digits or the keyboard."""
    kept: list[str] = []
    start = 0
    while start < len(text):
        length = max(_run_length(text[start:], row) for row in _ROWS)
        if length < 3:
            kept.append(text[start])
            length = 1
        start += length
    return "".join(kept)


def _run_length(text: str, row: str) -> int:
    for length in range(min(len(text), len(row)), 2, -1):
        if text[:length] in row or text[:length] in row[::-1]:
            return length
    return 0


@cache
def _common_words() -> tuple[str, ...]:
    lines = (Path(__file__).parent / "data" / "guessed_first.txt").read_text("utf-8").split()
    return tuple(sorted(lines, key=len, reverse=True))
