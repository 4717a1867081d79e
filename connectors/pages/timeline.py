"""The timeline of a run: its steps in the order of the flow, those of loops item by item."""

from collections.abc import Iterator, Mapping
from typing import Any

from flask_babel import gettext

from connectors import flow_paths, masking, runs
from connectors.flow_documents import Planned, Recipe
from connectors.flow_trees import ON_ERROR, OTHERWISE
from connectors.pages.pictures import title_of
from connectors.tables import Step
from kernel.web import localized

SHOWN = 12  # items of a loop that are shown: the first ones and the last ones
Items = tuple[int, ...]


def rows(found: runs.Detail) -> list[dict[str, Any]]:
    """Return what the page lists: steps, and headings for ways and items, each with its depth."""
    return list(_Timeline(found).listed(0, len(found.recipe.steps), (), 0))


class _Timeline:
    def __init__(self, found: runs.Detail) -> None:
        self.found = found
        self.recipe: Recipe = found.recipe

    def listed(self, first: int, end: int, items: Items, depth: int) -> Iterator[dict[str, Any]]:
        """Give the rows of the steps from `first` up to `end`, for one item."""
        at = first
        while at < end:
            planned = self.recipe.steps[at]
            if at == self.recipe.on_error:
                yield _heading(gettext("If the flow has failed for good"), depth)
            yield self._row(planned, items, depth)
            if planned.kind == "each":
                yield from self._items(planned, items, depth + 1)
            elif planned.ways:
                yield from self._ways(planned, items, depth + 1)
            path = planned.on_error
            if path is not None and planned.position < path < planned.end:
                yield _heading(way_title(planned.settings, ON_ERROR), depth + 1)
                yield from self.listed(path, planned.end, items, depth + 2)
            at = planned.end

    def _row(self, planned: Planned, items: Items, depth: int) -> dict[str, Any]:
        position = flow_paths.position_at(planned.position, items)
        step = self.found.steps.get(position)
        return {
            "position": position,
            "key": planned.key,
            "label": title_of({**_written(planned), "kind": planned.kind}),
            "connector": planned.connector,
            "kind": planned.kind,
            "depth": min(depth, 6),
            "step": step,
            "approval": self.found.approvals.get(position),
            "called": self.found.called.get(position),
            "may_replay": not items and planned.inside is None,
            "went": (step.problem or {}).get("error") if step else None,
            "counts": _counts(step, self.found.run.next_step, items),
            "input": masking.show(step.input) if step else None,
            "output": masking.show(step.output) if step else None,
        }

    def _items(self, planned: Planned, items: Items, depth: int) -> Iterator[dict[str, Any]]:
        inside = {
            flow_paths.items_of(position)[len(items)]
            for position in self.found.steps
            if planned.position < flow_paths.step_of(position) < planned.body_end
            and flow_paths.items_of(position)[: len(items)] == items
        }
        numbers = sorted(inside)
        shown = {*numbers[: SHOWN // 2], *numbers[-SHOWN // 2 :]}
        shown |= {one for one in numbers if self._is_failed(planned, (*items, one))}
        hidden = 0
        for number in numbers:
            if number not in shown:
                hidden += 1
                continue
            if hidden:
                yield _heading(gettext("%(count)d more items", count=hidden), depth)
                hidden = 0
            yield _heading(gettext("Item %(number)d", number=number + 1), depth)
            inner = planned.position + 1, planned.body_end
            yield from self.listed(*inner, (*items, number), depth + 1)

    def _is_failed(self, planned: Planned, items: Items) -> bool:
        for at in range(planned.position + 1, planned.body_end):
            step = self.found.steps.get(flow_paths.position_at(at, items))
            if step is not None and step.state == "failed":
                return True
        return False

    def _ways(self, planned: Planned, items: Items, depth: int) -> Iterator[dict[str, Any]]:
        starts = sorted(
            (way.position, way.key)
            for way in planned.ways
            if planned.position < way.position < planned.end
        )
        ends = [*(start for start, _ in starts[1:]), planned.end]
        for (start, key), end in zip(starts, ends, strict=True):
            yield _heading(way_title(planned.settings, key), depth)
            yield from self.listed(start, end, items, depth + 1)


def _written(planned: Planned) -> Mapping[str, Any]:
    return planned.settings or {
        "title": planned.title,
        "connector": planned.connector,
        "action": planned.action,
        "key": planned.key,
    }


def _heading(text: str, depth: int) -> dict[str, Any]:
    return {"heading": text, "depth": min(depth, 6)}


def way_title(step: Mapping[str, Any], key: str) -> str:
    """Return what a way of a step is called."""
    if key == OTHERWISE:
        return str(gettext("Otherwise"))
    if key == "refused":
        return str(gettext("If it is not approved"))
    if key == ON_ERROR:
        return str(gettext("If it has failed for good"))
    titles = [one.get("title") for one in step.get("ways") or () if one.get("key") == key]
    return localized(titles[0]) if titles and titles[0] else key


def _counts(step: Step | None, next_step: int, items: Items) -> dict[str, int] | None:
    """Return how far a loop is."""
    if step is None or step.kind != "each" or not isinstance(step.output, dict):
        return None
    at = flow_paths.items_of(next_step)
    count = int(step.output.get("count", 0))
    is_open = step.state == "open" and at[: len(items)] == items and len(at) > len(items)
    over = at[len(items)] if is_open else count
    return {"count": count, "over": over, "failed": int(step.output.get("failed", 0))}
