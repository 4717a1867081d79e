"""Plans: no statement of the hot path reads a whole table, however much history there is."""

import json

import pytest
from factories import webhooks as make
from factories.connectors import ORDER, open_shop, runs, vendor
from sqlalchemy import event as listening

from connectors import claims
from kernel.database import write
from kernel.http import Response
from webhooks import attempts, drain, events, fan_out, leases, ready, results
from webhooks.events import NewEvent
from webhooks.fan_out import Routed

BUSY = Response(500, {}, b"", truncated=False, elapsed_ms=1)


@pytest.fixture
def plans(database):
    """Every step of every plan SQLite makes while the test runs."""
    from kernel import database as store

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


def test_nothing_scans_events_or_deliveries(plans):
    def setup(session):
        for number in range(3):
            make.make_endpoint(session, f"org_{number}")
            new = [NewEvent(type="a.b", body=b"{}", dedupe_key=f"k{n}") for n in range(20)]
            events.accept(session, f"org_{number}", None, new)
            events.accept(session, f"org_{number}", None, new)

    make.in_transaction(setup)
    routed = write(lambda s: fan_out.route(s, ready.take(s), Routed("w1", room=20)))
    for batch in attempts.send_waves(routed.parcels(), lambda requests: [BUSY] * len(requests)):
        write(lambda session, batch=batch: results.record(session, batch))
    assert write(lambda s: attempts.claim_due(s, "w1", frozenset(), is_slow=False))
    write(leases.reclaim)
    write(leases.is_lease_over)
    write(leases.is_delivery_due)
    write(ready.is_any)
    write(ready.is_overdue)
    write(ready.bring_back)
    write(claims.is_any_due)
    write(lambda session: claims.release(session, "w1"))
    claims.claim("w1")
    assert any("ix_event_ready" in step for step in plans)
    assert any("ix_delivery_due" in step for step in plans)
    assert whole_tables(plans) == []


def whole_tables(plans):
    """The steps that read a table from one end to the other."""
    return [
        step
        for step in plans
        if step.startswith("SCAN ")
        and not step.startswith(("SCAN json_each", "SCAN tenant", "SCAN lanes", "SCAN CONSTANT"))
        and not step.startswith(("SCAN anon_", "SCAN ("))  # what a sub-select gave
        and " USING " not in step[:60]
    ]


def test_nothing_scans_runs_or_steps(app, plans):
    """From an event over its run and the call to the record, and the look for what fell due."""
    with vendor() as target:
        open_shop(target.url, orders=3)  # left as due
        assert drain.drain("w1") > 0
        shop = open_shop(target.url)
        make.in_transaction(
            lambda session: make.make_event(
                session, shop.organization_id, type="order.paid", body=json.dumps(ORDER).encode()
            )
        )
        drain.drain("w1")  # goes on from memory
    seen = list(plans)
    assert {run.state for run in runs()} == {"succeeded"}
    assert any("ix_run_next" in step for step in seen)
    assert any("ix_run_leased" in step for step in seen)
    assert any("ix_flow_listening" in step for step in seen)
    assert whole_tables(seen) == []
