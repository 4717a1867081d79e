"""What is promised, what was measured, and whether the one reaches the other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Found = dict[str, float]  # figures by name


@dataclass(frozen=True)
class Goal:
    """A bound for one figure."""

    figure: str
    bound: float
    is_ceiling: bool = False

    def judge(self, figures: Found) -> dict[str, object]:
        """Compare; a figure that was not measured is neither reached nor missed."""
        value = figures.get(self.figure)
        reached = None
        if value is not None:
            reached = value <= self.bound if self.is_ceiling else value >= self.bound
        sign = "<=" if self.is_ceiling else ">="
        return {
            "figure": self.figure,
            "goal": f"{sign} {self.bound:g}",
            "value": value,
            "reached": reached,
        }


GOALS = (
    Goal("scaled_per_naive_c16", 3.5),
    Goal("embedded_per_naive_c16", 2.5),
    Goal("scaled_arrays_per_naive", 12),
    Goal("scaled_half_p99_ms", 50, is_ceiling=True),
    Goal("embedded_half_p99_ms", 50, is_ceiling=True),
    Goal("scaled_c16_cpu_ms_per_event", 1.6, is_ceiling=True),
    Goal("embedded_memory_mb", 220, is_ceiling=True),
    Goal("tenants_ratio", 0.9),
    Goal("backlog_ratio", 0.8),
    Goal("noisy_p99_rise_percent", 25, is_ceiling=True),
)


def spread(name: str, values: Sequence[float]) -> Found:
    """Give the median of the rounds under a name, and the least and the most beside it."""
    return {
        name: round(median(values), 2),
        f"{name}_least": round(min(values), 2),
        f"{name}_most": round(max(values), 2),
    }


def summary(figures: Found) -> list[str]:
    """Say goal by goal how it went, for people."""
    words = {True: "reached", False: "MISSED", None: "not measured"}
    lines = []
    for goal in GOALS:
        judged = goal.judge(figures)
        value = "–" if judged["value"] is None else judged["value"]
        lines.append(
            f"{words[judged['reached']]:13} {goal.figure:30} {value!s:>9}  goal {judged['goal']}"
        )
    return lines


def last_line(figures: Found, more: Mapping[str, object]) -> str:
    """Write everything as one JSON line."""
    goals = [goal.judge(figures) for goal in GOALS]
    return json.dumps({**more, "figures": figures, "goals": goals}, ensure_ascii=False)
