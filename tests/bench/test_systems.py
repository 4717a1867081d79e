"""The systems under test do what the bench says they do."""

import os

import psycopg
import pytest

from bench import fill, servers
from bench.rigs import Embedded, Naive, Scaled
from bench.shots import Range, Shot

pytestmark = pytest.mark.slow
needs_servers = pytest.mark.skipif(
    not {"YANGFAN_TEST_POSTGRES", "YANGFAN_TEST_BROKER"} <= set(os.environ),
    reason="PostgreSQL and RabbitMQ are not both there",
)


@pytest.fixture
def bench_range(tmp_path):
    opened = Range(tmp_path / "ledger", seed=1)
    yield opened
    opened.stop()


def check_hub(rig, bench_range):
    """Everything arrives once, in the right shape, and is written down."""
    for door in ("flow", "endpoint"):
        figures = bench_range.fire(rig, Shot(30, [door], connections=4))
        assert (figures.accepted, figures.lost, figures.duplicates) == (30, 0, 0)
        assert figures.cpu_ms_per_event > 0
    assert bench_range.ledger.strangers == 0
    flow, endpoint = rig.firms["flow"].client, rig.firms["endpoint"].client
    runs = flow.call("GET", "/api/v1/runs?limit=50")["items"]
    assert [run["state"] for run in runs] == ["succeeded"] * 30
    run = flow.call("GET", f"/api/v1/runs/{runs[0]['id']}")
    assert [(step["kind"], step["state"]) for step in run["steps"]] == [
        ("map", "succeeded"),
        ("action", "succeeded"),
    ]
    assert len(run["steps"][0]["output"]) == 5
    deliveries = endpoint.call("GET", "/api/v1/deliveries?limit=50")["items"]
    assert [one["state"] for one in deliveries] == ["delivered"] * 30
    attempts = endpoint.call("GET", f"/api/v1/deliveries/{deliveries[0]['id']}/attempts")
    assert [attempt["status"] for attempt in attempts["items"]] == [200]


def test_the_embedded_hub(bench_range):
    rig = Embedded(bench_range.target)
    try:
        check_hub(rig, bench_range)
    finally:
        rig.stop()


@needs_servers
def test_the_scaled_hub_with_many_rows(bench_range):
    rig = Scaled(
        bench_range.target, senders=2, fill=lambda database: fill.tenants(database, 30, 3, 60)
    )
    try:
        check_hub(rig, bench_range)
        assert bench_range.fire(rig, Shot(20, rig.senders)).lost == 0
        with psycopg.connect(rig.database.plain_url) as connection:
            counts = [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("app", "flow", "flow_version")
            ]
        assert counts[0] >= 3
        assert counts[1:] == [63, 63]  # and those that were made over the API
        firm = rig.firms["flow"]
        fill.backlog(rig.database, firm.organization_id, firm.source_id, 500)
        assert 0 < fill.undrained(rig.database) <= 500
    finally:
        rig.stop()


def test_a_server_that_is_away_is_named(monkeypatch):
    monkeypatch.setenv("YANGFAN_TEST_POSTGRES", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert "PostgreSQL" in servers.missing()
    monkeypatch.delenv("YANGFAN_TEST_POSTGRES")
    assert "not set" in servers.missing()


@needs_servers
def test_a_broker_that_is_away_is_named(monkeypatch):
    assert servers.missing() is None
    monkeypatch.setenv("YANGFAN_TEST_BROKER", "amqp://guest:guest@127.0.0.1:1//")
    assert "RabbitMQ" in servers.missing()


@needs_servers
def test_a_virtual_host_that_the_address_does_not_know_is_not_used(monkeypatch):
    with servers.virtual_host(f"yangfan_bench_{os.getpid()}") as url:
        assert servers._answers(url) is None
    # rabbitmqctl says yes, but it spoke to another server
    monkeypatch.setattr(servers, "_control", lambda *_: True)
    with servers.virtual_host("yangfan_bench_nowhere") as url:
        assert url == os.environ["YANGFAN_TEST_BROKER"]


@needs_servers
def test_the_baseline(bench_range):
    rig = Naive(bench_range.target)
    try:
        figures = bench_range.fire(rig, Shot(30, ["single"], connections=4))
        assert (figures.accepted, figures.lost, figures.duplicates) == (30, 0, 0)
        assert figures.cpu_ms_per_event > 0
    finally:
        rig.stop()
