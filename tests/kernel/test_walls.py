"""PostgreSQL's wall between tenants, tried with plain SQL as the application's own role.

The application filters every query by its tenant; here are the queries of somebody who forgot to,
or who got hold of the connection.
"""

import pytest
from factories import strangers
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from stores import Store

from identity import audit
from kernel import tenancy
from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from marketplace import app as _everything

assert _everything.TABLES  # importing them fills the metadata
TABLES = tenancy.owned_tables()
# These name an organization and are read before anybody knows for whom: by the session's secret,
# by whoever walks past the shop.
SHARED = {"login_session", "vendor"}
NOBODY = [
    None, "", " ", "org_nobody", "%", "_", "org_%", "* ", " *", "**", "'*'", "NULL", "null", "\\",
    "org_' OR '1'='1", "*' OR '*'='*", "true", "0", "ORG",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(stores) -> Store:
    found = stores["postgresql"]
    if found.missing:
        pytest.skip(found.missing)
    return found


@pytest.fixture(scope="module")
def firms(store):
    """Two firms with at least one row in every table of a tenant."""
    with settings_override(database_url=store.url):
        store.empty()
        found = [strangers.make_neighbour(number).organization_id for number in (1, 2)]
        with transaction(EVERY) as session:
            for firm in found:
                audit.record(session, None, "organization.created", organization_id=firm)
        yield found
        store.empty()


@pytest.fixture(scope="module")
def engine(store):
    made = create_engine(store.url, pool_size=1, max_overflow=0)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine, firms):
    with engine.connect() as opened:
        yield opened
        opened.rollback()


def become(connection, tenant) -> None:
    """Start a transaction for a tenant; None sets nobody."""
    connection.rollback()
    if tenant is not None:
        statement = text("SELECT set_config('app.organization_id', :name, true)")
        connection.execute(statement, {"name": tenant})


def owners(connection, table) -> dict[str, int]:
    statement = f'SELECT organization_id, count(*) FROM "{table}" GROUP BY 1'
    return {row[0]: row[1] for row in connection.execute(text(statement))}


def test_every_table_of_a_tenant_holds_rows_of_both(connection, firms):
    """Otherwise the tests below would prove nothing."""
    become(connection, "*")
    thin = {table: owners(connection, table) for table in TABLES}
    assert {table for table, found in thin.items() if set(found) != set(firms)} == set()


@pytest.mark.parametrize("table", TABLES)
def test_nobody_sees_nothing_and_a_tenant_only_its_own(connection, firms, table):
    for name in NOBODY:
        become(connection, name)
        assert owners(connection, table) == {}, name
    for firm in firms:
        become(connection, firm)
        assert set(owners(connection, table)) == {firm}
        for near in (firm.lower(), firm + " ", " " + firm, firm[:-1], firm + "\t", f"{firm},*"):
            become(connection, near)
            assert owners(connection, table) == {}, near


@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_changes_and_removes_nothing_of_others(connection, firms, table):
    mine, other = firms
    become(connection, mine)
    for statement in (
        f"UPDATE \"{table}\" SET created_at = created_at WHERE organization_id = :other",
        f"DELETE FROM \"{table}\" WHERE organization_id = :other",
        f"DELETE FROM \"{table}\" USING organization WHERE \"{table}\".organization_id = :other",
    ):  # fmt: skip
        if table == "audit_entry":  # what happened stays as it was written
            with (
                pytest.raises(ProgrammingError, match="permission denied"),
                connection.begin_nested(),
            ):
                connection.execute(text(statement), {"other": other})
        else:
            assert connection.execute(text(statement), {"other": other}).rowcount == 0
    become(connection, "*")
    assert other in owners(connection, table)


@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_writes_nothing_for_others(connection, firms, table):
    mine, other = firms
    become(connection, mine)
    columns = [
        row[0]
        for row in connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = :table"
                " AND table_schema = 'public' AND is_generated = 'NEVER'"
            ),
            {"table": table},
        )
    ]
    listed = ", ".join(f'"{name}"' for name in columns)
    foreign = {"organization_id": "CAST(:other AS text)"}
    copied = ", ".join(foreign.get(name, f'"{name}"') for name in columns)
    statements = [f'INSERT INTO "{table}" ({listed}) SELECT {copied} FROM "{table}"']
    if table != "audit_entry":
        statements.append(f'UPDATE "{table}" SET organization_id = :other')
    for statement in statements:
        with pytest.raises(DBAPIError, match="row-level security"), connection.begin_nested():
            connection.execute(text(statement), {"other": other})


@pytest.mark.parametrize("table", TABLES)
def test_a_question_about_others_rows_is_never_even_asked(connection, firms, table):
    """A condition that fails on a stranger's row would tell that it exists."""
    mine, other = firms
    become(connection, mine)
    trap = f'SELECT count(*) FROM "{table}" WHERE 1 / (organization_id <> :other)::int = 1'
    assert connection.execute(text(trap), {"other": other}).scalar_one() > 0
    become(connection, "*")
    with pytest.raises(DBAPIError, match="division by zero"):
        connection.execute(text(trap), {"other": other})
    connection.rollback()
    become(connection, mine)
    statistics = text("SELECT count(*) FROM pg_stats WHERE tablename = :table")
    assert connection.execute(statistics, {"table": table}).scalar_one() == 0


