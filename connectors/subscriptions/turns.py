"""Turns of an ordered webhook: claim → commit → ask the app → record, under a lease.

Before anything is ordered the app's list is read: a worker that died after the order and before the
record leaves a webhook that is found by its address, and never a second one.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import or_, select, text
from sqlmodel import Session

from connectors import connection_checks, connections, tokens
from connectors.budgets import taking
from connectors.connections import Open
from connectors.engine import reconcile, subscribing
from connectors.engine.answers import Answer
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import Subscribe, Trigger
from connectors.engine.findings import EngineError, say
from connectors.engine.subscribing import Listed
from connectors.subscriptions import ordering
from connectors.subscriptions.tables import VENDOR_HOOK, VendorHook
from connectors.tables import Connection
from identity import suspensions
from kernel import http, ids
from kernel.database import EVERY, reading, store_now, write
from kernel.errors import NotFound
from kernel.settings import settings
from webhooks import addresses, fillings, sources
from webhooks.openings import RECIPE
from webhooks.tables import SOURCE, Source

LEASE_SECONDS = 180
MOST_PAGES = 10
MOST_REMOVED = 20  # ghosts and doubles in one turn
LADDER = (60, 300, 1_800, 7_200, 21_600)
GIVE_UP_LEAVING = 5  # tries to end a webhook before a person is asked
_UNUSABLE = say(
    "连接不可用，请先重新连接", "The connection cannot be used; please connect again first"
)
_BY_HAND = say(
    "没能在对方应用里删除这个回调，请到对方应用的回调设置里手动删除",
    "The webhook could not be ended at the app; please delete it there, under its webhooks",
)


@dataclass
class Turn:
    """What a worker holds: the row as it was claimed, with its source as far as it is there."""

    hook: VendorHook
    owner: str
    now: datetime
    opened: Open | None
    plan: Subscribe | None
    trigger: Trigger | None
    url: str = ""
    secret: str = ""
    done: list[tuple[str, str | None]] = field(default_factory=list)  # lines for the ledger
    problem: dict[str, Any] | None = None
    after_seconds: float | None = None
    is_last: bool = False  # there will be no later try
    secret_told: str | None = None  # by the app, of a webhook that was just made


class _Stop(Exception):  # noqa: N818 - the turn's problem says why
    """The turn ends here."""


def run_all() -> int:
    """Take turns until nothing is due; returns how many. Calls apps: outside transactions."""
    for count in range(1_000):
        turn = write(_claim)
        if turn is None:
            return count
        take(turn)
    return 1_000


def is_any_due() -> bool:
    """Tell whether some order of any organization is due, without writing."""
    with reading(EVERY) as session:
        found = select(VENDOR_HOOK.c.id).where(*_due(store_now(session))).limit(1)
        return session.execute(found).first() is not None


def _due(now: datetime) -> tuple[Any, ...]:
    return (
        text("vendor_hook.next_at IS NOT NULL"),  # word for word as the partial index has it
        VENDOR_HOOK.c.next_at <= now,
        or_(VENDOR_HOOK.c.lease_until.is_(None), VENDOR_HOOK.c.lease_until < now),
        VENDOR_HOOK.c.organization_id.not_in(suspensions.suspended_ids()),
    )


def _claim(session: Session) -> Turn | None:
    now = store_now(session)
    hook: VendorHook | None = session.execute(
        select(VendorHook)
        .where(*_due(now))
        .order_by(VENDOR_HOOK.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).scalar_one_or_none()
    return None if hook is None else _lease(session, hook, now)


def _lease(session: Session, hook: VendorHook, now: datetime) -> Turn:
    hook.lease_owner = ids.new_id("vht")
    hook.lease_until = now + timedelta(seconds=LEASE_SECONDS)
    session.add(hook)
    session.flush()
    opened, trigger = _open(session, hook)
    plan = trigger.subscribe if trigger else None
    turn = Turn(hook, hook.lease_owner, now, opened, plan, trigger)
    source = sources.maybe(session, hook.organization_id, hook.id)
    if source is not None:
        turn.url, turn.secret = sources.url_of(source), _secret_of(source)
    return turn


def _open(session: Session, hook: VendorHook) -> tuple[Open | None, Trigger | None]:
    connection = session.get(Connection, (hook.organization_id, hook.connection_id))
    if connection is None:
        return None, None
    try:
        opened = connections.open_connection(connection)
    except NotFound:
        return None, None
    return opened, opened.connector.triggers.get(hook.trigger_key)


def _secret_of(source: Source) -> str:
    """Return the secret that deliveries are proved with; of a recipe its only value."""
    from_scheme = sources.secret_of(source)
    if from_scheme is not None:
        return from_scheme
    filled = list(fillings.get(source).values()) if source.scheme == RECIPE else []
    return filled[0] if len(filled) == 1 else ""


def take(turn: Turn) -> None:
    """Do one turn and write down what it did."""
    try:
        _work(turn)
    except _Stop:
        pass
    except EngineError as lost:
        turn.problem = {"cause": "config", "say": dict(lost.say), "detail": None}
    write(partial(_record, turn=turn), turn.hook.organization_id)


def _work(turn: Turn) -> None:
    opened = turn.opened
    if opened is None or turn.plan is None or opened.connection.state == "revoked":
        _stop(turn, "config", _BY_HAND if turn.hook.state == "leaving" else _UNUSABLE)
    assert opened is not None
    if opened.connection.paused_at is not None:
        turn.after_seconds = 600.0
        raise _Stop
    if not opened.is_usable:
        _stop(turn, "auth", _UNUSABLE)
    ready = tokens.ensure(opened)
    if isinstance(ready, tokens.NoToken):
        _fail(turn, ready.answer)
    assert isinstance(ready, Open)
    turn.opened = ready
    if turn.hook.state == "leaving":
        _leave(turn)
    else:
        _be_there(turn)


def _be_there(turn: Turn) -> None:
    """See to it that the app sends to our address, once."""
    assert turn.plan is not None
    hook, plan = turn.hook, turn.plan
    mine, ghosts = _look(turn)
    known = [one for one in mine if one.id == hook.remote_id]
    if plan.list is None:
        known = [Listed(hook.remote_id, turn.url)] if hook.remote_id else []
    if not known and mine and "secret" not in plan.save["object"]:
        known = mine[:1]  # ordered by a worker that died before it could write that down
        turn.done.append(("adopted", known[0].id))
    for one in [*mine, *ghosts][:MOST_REMOVED]:
        if one not in known:
            _delete(turn, one.id, "double_removed" if one in mine else "ghost_removed")
    if not known:
        if hook.remote_id:
            turn.done.append(("missing", hook.remote_id))
        hook.remote_id = _create(turn)
    elif _ends_soon(turn):
        _renew(turn, known[0].id)
    else:
        hook.remote_id = known[0].id


def _ends_soon(turn: Turn) -> bool:
    plan, ends = turn.plan, turn.hook.expires_at
    if plan is None or plan.lasts_hours is None or ends is None:
        return False
    return ends - turn.now < timedelta(hours=plan.lasts_hours) / 3 + timedelta(hours=1)


def _leave(turn: Turn) -> None:
    mine, _ = _look(turn)
    gone = {one.id for one in mine} | ({turn.hook.remote_id} if turn.hook.remote_id else set())
    for remote_id in sorted(gone):
        _delete(turn, remote_id, "deleted")


def _look(turn: Turn) -> tuple[list[Listed], list[Listed]]:
    """Read the app's list: webhooks to our very address, and such as lead nowhere in this hub."""
    plan = turn.plan
    assert plan is not None
    if plan.list is None:
        return [], []
    found: list[Listed] = []
    page: str | None = None
    for _ in range(MOST_PAGES):
        answer = _call(turn, plan.list, subscribing.read_page, page=page)
        seen = [subscribing.listed(plan, item) for item in answer.output["items"]]
        found += [one for one in seen if one is not None]
        # a page's name comes from the app; where calls go does not
        page = reconcile.page_named(answer.output.get("next"), plan.link)
        if page is None:
            break
    mine = [one for one in found if turn.url and one.url == turn.url]
    ours = f"{settings().base_url}/in/"
    strays = [one for one in found if one.url.startswith(ours) and one not in mine]
    dead = _dead([one.url.removeprefix(ours) for one in strays])
    return mine, [one for one in strays if one.url.removeprefix(ours) in dead]


