"""Lanes: the calls of one round, sent by connection so that a slow app holds only itself.

Everything here runs outside transactions, each lane in a thread of its own.
"""

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from connectors import asking, parted, tokens
from connectors.asking import IN_FLIGHT
from connectors.budgets import pacing
from connectors.connections import Open
from connectors.drifting import watching
from connectors.engine import answers, requests
from connectors.health import counts, pausing
from connectors.landings import Landing
from connectors.stepping import Call
from connectors.transports import sending
from kernel import http, log
from kernel.database import StoreUnavailable

LONGEST_SLICE = 16
TOGETHER_SECONDS = 0.005  # answers that come so close to each other are written down together
LANE_SECONDS = 15  # a lane that takes longer gives its unsent calls back, well within the lease
SLOW_SECONDS = 1.0
_logger = log.get_logger(__name__)

_pool: ThreadPoolExecutor | None = None
_guard = threading.Lock()
_flying: dict[str, float] = {}  # lane → since when, in this process
_slice: dict[str, int] = {}  # lane → how many calls it takes at a stretch, learnt from its speed


# A lane's name, its connection if there is one, and the calls to make.
Lane = tuple[str, Open | None, list[Call]]


class Flight:
    """The lanes that one drain has in the air; calls land as their answers come."""

    def __init__(self) -> None:
        """Start with nothing in the air."""
        self.size = 0  # calls in the air
        self._landed: queue.SimpleQueue[list[Landing]] = queue.SimpleQueue()

    def __bool__(self) -> bool:
        """Tell whether something is in the air."""
        return self.size > 0

    def start(self, lane: str, connection: Open | None, calls: list[Call]) -> None:
        """Send a lane's calls off, in a thread of its own."""
        self.size += len(calls)
        _threads().submit(_fly, lane, connection, calls, self._landed.put)

    def make(self, lane: str, connection: Open | None, calls: list[Call]) -> None:
        """Send a lane's calls off and wait until all have landed."""
        self.size += len(calls)
        _fly(lane, connection, calls, self._landed.put)

    def start_together(self, lanes: Sequence["Lane"]) -> None:
        """Send the few calls of several lanes off, all in one thread."""
        self.size += sum(len(calls) for _, _, calls in lanes)
        _threads().submit(_fly_together, lanes, self._landed.put)

    def land(self, patience_seconds: float) -> list[Landing]:
        """Return what is back: waits for the first, then a moment for what comes along."""
        if not self.size:
            return []
        landed: list[Landing] = []
        until = time.monotonic() + patience_seconds
        try:
            while len(landed) < self.size:
                landed += self._landed.get(timeout=max(0.0, until - time.monotonic()))
                until = min(until, time.monotonic() + TOGETHER_SECONDS)
        except queue.Empty:
            pass
        self.size -= len(landed)
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


def _fly(
    lane: str, connection: Open | None, calls: Sequence[Call], land: Callable[[list[Landing]], None]
) -> None:
    left = {id(call): call for call in calls}

    def touch_down(landings: list[Landing]) -> None:
        for landing in landings:
            left.pop(id(landing.call), None)
        land(landings)

    with _guard:
        _flying.setdefault(lane, time.monotonic())
    try:
        _carry(lane, connection, calls, touch_down)
    except StoreUnavailable:
        land([Landing(call) for call in left.values()])
    except Exception as error:  # a lane that breaks must not take the batch along
        _logger.exception("lane_broke", lane=lane)
        land([_broken(call, error) for call in left.values()])
    finally:
        with _guard:
            _flying.pop(lane, None)


def is_light(lane: Lane) -> bool:
    """Tell whether a lane's calls are few and need nothing but to be sent."""
    _, connection, calls = lane
    return (
        connection is not None
        and connection.is_usable
        and len(calls) <= IN_FLIGHT
        and not tokens.has_token(connection)
        and not connection.connector.finds
        and not pacing.has_budgets(connection)
        and not any(parted.is_in_parts(call) for call in calls)
    )


def _fly_together(lanes: Sequence[Lane], land: Callable[[list[Landing]], None]) -> None:
    """Send the calls of light lanes at once; each lands as its answer comes."""
    left = {id(call): call for _, _, calls in lanes for call in calls}
    open_calls = Counter({name: len(calls) for name, _, calls in lanes})

    def touch_down(name: str, landings: list[Landing]) -> None:
        for landing in landings:
            left.pop(id(landing.call), None)
            open_calls[name] -= 1
        if open_calls[name] <= 0:
            with _guard:
                _flying.pop(name, None)
        land(landings)

    with _guard:
        for name, _, _ in lanes:
            _flying.setdefault(name, time.monotonic())
    try:
        _send_together(lanes, touch_down)
    except Exception as error:
        _logger.exception("lanes_broke", count=len(lanes))
        land([_broken(call, error) for call in left.values()])
    finally:
        with _guard:
            for name, _, _ in lanes:
                _flying.pop(name, None)


