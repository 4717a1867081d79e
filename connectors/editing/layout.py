"""Layout: a flow document as boxes and lines, read off its structure and placed without chance.

No kind of step is known here: whatever holds a list of steps is drawn with that list inside or
beside it. A list called `steps` goes round and is framed; ways stand side by side and come together
again; every other list is a side way, which leaves the flow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import flow_trees

WIDTH, HEIGHT = 248, 96  # of a step, in pixels of the canvas
LABEL = 34  # of what leads into a list
GAP_X, GAP_Y = 40, 52
FRAME = 18  # around a list that goes round
TRIGGER = "trigger"
_VALUES = frozenset({"mapping", "input"})  # what people write in there is no structure


@dataclass(frozen=True)
class Inner:
    """A list of steps inside a step."""

    name: str  # as in flow_trees.Place.inside; a pointer below the step where that knows none
    pointer: str  # below the step
    steps: Sequence[Any]
    way: Mapping[str, Any] | None = None

    @property
    def shape(self) -> str:
        """Return how it is drawn: round, way or side."""
        if self.name == flow_trees.BODY:
            return "round"
        return "way" if self.name.isdigit() or self.name == flow_trees.OTHERWISE else "side"


@dataclass
class Picture:
    """Boxes {id, type, x, y, w, h, …} and lines {id, from, to, type}."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)


def lists_of(step: Mapping[str, Any]) -> list[Inner]:
    """Return the lists of steps inside a step, those the hub knows by name first."""
    known = [
        Inner(name, pointer, steps, _way(step, name))
        for name, pointer, steps in flow_trees.lists_in(step)
    ]
    seen = {one.pointer for one in known}
    return known + [one for one in _found(step) if one.pointer not in seen]


def _way(step: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    way: Mapping[str, Any] | None = step["ways"][int(name)] if name.isdigit() else None
    return way


def _found(step: Mapping[str, Any]) -> Iterator[Inner]:
    """Find lists of steps by their looks."""
    for name, value in step.items():
        if name in _VALUES:
            continue
        if _are_steps(value):
            yield Inner(name, f"/{name}", value)
        elif isinstance(value, Mapping) and _are_steps(value.get("steps")):
            yield Inner(name, f"/{name}/steps", value["steps"])
        elif isinstance(value, list):
            for number, way in enumerate(value):
                if isinstance(way, Mapping) and _are_steps(way.get("steps")):
                    yield Inner(f"{name}/{number}", f"/{name}/{number}/steps", way["steps"], way)


def _are_steps(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and {"key", "kind"} <= one.keys() for one in value)
    )


def picture(document: Mapping[str, Any]) -> Picture:
    """Return where everything of a document stands; the trigger is at the top, around x = 0."""
    made = Picture()
    _box(made, TRIGGER, "trigger", -WIDTH / 2, 0, number=None, pointer="/trigger")
    steps = document.get("steps")
    steps = steps if isinstance(steps, list) else []
    numbers = {place.pointer: place.number for place in flow_trees.walk(document)}
    drawing = _Drawing(made, numbers)
    ends, bottom = drawing.listed(steps, "/steps", 0.0, HEIGHT + GAP_Y, [TRIGGER], "flow")
    caught = flow_trees.caught_by_flow(document)
    if isinstance(document.get(flow_trees.ON_ERROR), Mapping):
        # beside the flow and joined to nothing: it may begin wherever a step has failed
        aside = Inner(flow_trees.ON_ERROR, "/on_error/steps", caught)
        right = width_of(steps) / 2 + 2 * GAP_X + width_of(caught) / 2
        drawing.column(aside, aside.pointer, right, HEIGHT + GAP_Y, [], "side")
    _box(made, "end", "end", -WIDTH / 2, bottom, h=LABEL)
    drawing.join(ends, "end", "flow")
    return made


def _box(
    made: Picture, name: str, kind: str, x: float, y: float, w: float = WIDTH, h: float = HEIGHT,
    **more: Any,
) -> None:  # fmt: skip
    box = {"id": name, "type": kind, "x": x, "y": y, "w": w, "h": h}
    made.nodes.append({**box, **more})


def width_of(steps: Sequence[Any]) -> float:
    """Return how wide a list of steps is, with all inside it."""
    return max([WIDTH, *(sum(_parts(one)) for one in steps if isinstance(one, Mapping))])


def _parts(step: Mapping[str, Any]) -> tuple[float, float]:
    """Return how wide a step is: what goes on below it, and what leaves it at its side."""
    inner = lists_of(step)
    below = [_column(one) for one in inner if one.shape != "side"]
    beside = [_column(one) + GAP_X for one in inner if one.shape == "side"]
    middle = max(WIDTH, sum(below) + GAP_X * max(0, len(below) - 1))
    # the flow stays in the middle: what leaves to the right is left free on the left
    return middle, 2 * sum(beside)