def _dead(secrets: list[str]) -> set[str]:
    """Return which address parts open no source of any organization any more."""
    if not secrets:
        return set()
    digests = {addresses.digest_of(one): one for one in secrets}
    with reading(EVERY) as session:
        rows = session.execute(
            select(SOURCE.c.token_digest).where(
                SOURCE.c.token_digest.in_(list(digests)), SOURCE.c.state != "closed"
            )
        )
        alive = {row[0] for row in rows}
    return {text for digest, text in digests.items() if digest not in alive}


def _create(turn: Turn) -> str:
    assert turn.plan is not None
    answer = _call(turn, turn.plan.create, subscribing.read_created)
    remote_id = str(answer.output["id"])
    turn.secret_told = answer.output.get("secret") or None
    turn.done.append(("created", remote_id))
    _lasts(turn)
    return remote_id


def _renew(turn: Turn, remote_id: str) -> None:
    assert turn.plan is not None
    if turn.plan.renew is not None:
        _call(turn, turn.plan.renew, subscribing.read_renewed, hook_id=remote_id)
        turn.done.append(("renewed", remote_id))
        turn.hook.remote_id = remote_id
        _lasts(turn)
        return
    turn.hook.remote_id = _create(turn)
    _delete(turn, remote_id, "replaced")


