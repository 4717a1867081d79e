"""What is kept and shown of a step's data: bounded, and without secrets."""

import base64
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from kernel import documents

MAX_KEPT_BYTES = 64 * 1024
HIDDEN = "••••••"
_TELLING = (
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "private",
)
_SHORTEST_SECRET = 6  # shorter texts would blank out ordinary words


def keep(value: Any, secrets: Iterable[str]) -> Any:
    """Return what may be stored of a value: the connection's secrets hidden, the size bounded."""
    hidden = _spellings(tuple(secrets))
    kept = _without(value, hidden) if hidden else value
    raw = documents.dump(kept)
    if len(raw) <= MAX_KEPT_BYTES:
        return kept
    return {"$too_large": {"bytes": len(raw), "start": raw[:2_000].decode(errors="replace")}}


def is_cut(value: Any) -> bool:
    """Tell whether a kept value is only the start of what it was."""
    return isinstance(value, dict) and len(value) == 1 and "$too_large" in value


@lru_cache(maxsize=512)
def _spellings(secrets: tuple[str, ...]) -> list[str]:
    """Return the secrets as they are written in addresses, forms and headers too; longest first."""
    found: set[str] = set()
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        # what is no whole text is sent nowhere
        raw = secret.encode(errors="ignore")
        found |= {secret, quote(raw, safe=""), quote(raw, safe="/"), quote_plus(raw)}
        found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        found.add(base64.b64encode(raw).decode())
    return sorted(found, key=len, reverse=True)


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, dict):
        return {_without(name, secrets): _without(one, secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [_without(one, secrets) for one in value]
    return value


def show(value: Any) -> Any:
    """Return a kept value for people's eyes: what a telling name holds is hidden too."""
    if isinstance(value, dict):
        return {
            name: HIDDEN
            if isinstance(one, str) and one and any(word in name.lower() for word in _TELLING)
            else show(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [show(one) for one in value]
    return value
