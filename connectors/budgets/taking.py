"""Taking from budgets: calls that are about to go out are counted first, over all processes.

One short transaction for each stretch of calls to a connection, none where an app has no budgets.
What is over a budget is not sent: its run waits, as a row, for the moment it was given.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlmodel import Session

from connectors.budgets.levels import GRID_SECONDS, Level
from connectors.budgets.tables import ALLOWANCE, Allowance
from connectors.connections import Open
from connectors.engine.call_budgets import TOKEN, CallBudget, Told
from connectors.engine.findings import Say, say
from connectors.tables import Connection
from kernel import documents
from kernel.database import store_now, write
from kernel.rows import insert_ignore

SEAT_SECONDS = 75  # longer than a stretch of calls may take


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that is about to go out: of which flow, and what it costs of each budget."""

    flow: str
    costs: Mapping[str, int]  # by the budget's id


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a call does not go out yet, and in how many seconds it is worth trying."""

    seconds: float
    budget: CallBudget
    is_crowded: bool = False  # too many are in the air at one time

    @property
    def say(self) -> Say:
        """Say what it waits for, in words for people."""
        whole = max(1, round(self.seconds))
        if self.is_crowded:
            most = self.budget.parallel
            return say(
                f"等前面的调用结束：对方应用同时最多处理 {most} 个请求",
                f"Waits for calls in front of it: the app takes {most} at a time",
            )
        words = self.budget.words
        return say(
            f"等待对方应用的调用限额（{words['zh']}），约 {whole} 秒后继续",
            f"Waits for the app's limit: {words['en']}, free again in {whole} s",
        )


@dataclass(slots=True)
class Taken:
    """What became of asks: for each None, or why it waits; and how many may be in the air."""

    waits: list[Wait | None]
    seats: int | None = None  # None: as many as one likes
    holder: str = ""
    keys: tuple[tuple[str, str], ...] = ()  # rows whose seats have to be given back


def budgets_of(opened: Open, part: str = "calls") -> tuple[CallBudget, ...]:
    """Return the budgets that calls over a connection count against."""
    return tuple(one for one in opened.connector.http.budgets if one.part == part)


def row_id(connection: Connection, budget: CallBudget) -> str:
    """Name the row of a budget: that of one connection, or one that several share."""
    scope = scope_of(connection, budget)
    parts = (connection.connector_key, budget.id, budget.per, scope)
    return "bud_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def scope_of(connection: Connection, budget: CallBudget) -> str:
    """Return whose calls count together: a connection's, or those that look alike to the app."""
    if budget.per == "connection":
        return connection.id
    if budget.per == "organization":
        return ""
    known = documents.dump([connection.auth, dict(sorted(connection.public_fields.items()))])
    return hashlib.sha256(known).hexdigest()[:32]


def claim(opened: Open, asks: Sequence[Ask], holder: str = "", seats: int = 0) -> Taken:
    """Count calls that go out now, and say of the others how long they wait.

    The flows take turns, so that a busy one leaves room for the others. With a holder, up to so
    many `seats` are taken in budgets that bound what is in the air; `leave` gives them back.
    """
    budgets = budgets_of(opened)
    if not budgets or not asks:
        return Taken([None] * len(asks))
    row = opened.connection

    def work(session: Session) -> Taken:
        now = store_now(session).timestamp()
        levels = _lock(session, row, budgets)
        taken = Taken([None] * len(asks), holder=holder)
        _take_seats(levels, taken, seats, now)
        room = None if taken.seats is None else taken.seats * 4
        for place in in_turn([ask.flow for ask in asks]):
            ask = asks[place]
            if room is not None and room <= 0:
                crowded = next(one.budget for one in levels.values() if one.budget.parallel)
                taken.waits[place] = Wait(GRID_SECONDS * 2, crowded, is_crowded=True)
                continue
            taken.waits[place] = _take(levels, ask, now)
            if taken.waits[place] is None and room is not None:
                room -= 1
        _store(session, row, levels.values())
        taken.keys = tuple(
            (row.organization_id, row_id(row, one.budget))
            for one in levels.values()
            if holder and holder in one.seats
        )
        return taken

    return write(work, row.organization_id)


def _take(levels: Mapping[str, Level], ask: Ask, now: float) -> Wait | None:
    """Count one call against all of its budgets, or against none."""
    mine = [(levels[name], cost) for name, cost in ask.costs.items()]
    lacking = [(level, cost) for level, cost in mine if level.ready(now) < cost]
    if not lacking:
        for level, cost in mine:
            level.spend(cost, now)
        return None
    waits = [Wait(level.place(ask.flow, cost, now) - now, level.budget) for level, cost in lacking]
    return max(waits, key=lambda one: one.seconds)


def in_turn(flows: Sequence[str]) -> Iterable[int]:
    """Give the places of asks so that each flow's first come before any flow's second."""
    groups: dict[str, list[int]] = {}
    for place, flow in enumerate(flows):
        groups.setdefault(flow, []).append(place)
    rounds = zip_longest(*groups.values())
    return [place for one in rounds for place in one if place is not None]


