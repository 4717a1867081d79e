"""What is promised, what was measured, and whether the one reaches the other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Found = dict[str, float]  # figures by name


@dataclass(frozen=True)
class Goal:
    """A bound for one figure: the name it is printed under, and where it was measured."""

    name: str
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
            "name": self.name,
            "figure": self.figure,
            "goal": f"{sign} {self.bound:g}",
            "value": value,
            "reached": reached,
        }


GOALS = (
    Goal("scaled_vs_naive", "scaled_per_naive_c16", 3.5),
    Goal("embedded_vs_naive", "embedded_per_naive_c16", 2.5),
    Goal("array50_vs_naive", "scaled_arrays_per_naive", 12),
    Goal("p99_ms_half_load", "worse_half_p99_ms", 50, is_ceiling=True),
    Goal("cpu_ms_per_event_scaled", "scaled_c16_cpu_ms_per_event", 1.6, is_ceiling=True),
    Goal("embedded_rss_mb", "embedded_memory_mb", 220, is_ceiling=True),
    Goal("embedded_growth_ratio", "embedded_growth_ratio", 0.1, is_ceiling=True),
    Goal("full_store_ratio", "tenants_ratio", 0.9),
    Goal("backlog_intake_ratio", "backlog_ratio", 0.8),
    Goal("noisy_neighbour_p99_ratio", "noisy_p99_ratio", 1.25, is_ceiling=True),
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
            f"{words[judged['reached']]:13} {goal.name:30} {value!s:>9}  goal {judged['goal']}"
        )
    return lines


def last_line(figures: Found, more: Mapping[str, object]) -> str:
    """Write everything as one JSON line, what has a goal first; null was not measured."""
    first = {goal.name: figures.get(goal.figure) for goal in GOALS}
    goals = [goal.judge(figures) for goal in GOALS]
    return json.dumps({**first, **more, "figures": figures, "goals": goals}, ensure_ascii=False)
