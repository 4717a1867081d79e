"""The one migration history, for both databases."""

import time
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from kernel import log
from kernel.database import unpooled_engine
from kernel.settings import settings

_logger = log.get_logger(__name__)
FOLDER = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def _owner_url() -> str:
    return settings().owner_database_url or settings().database_url


@cache
def newest() -> str:
    """Return the newest revision this code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current() -> str:
    """Return the revision the database is at, or an empty text."""
    engine = unpooled_engine(_owner_url())
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        engine.dispose()


def upgrade() -> str:
    """Upgrade the database, wall its tenants off (PostgreSQL), and return the revision reached."""
    config = _config()
    engine = unpooled_engine(_owner_url())
    try:
        if engine.dialect.name == "postgresql":
            with engine.begin() as connection:
                # two starters at once: the second waits and then finds nothing to do
                connection.execute(text("SELECT pg_advisory_xact_lock(7294001)"))
                _run(config, connection)
                _grant(connection)
        else:
            with engine.connect() as connection:
                if MigrationContext.configure(connection).get_current_revision() == newest():
                    return newest()
            with engine.begin() as connection:
                _run(config, connection)
    finally:
        engine.dispose()
    return newest()


def _run(config: Config, connection: Connection) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _grant(connection: Connection) -> None:
    """Let the application's own, non-owning role use every table."""
    role = make_url(settings().database_url).username
    if not role or not settings().owner_database_url:
        return
    quoted = connection.dialect.identifier_preparer.quote(role)
    connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {quoted}"))
    connection.execute(
        text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted}")
    )
    # what happened stays as it was written
    connection.execute(text(f"REVOKE UPDATE, DELETE ON audit_entry FROM {quoted}"))


def wait_until_current(timeout_seconds: int = 120) -> None:
    """Wait for `yangfan migrate` to have been run, so that services may start in any order."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            if current() == newest():
                return
        except Exception as error:  # noqa: BLE001 - the database may still be starting
            _logger.warning("waiting_for_database", error=str(error)[:200])
        if time.monotonic() > deadline:
            raise SystemExit("The database is not at the newest revision: run `yangfan migrate`.")
        time.sleep(1)
