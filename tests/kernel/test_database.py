"""The store: commits at the edge, grouped; outages told from mistakes; tenants walled off."""

import sqlite3
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select

from identity.tables import AuditEntry, Organization
from kernel import clock, ids, tenancy
from kernel import database as store
from kernel.database import EVERY, StoreUnavailable, reading, transaction, write
from kernel.errors import NotFound
from kernel.settings import settings_override


def make_organization(name="Acme"):
    row = {"id": ids.new_id("org"), "name": name, "created_at": clock.now()}
    return Organization(**row)


def entry(organization_id, action="test.done", detail=None):
    return AuditEntry(
        organization_id=organization_id,
        id=ids.new_id("aud"),
        action=action,
        actor_kind="member",
        actor_id="mem_1",
        actor_name="Li",
        detail=detail or {},
        at=clock.now(),
    )


@pytest.fixture
def two(database):
    with transaction(EVERY) as session:
        rows = [make_organization("A"), make_organization("B")]
        session.add_all(rows)
    return rows[0].id, rows[1].id


def test_a_transaction_commits_at_its_end_and_not_on_an_error(two):
    a, _ = two
    with transaction(a) as session:
        session.add(entry(a, "kept"))
    with pytest.raises(ZeroDivisionError), transaction(a) as session:
        session.add(entry(a, "dropped"))
        session.flush()
        raise ZeroDivisionError
    with reading(a) as session:
        assert [e.action for e in session.execute(AuditEntry.of(a)).scalars()] == ["kept"]


def test_reading_never_writes(two):
    a, _ = two
    with reading(a) as session:
        session.add(entry(a))
        session.flush()
    with reading(a) as session:
        assert session.execute(AuditEntry.of(a)).scalars().all() == []


def test_a_strangers_row_is_not_found(two):
    a, b = two
    mine = entry(a)
    row_id = mine.id
    with transaction(a) as session:
        session.add(mine)
    with reading(a) as session:
        assert tenancy.find(session, AuditEntry, a, row_id).id == row_id
    with reading(b) as session, pytest.raises(NotFound):
        tenancy.find(session, AuditEntry, b, row_id)


def test_postgresql_hides_strangers_rows_even_from_a_query_without_a_tenant(two, database):
    a, b = two
    with transaction(a) as session:
        session.add(entry(a))
    seen = {}
    for tenant in (a, b, EVERY):
        with reading(tenant) as session:
            seen[tenant] = len(session.execute(select(AuditEntry)).all())
    if database.url.startswith("sqlite"):
        assert list(seen.values()) == [1, 1, 1], (
            "SQLite has no second wall; the queries are the first"
        )
    else:
        assert list(seen.values()) == [1, 0, 1]


def test_postgresql_refuses_a_row_for_another_tenant(two, database):
    if database.url.startswith("sqlite"):
        return
    a, b = two
    with pytest.raises(Exception, match="row-level security"), transaction(a) as session:
        session.add(entry(b))


def test_the_application_role_cannot_step_over_the_wall(database):
    with reading(EVERY) as session:
        assert tenancy.role_problems(session) == []


