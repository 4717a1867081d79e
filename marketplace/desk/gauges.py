"""Gauges: what the health page shows, for Prometheus; read at each scrape."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kernel.database import StoreUnavailable
from marketplace.desk import door, health, needs
from marketplace.desk.health import Health


def _single(name: str, text: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(name, text)
    gauge.add_metric([], value)
    return gauge


def _labelled(
    name: str, text: str, labels: list[str], values: Iterator[tuple[list[str], float]]
) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values:
        gauge.add_metric(names, value)
    return gauge


class HubCollector(Collector):
    """Looks at the hub when it is asked; while the store is away it says so and counts nothing."""

    def collect(self) -> Iterator[Metric]:
        """Give the figures of this moment."""
        try:
            with door.counting() as session:
                found = health.examine(session)
        except StoreUnavailable:
            found = health.without_store()
        yield from _of(found)

    def describe(self) -> Iterator[Metric]:
        """Say nothing before the first scrape, so that nothing is counted for it."""
        return iter(())


def _of(found: Health) -> Iterator[Metric]:
    yield _single("yangfan_store_up", "1 while the store answers.", float(found.store is not None))
    yield _single(
        "yangfan_broker_up", "1 while the broker answers.", float(found.broker.is_reachable)
    )
    yield _single("yangfan_disk_free_bytes", "Free on the data disk.", found.disk.free_bytes)
    yield _single("yangfan_disk_bytes", "Size of the data disk.", found.disk.total_bytes)
    yield _labelled(
        "yangfan_needs",
        "What the hub needs of its operator, by code.",
        ["code"],
        (([need.code], 1.0) for need in needs.of(found)),
    )
    if found.store is not None:
        store = found.store
        yield _single("yangfan_store_bytes", "Size of the database.", store.bytes)
        yield _single("yangfan_store_read_seconds", "One read.", store.read_ms / 1000)
        yield _single("yangfan_store_commit_seconds", "One commit.", store.commit_ms / 1000)
        if store.connections is not None:
            yield _single("yangfan_store_connections", "In use.", store.connections)
            yield _single("yangfan_store_connections_allowed", "In all.", _allowed(found))
    if found.counts is not None:
        yield _labelled(
            "yangfan_waiting",
            "What waits, by kind; a count stops at 10001.",
            ["what"],
            (([name], float(count)) for name, count in found.counts.numbers.items()),
        )
        yield _single(
            "yangfan_oldest_event_seconds", "Age of the oldest new event.", found.waits_seconds
        )
        kinds = {one.kind for one in found.processes}
        alive = [one.kind for one in found.processes if not one.is_silent]
        yield _labelled(
            "yangfan_processes",
            "Processes that are alive, by kind.",
            ["kind"],
            (([kind], float(alive.count(kind))) for kind in sorted(kinds)),
        )


def _allowed(found: Health) -> float:
    return float(found.store.connections_allowed or 0) if found.store else 0.0


REGISTRY = CollectorRegistry(auto_describe=False)
REGISTRY.register(HubCollector())
