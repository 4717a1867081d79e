"""Turns of a reconciliation: claim → commit → ask the app → take in → record, under a lease.

A worker that dies between the asking and the recording leaves a page that is asked for again; what
it took in already is known by its dedupe key then.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlmodel import Session

from connectors import connections, masking, reconcile_records, reconciliations, tokens
from connectors.budgets import taking
from connectors.connections import Open
from connectors.engine import listings, reconcile, requests
from connectors.engine.answers import Answer
from connectors.engine.findings import EngineError, say
from connectors.looking import MAX_OPEN, NO_ID, Looking
from connectors.reconcile_claims import Turn
from connectors.tables import Connection, Reconciliation
from connectors.transports import sending
from kernel import documents, http
from kernel.database import reading, write
from kernel.errors import Problem
from webhooks import addresses, events, fetched, sources
from webhooks.addresses import OpenSource
from webhooks.errors import BacklogFull, OverQuota

CALLS = 10  # over one connection in one turn
TURN_SECONDS = 60

UNUSABLE = say(
    "连接不可用，请先重新连接", "The connection cannot be used; please connect again first"
)


def take(turn: Turn) -> None:
    """Do one turn: a few pages of the list, or a few requests to send something again."""
    organization_id = turn.row.organization_id
    with reading(organization_id) as session:
        ground = _Ground.find(session, turn.row)
    if ground is None:
        write(partial(reconcile_records.forget, turn=turn), organization_id)
        return
    looking = Looking.at(turn.row, ground.plan, turn.now)
    if ground.source.is_paused or ground.opened.connection.paused_at is not None:
        looking.after_seconds = int(reconciliations.interval_of(turn.row).total_seconds())
    elif not ground.opened.is_usable:
        looking.stop(UNUSABLE, "auth")
    else:
        _Worker(turn, ground, looking).work()
    write(partial(reconcile_records.record, turn=turn, looking=looking), organization_id)


class _Ground:
    """What a turn stands on: the source, its connection, and how the app is asked."""

    def __init__(self, source: OpenSource, opened: Open, plan: Any) -> None:
        self.source, self.opened, self.plan = source, opened, plan

    @classmethod
    def find(cls, session: Session, row: Reconciliation) -> "_Ground | None":
        """Read it; None when the source is closed or its app cannot be asked any more."""
        source = sources.maybe(session, row.organization_id, row.id)
        connection = session.get(Connection, (row.organization_id, row.connection_id))
        if source is None or source.state == "closed" or connection is None:
            return None
        opened = connections.open_connection(connection)
        plan = reconciliations.plan_of(opened.connector, source)
        if plan is None or connection.state == "revoked":
            return None
        return cls(addresses.opened(source), opened, plan)


class _Worker:
    """Makes the calls of one turn and puts what comes of them into a Looking."""

    def __init__(self, turn: Turn, ground: _Ground, looking: Looking) -> None:
        self.turn, self.source, self.opened = turn, ground.source, ground.opened
        self.plan, self.looking = ground.plan, looking
        self.calls = CALLS
        self.started = time.monotonic()

    def work(self) -> None:
        """Settle what came, read on in the list, ask for what is missing."""
        looking = self.looking
        looking.settle(self._here([entry["key"] for entry in looking.missing]))
        if looking.progress is None and self.turn.row.look_at <= looking.now:
            looking.begin()
        ready = tokens.ensure(self.opened)
        if isinstance(ready, tokens.NoToken):
            self._tell(ready.answer)
            return
        self.opened = ready
        while looking.progress is not None and not looking.is_done and self._may_go_on():
            self._read_page()
        for entry in looking.due():
            if not self._may_go_on():
                break
            self._ask_again(entry)

    def _may_go_on(self) -> bool:
        has_time = self.calls > 0 and time.monotonic() - self.started < TURN_SECONDS
        return has_time and self.looking.problem is None and self.looking.after_seconds is None

    def _here(self, keys: Sequence[str]) -> set[str]:
        with reading(self.source.organization_id) as session:
            return events.known(session, self.source.organization_id, self.source.id, keys)

    def _call(
        self, build: Callable[[Open], http.Request], read: Callable[..., Answer]
    ) -> Answer | None:
        """Make one call; an answer that is no success is told to the Looking."""
        wait = taking.charge(self.opened)
        if wait is not None:
            self.looking.after_seconds = max(1, round(wait.seconds + 0.5))
            return None
        self.calls -= 1
        attempt_no = min(self.turn.row.failure_count + 1, len(self._ladder))
        try:
            outcome = sending.send(build(self.opened))
            answer = read(outcome=outcome, attempt_no=attempt_no)
            if answer.kind == "reauth" and tokens.has_token(self.opened):
                renewed = tokens.ensure(self.opened, stale=True)
                if isinstance(renewed, tokens.NoToken):
                    self._tell(renewed.answer)
                    return None
                self.opened = renewed
                outcome = sending.send(build(renewed))
                answer = read(outcome=outcome, attempt_no=attempt_no)
        except requests.CannotBuild as cannot:
            self.looking.stop(cannot.say, cannot.cause)
            return None
        if isinstance(outcome, http.Response):
            # the store's clock, not this machine's: it is the one that looks are timed by
            passed = timedelta(seconds=time.monotonic() - self.started)
            self.looking.hear_clock(outcome.headers, self.turn.now + passed)
        return answer

    @property
    def _ladder(self) -> Sequence[int]:
        return self.opened.connector.http.ladder_seconds

    def _tell(self, answer: Answer) -> None:
        """Keep what went wrong in words, without secrets, and when to come again."""
        cause = "auth" if answer.kind == "reauth" else answer.cause
        said = {"say": dict(answer.say or {}), "detail": answer.detail or None}
        kept = masking.keep(said, self.opened.secrets)
        self.looking.problem = {"cause": cause, **kept}
        self.looking.after_seconds = answer.after_seconds if answer.kind == "retry" else None
        self.looking.is_final = answer.kind != "retry"

    def _read_page(self) -> None:
        looking = self.looking
        given, asked = self.turn.row.input, looking.asked_with()
        connector, plan = self.opened.connector, self.plan
        answer = self._call(
            lambda ready: requests.build_list(connector, plan, ready.values, given, asked),
            partial(listings.read_list, connector, plan, asked),
        )
        if answer is None:
            return
        if answer.kind != "ok":
            self._tell(answer)
            return
        if looking.begin_again():
            return
        try:
            items, following = answer.output["items"], reconcile.next_page(plan, answer.output)
            token = reconcile.token_of(answer.output)
            is_enough = self._compare(items) if plan.redeliver else self._fetch(items)
        except EngineError as lost:
            looking.stop(lost.say, "config")
            return
        if looking.after_seconds is None:
            looking.hear_token(token)
            looking.turn_page(following, is_enough=is_enough)

    def _compare(self, items: Sequence[Any]) -> bool:
        """Note failed deliveries whose events are not here; True once all items are too old."""
        since, times = self.looking.since, []
        failed: dict[str, reconcile.Listed] = {}
        for item in items:
            try:
                one = reconcile.delivery(self.plan, item)
            except EngineError as lost:
                self._pass_over(item, lost)
                continue
            times.append(one.at)
            key = fetched.key_of_message(self.source, one.message_id)
            if one.is_failed and one.at >= since and key is not None:
                failed.setdefault(key, one)
        here = self._here(list(failed))
        for key, one in failed.items():
            if key not in here:
                if len(self.looking.open()) >= MAX_OPEN:
                    return True  # these first; the look begins anew when they are here
                self.looking.miss(key, one)
        return bool(times) and max(times) < since

    def _fetch(self, items: Sequence[Any]) -> bool:
        """Take in what the listed objects say and nobody has told; never enough before the end."""
        new: dict[str, events.NewEvent] = {}
        for item in items:
            try:
                made = reconcile.rebuilt(self.plan, item)
                read = fetched.read(self.source, made.headers, made.raw, self.turn.now)
            except (EngineError, Problem) as lost:
                self._pass_over(item, lost)
                continue
            for event in read:
                if event.dedupe_key is None:
                    self._pass_over(item, EngineError(NO_ID))
                else:
                    new.setdefault(event.dedupe_key, event)
        here = self._here(list(new))
        fresh = [event for key, event in new.items() if key not in here]
        for start in range(0, len(fresh), fetched.AT_ONCE):
            some = fresh[start : start + fetched.AT_ONCE]
            try:
                stored = fetched.take_in(self.source, some)
            except (OverQuota, BacklogFull) as full:
                self._wait_for_room(full)
                break
            for event, one in zip(some, stored, strict=True):
                if not one.is_duplicate:
                    is_good = event.problem is None
                    self.looking.count(found=1, fetched=int(is_good), failed=int(not is_good))
        return False

    def _wait_for_room(self, full: Problem) -> None:
        """Read the same page again when there is room; what is here already is known by its key."""
        self.looking.after_seconds = full.retry_after_seconds or 60
        words = say(
            "已达到接收上限，稍后自动继续补回",
            "A quota for what comes in is used up; fetching goes on later",
        )
        self.looking.problem = {"cause": "limit", "say": words, "detail": None}

    def _pass_over(self, item: Any, lost: EngineError | Problem) -> None:
        """Note an item that cannot be taken in; the others are not held up by it."""
        words = (
            lost.say if isinstance(lost, EngineError) else say("内容无法读取", lost.plain()[:300])
        )
        self.looking.give_up_item(_name_of(item), masking.keep(words, self.opened.secrets))

    def _ask_again(self, entry: dict[str, Any]) -> None:
        given = self.turn.row.input
        connector, plan = self.opened.connector, self.plan
        answer = self._call(
            lambda ready: requests.build_redelivery(
                connector, plan, ready.values, given, entry["id"]
            ),
            partial(listings.read_redelivery, connector, plan),
        )
        if answer is None:
            return
        if answer.kind == "ok":
            self.looking.note_asked(entry)
        elif answer.kind == "fail" and answer.cause in ("data", "config"):
            # about this delivery alone; a wrong place would have stopped the list before
            detail = masking.keep(answer.detail, self.opened.secrets)
            words = say(f"对方应用没有重发：{detail}", f"The app did not send it again: {detail}")
            self.looking.lose(entry, words)
        else:
            self._tell(answer)


def _name_of(item: Any) -> str:
    return "item:" + hashlib.sha256(documents.dump(item)).hexdigest()
