"""The desk on a big store: each count walks an index, whatever lies beside it."""

import pytest
from factories import webhooks as make
from factories.identity import make_organization
from sqlalchemy import event as listening
from sqlalchemy import text

from identity import suspensions
from kernel import database as store
from kernel.database import EVERY, reading, transaction
from marketplace.desk import counts, door, dossier, health, throughput
from webhooks import drain

# Small however large the hub is: a row each for an organization, a process, a machine.
SMALL = ("worker", "heartbeat", "keeping", "alembic_version", "organization")


@pytest.fixture
def plans(database):
    """Every step of every plan SQLite makes while the test runs."""
    if not database.url.startswith("sqlite"):
        pytest.skip("SQLite explains its plans without statistics; one database is enough")
    steps: list[str] = []

    def explain(_connection, cursor, statement, parameters, _context, many):
        if statement.startswith(("SELECT", "UPDATE", "WITH")) and not many:
            found = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            steps.extend(f"{row[-1]}  <- {statement[:200]}" for row in found)

    engines = (store._store().reader, store._store().writer)
    for engine in engines:
        listening.listen(engine, "before_cursor_execute", explain)
    yield steps
    for engine in engines:
        listening.remove(engine, "before_cursor_execute", explain)


def whole_tables(plans: list[str]) -> list[str]:
    """The steps that read a table from one end to the other, or sort what they read."""
    known = ("SCAN tenant", "SCAN first", "SCAN found", "SCAN CONSTANT", "SCAN json_each")
    return [
        step
        for step in plans
        if step.startswith(("SCAN ", "USE TEMP B-TREE FOR ORDER BY"))
        and not step.startswith((*known, "SCAN anon_", "SCAN ("))
        and not any(step.startswith(f"SCAN {name}") for name in SMALL)
        and " USING " not in step[:60]
        # at most a thousand rows, the first of each organization that waits
        and not ("ORDER BY" in step and "WITH RECURSIVE tenant" in step)
    ]


def test_no_look_at_health_reads_a_whole_table(app, plans):
    throughput.forget()
    organization_id = make.in_transaction(lambda s: make_organization(s).id)
    make.in_transaction(lambda s: make.make_event(s, organization_id))
    plans.clear()
    with door.counting() as session:
        health.examine(session)
    for index in ("ix_event_ready", "ix_event_quarantined", "ix_delivery_next", "ix_usage_hour"):
        assert any(index in step for step in plans), index
    for index in ("ix_delivery_parked", "ix_delivery_leased", "ix_run_next", "ix_run_parked"):
        assert any(index in step for step in plans), index
    assert whole_tables(plans) == []


def test_no_look_at_a_tenant_and_no_hold_reads_a_whole_table(app, plans):
    organization_id = make.in_transaction(lambda s: make_organization(s).id)
    make.in_transaction(lambda s: make.make_endpoint(s, organization_id))
    make.in_transaction(lambda s: make.make_event(s, organization_id))
    plans.clear()
    with reading(EVERY) as session:
        dossier.read(session, organization_id, is_daily=True)
    assert [step for step in whole_tables(plans) if step.startswith("SCAN ")] == []
    plans.clear()
    with transaction(EVERY) as session:
        suspensions.suspend(session, organization_id, "x")
    drain.drain("w1")
    suspensions.sweep()
    with transaction(EVERY) as session:
        suspensions.resume(session, organization_id)
    suspensions.sweep()
    assert [step for step in whole_tables(plans) if step.startswith("SCAN ")] == []


def test_postgresql_counts_along_the_indexes_too(database):
    """With sequential scans made dear, a plan without one shows that an index can serve."""
    if database.url.startswith("sqlite"):
        pytest.skip("the tests above")
    bad = []
    with transaction(EVERY) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_sort = off"))
        for name, (table, condition, order) in counts.QUERIES.items():
            words = condition.replace(":now", "now()").replace(":late", "now()")
            rows = session.execute(
                text(f"EXPLAIN SELECT 1 FROM {table} WHERE {words} ORDER BY {order} LIMIT 10001")
            ).scalars()
            plan = "\n".join(rows)
            if "Seq Scan" in plan or "Sort" in plan:
                bad.append(f"{name}: {plan}")
    assert bad == []
