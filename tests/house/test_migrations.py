"""One history for both databases, and it ends where the tables are."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlmodel import SQLModel
from stores import ADMIN_URL

from kernel import tenancy
from kernel.settings import settings_override
from marketplace import migrating


def differences(url):
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        return compare_metadata(context, SQLModel.metadata)


def test_migrated_sqlite_equals_the_tables(tmp_path):
    url = f"sqlite:///{tmp_path}/migrated.db"
    with settings_override(database_url=url):
        assert migrating.upgrade() == migrating.newest() == migrating.current()
        migrating.upgrade()  # a second start finds nothing to do
    assert differences(url) == []


def test_migrated_postgresql_equals_the_tables_and_walls_every_tenant_table_off(stores):
    if stores["postgresql"].missing:
        import pytest

        pytest.skip(stores["postgresql"].missing)
    name = "yangfan_test_migrating"
    admin = create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    owner_url = ADMIN_URL.rsplit("/", 1)[0] + f"/{name}"
    try:
        app_url = owner_url.replace("postgres@", "yangfan_test_app@")
        with settings_override(database_url=app_url, owner_database_url=owner_url):
            migrating.upgrade()
            assert migrating.current() == migrating.newest()
        assert differences(owner_url) == []
        with create_engine(owner_url).connect() as connection:
            walled = connection.execute(
                text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
            ).scalars()
            assert sorted(walled) == tenancy.owned_tables()
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
