"""Lanes: the calls of one round, sent by connection so that a slow app holds only itself.

Everything here runs outside transactions, each lane in a thread of its own.
"""

import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from connectors import tokens
from connectors.connections import Open
from connectors.engine import answers, requests
from connectors.engine.answers import Answer
from connectors.stepping import Call, Say, take_answer
from kernel import http, log
from kernel.database import StoreUnavailable

IN_FLIGHT = 4  # calls at once to one connection from one process
LONGEST_SLICE = 32
LANE_SECONDS = 15  # a lane that takes longer gives its unsent calls back, well within the lease
SLOW_SECONDS = 1.0
_logger = log.get_logger(__name__)

_pool: ThreadPoolExecutor | None = None
_guard = threading.Lock()
_flying: dict[str, float] = {}  # lane → since when, in this process
_slice: dict[str, int] = {}  # lane → how many calls it takes at a stretch, learnt from its speed


@dataclass(frozen=True)
class Landing:
    """What became of a call: an answer, a reason why it could not be made, or neither (unsent)."""

    call: Call
    answer: Answer | None = None
    outcome: http.Response | http.Failure | None = None
    secrets: tuple[str, ...] = ()
    cause: str | None = None
    say: Say | None = None
    detail: str | None = None

    def apply(self) -> None:
        """Move the call's run on."""
        if self.answer is not None and self.outcome is not None:
            take_answer(self.call, self.answer, self.outcome, self.secrets)
        elif self.cause is not None and self.say is not None:
            self.call.moving.park(self.cause, self.say, self.detail)
        else:
            self.call.moving.give_back()


class Flight:
    """The lanes that one drain has in the air."""

    def __init__(self) -> None:
        """Start with nothing in the air."""
        self._lanes: dict[Future[list[Landing]], list[Call]] = {}

    def __bool__(self) -> bool:
        """Tell whether something is in the air."""
        return bool(self._lanes)

    @property
    def size(self) -> int:
        """Count the calls in the air."""
        return sum(len(calls) for calls in self._lanes.values())

    def start(self, lane: str, connection: Open | None, calls: list[Call]) -> None:
        """Send a lane's calls off."""
        self._lanes[_threads().submit(_fly, lane, connection, calls)] = calls

    def land(self, patience_seconds: float) -> list[Landing]:
        """Return what is back; waits for all of it, but no longer than the patience."""
        if not self._lanes:
            return []
        done, _ = wait(self._lanes, timeout=patience_seconds)
        landed: list[Landing] = []
        for future in done:
            del self._lanes[future]
            landed += future.result()
        return landed


def slow_lanes() -> set[str]:
    """Name the lanes that this process is already waiting for."""
    with _guard:
        now = time.monotonic()
        return {lane for lane, since in _flying.items() if now - since > SLOW_SECONDS}


def pace() -> dict[str, int]:
    """Return how many runs of a lane are worth claiming at once, for lanes known to be slow."""
    with _guard:
        return {lane: size for lane, size in _slice.items() if size <= IN_FLIGHT}


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _guard:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="lane")
        return _pool


def _forget() -> None:
    """Drop what a fork must not share: the parent's threads and locks."""
    global _pool, _guard
    _pool, _guard = None, threading.Lock()
    _flying.clear()


os.register_at_fork(after_in_child=_forget)


def _fly(lane: str, connection: Open | None, calls: Sequence[Call]) -> list[Landing]:
    with _guard:
        _flying.setdefault(lane, time.monotonic())
    try:
        return _carry(lane, connection, calls)
    except StoreUnavailable:
        return [Landing(call) for call in calls]
    except Exception as error:  # a lane that breaks must not take the batch along
        _logger.exception("lane_broke", lane=lane)
        words = f"{type(error).__name__}: {error}"[:300]
        return [Landing(call, cause="quarantined", say=_BROKE, detail=words) for call in calls]
    finally:
        with _guard:
            _flying.pop(lane, None)


def _carry(lane: str, connection: Open | None, calls: Sequence[Call]) -> list[Landing]:
    if connection is None or connection.connection.state == "revoked":
        return [Landing(call, cause="config", say=_GONE) for call in calls]
    if not connection.is_usable:
        problem = connection.connection.problem or {}
        words = problem.get("say") or _NEEDS_ATTENTION
        return [Landing(call, cause="auth", say=words) for call in calls]
    ready = tokens.ensure(connection)
    if isinstance(ready, tokens.NoToken):
        return [_without_token(call, ready) for call in calls]
    landings = _send(lane, ready, calls)
    refused = [one.call for one in landings if one.answer and one.answer.kind == "reauth"]
    if not refused or not tokens.has_token(ready):
        return landings
    renewed = tokens.ensure(ready, stale=True)
    kept = [one for one in landings if not one.answer or one.answer.kind != "reauth"]
    if isinstance(renewed, tokens.NoToken):
        return kept + [_without_token(call, renewed) for call in refused]
    return kept + _send(lane, renewed, refused)


def _without_token(call: Call, lost: tokens.NoToken) -> Landing:
    return Landing(call, lost.answer, lost.outcome, lost.secrets)


def _send(lane: str, ready: Open, calls: Sequence[Call]) -> list[Landing]:
    landings: list[Landing] = []
    built: list[tuple[Call, http.Request]] = []
    for call in calls:
        try:
            request = requests.build(
                ready.connector, call.step.action or "", call.input, ready.values, call.effect_key
            )
        except requests.CannotBuild as cannot:
            landings.append(
                Landing(call, cause=cannot.cause, say=cannot.say, detail=cannot.pointer or None)
            )
        else:
            built.append((call, request))
    began, at = time.monotonic(), 0
    while at < len(built) and time.monotonic() - began < LANE_SECONDS:
        size = _slice.get(lane, IN_FLIGHT)
        part = built[at : at + size]
        at += len(part)
        started = time.monotonic()
        outcomes = http.send_all([request for _, request in part], limit=IN_FLIGHT)
        _learn(lane, size, (time.monotonic() - started) * IN_FLIGHT / max(len(part), IN_FLIGHT))
        landings += _read(ready, part, outcomes)
    landings += [Landing(call) for call, _ in built[at:]]
    return landings


def _learn(lane: str, size: int, wave_seconds: float) -> None:
    """Take longer stretches of a fast app, the shortest of a slow one."""
    with _guard:
        if len(_slice) > 4_000:
            _slice.clear()
        _slice[lane] = min(size * 2, LONGEST_SLICE) if wave_seconds < 0.25 else IN_FLIGHT


def _read(
    ready: Open,
    part: Sequence[tuple[Call, http.Request]],
    outcomes: Iterable[http.Response | http.Failure],
) -> list[Landing]:
    return [
        Landing(
            call,
            answers.read(
                ready.connector,
                call.step.action or "",
                outcome,
                attempt_no=call.moving.attempt_count + 1,
            ),
            outcome,
            ready.secrets,
        )
        for (call, _), outcome in zip(part, outcomes, strict=True)
    ]


_GONE = {
    "zh": "这一步用的连接已断开或读不出来，请给流程换一个连接",
    "en": "The connection this step uses is gone or cannot be read; give the flow another one",
}
_NEEDS_ATTENTION = {
    "zh": "连接需要重新授权，重新连接后会自动继续",
    "en": "The connection must be renewed; the run goes on by itself once it is",
}
_BROKE = {
    "zh": "调用这一步时我们这边出了意外，已停下等人处理",
    "en": "Calling this step broke on our side; it waits for a person",
}
