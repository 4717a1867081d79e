"""Matching: the one value by which a run and the event it waits for find each other."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from connectors.engine.expressions import Expression, compile_expression
from connectors.engine.findings import EngineError
from connectors.engine.functions import to_text


def hash_of(event_type: str, path: str, value: Any, environment: str = "live") -> str | None:
    """Return the hash of a correlation; None for no value. A number is the same as its digits.

    What is for testing frees no live run, and the other way round.
    """
    try:
        text = to_text(value).strip()
    except EngineError:
        return None
    if not text:
        return None
    parts = f"{environment}\n{event_type}\n{path.strip()}\n{text}".encode("utf-8", "replace")
    return hashlib.sha256(parts).hexdigest()[:40]


def read(path: str, event: Mapping[str, Any]) -> Any:
    """Return what stands at a path of an event; None when nothing does.

    It reads what a tenant's sender wrote, so nothing about it may break the caller.
    """
    try:
        return _path(path).evaluate({"awaited": event})
    except EngineError:
        return None


@lru_cache(maxsize=1024)
def _path(path: str) -> Expression:
    return compile_expression(f"awaited.{path.strip()}")