def _take_seats(levels: Mapping[str, Level], taken: Taken, seats: int, now: float) -> None:
    bounded = [one for one in levels.values() if one.budget.parallel]
    if not bounded or not taken.holder:
        return
    got = [one.take_seats(taken.holder, seats, now + SEAT_SECONDS, now) for one in bounded]
    taken.seats = min(got)
    for level in bounded:
        level.leave_seats(taken.holder)
        if taken.seats:
            level.seats[taken.holder] = [taken.seats, now + SEAT_SECONDS]


def leave(taken: Taken) -> None:
    """Give the seats of a stretch of calls back."""
    if not taken.keys:
        return
    organization_id = taken.keys[0][0]

    def work(session: Session) -> None:
        statement = Allowance.of(organization_id).where(
            ALLOWANCE.c.id.in_([key[1] for key in taken.keys])
        )
        ordered = statement.order_by(ALLOWANCE.c.id).with_for_update()
        for row in session.execute(ordered).scalars():
            row.seats = {name: seat for name, seat in row.seats.items() if name != taken.holder}
            session.add(row)

    write(work, organization_id)


def charge(opened: Open, part: str = "calls", *, waits: bool = True) -> Wait | None:
    """Count one call beside those of flows, such as one for a token; returns why it has to wait.

    Without `waits` it goes out in any case and is only counted.
    """
    budgets = budgets_of(opened, part)
    if part != TOKEN:
        budgets = tuple(one for one in budgets if not one.actions and one.path is None)
    if not budgets:
        return None
    row = opened.connection

    def work(session: Session) -> Wait | None:
        now = store_now(session).timestamp()
        levels = _lock(session, row, budgets)
        found = _take(levels, Ask(f"_{part}", {one.id: 1 for one in budgets}), now)
        if found is not None and not waits:
            for level in levels.values():
                level.spend(1, now)
        _store(session, row, levels.values())
        return found

    return write(work, row.organization_id)


def heed(opened: Open, said: Mapping[str, Told]) -> None:
    """Write down what answers told of budgets, by their ids, if any of it is news."""
    budgets = tuple(one for one in opened.connector.http.budgets if one.id in said)
    row = opened.connection
    if not budgets:
        return

    def work(session: Session) -> None:
        now = store_now(session).timestamp()
        levels = _lock(session, row, budgets)
        news = [one for name, one in levels.items() if one.heed(said[name], now)]
        _store(session, row, news)

    write(work, row.organization_id)


# --- rows ----------------------------------------------------------------------------------------


def _lock(session: Session, row: Connection, budgets: Sequence[CallBudget]) -> dict[str, Level]:
    """Lock the rows of budgets, always in one order, and return how they stand by their ids."""
    ids = {row_id(row, one): one for one in budgets}
    found = _read(session, row.organization_id, ids)
    if len(found) < len(ids):
        now = store_now(session)
        missing = [_new_row(row, ids[one], one, now) for one in sorted(ids.keys() - found.keys())]
        insert_ignore(session, Allowance, missing, ("organization_id", "id"))
        found = _read(session, row.organization_id, ids)
    levels = {ids[name].id: level_of(one, ids[name]) for name, one in found.items()}
    for level in levels.values():
        level.mend(store_now(session).timestamp())
    return levels


def _read(session: Session, organization_id: str, ids: Iterable[str]) -> dict[str, Any]:
    statement = (
        select(ALLOWANCE)
        .where(ALLOWANCE.c.organization_id == organization_id, ALLOWANCE.c.id.in_(sorted(ids)))
        .order_by(ALLOWANCE.c.id)
        .with_for_update()
    )
    return {one.id: one for one in session.connection().execute(statement)}


def _new_row(row: Connection, budget: CallBudget, key: str, now: datetime) -> dict[str, Any]:
    return {
        "organization_id": row.organization_id,
        "id": key,
        "created_at": now,
        "connector_key": row.connector_key,
        "budget_id": budget.id,
        "scope": scope_of(row, budget),
        "full_at": now - timedelta(seconds=1),  # whole, by whatever clock is read next
        "blocked_until": None,
        "queues": {},
        "seats": {},
    }


def level_of(row: Any, budget: CallBudget) -> Level:
    """Return how a row's budget stands."""
    return Level(
        budget,
        row.full_at.timestamp(),
        row.blocked_until.timestamp() if row.blocked_until else 0.0,
        {name: float(until) for name, until in row.queues.items()},
        {name: [float(part) for part in seat] for name, seat in row.seats.items()},
    )


_STORE = (
    update(ALLOWANCE)
    .where(
        ALLOWANCE.c.organization_id == bindparam("key_organization"),
        ALLOWANCE.c.id == bindparam("key_id"),
    )
    .values({name: bindparam(name) for name in ("full_at", "blocked_until", "queues", "seats")})
)


def _store(session: Session, row: Connection, levels: Iterable[Level]) -> None:
    changed = [
        {
            "key_organization": row.organization_id,
            "key_id": row_id(row, one.budget),
            "full_at": _moment(one.full_at),
            "blocked_until": _moment(one.blocked_until) if one.blocked_until else None,
            "queues": {name: round(until, 3) for name, until in one.queues.items()},
            "seats": one.seats,
        }
        for one in levels
    ]
    if changed:
        session.connection().execute(_STORE, changed)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
