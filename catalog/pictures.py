"""Pictures drawn by the server: which App of a Bundle hands on to which."""

import unicodedata
from dataclasses import dataclass
from typing import Any

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, TOP = 168, 44, 56, 18, 30


@dataclass(frozen=True)
class Box:
    """An App's place in the picture, in SVG units."""

    key: str
    label: str
    slot_id: str
    x: int
    y: int


@dataclass(frozen=True)
class Arrow:
    """A hand-over from one App to another, as an SVG path."""

    path: str
    count: int


@dataclass(frozen=True)
class Picture:
    """Everything a template needs to write the SVG."""

    width: int
    height: int
    boxes: list[Box]
    arrows: list[Arrow]
    columns: list[tuple[str, int]]


def bundle_map(columns: dict[str, list[tuple[str, str]]], flows: list[dict[str, Any]]) -> Picture:
    """Lay Apps out in one column per Slot and draw an arrow for every hand-over of the flows.

    `columns` maps a Slot's id to (app key, label) pairs.
    """
    tallest = max((len(apps) for apps in columns.values()), default=0)
    height = TOP + tallest * (BOX_HEIGHT + GAP_Y) + 6
    boxes: list[Box] = []
    heads: list[tuple[str, int]] = []
    for number, (slot_id, apps) in enumerate(columns.items()):
        x = 4 + number * (BOX_WIDTH + GAP_X)
        heads.append((slot_id, x + BOX_WIDTH // 2))
        free = tallest - len(apps)
        start = TOP + free * (BOX_HEIGHT + GAP_Y) // 2
        boxes += [
            Box(key, shortened(label), slot_id, x, start + row * (BOX_HEIGHT + GAP_Y))
            for row, (key, label) in enumerate(apps)
        ]
    width = max(1, len(columns)) * (BOX_WIDTH + GAP_X) - GAP_X + 8
    places = {box.key: box for box in boxes}
    arrows = [
        Arrow(_curve(places[source], places[target]), count)
        for (source, target), count in hand_overs(flows).items()
        if source in places and target in places
    ]
    return Picture(width, height, boxes, arrows, heads)


def hand_overs(flows: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Count how often one App hands on to another, over all flows."""
    counts: dict[tuple[str, str], int] = {}
    for flow in flows:
        source = flow.get("app")
        for step in flow["steps"]:
            target = step.get("app")
            if source and target and source != target:
                counts[source, target] = counts.get((source, target), 0) + 1
            source = target or source
    return counts


def _curve(source: Box, target: Box) -> str:
    """Draw from the side of one box that faces the other; inside a column, around the right."""
    middle_from, middle_to = source.y + BOX_HEIGHT // 2, target.y + BOX_HEIGHT // 2
    if source.x == target.x:
        edge = source.x + BOX_WIDTH
        bend = edge + GAP_X // 2
        return (
            f"M{edge} {middle_from}C{bend} {middle_from} {bend} {middle_to} {edge + 3} {middle_to}"
        )
    if source.x < target.x:
        start, end = source.x + BOX_WIDTH, target.x - 3
        half = (start + end) // 2
    else:
        start, end = source.x, target.x + BOX_WIDTH + 3
        half = (start + end) // 2
    return f"M{start} {middle_from}C{half} {middle_from} {half} {middle_to} {end} {middle_to}"


def shortened(label: str, units: int = 20) -> str:
    """Cut a label to what fits its box; a Chinese character takes two units."""
    used = 0
    for place, letter in enumerate(label):
        used += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if used > units:
            return f"{label[: max(1, place - 1)].rstrip('（( ')}…"
    return label