def _lasts(turn: Turn) -> None:
    hours = turn.plan.lasts_hours if turn.plan else None
    turn.hook.expires_at = turn.now + timedelta(hours=hours) if hours else None


def _delete(turn: Turn, remote_id: str, did: str) -> None:
    assert turn.plan is not None
    _call(turn, turn.plan.delete, subscribing.read_deleted, hook_id=remote_id)
    turn.done.append((did, remote_id))


def _call(
    turn: Turn, template: Any, read: Callable[..., Answer], *, hook_id: str = "",
    page: str | None = None,
) -> Answer:  # fmt: skip
    """Make one call; raises _Stop with the turn's problem when it does not succeed."""
    opened, plan, trigger = turn.opened, turn.plan, turn.trigger
    assert opened is not None
    assert plan is not None
    assert trigger is not None
    wait = taking.charge(opened)
    if wait is not None:
        turn.after_seconds = wait.seconds
        raise _Stop
    hook = subscribing.hook_of(
        trigger, url=turn.url, secret=turn.secret, hook_id=hook_id, page=page
    )
    try:
        request = subscribing.build(
            opened.connector, template, opened.values, turn.hook.input, hook
        )
    except CannotBuild as cannot:
        _stop(turn, cannot.cause, cannot.say)
    answer = read(opened.connector, plan, http.send(request))
    if answer.kind != "ok":
        _fail(turn, answer)
    return answer


def _fail(turn: Turn, answer: Answer) -> NoReturn:
    hidden = (turn.secret, turn.url) if turn.secret else (turn.url,)
    secrets = (*(turn.opened.secrets if turn.opened else ()), *[one for one in hidden if one])
    turn.problem = dict(connection_checks.problem_of(answer, secrets) or {})
    turn.after_seconds = answer.after_seconds if answer.kind == "retry" else None
    raise _Stop


def _stop(turn: Turn, cause: str, words: Any) -> NoReturn:
    turn.problem = {"cause": cause, "say": dict(words), "detail": None}
    raise _Stop


# --- records -------------------------------------------------------------------------------------


def _record(session: Session, turn: Turn) -> None:
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
        hook.problem = {**(turn.problem or {}), "say": dict(_BY_HAND)}
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


def end_all(organization_id: str, connection_id: str) -> list[VendorHook]:
    """End all of a connection's webhooks at the app now, before its credentials are forgotten.

    Calls the app: outside a transaction. Returns those that could not be ended, which the rows
    tell people of.
    """

    def claim(session: Session) -> list[Turn]:
        connection = connections.find(session, organization_id, connection_id)
        turns = []
        for hook in ordering.of_connection(session, connection):
            ordering.end(session, organization_id, hook.id)
            turns.append(_lease(session, hook, store_now(session)))
        return turns

    turns = write(claim, organization_id)
    for turn in turns:
        turn.is_last = True
        take(turn)
    return [turn.hook for turn in turns if turn.problem is not None]
