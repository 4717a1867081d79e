"""The bench's own instruments: orders, ledger, load, target, CPU accounting, report."""

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from bench import orders, processes, report, shots, target
from bench.ledger import CAPACITY, Ledger
from bench.load import Door, Plan, moments, prepare
from bench.rigs import Rig
from bench.shots import Range, Shot
from catalog import event_types
from webhooks import signing
from webhooks.errors import BadSignature

# --- orders --------------------------------------------------------------------------------------


def test_an_order_fits_the_hubs_own_event_type():
    judge = event_types.validator(event_types.lookup(None, None, orders.TYPE, 1))
    for number in (0, 7, 99_999_999):
        order = orders.order(number, seed=1)
        assert list(judge(order)) == []
        assert len(order["lines"]) == 10
    assert list(judge({**order, "paid_at": "yesterday"}))
    assert 1000 < len(orders.body(range(1), 1, as_array=False)) < 2000


def test_an_order_is_the_same_for_the_same_seed_and_its_number_can_be_read_back():
    assert orders.order(5, seed=1) == orders.order(5, seed=1) != orders.order(5, seed=2)
    assert orders.number_in(orders.body(range(42, 43), 1, as_array=False)) == 42
    assert orders.number_in(b'{"order_no":"SO-1"}') is None
    assert orders.number_in(b'{"order_no":"YB-12"}') is None


def test_the_hub_takes_the_signature_and_refuses_it_over_other_bytes():
    secret, now = signing.new_secret(), datetime.now(UTC)
    body = orders.body(range(1), 1, as_array=False)
    headers = orders.signature_headers(secret, "msg_1", body, int(now.timestamp()))
    assert signing.verify("standard_webhooks", body, headers, [secret], {}, now)
    with pytest.raises(BadSignature):
        signing.verify("standard_webhooks", body + b" ", headers, [secret], {}, now)


# --- ledger --------------------------------------------------------------------------------------


def test_two_views_of_a_ledger_see_the_same(tmp_path):
    with Ledger(tmp_path / "ledger") as one, Ledger(tmp_path / "ledger") as other:
        one.sent[3] = 1.5
        other.note_arrival(3, 2.5)
        other.note_arrival(3, 9.5)
        other.note_stranger()
        other.note_arrival(CAPACITY, 1)
        assert (other.sent[3], one.arrived[3], one.copies[3]) == (1.5, 2.5, 2)
        assert (one.arrivals, one.strangers) == (1, 2)
        assert one.copies[4] == 0


# --- load and target -----------------------------------------------------------------------------


class Direct(Rig):
    """No system at all: the load's door is the target itself, or a server in front of it."""

    name = "direct"

    def __init__(self, port: int) -> None:
        super().__init__()
        self.doors = {"in": Door(port, "/naive")}

    def roots(self):
        return []


