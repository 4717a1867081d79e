"""Documents as JSON has them, and what is said of parts that are shaped otherwise."""

import base64
import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from connectors.engine import schemas
from connectors.engine.findings import EngineError, Say, say

MAX_DEPTH = 200
# What code that reads a document stumbles over when parts of it are of another kind.
BROKEN = (
    *(TypeError, AttributeError, ValueError, LookupError, RecursionError),
    *(ArithmeticError, schemas.BadSchema),
)


class TooDeep(EngineError):  # noqa: N818 - it says what the document is
    """Nobody nests so deep."""


def as_json(value: Any, depth: int = 0) -> Any:
    """Return a document with what JSON cannot say turned into what it can; raises TooDeep."""
    if depth > MAX_DEPTH:
        text = say(f"文件超过 {MAX_DEPTH} 层", f"The document is over {MAX_DEPTH} levels deep")
        raise TooDeep(text)
    if isinstance(value, Mapping):
        return {_key(name): as_json(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(one, depth + 1) for one in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _key(name: Any) -> str:
    if isinstance(name, bool):
        return "true" if name else "false"
    return name if isinstance(name, str) else str(as_json(name))


def odd(place: str) -> Say:
    """Return what is said of a part that has another shape than OpenAPI gives it."""
    return say(
        f"{place}：这里的写法不符合 OpenAPI，已略过",
        f"{place}: this is not shaped as OpenAPI says, so it was left out",
    )


def name_of(text: str) -> str:
    """Return a manifest name for any text: getPetById → get_pet_by_id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(text))
    name = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return (name if name[:1].isalpha() else f"x_{name}")[:60].rstrip("_")
