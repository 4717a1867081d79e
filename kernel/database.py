"""The store: engines, sessions and the only commits in the house.

SQLite has one writer at a time and one writer thread whose commits carry many callers' work;
PostgreSQL commits each caller's own. Everybody else asks here for a session and never commits.
"""

import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool
from sqlmodel import Session

from kernel import clock, log
from kernel.errors import N_, Invalid, Unavailable
from kernel.settings import settings

T = TypeVar("T")
RESTED_SECONDS = 1.0
CLOCK_SECONDS = 1.0
_TICKING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a machine sleeps
_NOTICE = {"keepalives_idle": 15, "tcp_user_timeout": 20_000}  # a server gone without a word
GROUP_LIMIT = 200  # callers whose work may share one commit
_logger = log.get_logger(__name__)


@final
class Every:
    """The tenant of system code: all of them."""


EVERY: Final = Every()
Tenant = str | Every


class StoreUnavailable(Unavailable):
    """The store cannot be reached or written; nothing of the caller's work was kept."""

    code = "store_unavailable"


@dataclass
class _Store:
    """The engines of one database URL and, on SQLite, its writer."""

    url: str
    reader: Engine
    writer: Engine
    system: Engine  # for work over every tenant; on PostgreSQL its connections say so once
    glance: Engine  # likewise, where each statement stands by itself
    is_sqlite: bool
    write_lock: threading.Lock
    jobs: "queue.SimpleQueue[_Job]"
    thread: threading.Thread | None = None
    clock: tuple[float, datetime] | None = None  # when it was read, by our own, and what it said


@dataclass
class _Job:
    work: Callable[[Session], Any]
    future: "Future[Any]"


_stores: dict[str, _Store] = {}
_stores_lock = threading.Lock()
_inside = threading.local()


def _connect_sqlite(url: str, begin: str) -> Engine:
    database = make_url(url).database or ""
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=64,
        connect_args={"check_same_thread": False, "timeout": 10, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-4000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        driver = connection.connection
        if driver.in_transaction:  # a commit for which the disk had no room left it behind
            driver.rollback()
        connection.exec_driver_sql(begin)

    return engine


def _open_store(url: str) -> _Store:
    is_sqlite = url.startswith("sqlite")
    if is_sqlite:
        reader = _connect_sqlite(url, "BEGIN")
        writer = system = _connect_sqlite(url, "BEGIN IMMEDIATE")
        glance = reader
    else:
        # few are kept, so that several processes fit into PostgreSQL's usual hundred
        reader = writer = _connect_postgres(url, 8, settings().web_threads + 4)
        every = "-c app.organization_id=*"
        system = _connect_postgres(url, 4, settings().worker_threads + 8, options=every)
        # at PostgreSQL's usual isolation every statement sees the latest anyway: no BEGIN is needed
        glance = _connect_postgres(url, 8, 16, is_plain=True, options=every)
    return _Store(
        url=url,
        reader=reader,
        writer=writer,
        system=system,
        glance=glance,
        is_sqlite=is_sqlite,
        write_lock=threading.Lock(),
        jobs=queue.SimpleQueue(),
    )


def _connect_postgres(
    url: str, kept: int, most: int, *, is_plain: bool = False, **options: str
) -> Engine:
    import psycopg  # noqa: PLC0415 - it needs ten megabytes, which SQLite's users keep

    # with a commit in every statement there is nothing to roll back when a connection comes back
    plainly = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None} if is_plain else {}
    told = {"connect_timeout": 3, "autocommit": is_plain, **_NOTICE, **options}
    sizes = {"pool_size": kept, "max_overflow": max(0, most - kept), "pool_timeout": 5}
    engine = create_engine(url, connect_args=told, **sizes, **plainly)  # type: ignore[arg-type]

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _look(connection: Any, record: Any, _proxy: Any) -> None:
        """Try a connection that has rested: the server may have been started anew meanwhile."""
        if time.monotonic() - record.info.get("used", math.inf) > RESTED_SECONDS:
            try:
                connection.execute("SELECT 1")
                connection.rollback()
            except psycopg.Error as error:
                raise DisconnectionError from error

    return engine


def _store() -> _Store:
    url = settings().database_url
    store = _stores.get(url)
    if store is None:
        with _stores_lock:
            store = _stores.get(url) or _stores.setdefault(url, _open_store(url))
    return store


def engine() -> Engine:
    """Return the writing engine of the present database (for migrations and tests)."""
    return _store().writer


def dispose() -> None:
    """Close every pooled connection; needed after a fork and at the end of tests."""
    with _stores_lock:
        for store in _stores.values():
            for engine in {store.reader, store.writer, store.system, store.glance}:
                engine.dispose()
        _stores.clear()


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Run a quick call, harmless to lose, once the session's work is committed."""
    session.info.setdefault("after_commit", []).append(call)


def _run_after_commit(session: Session) -> None:
    for call in session.info.pop("after_commit", ()):
        try:
            call()
        except Exception:
            _logger.warning("after_commit_failed", exc_info=True)