WAYS_OVER = [
    "SET row_security = off; SELECT count(*) FROM event",
    "ALTER TABLE event DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE event NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY tenant ON event",
    "CREATE POLICY all_of_it ON event USING (true)",
    "ALTER POLICY tenant ON event USING (true)",
    "TRUNCATE event CASCADE",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE ROLE stranger SUPERUSER",
    "CREATE TABLE public.copy_of_it AS SELECT * FROM event",
    "CREATE FUNCTION public.peek() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER peek BEFORE INSERT ON event EXECUTE FUNCTION tsvector_update_trigger()",
    "ALTER TABLE event OWNER TO CURRENT_USER",
    "COPY event TO PROGRAM 'cat'",
    "COPY event TO '/tmp/event'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "UPDATE audit_entry SET action = 'x'",
    "DELETE FROM audit_entry",
    "DELETE FROM alembic_version; DROP TABLE event",
    "SELECT rolpassword FROM pg_authid",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "SET session_replication_role = replica",
    "LOCK TABLE event IN ACCESS EXCLUSIVE MODE; DROP TABLE event",
    "SELECT pg_terminate_backend(pg_backend_pid()) FROM pg_authid",
]


@pytest.mark.parametrize("way", WAYS_OVER)
def test_the_role_of_the_application_finds_no_way_over_the_wall(connection, firms, way):
    become(connection, firms[0])
    with pytest.raises(DBAPIError) as refused:
        connection.exec_driver_sql(way)
    said = str(refused.value.orig)
    assert any(
        words in said
        for words in ("permission denied", "must be", "row-level security", "must have", "denied")
    ), said


def test_the_role_of_the_application_gives_nothing_on(connection, firms):
    """PostgreSQL only warns here; nobody may hold more afterwards."""
    become(connection, firms[0])
    connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    granted = text(
        "SELECT count(*) FROM information_schema.role_table_grants"
        " WHERE grantee = 'PUBLIC' AND table_schema = 'public'"
    )
    assert connection.execute(granted).scalar_one() == 0


def test_copying_out_obeys_the_wall(connection, firms):
    become(connection, firms[0])
    cursor = connection.connection.dbapi_connection.cursor()
    with cursor.copy("COPY (SELECT organization_id FROM event) TO STDOUT") as copy:
        rows = [bytes(part).decode().strip() for part in copy]
    assert set(rows) == {firms[0]}


def test_a_tenant_does_not_outlive_its_transaction(engine, firms):
    """The pool has one connection: whoever comes next finds nobody's tenant on it."""
    for end in ("commit", "rollback", "close"):
        with engine.connect() as first:
            become(first, firms[0])
            assert owners(first, "event") != {}
            if end != "close":
                getattr(first, end)()
        with engine.connect() as second:
            assert owners(second, "event") == {}, end
            second.rollback()


CHILDREN = [
    # table, its column that names a parent, the parent's table
    ("event", "source_id", "source"),
    # the rows of an event's life are checked by nobody (decision 0008), so they tell nothing
    ("flow_version", "flow_id", "flow"),
    ("rollout_step", "rollout_id", "rollout"),
]


@pytest.mark.parametrize(("table", "column", "parent"), CHILDREN)
def test_no_row_of_ours_hangs_on_a_strangers(connection, firms, table, column, parent):
    """A foreign key that forgot the tenant would also tell which ids a stranger has."""
    mine, other = firms
    become(connection, other)
    theirs = connection.execute(text(f'SELECT id FROM "{parent}" LIMIT 1')).scalar_one()
    become(connection, mine)
    answers = []
    for wanted in (theirs, "nothing_at_all"):
        statement = text(f'UPDATE "{table}" SET {column} = :wanted')
        with pytest.raises(IntegrityError) as refused, connection.begin_nested():
            connection.execute(statement, {"wanted": wanted})
            connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        answers.append(str(refused.value.orig).replace(wanted, "…"))
    assert answers[0] == answers[1]


def test_the_same_id_may_be_used_by_everybody(connection, firms):
    """Keys begin with the tenant: an id taken by a stranger clashes with nothing."""
    mine, other = firms
    become(connection, other)
    taken = connection.execute(text("SELECT id FROM endpoint LIMIT 1")).scalar_one()
    become(connection, mine)
    names = [
        row[0]
        for row in connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = 'endpoint' AND table_schema = 'public'"
            )
        )
    ]
    listed = ", ".join(f'"{name}"' for name in names)
    copied = ", ".join(":taken" if name == "id" else f'"{name}"' for name in names)
    statement = f"INSERT INTO endpoint ({listed}) SELECT {copied} FROM endpoint LIMIT 1"
    assert connection.execute(text(statement), {"taken": taken}).rowcount == 1


def test_no_table_was_forgotten(connection):
    """Whatever names an organization stands behind the wall, for the owner of the tables too."""
    found = connection.execute(
        text(
            "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'"
            " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        )
    ).all()
    assert {row[0] for row in found} == set(TABLES) | SHARED
    assert {row[0] for row in found if not (row[1] and row[2])} == SHARED


def test_a_table_without_its_wall_would_be_noticed(store, firms):
    """The break that the tests above must notice; only the owner of the tables can make it."""
    owner = create_engine(store.owner_url)
    plain = create_engine(store.url)
    try:
        with owner.begin() as session:
            session.execute(text("ALTER TABLE endpoint DISABLE ROW LEVEL SECURITY"))
        with plain.connect() as session:
            assert set(owners(session, "endpoint")) == set(firms)
    finally:
        with owner.begin() as session:
            session.execute(text("ALTER TABLE endpoint ENABLE ROW LEVEL SECURITY"))
        owner.dispose()
        plain.dispose()