def test_many_writers_each_get_their_own_result(two):
    a, _ = two
    failures, done = [], []

    def work(number):
        def insert(session):
            if number % 7 == 0:
                raise ValueError(number)
            session.add(entry(a, f"n{number}"))
            return number

        try:
            done.append(write(insert, a))
        except ValueError as error:
            failures.append(error.args[0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(failures) == [n for n in range(50) if n % 7 == 0]
    with reading(a) as session:
        kept = {e.action for e in session.execute(AuditEntry.of(a)).scalars()}
    assert kept == {f"n{n}" for n in done}
    assert len(kept) == 42


def test_a_constraint_fails_only_its_own_caller(two):
    a, _ = two
    clash = entry(a)

    def insert(session):
        session.add(AuditEntry(**{**clash.model_dump(), "action": "x"}))

    write(insert, a)
    with pytest.raises(IntegrityError):
        write(insert, a)
    write(lambda session: session.add(entry(a, "fine")), a)


def test_after_commit_runs_after_the_commit_and_not_after_a_rollback(two):
    a, _ = two
    seen = []

    def count(session):
        with reading(EVERY) as other:
            seen.append(len(other.execute(AuditEntry.of(a)).all()))

    with transaction(a) as session:
        session.add(entry(a))
        store.after_commit(session, lambda: count(session))
        assert seen == []
    assert seen == [1]
    with pytest.raises(ZeroDivisionError), transaction(a) as session:
        store.after_commit(session, lambda: seen.append("never"))
        raise ZeroDivisionError
    assert seen == [1]


def test_a_transaction_inside_another_is_refused(two):
    a, _ = two
    with transaction(a), pytest.raises(RuntimeError, match="pass the session down"):
        with transaction(a):
            pass
    with transaction(a), pytest.raises(RuntimeError, match="pass the session down"):
        write(lambda session: None, a)


def test_moments_and_documents_come_back_as_they_went_in(two):
    a, _ = two
    value = {
        "id": 1234567890123456789,
        "long": 12345678901234567890123,
        "price": Decimal("12.50"),
        "nul": "a\u0000b",
        "lone": "\ud800",
        "zh": "扬帆",
        "deep": [[{"x": None}]],
    }
    at = datetime(2026, 11, 22, 8, 30, 0, 123456, tzinfo=UTC)
    mine = entry(a, detail=value)
    mine.at = at
    with transaction(a) as session:
        session.add(mine)
    with reading(a) as session:
        found = session.execute(AuditEntry.of(a)).scalar_one()
        assert found.detail == value
        assert str(found.detail["price"]) == "12.50"
        assert found.at == at
        assert found.at.tzinfo is not None


def test_naive_times_are_refused(two):
    a, _ = two
    mine = entry(a)
    mine.at = datetime(2026, 11, 22)
    with pytest.raises(Exception, match="time zone"), transaction(a) as session:
        session.add(mine)


def test_the_stores_clock_follows_the_shift(database):
    with reading(EVERY) as session:
        plain = store.store_now(session)
    with clock.shifted(seconds=3600), reading(EVERY) as session:
        moved = store.store_now(session)
    assert 3590 < (moved - plain).total_seconds() < 3610


def test_a_store_that_is_away_says_so(database):
    away = (
        "sqlite:////proc/nowhere/x.db"
        if database.url.startswith("sqlite")
        else "postgresql+psycopg://nobody@127.0.0.1:1/none"
    )
    with settings_override(database_url=away):
        for attempt in (
            lambda: transaction(EVERY).__enter__(),
            lambda: write(lambda session: session.execute(text("SELECT 1"))),
        ):
            with pytest.raises((StoreUnavailable, OSError)):
                attempt()


def test_our_own_mistakes_are_not_called_an_outage(database):
    with pytest.raises(Exception) as caught, transaction(EVERY) as session:
        session.execute(text("SELECT * FROM no_such_table"))
    assert not isinstance(caught.value, StoreUnavailable)
    write(lambda session: session.execute(text("SELECT 1")))  # and the writer lives on


def test_a_server_that_is_gone_without_a_word_is_noticed(database):
    """Otherwise a thread that waits for an answer would wait for two hours."""
    if database.url.startswith("sqlite"):
        pytest.skip("SQLite has no server")
    with reading(EVERY) as session:
        told = session.connection().connection.driver_connection.info.get_parameters()
    assert (told["keepalives_idle"], told["tcp_user_timeout"]) == ("15", "20000")


def test_writing_goes_on_once_a_full_disk_has_room_again(two, database, monkeypatch):
    if not database.url.startswith("sqlite"):
        pytest.skip("PostgreSQL's disk is not ours to fill")

    def limit(pages):
        write(lambda s: s.connection().exec_driver_sql(f"PRAGMA max_page_count={pages}").all())

    def full(_session):
        # what SQLite says when it cannot even begin, or cannot end what it has begun
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    limit(1)
    with pytest.raises(StoreUnavailable):
        write(lambda s: s.execute(text("CREATE TABLE big AS SELECT randomblob(9000000) AS b")))
    limit(1 << 30)
    for when in ("begin", "commit"):
        engine = store.engine()
        event.listen(engine, when, full)
        try:
            with pytest.raises(StoreUnavailable):
                write(lambda s: s.execute(text("DELETE FROM organization WHERE id = 'x'")))
        finally:
            event.remove(engine, when, full)
        assert write(lambda s: s.execute(text("SELECT 1")).scalar_one()) == 1