@pytest.fixture
def bench_range(tmp_path, monkeypatch):
    monkeypatch.setattr(shots, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(shots, "SETTLE_SECONDS", 0.1)
    opened = Range(tmp_path / "ledger", seed=1)
    yield opened
    opened.stop()


def test_everything_sent_arrives_once(bench_range):
    rig = Direct(bench_range.target.port)
    first = bench_range.fire(rig, Shot(500, ["in"]))
    assert (first.accepted, first.lost, first.duplicates, first.refused) == (500, 0, 0, 0)
    assert first.events_per_s > 100
    assert 0 < first.p50_ms <= first.p99_ms
    assert 0 < first.driver_cpu_ms_per_event < 2
    both = bench_range.fire_together(rig, [Shot(50, ["in"]), Shot(70, ["in"], connections=64)])
    assert [figures.accepted for figures in both] == [50, 70]
    assert bench_range.ledger.arrivals == 620


def test_an_open_load_keeps_to_its_rate_and_counts_from_when_an_event_was_due(bench_range):
    figures = bench_range.fire(Direct(bench_range.target.port), Shot(200, ["in"], rate=200))
    assert 120 < figures.ingest_per_s < 300
    sent = [bench_range.ledger.sent[n] for n in range(200)]
    due = moments(bench_range._plan(Direct(1), Shot(200, ["in"], rate=200)))
    assert [round(at - sent[0], 6) for at in sent] == [round(at - due[0], 6) for at in due]


@contextlib.contextmanager
def server(answer):
    """A server whose `answer(number)` gives a status, or None to hang up; it forwards nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answer(orders.number_in(body), body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, args=(0.03,), daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


def test_what_is_refused_lost_doubled_or_cut_off_is_seen(bench_range):
    cut_off = set()

    def answer(number, body):
        if number == 5:
            return 503
        if number == 9 and not cut_off:
            cut_off.add(number)
            return None
        for _ in range({7: 0, 8: 2}.get(number, 1)):
            requests.post(f"{bench_range.target.url}/naive", data=body, timeout=5)
        return 202

    with server(answer) as port:
        figures = bench_range.fire(Direct(port), Shot(20, ["in"], connections=2))
    assert (figures.accepted, figures.refused, figures.refusals) == (19, 1, "1 × 503")
    assert (figures.lost, figures.duplicates, figures.reconnects) == (1, 1, 1)
    assert "1 LOST" in figures.line()


def test_arrays_carry_every_event_once(tmp_path):
    plan = Plan(
        str(tmp_path), [Door(1, "/a", "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="), Door(1, "/b")], 10, 7, 1, 3
    )
    prepared = prepare(plan)
    assert [len(json.loads(raw.partition(b"\r\n\r\n")[2])) for raw in prepared] == [3, 3, 1]
    assert [raw.split()[1] for raw in prepared] == [b"/a", b"/b", b"/a"]
    assert [b"webhook-signature: v1," in raw for raw in prepared] == [True, False, True]
    numbers = [n for request in range(plan.requests) for n in plan.numbers(request)]
    assert numbers == list(range(10, 17))


def test_the_target_counts_only_what_the_hub_has_worked_on(bench_range):
    order = b'{"number":"YB-00000001","payment":"x"}'
    keyed = b"POST /flow-3/orders HTTP/1.1\r\nX-Api-Key: k\r\nIdempotency-Key: i"
    assert target.is_whole(keyed, order)
    assert not target.is_whole(keyed.partition(b"\r\nIdem")[0], order)
    assert not target.is_whole(keyed, b'{"number":"YB-00000001"}')
    assert not target.is_whole(b"POST /endpoint HTTP/1.1", b'{"specversion":"1.0"}')
    requests.post(f"{bench_range.target.url}/flow", data=order, timeout=5)
    assert (bench_range.ledger.arrivals, bench_range.ledger.strangers) == (0, 1)


# --- processes -----------------------------------------------------------------------------------

BURN = "import time\nwhile time.process_time() < 0.4: pass"


def test_cpu_time_counts_children_also_after_their_end():
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {BURN!r}])\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        deadline = time.monotonic() + 30
        while processes.cpu_seconds([process.pid]) < 0.4 or len(processes.tree([process.pid])) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert 0.4 <= processes.cpu_seconds([process.pid]) < 3
        assert 1 < processes.memory_mb([process.pid]) < 100
        assert processes.parent(process.pid) in processes.tree([processes.parent(process.pid)])
    finally:
        process.kill()
        process.wait()
    assert processes.cpu_seconds([process.pid]) == 0


def test_what_others_compute_is_seen(bench_range):
    rig = Direct(bench_range.target.port)
    bench_range.fire(rig, Shot(50, ["in"]))
    busy = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    other = subprocess.Popen([sys.executable, "-c", busy])
    try:
        loud = bench_range.fire(rig, Shot(300, ["in"], rate=150))
    finally:
        other.kill()
        other.wait()
    assert loud.elsewhere_cpus > 0.3
    assert processes.busy_seconds() <= processes.busy_seconds()


def test_a_watch_remembers_the_most():
    values = iter([1.0, 5.0, 2.0])
    watch = processes.Watch(lambda: next(values, 0.0), every_seconds=0.01)
    time.sleep(0.2)
    assert watch.stop() == 5.0


# --- report --------------------------------------------------------------------------------------


def test_goals_are_judged_and_what_was_not_measured_is_neither():
    found = {"scaled_per_naive_c16": 3.49, "embedded_memory_mb": 220.0, "tenants_ratio": 0.0}
    judged = {
        goal["figure"]: goal["reached"] for goal in json.loads(report.last_line(found, {}))["goals"]
    }
    assert judged["scaled_per_naive_c16"] is False
    assert judged["embedded_memory_mb"] is True
    assert judged["tenants_ratio"] is False
    assert judged["backlog_ratio"] is None
    assert [line.split()[0] for line in report.summary(found)].count("MISSED") == 2


def test_a_spread_keeps_the_extremes():
    values = [3.0, 1.0, 2.0]
    random.shuffle(values)
    assert report.spread("x", values) == {"x": 2.0, "x_least": 1.0, "x_most": 3.0}
    assert shots.share(list(range(1, 101)), 0.99) == 100
