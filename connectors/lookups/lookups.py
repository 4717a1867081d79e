"""Lookups: choices are read from what is kept, else asked for, outside of transactions.

An app that does not answer leaves what it gave before, with words that say so.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from connectors import asked, connections
from connectors.connections import Open
from connectors.engine import choices
from connectors.engine.answers import Answer
from connectors.engine.declared import Lookup
from connectors.engine.findings import EngineError
from connectors.errors import Unfit, finding
from connectors.lookups.tables import CHOICE_LIST, ChoiceList
from kernel import documents, ids
from kernel.database import reading, store_now, write

MAX_KEPT = 60  # lists of one connection
AGAIN = timedelta(minutes=1)  # a list that could not be read is asked for again after this
KEPT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Choices:
    """A page of choices: what there is to choose, how old it is, and what was wrong last."""

    items: Sequence[Mapping[str, Any]]
    next_cursor: str | None
    fetched_at: datetime | None
    is_cut: bool
    problem: Mapping[str, Any] | None


def find(
    organization_id: str,
    connection_id: str,
    key: str,
    given: Mapping[str, Any],
    *,
    search: str = "",
    cursor: str | None = None,
    limit: int = 50,
    refresh: bool = False,
) -> Choices:
    """Return a page of the choices; asks the app when nothing fresh is kept, or on `refresh`.

    Call it outside of transactions. Raises NotFound, and Unfit for what the choices depend on.
    """
    with reading(organization_id) as session:
        connection = connections.find(session, organization_id, connection_id)
        opened = connections.open_connection(connection)
        lookup = opened.connector.lookups.get(key)
        if lookup is None:
            raise unknown(key)
        asked_for = _asked_for(opened, lookup, given, search)
        digest = _digest(opened, lookup, asked_for)
        kept = _kept(session, organization_id, connection_id, key, digest)
        is_fresh = kept is not None and kept.expires_at > store_now(session)
    if kept is None or refresh or not is_fresh:
        kept = _refresh(opened, lookup, asked_for, digest)
    return _page(kept, "" if lookup.searches else search, cursor, limit)


def unknown(key: str) -> Unfit:
    """Return the refusal of a list of choices that the connection's app does not have."""
    shown = key[:60]
    zh, en = f"这个应用没有可选项“{shown}”", f"This app has no choices called “{shown}”"
    return Unfit([finding("/lookup", zh, en)])


def _asked_for(opened: Open, lookup: Lookup, given: Mapping[str, Any], search: str) -> Any:
    wanted = search if lookup.searches else ""
    try:
        return choices.input_of(opened.connector, lookup, given, wanted, opened.values.settings)
    except choices.Unasked as lost:
        found = [{"pointer": one.target, "say": one.say} for one in lost.problems]
        raise Unfit(found) from lost


def _digest(opened: Open, lookup: Lookup, asked_for: Any) -> str:
    mixed = documents.dump([lookup.action, lookup.items, lookup.value, lookup.label, asked_for])
    version = opened.connector.version.encode()
    return hashlib.sha256(version + b"\n" + mixed).hexdigest()[:32]


def _kept(
    session: Session, organization_id: str, connection_id: str, key: str, digest: str
) -> ChoiceList | None:
    wanted = select(ChoiceList).where(
        col(ChoiceList.organization_id) == organization_id,
        col(ChoiceList.connection_id) == connection_id,
        col(ChoiceList.key) == key,
        col(ChoiceList.digest) == digest,
    )
    return session.exec(wanted).first()


def _refresh(opened: Open, lookup: Lookup, asked_for: Any, digest: str) -> ChoiceList:
    answer = asked.ask(opened, lookup.action, asked_for)
    options: list[dict[str, Any]] | None = None
    is_cut = False
    if answer.kind == "ok":
        try:
            options, is_cut = choices.read(lookup, answer.output)
        except EngineError as lost:
            answer = Answer("fail", cause="config", say=lost.say)
    problem = None if options is not None else asked.problem_of(opened, answer)
    while options and len(documents.dump(options)) > KEPT_BYTES:
        options, is_cut = options[: len(options) // 2], True
    row = opened.connection
    work = partial(
        _keep,
        connection=(row.organization_id, row.id),
        lookup=lookup,
        digest=digest,
        found=(options, is_cut, problem),
    )
    return write(work, row.organization_id)


def _keep(
    session: Session,
    connection: tuple[str, str],
    lookup: Lookup,
    digest: str,
    found: tuple[list[dict[str, Any]] | None, bool, Mapping[str, Any] | None],
) -> ChoiceList:
    """Write down what came; of what did not come only why, beside what was there before."""
    options, is_cut, problem = found
    now = store_now(session)
    kept = _kept(session, *connection, lookup.key, digest)
    if kept is None:
        kept = ChoiceList(
            organization_id=connection[0],
            id=ids.new_id("chl"),
            connection_id=connection[1],
            key=lookup.key,
            digest=digest,
            fetched_at=now,
            expires_at=now,
        )
    if options is not None:
        kept.options, kept.is_cut, kept.fetched_at = options, is_cut, now
        kept.expires_at = now + timedelta(seconds=lookup.cache_seconds)
    else:
        kept.expires_at = now + AGAIN
    kept.problem = dict(problem) if problem else None
    session.add(kept)
    session.flush()
    _drop_oldest(session, *connection)
    return kept


def _drop_oldest(session: Session, organization_id: str, connection_id: str) -> None:
    mine = (
        select(CHOICE_LIST.c.id)
        .where(
            CHOICE_LIST.c.organization_id == organization_id,
            CHOICE_LIST.c.connection_id == connection_id,
        )
        .order_by(CHOICE_LIST.c.fetched_at.desc(), CHOICE_LIST.c.id)
        .offset(MAX_KEPT)
    )
    old = list(session.execute(mine).scalars())
    if old:
        session.execute(
            delete(CHOICE_LIST).where(
                CHOICE_LIST.c.organization_id == organization_id, CHOICE_LIST.c.id.in_(old)
            )
        )


def _page(kept: ChoiceList, search: str, cursor: str | None, limit: int) -> Choices:
    """Return the options after a cursor, a place in the list, whose label or value has the text."""
    wanted = search.strip().casefold()
    start = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() else 0
    found: list[Mapping[str, Any]] = []
    following: str | None = None
    for place in range(min(start, len(kept.options)), len(kept.options)):
        option = kept.options[place]
        text = f"{option['label']}\n{option['value']}".casefold()
        if wanted and wanted not in text:
            continue
        if len(found) == limit:
            following = str(place)
            break
        found.append(option)
    return Choices(found, following, kept.fetched_at, kept.is_cut, kept.problem)
