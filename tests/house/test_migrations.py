"""One history for both databases, and it ends where the tables are."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text
from sqlmodel import SQLModel
from stores import ADMIN_URL

from kernel import tenancy
from kernel.settings import settings_override
from marketplace import migrating
from webhooks.tables import ENDPOINT


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


def test_a_secret_that_still_signs_goes_on_after_the_upgrade(tmp_path):
    url = f"sqlite:///{tmp_path}/older.db"
    columns = "created_at, organization_id, id, url, description, event_types, secret_sealed, state"
    values = "'2026-11-26 00:00:00', 'org_a', :id, 'https://a.example/', '', '[]', 'new', 'active'"
    with settings_override(database_url=url):
        with create_engine(url).begin() as connection:
            config = migrating._config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            for one, until in (("ep_1", "2026-11-27 10:00:00.000000"), ("ep_2", None)):
                connection.execute(
                    text(
                        f"INSERT INTO endpoint ({columns}, previous_secret_sealed,"
                        f" previous_secret_until) VALUES ({values}, :old, :until)"
                    ),
                    {"id": one, "old": "old" if until else None, "until": until},
                )
        migrating.upgrade()
    with create_engine(url).connect() as connection:
        kept = connection.execute(select(ENDPOINT.c.old_secrets, ENDPOINT.c.signature))
        old = [{"sealed": "old", "until": "2026-11-27T10:00:00+00:00"}]
        assert kept.all() == [(old, "hmac"), ([], "hmac")]


def test_an_endpoint_from_before_goes_on_getting_large_data_whole(tmp_path):
    url = f"sqlite:///{tmp_path}/older.db"
    names = "created_at, organization_id, id, url, description, event_types, secret_sealed, state"
    values = "'2026-11-26 00:00:00', 'org_a', 'ep_1', 'https://a.example/', '', '[]', 's', 'active'"
    with settings_override(database_url=url):
        with create_engine(url).begin() as connection:
            config = migrating._config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0003")
            connection.execute(text(f"INSERT INTO endpoint ({names}) VALUES ({values})"))
        migrating.upgrade()
    with create_engine(url).connect() as connection:
        assert connection.execute(select(ENDPOINT.c.large_payloads)).scalar_one() == "inline"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_portal_can_be_taken_back_and_made_again(stores, tmp_path, kind):
    if stores[kind].missing:
        pytest.skip(stores[kind].missing)
    owner_url = f"sqlite:///{tmp_path}/back.db"
    name = "yangfan_test_back"
    if kind == "postgresql":
        owner_url = ADMIN_URL.rsplit("/", 1)[0] + f"/{name}"
        with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as admin:
            admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            admin.execute(text(f"CREATE DATABASE {name}"))
    try:
        with settings_override(database_url=owner_url, owner_database_url=owner_url):
            with create_engine(owner_url).begin() as connection:
                config = migrating._config()
                config.attributes["connection"] = connection
                command.upgrade(config, "0005")
                assert "portal_link" in inspect(connection).get_table_names()
                command.downgrade(config, "-1")
                assert "portal_link" not in inspect(connection).get_table_names()
            migrating.upgrade()
        assert differences(owner_url) == []
    finally:
        if kind == "postgresql":
            with create_engine(ADMIN_URL, isolation_level="AUTOCOMMIT").connect() as admin:
                admin.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def test_rows_stay_when_their_checks_go(tmp_path):
    """SQLite makes a table anew to drop a check: what is in it, and in those beside it, stays."""
    url = f"sqlite:///{tmp_path}/rows.db"
    moment = "'2026-11-26 00:00:00.000000'"
    rows = {
        "event": "'a.b', 'api', 'k', '{}', x'7b7d', 'x', 'routed', '', 0",
        "flow": "'Orders', 'active', 0",
        "flow_version": "'f', 1, '{}'",
        "endpoint": "'https://a.example/', '', '[]', 'hmac', 's', '[]', '[]', 'active'",
        "run": "'f', 1, 'e', 'a.b', '', '', 'succeeded', 'l', 0, 0, 0, 0",
        "step": "'r', 0, 'k', 'map', 'succeeded', 0",
        "delivery": "'e', 'p', '', 'delivered', 1, 0, 0, 0",
        "attempt": "'d', 1, 3, '{}', '{}', x''",
    }
    columns = {
        "event": "type, origin, dedupe_key, headers, body, content_type, state, replay_nonce,"
        " failure_count, occurred_at, received_at",
        "flow": "name, state, draft_revision",
        "flow_version": "flow_id, number, document, published_at",
        "endpoint": "url, description, event_types, signature, secret_sealed, old_secrets, headers,"
        " state",
        "run": "flow_id, flow_version, event_id, event_type, replay_nonce, effect_nonce, state,"
        " lane, next_step, attempt_count, lease_epoch, crash_count",
        "step": "run_id, position, key, kind, state, attempt_count",
        "delivery": "event_id, endpoint_id, replay_nonce, state, attempt_count, ladder_step,"
        " lease_epoch, crash_count",
        "attempt": "delivery_id, number, elapsed_ms, request_headers, response_headers,"
        " response_body, started_at",
    }
    ids = {"event": "e", "flow": "f", "endpoint": "p", "run": "r", "delivery": "d"}
    more = {"event": f", {moment}, {moment}", "flow_version": f", {moment}"}
    more["attempt"] = f", {moment}"
    with settings_override(database_url=url):
        with create_engine(url).begin() as connection:
            connection.execute(text("PRAGMA foreign_keys=ON"))
            config = migrating._config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0003")
            for table, values in rows.items():
                names = f"created_at, organization_id, id, {columns[table]}"
                known = f"{moment}, 'o', '{ids.get(table, 'x')}'"
                tail = more.get(table, "")
                connection.execute(
                    text(f"INSERT INTO {table} ({names}) VALUES ({known}, {values}{tail})")
                )
        migrating.upgrade()
    with create_engine(url).connect() as connection:
        for table in rows:
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1