def _send_together(lanes: Sequence[Lane], touch_down: Callable[[str, list[Landing]], None]) -> None:
    built: list[tuple[str, Open, Call, http.Request]] = []
    for name, ready, calls in lanes:
        assert ready is not None
        some, unfit = _build(ready, calls)
        built += [(name, ready, call, request) for call, request in some]
        if unfit:
            touch_down(name, unfit)

    def tell(place: int, outcome: http.Response | http.Failure) -> None:
        name, ready, call, request = built[place]
        _learn(name, _slice.get(name, IN_FLIGHT), outcome.elapsed_ms / 1000)
        touch_down(name, _read(ready, [(call, request)], [outcome]))

    requests_only = [request for _, _, _, request in built]
    sending.send_all(requests_only, limit=max(len(built), 1), tell=tell)


def _broken(call: Call, error: Exception) -> Landing:
    words = f"{type(error).__name__}: {error}"[:300]
    return Landing(call, cause="quarantined", say=_BROKE, detail=words)


def _carry(
    lane: str, connection: Open | None, calls: Sequence[Call], land: Callable[[list[Landing]], None]
) -> None:
    if connection is None or connection.connection.state == "revoked":
        land([Landing(call, cause="config", say=_GONE) for call in calls])
        return
    if connection.connection.paused_at is not None:
        wait = pausing.LOOK_SECONDS
        land([Landing(one, cause="paused", say=pausing.PAUSED, wait_seconds=wait) for one in calls])
        return
    if not connection.is_usable:
        problem = connection.connection.problem or {}
        words = problem.get("say") or _NEEDS_ATTENTION
        land([Landing(call, cause="auth", say=words) for call in calls])
        return
    ready = tokens.ensure(connection)
    if isinstance(ready, tokens.NoToken):
        land([_without_token(call, connection, ready) for call in calls])
        return
    refused: list[Landing] = []
    renews = tokens.has_token(ready)
    for landings in _send(lane, ready, calls):
        again = [one for one in landings if renews and one.answer and one.answer.kind == "reauth"]
        refused += again
        land([one for one in landings if one not in again])
    if not refused:
        return
    renewed = tokens.ensure(ready, stale=True)
    if isinstance(renewed, tokens.NoToken):
        land([_without_token(one.call, ready, renewed) for one in refused])
        return
    for landings in _send(lane, renewed, [one.call for one in refused]):
        land(landings)


def _without_token(call: Call, connection: Open, lost: tokens.NoToken) -> Landing:
    answer = lost.answer
    if lost.wait is not None:
        return pacing.held(call, lost.wait)
    if answer.kind == "retry" and not lost.is_busy:
        # each run climbs its own ladder, so that one whose token never comes stops some day
        after = answers.retry_after(connection.connector, call.moving.attempt_count + 1)
        kind = "fail" if after is None else "retry"
        answer = replace(answer, kind=kind, after_seconds=after)
    return Landing(call, answer, lost.outcome, lost.secrets)


def _send(lane: str, ready: Open, calls: Sequence[Call]) -> Iterator[list[Landing]]:
    """Build the calls and send them slice by slice; gives each slice's landings."""
    in_parts = [call for call in calls if parted.is_in_parts(call)]
    if in_parts:
        yield from parted.carry(ready, in_parts, partial(sending.send_all, limit=IN_FLIGHT))
        calls = [call for call in calls if not any(call is one for one in in_parts)]
    built, unfit = _build(ready, calls)
    if unfit:
        yield unfit
    began, at = time.monotonic(), 0
    while at < len(built) and time.monotonic() - began < LANE_SECONDS:
        size = _slice.get(lane, IN_FLIGHT)
        part = built[at : at + size]
        at += len(part)
        with pacing.paced(ready, part) as (going, held, limit):
            if held:
                yield held
            yield from _send_part(lane, ready, going, size, limit)
    if at < len(built):
        yield [Landing(call) for call, _ in built[at:]]


def _send_part(
    lane: str, ready: Open, part: list[tuple[Call, http.Request]], size: int, limit: int
) -> Iterator[list[Landing]]:
    """Send calls that may go now; gives their landings."""
    if ready.connector.finds and part:
        part, landed = asking.ask_first(ready, part)
        if landed:
            yield landed
    if not part:
        return
    started = time.monotonic()
    outcomes = sending.send_all([request for _, request in part], limit=limit)
    _learn(lane, size, (time.monotonic() - started) * limit / max(len(part), limit))
    landings = _read(ready, part, outcomes)
    pacing.heed(ready, landings)
    yield landings


def _build(
    ready: Open, calls: Sequence[Call]
) -> tuple[list[tuple[Call, http.Request]], list[Landing]]:
    """Build the calls' requests; those that cannot be built land at once."""
    unfit: list[Landing] = []
    built: list[tuple[Call, http.Request]] = []
    for call in calls:
        try:
            request = requests.build(
                ready.connector, call.step.action or "", call.input, ready.values, call.effect_key
            )
        except requests.CannotBuild as cannot:
            detail = cannot.pointer or None
            unfit.append(Landing(call, cause=cannot.cause, say=cannot.say, detail=detail))
        else:
            built.append((call, request))
    return built, unfit


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
    landed = []
    for (call, _), outcome in zip(part, outcomes, strict=True):
        action_key, attempt_no = call.step.action or "", call.moving.attempt_count + 1
        answer = answers.read(ready.connector, action_key, outcome, attempt_no=attempt_no)
        watching.answer(ready, action_key, answer)
        counts.note(ready, answer, outcome)
        landed.append(Landing(call, answer, outcome, ready.secrets))
    return landed


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
