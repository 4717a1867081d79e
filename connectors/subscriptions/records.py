"""Recording what a turn of an ordered webhook did, and when the next one comes."""

import random
from datetime import datetime, timedelta

from sqlmodel import Session

from connectors.engine.findings import say
from connectors.subscriptions import ordering
from connectors.subscriptions.claims import Turn
from connectors.subscriptions.tables import VendorHook
from kernel.database import store_now
from webhooks import sources

LADDER = (60, 300, 1_800, 7_200, 21_600)
GIVE_UP_LEAVING = 5  # tries to end a webhook before a person is asked
BY_HAND = say(
    "没能在对方应用里删除这个回调，请到对方应用的回调设置里手动删除",
    "The webhook could not be ended at the app; please delete it there, under its webhooks",
)


def record(session: Session, turn: Turn) -> None:
    """Write down what a turn did, unless the row is somebody else's by now."""
    hook = session.get(VendorHook, (turn.hook.organization_id, turn.hook.id), with_for_update=True)
    if hook is None or hook.lease_owner != turn.owner or hook.lease_until is None:
        return
    now = store_now(session)
    for did, remote_id in turn.done:
        ordering.note(hook, did, now, remote_id)
    hook.remote_id, hook.expires_at = turn.hook.remote_id, turn.hook.expires_at
    hook.problem, hook.looked_at = turn.problem, now
    hook.lease_owner = hook.lease_until = None
    if turn.secret_told:
        _keep_secret(session, hook, turn.secret_told)
    if turn.problem is not None:
        _next_try(hook, turn, now)
    elif turn.after_seconds is not None:
        hook.next_at = now + timedelta(seconds=max(1.0, turn.after_seconds))
    else:
        _settled(session, hook, now)
    session.add(hook)


def _next_try(hook: VendorHook, turn: Turn, now: datetime) -> None:
    hook.failure_count += 1
    if hook.state == "leaving" and (turn.is_last or hook.failure_count >= GIVE_UP_LEAVING):
        hook.state, hook.next_at = "gone", None
        hook.problem = {**(turn.problem or {}), "say": dict(BY_HAND)}
        ordering.note(hook, "left_to_you", now, hook.remote_id)
        return
    step = LADDER[min(hook.failure_count, len(LADDER)) - 1]
    hook.next_at = now + timedelta(seconds=max(turn.after_seconds or 0.0, step))
    if hook.state == "wanted" and hook.failure_count >= len(LADDER):
        hook.state = "stuck"


def _settled(session: Session, hook: VendorHook, now: datetime) -> None:
    hook.failure_count = 0
    if hook.state == "leaving":
        hook.state, hook.next_at, hook.remote_id = "gone", None, None
        sources.close(session, hook.organization_id, hook.id)
        return
    hook.state = "active"
    spread = random.uniform(0.9, 1.0)  # noqa: S311 - spreads load
    hook.next_at = now + ordering.NIGHTLY * spread
    if hook.expires_at is not None:
        hook.next_at = min(hook.next_at, now + (hook.expires_at - now) * 2 / 3)


def _keep_secret(session: Session, hook: VendorHook, secret: str) -> None:
    """Prove deliveries with the secret that the app made from now on."""
    source = sources.maybe(session, hook.organization_id, hook.id)
    if source is not None:
        sources.rotate_secret(session, hook.organization_id, hook.id, secret)