def _column(inner: Inner) -> float:
    wide = width_of(inner.steps)
    return wide + 2 * FRAME if inner.shape == "round" else wide


def _comes_back(step: Mapping[str, Any], one: Inner) -> bool:
    """Tell whether a side way says that the flow goes on behind it."""
    around = step.get(one.name)
    return isinstance(around, Mapping) and around.get("then") == "continue"


class _Drawing:
    """Places lists of steps, one below the other."""

    def __init__(self, made: Picture, numbers: Mapping[str, int]) -> None:
        self.made, self.numbers = made, numbers

    def join(self, ends: Sequence[str], target: str, kind: str) -> None:
        """Draw lines from where the flow may come from."""
        for one in ends:
            edge = {"id": f"{one}→{target}", "from": one, "to": target, "type": kind}
            self.made.edges.append(edge)

    def listed(
        self, steps: Sequence[Any], pointer: str, x: float, y: float, ends: list[str], kind: str
    ) -> tuple[list[str], float]:
        """Place a list around `x` from `y` down; returns where it ends, and where below it is."""
        for index, step in enumerate(steps):
            if not isinstance(step, Mapping):
                continue
            here = f"{pointer}/{index}"
            number = self.numbers.get(here)
            _box(self.made, here, "step", x - WIDTH / 2, y, number=number, pointer=here)
            self.join(ends, here, kind)
            ends, y = self._inside(step, here, x, y)
            kind = "flow"
        return ends, y

    def _inside(
        self, step: Mapping[str, Any], here: str, x: float, y: float
    ) -> tuple[list[str], float]:
        inner = lists_of(step)
        below = [one for one in inner if one.shape != "side"]
        top = y + HEIGHT + GAP_Y
        bottom, ends = top, [here]
        if below:
            ends, bottom = self._below(below, here, x, top)
        beside = [one for one in inner if one.shape == "side"]
        back, lowest = self._beside(beside, step, here, x, y)
        return ends + back, max(bottom, lowest)

    def _below(
        self, columns: Sequence[Inner], here: str, x: float, top: float
    ) -> tuple[list[str], float]:
        ends: list[str] = []
        bottom, left = top, x - (sum(map(_column, columns)) + GAP_X * (len(columns) - 1)) / 2
        for one in columns:
            wide = _column(one)
            middle, at = left + wide / 2, top
            name = f"{here}{one.pointer}"
            left += wide + GAP_X
            if one.shape == "round":
                last, low = self.column(one, name, middle, at + FRAME, [here])
                # the frame leaves room for what adds a step behind the last one
                _box(self.made, f"{name}/frame", "frame", middle - wide / 2, at, wide, low - at)
                low += FRAME
            else:
                last, low = self.column(one, name, middle, at, [here])
            ends += last
            bottom = max(bottom, low)
        return ends, bottom

    def _beside(
        self, columns: Sequence[Inner], step: Mapping[str, Any], here: str, x: float, y: float
    ) -> tuple[list[str], float]:
        """Place what leaves a step to its right.

        Returns where it comes back to the flow, if it does, and where below it is.
        """
        back: list[str] = []
        lowest, left = y, x + _parts(step)[0] / 2 + GAP_X
        for one in columns:
            wide = width_of(one.steps)
            name = f"{here}{one.pointer}"
            last, low = self.column(one, name, left + wide / 2, y + GAP_Y / 2, [here], "side")
            back += last if _comes_back(step, one) else []
            left += wide + GAP_X
            lowest = max(lowest, low)
        return back, lowest

    def column(
        self, one: Inner, name: str, x: float, y: float, ends: list[str], kind: str = "flow"
    ) -> tuple[list[str], float]:
        """Place what leads into a list, and the list below it."""
        around = name[: len(name) - len(one.pointer)]
        number = self.numbers.get(around)
        inside = f"{number}/{one.name}" if number is not None else ""
        if not around:
            inside = flow_trees.OF_THE_FLOW
        _box(
            self.made, f"{name}/into", "into", x - WIDTH / 2, y, h=LABEL,
            shape=one.shape, inside=inside, list=one.name, pointer=name, around=around,
            is_empty=not one.steps,
        )  # fmt: skip
        self.join(ends, f"{name}/into", kind)
        return self.listed(one.steps, name, x, y + LABEL + GAP_Y * 0.6, [f"{name}/into"], kind)