def _is_outage(error: Exception) -> bool:
    """Tell a store that is away, locked or full from a mistake of ours, like a missing table."""
    if isinstance(error, OperationalError):
        return not re.search(r"no such (table|column)|syntax error", str(error.orig))
    if isinstance(error, InterfaceError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


@contextmanager
def _outages() -> Iterator[None]:
    """Turn the drivers' many words for an outage into StoreUnavailable."""
    try:
        yield
    except DataError as error:
        # a zero byte, a number out of range: the caller's value, not our trouble
        words = N_("A value cannot be stored as it is")
        raise Invalid(detail=words, code="not_storable") from error
    except (DBAPIError, PoolTimeout) as error:
        if _is_outage(error):
            _logger.warning("store_unavailable", error=str(error.__cause__ or error)[:300])
            raise StoreUnavailable from error
        raise


def _enter(session: Session, tenant: Tenant) -> None:
    """Tell PostgreSQL's row security who we act for; a store that is away is noticed here."""
    connection = session.connection()
    if not isinstance(tenant, Every):
        session.info["now"] = connection.execute(_ENTER, {"name": tenant}).one()[1]


_ENTER = text("SELECT set_config('app.organization_id', :name, true), clock_timestamp()")
_NOW = text("SELECT clock_timestamp()")


def _open_session(bind: Engine | Connection) -> Session:
    return Session(bind, expire_on_commit=False, autoflush=True)


@contextmanager
def transaction(tenant: Tenant) -> Iterator[Session]:
    """Give a session for one tenant (or EVERY) and commit what was done when the block ends well.

    Raises StoreUnavailable when the store cannot take it; nothing is kept then.
    """
    store = _store()
    if getattr(_inside, "busy", False):
        raise RuntimeError("a transaction inside a transaction: pass the session down instead")
    if store.is_sqlite:
        store.write_lock.acquire()
    _inside.busy = True
    try:
        is_system = isinstance(tenant, Every)
        with _outages(), _open_session(store.system if is_system else store.writer) as session:
            if not store.is_sqlite:
                _enter(session, tenant)
            yield session
            session.commit()
    finally:
        _inside.busy = False
        if store.is_sqlite:
            store.write_lock.release()
    _run_after_commit(session)


@contextmanager
def reading(tenant: Tenant) -> Iterator[Session]:
    """Give a session that only reads; whatever it changed is rolled back."""
    store = _store()
    engine = store.glance if isinstance(tenant, Every) else store.reader
    with _outages(), _open_session(engine) as session:
        if not store.is_sqlite:
            _enter(session, tenant)
        # closing rolls back; an explicit rollback would also expire the rows the caller keeps
        yield session


def write(work: Callable[[Session], T], tenant: Tenant = EVERY) -> T:
    """Run `work(session)` and return its result once it is committed.

    On SQLite the writer thread puts many callers' work into one commit, so `work` must be short
    and wait for nothing. It may be asked twice, the first time undone, when a neighbour failed.
    """
    store = _store()
    if not store.is_sqlite:
        with transaction(tenant) as session:
            return work(session)
    if getattr(_inside, "busy", False):
        raise RuntimeError("a write inside a transaction: pass the session down instead")
    if store.thread is None or not store.thread.is_alive():
        _start_writer(store)
    job = _Job(work, Future())
    store.jobs.put(job)
    result: T = job.future.result()
    return result


def write_once(work: Callable[[Session], T]) -> T:
    """Like `write`, for work whose statements may stand alone: PostgreSQL needs no COMMIT then."""
    if _store().is_sqlite:
        return write(work)
    if getattr(_inside, "busy", False):
        raise RuntimeError("a write inside a transaction: pass the session down instead")
    with reading(EVERY) as session:
        return work(session)


def _start_writer(store: _Store) -> None:
    with _stores_lock:
        if store.thread is None or not store.thread.is_alive():
            store.thread = threading.Thread(
                target=_write_for_ever, args=(store,), name="sqlite-writer", daemon=True
            )
            store.thread.start()


def _write_for_ever(store: _Store) -> None:
    while True:
        jobs = [store.jobs.get()]
        with store.write_lock:
            # whatever arrived while the lock or the last commit held us goes along
            while len(jobs) < GROUP_LIMIT and not store.jobs.empty():
                jobs.append(store.jobs.get())
            _commit_together(store.writer, jobs)


def _commit_together(writer: Engine, jobs: Sequence[_Job]) -> None:
    """Commit many callers' work as one; when one of them fails, each does it again alone."""
    try:
        results = _commit(writer, jobs)
    except StoreUnavailable as error:
        for job in jobs:
            job.future.set_exception(error)
    except Exception as error:  # noqa: BLE001 - told to the caller
        if len(jobs) == 1:
            jobs[0].future.set_exception(error)
        else:
            for job in jobs:
                _commit_together(writer, [job])
    else:
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)


def _commit(writer: Engine, jobs: Sequence[_Job]) -> list[Any]:
    _inside.busy = True
    try:
        # checked out anew each time: a transaction that a full disk broke off would bar the next
        with _outages(), writer.connect() as connection, _open_session(connection) as session:
            results = []
            for job in jobs:
                results.append(job.work(session))
                session.flush()
            session.commit()
            _run_after_commit(session)
            return results
    finally:
        _inside.busy = False


def store_now(session: Session) -> datetime:
    """Return the store's clock, the same all through a transaction once it was asked for.

    It is PostgreSQL's own, so that no skewed worker moves a lease: read once a second, and carried
    on meanwhile by the time that has passed here.
    """
    found: datetime | None = session.info.get("now")
    if found is None:
        store = _store()
        if store.is_sqlite:
            return clock.now()
        at = time.clock_gettime(_TICKING)
        read = store.clock
        if read is None or at - read[0] > CLOCK_SECONDS:
            read = store.clock = (at, session.connection().execute(_NOW).scalar_one())
        found = session.info["now"] = read[1] + timedelta(seconds=at - read[0])
    return found.astimezone(UTC) + clock.shift()


def unpooled_engine(url: str) -> Engine:
    """Return an engine without a pool, for migrations under the owner's role."""
    if url.startswith("sqlite"):
        return _connect_sqlite(url, "BEGIN IMMEDIATE")
    return create_engine(url, poolclass=NullPool)
