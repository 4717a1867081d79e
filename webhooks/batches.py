"""Batches: which events a drain routes together, and what becomes of one that cannot be routed."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session

from kernel import log
from kernel.database import EVERY, StoreUnavailable, reading, write
from kernel.errors import N_, Problem
from webhooks import carrying, fan_out, ready, workers
from webhooks.fan_out import Routed
from webhooks.ready import Noted

# Told of every batch that was routed, after its commit.
GoOn = Callable[[Routed], None]
_logger = log.get_logger(__name__)


def route(worker_id: str, go_on: GoOn) -> int:
    """Route a batch of events, or one that somebody failed on; returns how many."""
    if workers.is_wary():
        count = _route_noted(worker_id, go_on, write(ready.note))
    else:
        count = _route_batch(worker_id, go_on)
    return count or _route_suspect(worker_id, go_on)


def _route_suspect(worker_id: str, go_on: GoOn) -> int:
    with reading(EVERY) as session:
        if not ready.is_any(session):
            return 0
    noted = write(ready.note_suspect)
    return _route_noted(worker_id, go_on, [noted]) if noted else 0


def _route_noted(worker_id: str, go_on: GoOn, noted: Sequence[Noted]) -> int:
    """Route what was noted, together or, when that fails, one by one; returns how many."""
    if not noted:
        return 0
    slow, room = carrying.pace.slow(), carrying.room()

    def work(session: Session) -> Routed:
        found = ready.take_noted(session, noted)
        return fan_out.route(session, found, Routed(worker_id, room), slow)

    try:
        go_on(write(work))
    except StoreUnavailable:
        raise
    except Exception as error:
        if len(noted) > 1:
            return sum(_route_noted(worker_id, go_on, [one]) for one in noted)
        _logger.exception("event_not_routed", event_id=noted[0].id)
        key, said = (noted[0].organization_id, noted[0].id), _what_happened(error)
        write(lambda session: ready.fail(session, key, said, is_noted=True))
    return len(noted)


def _route_batch(worker_id: str, go_on: GoOn) -> int:
    slow, room = carrying.pace.slow(), carrying.room()

    def work(session: Session) -> Routed:
        return fan_out.route(session, ready.take(session), Routed(worker_id, room), slow)

    try:
        routed = write(work)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - one bad event must not stop the others
        _logger.warning("batch_not_routed", error=str(error)[:300])
        return _route_each(worker_id, go_on)
    go_on(routed)
    return routed.count


def _route_each(worker_id: str, go_on: GoOn) -> int:
    count = 0
    with reading(EVERY) as session:
        keys = ready.peek(session)
    for key in keys:

        def work(session: Session, key: tuple[str, str] = key) -> Routed:
            event = ready.take_one(session, key)
            return fan_out.route(session, event, Routed(worker_id))

        try:
            routed = write(work)
        except StoreUnavailable:
            raise
        except Exception as error:
            _logger.exception("event_not_routed", event_id=key[1])
            said = _what_happened(error)
            write(lambda session, key=key, said=said: ready.fail(session, key, said))  # type: ignore[misc]
        else:
            count += routed.count
            go_on(routed)
    return count


def _what_happened(error: Exception) -> dict[str, Any]:
    if isinstance(error, Problem):
        return {"code": error.code, "detail": error.plain()[:500]}
    return {"code": "routing_failed", "detail": N_("A step of the hub failed on this event")}
