"""Asking first: what an app cannot tell from its repetition is looked for before it is created."""

from collections.abc import Sequence

from connectors.connections import Open
from connectors.engine import looks, requests
from connectors.flow_documents import action_of
from connectors.landings import Landing
from connectors.stepping import Call
from connectors.transports import sending
from kernel import http

IN_FLIGHT = 4  # calls at once to one connection from one process
Built = list[tuple[Call, http.Request]]


def ask_first(
    ready: Open, built: Sequence[tuple[Call, http.Request]]
) -> tuple[Built, list[Landing]]:
    """Look for what some calls would create; return those still to be sent, and those that landed.

    A look that fails creates nothing: the run waits, or stops, as the look's answer says.
    """
    left: Built = []
    asked: list[tuple[Call, http.Request, http.Request]] = []
    landed: list[Landing] = []
    for call, request in built:
        _, action = action_of(ready.connector.key, call.step.action or "")
        if action.find is None:
            left.append((call, request))
            continue
        try:
            look = looks.build(ready.connector, action, call.input, ready.values, call.effect_key)
        except requests.CannotBuild as cannot:
            detail = cannot.pointer or None
            landed.append(Landing(call, cause=cannot.cause, say=cannot.say, detail=detail))
        else:
            asked.append((call, request, look))
    outcomes = sending.send_all([look for _, _, look in asked], limit=IN_FLIGHT)
    for (call, request, _), outcome in zip(asked, outcomes, strict=True):
        landing = _read(ready, call, outcome)
        if landing is None:
            left.append((call, request))
        else:
            landed.append(landing)
    return left, landed


def _read(ready: Open, call: Call, outcome: http.Response | http.Failure) -> Landing | None:
    _, action = action_of(ready.connector.key, call.step.action or "")
    answer = looks.read(
        ready.connector,
        action,
        call.input,
        ready.values,
        call.effect_key,
        outcome,
        attempt_no=call.moving.attempt_count + 1,
    )
    return None if answer is None else Landing(call, answer, outcome, ready.secrets)
