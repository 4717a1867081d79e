"""Turns: claim → commit → ask the app → record, with the events that were made in one commit.

A worker that dies before the record leaves an event that is completed again by the next; what was
made is known by its key, so nothing comes twice.
"""

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlmodel import Session

from connectors import asked, connections
from connectors.completing import claims
from connectors.completing.claims import Held
from connectors.connections import Open
from connectors.engine import answers, loader, thin
from connectors.engine.answers import Answer
from connectors.engine.connector import Connector, Trigger
from connectors.engine.findings import EngineError, say
from connectors.engine.thin import Made
from connectors.seen import seen_as
from connectors.tables import Connection
from kernel import documents, log
from kernel.database import StoreUnavailable, reading, store_now, write
from kernel.errors import Problem
from webhooks import events
from webhooks.events import NewEvent
from webhooks.tables import Event

AT_ONCE = 12
THREADS = 4
AUTH_WAIT_SECONDS = 900  # a connection that must be renewed is looked at again so often
AUTH_PATIENCE = timedelta(days=7)
MADE_OF = "completed-from"  # among an event's kept headers; no sender can set it
_logger = log.get_logger(__name__)

_guard = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    """Start without the parent's threads after a fork."""
    global _pool, _guard
    _pool, _guard = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _guard:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="complete")
        return _pool


@dataclass
class Outcome:
    """What became of one completion: events, a wait, or words about why there are none."""

    made: list[Made] = field(default_factory=list)
    wait_seconds: int | None = None
    counts_as_try: bool = True
    problem: Mapping[str, Any] | None = None


def work(worker_id: str) -> int:
    """Complete what is due and return how many events that were."""
    found = write(partial(claims.claim, worker_id=worker_id, limit=AT_ONCE))
    if len(found) == 1:
        take(found[0])
    elif found:
        list(_threads().map(take, found))
    return len(found)


def take(one: Held) -> None:
    """Complete one event and record what came of it."""
    try:
        outcome = _outcome(one)
    except StoreUnavailable:
        return  # the lease runs out and somebody goes on once the store is back
    except Exception as error:  # one event's trouble must not stop the others
        _logger.exception("completing_broke", completion=one.row.id)
        detail = f"{type(error).__name__}: {error}"[:300]
        outcome = Outcome(problem=_problem("quarantined", BROKE, detail))
    write(partial(_record, one=one, outcome=outcome), one.row.organization_id)


def _outcome(one: Held) -> Outcome:
    row = one.row
    connector = loader.known(row.connector_key)
    trigger = connector.triggers.get(row.trigger_key) if connector else None
    if connector is None or trigger is None:
        return Outcome(problem=_problem("config", GONE))
    with reading(row.organization_id) as session:
        event = session.get(Event, (row.organization_id, row.event_id))
        connection = (
            session.get(Connection, (row.organization_id, row.connection_id))
            if row.connection_id and trigger.fetch
            else None
        )
        opened = connections.open_connection(connection) if connection else None
    if event is None or event.state == "archived":
        return Outcome()  # it left meanwhile; there is nothing to complete
    try:
        seen = {"event": seen_as(event)}
        return _made(one, connector, trigger, seen, opened)
    except thin.Unmade as lost:
        detail = "; ".join(problem.plain() for problem in lost.problems[:5])
        return Outcome(problem=_problem("data", lost.say, detail))
    except EngineError as lost:
        return Outcome(problem=_problem("data", lost.say))
    except StoreUnavailable:
        raise  # it says nothing of this event
    except Problem as lost:
        return Outcome(problem=_problem("data", UNREADABLE, lost.plain()[:300]))


def _made(
    one: Held,
    connector: Connector,
    trigger: Trigger,
    seen: Mapping[str, Any],
    opened: Open | None,
) -> Outcome:
    """Return what is made of an event: the whole first, then the hub's own words."""
    found: list[Made] = []
    fetch = trigger.fetch
    if fetch is not None:
        if not thin.wants(fetch, seen):
            return Outcome()
        if opened is None:
            return Outcome(problem=_problem("config", NO_CONNECTION))
        answer = asked.ask(opened, fetch.action or "", thin.input_of(fetch, seen))
        if answer.kind != "ok":
            return _refused(one, opened, answer)
        whole = thin.complete(fetch, seen, answer.output)
        found.append(whole)
        about = {"type": whole.type, "version": whole.version, "subject": whole.subject}
        seen = {"event": {**seen["event"], **about, "data": whole.data}}
    for ready in thin.emitting(connector, trigger):
        told = thin.translate(ready, seen)
        if told is not None:
            found.append(told)
    return Outcome(found)


def _refused(one: Held, opened: Open, answer: Answer) -> Outcome:
    """Say when the app is asked again, or why it is not."""
    problem = asked.problem_of(opened, answer)
    if problem["cause"] == "auth":
        return Outcome(wait_seconds=AUTH_WAIT_SECONDS, counts_as_try=False, problem=problem)
    if answer.kind != "retry":
        return Outcome(problem=problem)
    number = one.row.attempt_count + 1
    wait = answers.retry_after(opened.connector, number, answer.after_seconds or 0)
    return Outcome(wait_seconds=wait, problem=problem)


def _record(session: Session, one: Held, outcome: Outcome) -> bool:
    """Write down what came of it; False when somebody else holds the lease by now."""
    row = claims.held(session, one)
    if row is None:
        return False
    now = store_now(session)
    row.lease_owner = row.lease_until = None
    row.crash_count = 0
    row.problem = dict(outcome.problem) if outcome.problem else None
    waits_in_vain = not outcome.counts_as_try and now - row.created_at > AUTH_PATIENCE
    if outcome.problem is not None and outcome.wait_seconds is not None and not waits_in_vain:
        row.state = "waiting"
        row.next_at = now + timedelta(seconds=outcome.wait_seconds)
        row.attempt_count += int(outcome.counts_as_try)
        return True
    row.next_at, row.finished_at = None, now
    if outcome.problem is not None:
        row.state = "dead"
        row.attempt_count += 1
        return True
    row.state = "done"
    row.made = _store(session, one, outcome.made)
    return True


def _store(session: Session, one: Held, made: list[Made]) -> list[str]:
    """Take the events in by the same door as others; each comes once however often this is done."""
    row = one.row
    if not made:
        return []
    thin_one = session.get(Event, (row.organization_id, row.event_id))
    new = [
        NewEvent(
            type=told.type,
            body=documents.dump(told.data),
            version=told.version,
            subject=told.subject,
            dedupe_key=f"made:{row.event_id}:{told.type}",
            occurred_at=thin_one.occurred_at if thin_one else None,
            headers={MADE_OF: row.event_id},
        )
        for told in made
    ]
    stored = events.accept(session, row.organization_id, row.source_id, new, origin=row.source_id)
    return [accepted.id for accepted in stored]


def _problem(cause: str, words: Mapping[str, str], detail: str | None = None) -> dict[str, Any]:
    return {"cause": cause, "say": dict(words), "detail": detail}


GONE = say("连接器里已没有这个触发器", "The connector has no such trigger any more")
NO_CONNECTION = say(
    "这个接收地址没有对应的连接，无法向应用取完整内容；请为它选一个连接",
    "This source belongs to no connection, so the app cannot be asked for the whole; give it one",
)
UNREADABLE = say("事件的内容读不出来", "The event's content cannot be read")
BROKE = say(
    "补全这个事件时我们这边出了意外，已停下以免影响其他事件",
    "Completing this event broke on our side; it was set aside so that it cannot disturb others",
)
