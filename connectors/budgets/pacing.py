"""Pacing: stretches of a lane's calls pass their connection's budgets before they are sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from connectors import asking
from connectors.budgets import taking, waking
from connectors.budgets.taking import Ask, Taken, Wait
from connectors.connections import Open
from connectors.engine.answers import Answer
from connectors.engine.call_budgets import Told, told
from connectors.health import counts
from connectors.landings import Landing
from connectors.stepping import Call
from kernel import clock, http

Built = list[tuple[Call, http.Request]]


def has_budgets(opened: Open) -> bool:
    """Tell whether calls over a connection are counted before they go."""
    return bool(taking.budgets_of(opened))


@contextmanager
def paced(opened: Open, part: Built) -> Iterator[tuple[Built, list[Landing], int]]:
    """Give the calls that may go now, those that wait, and how many may be in the air.

    What was taken of the room for calls in the air is given back when the block ends.
    """
    if not has_budgets(opened):
        yield part, [], asking.IN_FLIGHT
        return
    asks = [_ask(opened, call, request) for call, request in part]
    holder = part[0][0].moving.id if part else ""
    taken = taking.claim(opened, asks, holder, asking.IN_FLIGHT)
    try:
        yield _going(part, taken), _held(opened, part, taken), taken.seats or asking.IN_FLIGHT
    finally:
        taking.leave(taken)


def _ask(opened: Open, call: Call, request: http.Request) -> Ask:
    key = call.step.action or ""
    action = opened.connector.actions.get(key)
    path = request.url.partition("://")[2].partition("/")[2].partition("?")[0]
    costs = {
        # what is looked for before it is created asks the app twice
        one.id: min(one.burst, one.cost_of(call.input) + (1 if action and action.find else 0))
        for one in taking.budgets_of(opened)
        if one.covers(key, f"/{path}")
    }
    return Ask(call.moving.flow_id, costs)


def _going(part: Built, taken: Taken) -> Built:
    return [one for one, wait in zip(part, taken.waits, strict=True) if wait is None]


def _held(opened: Open, part: Sequence[tuple[Call, http.Request]], taken: Taken) -> list[Landing]:
    found = [
        (call, wait) for (call, _), wait in zip(part, taken.waits, strict=True) if wait is not None
    ]
    if found:
        waking.ring_in(min(wait.seconds for _, wait in found))
        counts.note_waits(opened, len(found))
    return [held(call, wait, opened.secrets) for call, wait in found]


def held(call: Call, wait: Wait, secrets: tuple[str, ...] = ()) -> Landing:
    """Return what becomes of a call that waits: it was not made, and is no attempt."""
    return Landing(call, secrets=secrets, cause="budget", say=wait.say, wait_seconds=wait.seconds)


def heed(opened: Open, landings: Sequence[Landing]) -> None:
    """Believe what answers say of the app's limits, where it is less than is counted here."""
    budgets = taking.budgets_of(opened)
    if not budgets:
        return
    found: dict[str, Told] = {}
    now = clock.now().timestamp()
    for landing in landings:
        for budget in budgets:
            said = _said(landing, told(budget, _headers(landing), now))
            if said != Told():
                found[budget.id] = _sterner(found.get(budget.id), said)
    if found:
        taking.heed(opened, found)


def heed_outcomes(opened: Open, outcomes: Sequence[http.Response | http.Failure]) -> None:
    """Believe what the headers of answers say of the app's limits."""
    budgets = taking.budgets_of(opened)
    found: dict[str, Told] = {}
    now = clock.now().timestamp()
    for outcome in outcomes if budgets else ():
        for budget in budgets:
            if isinstance(outcome, http.Response):
                said = told(budget, outcome.headers, now)
                if outcome.status != 429:
                    said = Told(said.remaining, said.reset_seconds)
                if said != Told():
                    found[budget.id] = _sterner(found.get(budget.id), said)
    if found:
        taking.heed(opened, found)


def _headers(landing: Landing) -> dict[str, str]:
    return dict(landing.outcome.headers) if isinstance(landing.outcome, http.Response) else {}


def _said(landing: Landing, said: Told) -> Told:
    """Take an answer that was read as a limit, by its status or code, as a word on the budget."""
    answer: Answer | None = landing.answer
    if answer is None or answer.cause != "limit" or answer.after_seconds is None:
        is_limit = isinstance(landing.outcome, http.Response) and landing.outcome.status == 429
        return said if is_limit else Told(said.remaining, said.reset_seconds)
    wait = said.retry_seconds or said.reset_seconds or float(answer.after_seconds)
    return Told(said.remaining, said.reset_seconds, wait)


def _sterner(known: Told | None, said: Told) -> Told:
    if known is None:
        return said
    left = [one for one in (known.remaining, said.remaining) if one is not None]
    return Told(
        min(left) if left else None,
        max(known.reset_seconds or 0, said.reset_seconds or 0) or None,
        max(known.retry_seconds or 0, said.retry_seconds or 0) or None,
    )
