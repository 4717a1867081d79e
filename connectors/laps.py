"""Laps: how a run goes through the items of a loop, and what becomes of each.

What was done for an item is known by the notes of its steps, so that a run that was interrupted
goes on with the item it was at.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.engine.findings import EngineError, say
from connectors.engine.functions import to_text
from connectors.flow_documents import Planned
from connectors.flow_paths import MAX_ITEMS, items_of, position_at
from kernel import documents

if TYPE_CHECKING:
    from connectors.moving import Moving, Say

MAX_LAPS = 2_000  # items of all loops of a run, loops inside loops counted each time
TURN_SECONDS = 5.0  # a run in a loop lets others go first after this
# what is the item's own trouble: another one may well get through
OF_THE_ITEM = ("data", "down", "limit")
ON_ERROR, GO_ON = "on_item_error", "go_on"


@dataclass(slots=True)
class Loop:
    """A loop that a run is in."""

    position: int
    step: Planned
    items: list[Any]
    keys: list[str]  # what names each item in effect keys
    index: int = -1
    results: list[Any] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    around: Mapping[str, Any] = field(default_factory=dict)  # `item` and `index` outside of it

    def output(self) -> dict[str, Any]:
        """Return what later steps read of it."""
        count = len(self.results)
        return {
            "count": count,
            "done": count - self.skipped - len(self.errors),
            "skipped": self.skipped,
            "failed": len(self.errors),
            "results": self.results,
            "errors": self.errors,
        }


def items_at(moving: "Moving", step: Planned) -> list[Any]:
    """Return the items that a loop goes through; raises EngineError when they are none or too many.

    The same event and the same earlier steps give the same items again.
    """
    if step.body_end == step.position + 1:
        raise EngineError(say("逐项处理里还没有步骤", "Nothing is to be done for the items yet"))
    items = step.plan.apply(moving.activation)
    if not isinstance(items, list):
        raise EngineError(say("要逐项处理的不是列表", "What the loop goes through is not a list"))
    if len(items) > MAX_ITEMS:
        raise EngineError(
            say(
                f"列表有 {len(items)} 项，逐项处理最多 {MAX_ITEMS} 项",
                f"The list has {len(items)} items; a loop goes through {MAX_ITEMS} at most",
            )
        )
    if moving.lap_count + len(items) > MAX_LAPS:
        raise EngineError(
            say(
                f"这次运行要逐项处理的超过 {MAX_LAPS} 项",
                f"The loops of this run go through more than {MAX_LAPS} items together",
            )
        )
    return items


def enter(moving: "Moving", step: Planned, items: list[Any]) -> None:
    """Stand at the first item of a loop, or behind the loop when there is none."""
    around = {name: moving.activation.get(name) for name in ("item", "index") if moving.loops}
    keys = _keys(moving, step, items)
    moving.loops.append(Loop(moving.position, step, items, keys, around=around))
    moving.lap_count += len(items)
    if not moving.is_restoring and moving.until is None:
        moving.until = time.monotonic() + TURN_SECONDS
    _next(moving)


def _keys(moving: "Moving", step: Planned, items: list[Any]) -> list[str]:
    plan = step.item_key
    if plan is None:
        return [str(number) for number in range(len(items))]
    keys = []
    for number, item in enumerate(items):
        keys.append(to_text(plan.apply({**moving.activation, "item": item, "index": number})))
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise EngineError(
            say(
                f"有两项的名称都是“{twice[:60]}”，对方会当成同一项",
                f"Two items are called “{twice[:60]}”; the app would take them for one",
            )
        )
    return keys


def mark(moving: "Moving") -> str:
    """Return what tells a step's effect for this item from the others'."""
    return documents.dump([loop.keys[loop.index] for loop in moving.loops]).decode()


def stand(moving: "Moving", step: int) -> None:
    """Stand at a step of the present item."""
    moving.position = position_at(step, items_of(moving.position))


def end_item(moving: "Moving", how: str, error: dict[str, Any] | None = None) -> None:
    """Note what became of the present item (done, skipped, failed) and go to the next one."""
    loop = moving.loops[-1]
    last = _last_inside(moving, loop.step)
    given = moving.activation["steps"].get(last.key) if how == "done" else None
    loop.results.append(given["output"] if given else None)
    loop.skipped += how == "skipped"
    if error is not None:
        loop.errors.append(error)
    moving.attempt_count = moving.crash_count = 0
    _next(moving)


def _last_inside(moving: "Moving", step: Planned) -> Planned:
    """Return the last step of a loop's own list; what it gives is the item's result."""
    steps = moving.recipe.steps
    last = steps[step.position + 1]
    while last.end < step.body_end:
        last = steps[last.end]
    return last


def _next(moving: "Moving") -> None:
    loop = moving.loops[-1]
    loop.index += 1
    steps = moving.activation["steps"]
    for inner in moving.recipe.steps[loop.step.position + 1 : loop.step.end]:
        steps.pop(inner.key, None)  # what belonged to another item
    if loop.index >= len(loop.items):
        _leave(moving, loop)
        return
    item = loop.items[loop.index]
    moving.activation["item"], moving.activation["index"] = item, loop.index
    steps[loop.step.key] = {"item": item, "index": loop.index}
    outer = (*items_of(loop.position), loop.index)
    moving.position = position_at(loop.step.position + 1, outer)
    if moving.until is not None and time.monotonic() > moving.until and not moving.is_restoring:
        moving.state, moving.wait_seconds = "due", 0


def _leave(moving: "Moving", loop: Loop) -> None:
    moving.loops.pop()
    moving.position = loop.position
    for name in ("item", "index"):
        moving.activation.pop(name, None)
    moving.activation.update(loop.around)
    output = loop.output()
    moving.activation["steps"][loop.step.key] = {"input": None, "output": output}
    if not moving.is_restoring:
        moving.note().close("succeeded", output)
    moving.go_on()


def goes_on_without(moving: "Moving", cause: str, sentence: "Say") -> bool:
    """Leave out the item that failed, if its loop or one around it is told to; tells whether."""
    going_on = loop_without(moving, cause)
    if going_on is None:
        return False
    while len(moving.loops) - 1 > going_on:
        give_up(moving, moving.loops.pop(), cause, sentence)
    loop = moving.loops[-1]
    error = {
        "index": loop.index,
        "key": loop.keys[loop.index],
        "cause": cause,
        "say": dict(sentence),
    }
    moving.state, moving.cause, moving.say, moving.detail = "leased", None, None, None
    end_item(moving, "failed", error)
    if moving.is_over and not moving.is_restoring:
        moving.finish("succeeded")
    return True


def loop_without(moving: "Moving", cause: str) -> int | None:
    """Return which of the loops, counted from the outermost, goes on without an item that failed.

    None when none does, or when the trouble is not the item's own.
    """
    if cause not in OF_THE_ITEM:
        return None
    fits = [n for n, one in enumerate(moving.loops) if one.step.settings.get(ON_ERROR) == GO_ON]
    return fits[-1] if fits else None


def give_up(moving: "Moving", loop: Loop, cause: str, sentence: "Say") -> None:
    """End a loop inside of the one that goes on, along with its item."""
    note = moving.notes.get(loop.position)
    if note is not None and not moving.is_restoring:
        note.close("failed", loop.output())
        note.problem = {"cause": cause, "say": dict(sentence), "detail": None}
        note.is_changed = True
    moving.activation.update(loop.around)
    moving.position = loop.position


def forget_past(moving: "Moving") -> None:
    """Drop the notes of items that are done with; they are written down.

    What lies ahead was done before, when items are tried again, and is passed by its notes.
    """
    now, order = items_of(moving.position), moving.recipe.order_of
    here = order(moving.position)
    moving.notes = {
        position: note
        for position, note in moving.notes.items()
        if now[: len(items_of(position))] == items_of(position) or order(position) > here
    }
