"""Turns of an ordered webhook: claim → commit → ask the app → record, under a lease.

Before anything is ordered the app's list is read: a worker that died after the order and before the
record leaves a webhook that is found by its address, and never a second one.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

from sqlalchemy import select
from sqlmodel import Session

from connectors import connection_checks, connections, tokens
from connectors.budgets import taking
from connectors.connections import Open
from connectors.engine import paging, subscribing
from connectors.engine.answers import Answer
from connectors.engine.auth import CannotBuild
from connectors.engine.findings import EngineError, say
from connectors.engine.subscribing import Listed
from connectors.subscriptions import claims, ordering, records
from connectors.subscriptions.claims import Turn
from connectors.subscriptions.tables import VendorHook
from kernel import http
from kernel.database import EVERY, reading, store_now, write
from kernel.settings import settings
from webhooks import addresses
from webhooks.tables import SOURCE

MOST_PAGES = 10
MOST_REMOVED = 20  # ghosts and doubles in one turn
_UNUSABLE = say(
    "连接不可用，请先重新连接", "The connection cannot be used; please connect again first"
)


class _Stop(Exception):  # noqa: N818 - the turn's problem says why
    """The turn ends here."""


def run_all() -> int:
    """Take turns until nothing is due; returns how many. Calls apps: outside transactions."""
    for count in range(1_000):
        turn = write(claims.claim)
        if turn is None:
            return count
        take(turn)
    return 1_000


def take(turn: Turn) -> None:
    """Do one turn and write down what it did."""
    try:
        _work(turn)
    except _Stop:
        pass
    except EngineError as lost:
        turn.problem = {"cause": "config", "say": dict(lost.say), "detail": None}
    write(partial(records.record, turn=turn), turn.hook.organization_id)


def _work(turn: Turn) -> None:
    opened = turn.opened
    if opened is None or turn.plan is None or opened.connection.state == "revoked":
        _stop(turn, "config", records.BY_HAND if turn.hook.state == "leaving" else _UNUSABLE)
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
    mine, ghosts, is_whole = _look(turn)
    known = [one for one in mine if one.id == hook.remote_id]
    if plan.list is None:
        known = [Listed(hook.remote_id, turn.url)] if hook.remote_id else []
    if not is_whole and hook.remote_id and not known:
        known = [Listed(hook.remote_id, turn.url)]  # it may stand behind the pages that were read
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
    mine, _, _ = _look(turn)
    gone = {one.id for one in mine} | ({turn.hook.remote_id} if turn.hook.remote_id else set())
    for remote_id in sorted(gone):
        _delete(turn, remote_id, "deleted")


def _look(turn: Turn) -> tuple[list[Listed], list[Listed], bool]:
    """Read the app's list: webhooks to our very address, such as lead nowhere, was it all."""
    plan = turn.plan
    assert plan is not None
    if plan.list is None:
        return [], [], True
    found: list[Listed] = []
    page: str | None = None
    for _ in range(MOST_PAGES):
        answer = _call(turn, plan.list, subscribing.read_page, page=page)
        seen = [subscribing.listed(plan, item) for item in answer.output["items"]]
        found += [one for one in seen if one is not None]
        # a page's name comes from the app; where calls go does not
        page = paging.named(answer.output.get("next"), plan.link)
        if page is None:
            break
    mine = [one for one in found if turn.url and one.url == turn.url]
    ours = f"{settings().base_url}/in/"
    strays = [one for one in found if one.url.startswith(ours) and one not in mine]
    dead = _dead([one.url.removeprefix(ours) for one in strays])
    ghosts = [one for one in strays if one.url.removeprefix(ours) in dead]
    return mine, ghosts, page is None


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
            turns.append(claims.lease(session, hook, store_now(session)))
        return turns

    turns = write(claim, organization_id)
    for turn in turns:
        turn.is_last = True
        take(turn)
    return [turn.hook for turn in turns if turn.problem is not None]
