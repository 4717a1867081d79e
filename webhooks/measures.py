"""Measures: what intake counts, for Prometheus and for the organization's own usage."""

import time

from prometheus_client import Counter, Histogram

from webhooks import usage

REQUESTS = Counter("yangfan_intake_requests", "Requests at sources' addresses.", ["outcome"])
EVENTS = Counter("yangfan_intake_events", "Events that came in at sources.", ["outcome"])
SECONDS = Histogram(
    "yangfan_intake_seconds",
    "Time from the first byte to the answer of an intake request.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


def count_request(outcome: str, started: float) -> None:
    """Count a request and how long it took."""
    REQUESTS.labels(outcome).inc()
    SECONDS.observe(time.perf_counter() - started)


def count_events(
    organization_id: str,
    source_id: str | None,
    *,
    accepted: int = 0,
    duplicate: int = 0,
    rejected: int = 0,
) -> None:
    """Count what became of a request's events."""
    usage.add(organization_id, source_id, accepted=accepted, duplicate=duplicate, rejected=rejected)
    EVENTS.labels("accepted").inc(accepted)
    if duplicate:
        EVENTS.labels("duplicate").inc(duplicate)
    if rejected:
        EVENTS.labels("rejected").inc(rejected)
