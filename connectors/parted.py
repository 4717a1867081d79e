"""Calls in parts: the requests of one step, sent one after another while there is time.

What came so far stays with the step (stepping.PARTS): another worker goes on from there.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from connectors.budgets import pacing
from connectors.connections import Open
from connectors.engine import parts, requests
from connectors.engine.connector import Action, Connector
from connectors.engine.findings import EngineError
from connectors.flow_documents import action_of
from connectors.health import counts
from connectors.landings import Landing
from connectors.stepping import Call
from kernel import http
from kernel.errors import NotFound

STRETCH_SECONDS = 8  # so long one call's requests follow each other before it is written down
Sender = Callable[[Sequence[http.Request]], Sequence[http.Response | http.Failure]]


def is_in_parts(call: Call) -> bool:
    """Tell whether a call may take several requests."""
    try:
        return action_of(call.step.connector or "", call.step.action or "")[1].is_in_parts
    except NotFound:
        return False


def carry(ready: Open, calls: Sequence[Call], send: Sender) -> Iterator[list[Landing]]:
    """Send the requests of calls in parts, of all of them at once; gives those that landed.

    A call that may not be repeated lands after each request, so that it is known what was sent.
    """
    began, going = time.monotonic(), list(calls)
    while going:
        built: list[tuple[Call, Action, http.Request]] = []
        landed: list[Landing] = []
        for call in going:
            connector, action = action_of(ready.connector.key, call.step.action or "")
            start = _start(ready, connector, action, call)
            if isinstance(start, Landing):
                landed.append(start)
            else:
                built.append((call, action, start))
        going = []
        for call, action, outcome in _sent(ready, built, send, landed):
            landing = _read(ready, action, call, outcome)
            if landing.answer is not None:
                counts.note(ready, landing.answer, outcome)
            has_time = time.monotonic() - began < STRETCH_SECONDS and action.is_idempotent
            goes_on = landing.answer is not None and landing.answer.kind == parts.MORE and has_time
            if goes_on:
                going.append(call)
            else:
                landed.append(landing)
        if landed:
            yield landed


def _sent(
    ready: Open,
    built: Sequence[tuple[Call, Action, http.Request]],
    send: Sender,
    landed: list[Landing],
) -> list[tuple[Call, Action, http.Response | http.Failure]]:
    """Send what the app's budgets let go now; the others land as waiting, with what they have."""
    if not built:
        return []
    with pacing.paced(ready, [(call, request) for call, _, request in built]) as (may, held, limit):
        landed += held
        wanted = [request for _, request in may]
        outcomes = [
            one for at in range(0, len(wanted), limit) for one in send(wanted[at : at + limit])
        ]
    actions = {id(call): action for call, action, _ in built}
    pacing.heed_outcomes(ready, outcomes)
    return [
        (call, actions[id(call)], outcome) for (call, _), outcome in zip(may, outcomes, strict=True)
    ]


def _start(ready: Open, connector: Connector, action: Action, call: Call) -> http.Request | Landing:
    """Return a call's next request, or where it landed without one."""
    try:
        if not call.is_begun:
            call.progress = parts.begin(action, call.input, call.effect_key, call.progress)
            call.is_begun = True
        assert call.progress is not None
        if parts.is_nothing(action, call.progress):
            return _read(ready, action, call, None)
        look = parts.look(action, call.input, call.progress)
        return requests.build(
            connector, action.key, call.input, ready.values, call.effect_key, look
        )
    except requests.CannotBuild as cannot:
        return Landing(call, cause=cannot.cause, say=cannot.say, detail=cannot.pointer or None)
    except EngineError as lost:
        return Landing(call, cause="data", say=lost.say)


def _read(
    ready: Open, action: Action, call: Call, outcome: http.Response | http.Failure | None
) -> Landing:
    assert call.progress is not None
    answer, call.progress = parts.take(
        ready.connector,
        action,
        call.input,
        call.progress,
        outcome,
        attempt_no=call.moving.attempt_count + 1,
    )
    told = outcome or http.Response(0, {}, b"", truncated=False, elapsed_ms=0)
    return Landing(call, answer, told, ready.secrets)
