"""Every revision can be taken back and made again on both databases, with rows in every table."""

import os
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, text
from sqlmodel import SQLModel
from stores import ADMIN_URL

from kernel import clock
from kernel.columns import Document, Moment
from kernel.settings import settings_override
from marketplace import migrating
from webhooks.tables import DELIVERY, ENDPOINT

# Where a column must say something in particular; what a check allows is read off the check.
WORDS = {"delivery.state": "waiting", "endpoint.state": "active"}
NUMBERS = {"organization.weight": 10}
LISTS = ("endpoint.old_secrets", "endpoint.headers", "archive_chunk.types")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, stores, tmp_path):
    """The owner's address of a database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/back.db"
        return
    if stores["postgresql"].missing:
        pytest.skip(stores["postgresql"].missing)
    name = f"yangfan_test_all_the_way_back_{os.getpid()}"
    with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as admin:
        admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        admin.execute(text(f"CREATE DATABASE {name}"))
        yield ADMIN_URL.rsplit("/", 1)[0] + f"/{name}"
        admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
def engine(url):
    """A connection's worth of the owner, who still stands before the wall between tenants."""
    found = create_engine(url)
    with settings_override(database_url=url, owner_database_url=url):
        migrating.upgrade()
        yield found
    found.dispose()


def move(connection, where: str) -> None:
    config = migrating._config()
    config.attributes["connection"] = connection
    way = command.upgrade if where == "head" else command.downgrade
    way(config, where)


def see_all(connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT set_config('app.organization_id', '*', true)"))


def a_value(column):
    """Something for a column, the same wherever it is used, so that what points finds its aim."""
    name = f"{column.table.name}.{column.name}"
    if isinstance(column.type, Moment):
        return clock.now()
    if isinstance(column.type, Document):
        return [] if name in LISTS else {}
    if isinstance(column.type, sa.LargeBinary):
        return b"x"
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.Integer):
        return NUMBERS.get(name, 1)
    return WORDS.get(name) or allowed(column) or "x"


def allowed(column) -> str | None:
    """The first word that a check lets the column hold."""
    checks = [c for c in column.table.constraints if isinstance(c, sa.CheckConstraint)]
    for check in checks:
        found = re.match(rf"\(?{column.name} IN \('(\w+)'", str(check.sqltext))
        if found:
            return found[1]
    return None


def fill(connection) -> None:
    """Write one row into every table."""
    see_all(connection)
    for table in SQLModel.metadata.sorted_tables:
        connection.execute(table.insert().values({c.name: a_value(c) for c in table.columns}))


def counts(connection) -> dict[str, int]:
    see_all(connection)
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    return {
        name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
        for name in sorted(names)
    }


def revisions() -> list[str]:
    """Every revision, the newest first."""
    script = ScriptDirectory.from_config(migrating._config())
    return [one.revision for one in script.walk_revisions()]


def test_down_to_nothing_and_up_again_with_rows_in_every_table(engine):
    with engine.begin() as connection:
        fill(connection)
    known = revisions()
    for below in [*known[1:], "base"]:
        with engine.begin() as connection:
            move(connection, below)
        with engine.begin() as connection:
            left = counts(connection)
        assert set(left.values()) <= {1}, (below, left)
    assert left == {}
    with engine.begin() as connection:
        move(connection, "head")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []
        fill(connection)


PLAIN = {
    "signature": "hmac", "condition": None, "headers": [], "client_certificate": None,
    "old_secrets": [], "state": "active",
}  # fmt: skip
TIMES = [clock.now() + timedelta(hours=hours) for hours in (1, 3, 2)]
OLD = [{"sealed": f"s{n}", "until": at.isoformat()} for n, at in enumerate(TIMES)]
# endpoint's id → what is special about it, its state in code that does not know such things, and
# whether what is held for it gets a time
ENDPOINTS = {
    "plain": ({}, "active", True),
    "paused": ({"state": "paused"}, "paused", False),
    "deleted": ({"state": "deleted"}, "disabled", False),
    "pair": ({"signature": "ed25519"}, "disabled", True),
    "choosy": ({"condition": "event.data.a > 1"}, "disabled", True),
    "headed": ({"headers": [{"name": "a", "value": "b"}]}, "disabled", True),
    "proven": ({"client_certificate": "PEM"}, "disabled", True),
    "older": ({"old_secrets": OLD}, "active", True),
}


def test_the_older_code_sends_what_was_held_and_nothing_as_it_was_not_meant(engine):
    with engine.begin() as connection:
        see_all(connection)
        for one, (special, _, _) in ENDPOINTS.items():
            for table, values in (
                (ENDPOINT, PLAIN | special),
                (DELIVERY, {"endpoint_id": one, "event_id": one, "next_at": None, "lane": "x"}),
            ):
                row = {c.name: a_value(c) for c in table.columns} | {"id": one} | values
                connection.execute(table.insert().values(row))
    with engine.begin() as connection:
        move(connection, "0007")
    with engine.begin() as connection:
        see_all(connection)
        rows = connection.execute(select(DELIVERY.c.endpoint_id, DELIVERY.c.next_at)).all()
    assert {row[0]: row[1] is not None for row in rows} == {
        one: has_time for one, (_, _, has_time) in ENDPOINTS.items()
    }
    with engine.begin() as connection:
        # the oldest code asks the store to look whether what is pointed at is there
        see_all(connection)
        connection.execute(DELIVERY.delete())
        move(connection, "0001")
    with engine.begin() as connection:
        see_all(connection)
        wanted = text("SELECT id, state, previous_secret_sealed FROM endpoint")
        found = {row.id: row for row in connection.execute(wanted)}
        assert {one: row.state for one, row in found.items()} == {
            one: state for one, (_, state, _) in ENDPOINTS.items()
        }
        assert found["older"].previous_secret_sealed == "s1", "the one that signs longest"
        move(connection, "head")
    with engine.begin() as connection:
        see_all(connection)
        secrets = select(ENDPOINT.c.old_secrets).where(ENDPOINT.c.id == "older")
        assert connection.execute(secrets).scalar_one() == [OLD[1]]
