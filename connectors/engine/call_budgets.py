"""Call budgets: how often an app may be called, by its manifest, and how it tells what is left.

Without `burst` a budget is a window: in no stretch as long as its period do more than `allow` calls
go out; up to a fifth of them go at once. With `burst` it is a bucket that holds so many and is
filled again by `allow` in each period, as some apps have it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from connectors.engine import templates
from connectors.engine.findings import EngineError, Problem, Say, say
from connectors.engine.functions import to_int
from connectors.engine.tokens import BadExpression

ALLOW = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,3})?([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TOKEN = "token"  # noqa: S105 - the part of a connector that fetches tokens
_ROOTS = frozenset({"input"})
_PERIODS: dict[int, Say] = {
    1: say("每秒", "a second"),
    60: say("每分钟", "a minute"),
    3600: say("每小时", "an hour"),
    86_400: say("每天", "a day"),
}


@dataclass(frozen=True, slots=True)
class CallBudget:
    """So many calls in so much time, so many of them at once."""

    id: str
    per: str  # connection | app | organization
    allow: int
    period_seconds: int
    burst: int  # so many go at once
    interval_seconds: float  # between two calls when many wait
    parallel: int | None = None  # so many may be in the air at one time
    part: str = "calls"  # calls | token
    actions: tuple[str, ...] = ()  # none: all of them
    path: str | None = None  # a pattern with *
    cost: str | int = 1
    sync: Mapping[str, str] = field(default_factory=dict)

    def covers(self, action: str, path: str) -> bool:
        """Tell whether a call counts against it."""
        if self.part == TOKEN or (self.actions and action not in self.actions):
            return False
        return self.path is None or fnmatchcase(path, self.path)

    def cost_of(self, given: Any) -> int:
        """Return what a call costs, from its input; at least one, at most what goes at once."""
        cost = self.cost
        if isinstance(cost, str):
            try:
                cost = to_int(templates.parse(cost, _ROOTS).evaluate({"input": given}))
            except (EngineError, ValueError):
                cost = 1
        return max(1, min(cost, self.burst))

    @property
    def words(self) -> Say:
        """Say the limit: “40 a second”."""
        period = _PERIODS.get(self.period_seconds) or say(
            f"每 {self.period_seconds} 秒", f"in {self.period_seconds} seconds"
        )
        return say(f"{period['zh']} {self.allow:,} 次", f"{self.allow:,} {period['en']}")


def read(stated: Mapping[str, Any]) -> CallBudget:
    """Return a budget as the manifest states it."""
    match = ALLOW.fullmatch(stated["allow"])
    assert match is not None  # the manifest's contract has the same pattern
    allow, period = int(match[1]), int(match[2] or 1) * SECONDS[match[3]]
    burst = stated.get("burst")
    if burst is None:
        burst = max(1, allow // 5)
        # what goes at once at the end of one window leaves so much less to follow it
        interval = period / (allow - burst + 1)
    else:
        interval = period / allow
    wanted = stated.get("match", {})
    actions = wanted.get("action", ())
    return CallBudget(
        id=stated["id"],
        per=stated.get("per", "connection"),
        allow=allow,
        period_seconds=period,
        burst=burst,
        interval_seconds=interval,
        parallel=stated.get("parallel"),
        part=wanted.get("part", "calls"),
        actions=(actions,) if isinstance(actions, str) else tuple(actions),
        path=wanted.get("path"),
        cost=stated.get("cost", 1),
        sync={name: header.lower() for name, header in stated.get("sync", {}).items()},
    )


def problems(budgets: tuple[CallBudget, ...], actions: Mapping[str, Any]) -> Iterator[Problem]:
    """Return what is wrong with a manifest's budgets beyond their shape."""
    ids = [one.id for one in budgets]
    for position, one in enumerate(budgets):
        at = f"/{position}"
        if ids.count(one.id) > 1:
            text = say(f"有两个限额叫 {one.id}", f"Two budgets are called {one.id}")
            yield Problem(f"{at}/id", text)
        for name in one.actions:
            if name not in actions:
                text = say(f"没有动作 {name}", f"There is no action {name}")
                yield Problem(f"{at}/match/action", text)
        if isinstance(one.cost, str):
            try:
                templates.parse(one.cost, _ROOTS)
            except BadExpression as bad:
                yield Problem(f"{at}/cost", bad.say)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer's headers say of a limit: what is left, and seconds until it is whole."""

    remaining: int | None = None
    reset_seconds: float | None = None
    retry_seconds: float | None = None


def told(budget: CallBudget, headers: Mapping[str, str], now_seconds: float) -> Told:
    """Read the headers that tell of a limit: the manifest's own, else those in common use."""
    remaining = _whole(headers, budget.sync.get("remaining"), *_REMAINING)
    reset = _reset(headers, budget.sync.get("reset"), now_seconds)
    retry = _whole(headers, budget.sync.get("retry_after", "retry-after"))
    standard = headers.get("ratelimit", "")
    if remaining is None and standard:  # draft-ietf-httpapi-ratelimit-headers: "name";r=50;t=30
        found = dict(_PARAMETER.findall(standard.split(",")[0]))
        remaining = int(found["r"]) if "r" in found else None
        reset = float(found["t"]) if "t" in found else reset
    limit = budget.sync.get("used")
    if limit and remaining is None:  # “32/40”, used of all
        used, _, of = headers.get(limit, "").partition("/")
        if used.strip().isdecimal() and of.strip().isdecimal():
            remaining = max(0, int(of) - int(used))
    return Told(remaining, reset, None if retry is None else float(retry))


_REMAINING = ("x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining")
_RESET = ("x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset")
_PARAMETER = re.compile(r";\s*([rt])=([0-9]{1,12})")


def _whole(headers: Mapping[str, str], *names: str | None) -> int | None:
    for name in names:
        text = headers.get(name or "", "").strip()
        if text and len(text) < 16:
            try:
                value = float(text)
            except ValueError:
                continue
            if math.isfinite(value) and value >= 0:
                return int(value)
    return None


def _reset(headers: Mapping[str, str], own: str | None, now_seconds: float) -> float | None:
    value = _whole(headers, own, *_RESET)
    if value is None:
        return None
    if value > 100_000_000_000:  # milliseconds since 1970
        return max(0.0, value / 1000 - now_seconds)
    return max(0.0, value - now_seconds) if value > 1_000_000_000 else float(value)
