"""The two databases that tests run on: a SQLite file and a private PostgreSQL database."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from kernel import database
from kernel.settings import settings_override
from marketplace import app, migrating

ADMIN_URL = os.environ.get(
    "YANGFAN_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
ROLE = "yangfan_test_app"


assert app.TABLES  # importing them fills the metadata


@dataclass
class Store:
    """One database a test may use."""

    url: str
    owner_url: str = ""
    missing: str = ""

    def empty(self) -> None:
        """Delete every row of every table."""
        tables = [t.name for t in reversed(SQLModel.metadata.sorted_tables)]
        if self.url.startswith("sqlite"):
            with database.transaction(database.EVERY) as session:
                session.execute(text("PRAGMA defer_foreign_keys=ON"))
                for table in tables:
                    session.execute(text(f'DELETE FROM "{table}"'))
        else:
            engine = _engine(self.owner_url)
            with engine.begin() as connection:
                connection.execute(text("SET session_replication_role = replica"))
                connection.execute(text("; ".join(f'DELETE FROM "{t}"' for t in tables)))


_engines: dict = {}


def _engine(url: str):
    if url not in _engines:
        _engines[url] = create_engine(url)
    return _engines[url]


def open_stores(folder: Path) -> Iterator[dict[str, Store]]:
    """Make both databases, hand them out, and drop the PostgreSQL one at the end."""
    sqlite = Store(f"sqlite:///{folder}/test.db")
    with settings_override(database_url=sqlite.url):
        migrating.upgrade()
    name = f"yangfan_test_{os.getpid()}"
    postgres = _make_postgres(name)
    yield {"sqlite": sqlite, "postgresql": postgres}
    database.dispose()
    for engine in _engines.values():
        engine.dispose()
    if not postgres.missing:
        drop_database(name)


def make_database(name: str) -> tuple[str, str]:
    """Create an empty database; return the URLs of a role that owns nothing, and of its owner."""
    with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(
            text(
                f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            )
        )
    owner = make_url(ADMIN_URL).set(database=name)
    plain = owner.set(username=ROLE)
    return plain.render_as_string(hide_password=False), owner.render_as_string(hide_password=False)


def drop_database(name: str) -> None:
    """Drop a database whoever is still connected."""
    with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _make_postgres(name: str) -> Store:
    try:
        app_url, owner_url = make_database(name)
    except OperationalError as error:
        return Store("", missing=f"PostgreSQL is not reachable: {str(error)[:120]}")
    with settings_override(database_url=app_url, owner_database_url=owner_url):
        migrating.upgrade()
    with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as connection:
        # these rows need not survive a power cut; tests that kill things use databases of their own
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    return Store(app_url, owner_url)
