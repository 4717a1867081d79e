"""Where the vocabulary's words come from: terms of standards, each with how sure we are of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from catalog.slots import Words, read_data

OWN = "own"


@dataclass(frozen=True)
class Term:
    """A term of a standard that a type follows; of `own` words nothing else is known."""

    standard: str
    term: str = ""
    confidence: str = ""  # likely | memory, empty for our own words


@cache
def standards() -> dict[str, Words]:
    """Return the standards' names by key."""
    found: dict[str, Any] = read_data("standards.yaml")["standards"]
    return {key: one["name"] for key, one in found.items()}


def said(terms: Iterable[Term]) -> str:
    """Write terms in one line of English, for those who read JSON."""
    return "; ".join(f"{standards()[one.standard]['en']} {one.term}".strip() for one in terms)
