"""Running a recipe: step after step, with bounds, and one kind of refusal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from webhooks.recipes import seals, texts
from webhooks.recipes.values import (
    Missing,
    Refused,
    Surroundings,
    as_bytes,
    bounded_work,
    broken,
    find,
    path_of,
    spend,
    text,
)

MAX_STEPS = 40
MAX_DEPTH = 3
# What a step costs beside the bytes it reads, in bytes; signing with a long key takes longest.
_COSTS = {"rsa_sign": 512 << 10, "rsa_verify": 64 << 10, "jwt": 64 << 10, "ed25519_verify": 8 << 10}

Step = Mapping[str, Any]
Operation = Callable[[Any, Step, Mapping[str, Any], Surroundings], Any]

# Each takes what stands behind its word, the step, the values so far and the surroundings. Those
# under CHECKS refuse or do nothing, the others return what their step is named for.
VALUES: Mapping[str, Operation] = {**texts.VALUES, **seals.VALUES}
CHECKS: Mapping[str, Operation] = {**texts.CHECKS, **seals.CHECKS}


def run(steps: Sequence[Step], values: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """Return everything that has a name afterwards, inputs included; raises Refused."""
    names = dict(values)
    with bounded_work():
        _run(steps, names, around, count(1), 0)
    return names


def is_so(condition: Step, values: Mapping[str, Any]) -> bool:
    """Tell whether all parts of a `when` hold: has, lacks, is, method."""
    if not isinstance(condition, Mapping) or not condition:
        raise broken("条件写得不对", "A condition cannot be read")
    return all(_holds(name, value, values) for name, value in condition.items())


def _holds(name: str, value: Any, values: Mapping[str, Any]) -> bool:
    if name in ("has", "lacks"):
        return _is_there(value, values) == (name == "has")
    if name == "method":
        return as_bytes(values.get("method", "")) == as_bytes(value)
    if name == "is":
        try:
            first, *others = [text(one, values) for one in value]
        except Missing:
            return False
        return any(first == other for other in others)
    raise broken(f"没有 {name} 这种条件", f"There is no condition {name}")


def _is_there(name: str, values: Mapping[str, Any]) -> bool:
    try:
        return bool(find(path_of(name), values) != "")
    except Missing:
        return False


def _run(
    steps: Sequence[Step],
    names: dict[str, Any],
    around: Surroundings,
    numbers: Iterator[int],
    depth: int,
) -> None:
    if depth > MAX_DEPTH:
        raise broken("步骤嵌套太深", "Steps are nested too deep")
    for step in steps:
        number = next(numbers)
        word = _word(step)
        try:
            if number > MAX_STEPS:
                raise broken(f"超过 {MAX_STEPS} 步", f"There are more than {MAX_STEPS} steps")
            spend(_COSTS.get(word, 0))
            if word == "when":
                if is_so(step["when"], names):
                    _run(step["steps"], names, around, numbers, depth + 1)
            elif word == "any":
                _any(step["any"], names, around, numbers, depth + 1)
            elif word in CHECKS:
                CHECKS[word](step[word], step, names, around)
            else:
                names[step["as"]] = VALUES[word](step[word], step, names, around)
        except Refused as refused:
            raise refused.at(number, word) from None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            # a step that nobody checked; what it choked on may be secret, so it is not told
            no = broken("这一步写得不对", "This step cannot be read")
            raise no.at(number, word) from error


def _any(
    ways: Sequence[Sequence[Step]],
    names: dict[str, Any],
    around: Surroundings,
    numbers: Iterator[int],
    depth: int,
) -> None:
    """Go the first way that refuses nothing; when all do, the first one's reason counts."""
    reason: Refused | None = None
    for way in ways:
        tried = dict(names)
        try:
            _run(way, tried, around, numbers, depth)
        except Refused as refused:
            reason = reason or refused
        else:
            names.update(tried)
            return
    raise reason or broken("没有任何一种做法", "There is no way to go")


def _word(step: Step) -> str:
    words = [key for key in step if key in VALUES or key in CHECKS or key in ("when", "any")]
    if len(words) != 1:
        raise broken("某一步没有（唯一的）操作", "A step has no operation, or several")
    return words[0]
