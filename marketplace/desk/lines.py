"""Lines: the throughput as a chart drawn by the server, each kind a line over the same hours."""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel.errors import N_
from webhooks.figures import Span

WIDE, HIGH = 240.0, 100.0
# kind → (what it is called, how it is drawn, the counters it sums)
KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "accepted": (N_("Accepted"), "a", ("accepted",)),
    "routed": (N_("Routed"), "b", ("routed",)),
    "delivered": (N_("Delivered"), "c", ("delivered",)),
    "failed": (N_("Failed tries"), "d", ("undelivered", "stuck")),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One kind: its points as SVG wants them, and its sums."""

    key: str
    title: str
    shade: str
    points: str
    last: int  # in the present hour
    total: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The lines, the highest value in them, and the figures hour by hour."""

    lines: list[Line]
    peak: int
    rows: list[tuple[Span, list[int]]]


def draw(spans: Sequence[Span]) -> Chart:
    """Draw the hours as lines."""
    values = {
        key: [sum(span.counts[name] for name in names) for span in spans]
        for key, (_, _, names) in KINDS.items()
    }
    peak = max((max(line, default=0) for line in values.values()), default=0)
    step = WIDE / max(1, len(spans) - 1)
    lines = [
        Line(
            key=key,
            title=KINDS[key][0],
            shade=KINDS[key][1],
            points=" ".join(
                f"{place * step:.1f},{HIGH - HIGH * value / peak if peak else HIGH:.1f}"
                for place, value in enumerate(counted)
            ),
            last=counted[-1] if counted else 0,
            total=sum(counted),
        )
        for key, counted in values.items()
    ]
    rows = [(span, [values[key][place] for key in KINDS]) for place, span in enumerate(spans)]
    return Chart(lines, peak, rows)
