"""Ids, clock, settings, logs, queue: the kernel's small rooms."""

import base64
import os
import re
import subprocess
import sys
import threading

import pytest

from kernel import clock, ids, log, outbox, queue
from kernel.database import EVERY, transaction
from kernel.settings import read_settings


def test_ids_sort_by_time_and_never_repeat():
    made = [ids.new_id("evt") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert re.fullmatch(r"evt_[0-9A-HJKMNP-TV-Z]{26}", made[0])


def test_ids_are_unique_over_threads_and_forks():
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(ids.new_id("x") for _ in range(2000)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, ids.new_id("x").encode())
        os._exit(0)
    os.wait()
    found.append(os.read(reader, 100).decode())
    found.append(ids.new_id("x"))
    assert len(set(found)) == len(found)


def test_the_clock_shifts_and_comes_back():
    before = clock.now()
    with clock.shifted(seconds=90), clock.shifted(seconds=10):
        assert 99 < (clock.now() - before).total_seconds() < 101
    assert (clock.now() - before).total_seconds() < 1


def test_settings_are_read_by_their_types():
    read = read_settings(
        {
            "YANGFAN_WEB_THREADS": "3",
            "YANGFAN_DEMO": "yes",
            "YANGFAN_OUTBOUND_ALLOW": "127.0.0.1:9801, erp.local:80",
            "YANGFAN_SWEEP_SECONDS": "0.5",
            "PATH": "/bin",
        }
    )
    assert (read.web_threads, read.demo, read.sweep_seconds) == (3, True, 0.5)
    assert read.outbound_allow[:2] == ("127.0.0.1:9801", "erp.local:80")
    # a demo hub may call its own demo vendors, and nothing else of the loopback
    assert read.outbound_allow[2:] == ("127.0.0.1:9801", "127.0.0.1:9802", "127.0.0.1:9803")
    assert read.mode == "embedded"
    assert read_settings({"YANGFAN_DATABASE_URL": "postgresql+psycopg://x/y"}).mode == "scaled"


def test_the_first_start_makes_one_key_however_many_start(tmp_path):
    found = []

    def start():
        found.append(dict(read_settings({"YANGFAN_DATA_DIR": str(tmp_path / "d")}).keys))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(keys == found[0] for keys in found)
    assert len(next(iter(found[0].values()))) == 32
    assert (tmp_path / "d/secret.key").stat().st_mode & 0o077 == 0


def test_keys_from_the_environment_keep_their_order():
    text = ",".join(f"{k}:{base64.b64encode(bytes(32)).decode()}" for k in ("new", "old"))
    assert list(read_settings({"YANGFAN_SECRET_KEYS": text}).keys) == ["new", "old"]


@pytest.mark.parametrize(
    ("entry", "hidden"),
    [
        ({"event": "x", "password": "hunter2"}, "hunter2"),
        ({"event": "x", "api_key": "yfk_abcdef123456"}, "abcdef123456"),
        ({"event": "sent Bearer abcdef.ghijkl to it"}, "abcdef.ghijkl"),
        ({"event": "POST /in/abcdefghijklmnop came"}, "abcdefghijklmnop"),
        ({"event": "secret whsec_MfKQ9r8GKYqrTwjU was used"}, "MfKQ9r8GKYqrTwjU"),
        ({"path": "/reconnect/yrl_01ABCDEFGHabcdefgh"}, "ABCDEFGHabcdefgh"),
        ({"path": "/decide/01M8G259R8CRJQ6FGMEANZAM1F"}, "M8G259R8CRJQ6F"),
    ],
)
def test_logs_never_show_a_secret(entry, hidden):
    assert hidden not in str(log._redact(None, "", dict(entry)))


def test_a_nudge_leaves_after_the_commit_and_not_without_one(database, nudges):
    with transaction(EVERY) as session:
        queue.nudge(session, "webhooks.drain")
        assert nudges == []
    assert nudges == ["webhooks.drain"]
    with pytest.raises(ZeroDivisionError), transaction(EVERY) as session:
        queue.nudge(session, "webhooks.drain")
        raise ZeroDivisionError
    assert nudges == ["webhooks.drain"]


def test_a_failing_sweep_does_not_stop_the_others(monkeypatch):
    done = []
    sweeps = [
        queue.Sweep("broken", lambda: 1 // 0),
        queue.Sweep("fine", lambda: done.append(1) or 3),
    ]
    monkeypatch.setattr(queue, "SWEEPS", sweeps)
    assert queue.sweep_once() == 3
    assert done == [1]


HEARS = """
import threading, time
from kernel import queue

heard = threading.Event()
queue.configure()
queue.celery.task(heard.set, name="kernel.test_bell")
queue.start_embedded_worker()
time.sleep(1.5)
took = []
for _ in range(3):  # a busy machine may be late once
    heard.clear()
    started = time.monotonic()
    queue.nudge(None, "kernel.test_bell")
    assert heard.wait(20)
    took.append(time.monotonic() - started)
assert min(took) < 1, took
"""


def test_the_embedded_worker_hears_a_nudge_soon():
    """In a process of its own: the worker stays, and would drain what later tests store."""
    environment = {**os.environ, "YANGFAN_BROKER_URL": "memory://", "YANGFAN_WORKER_THREADS": "2"}
    subprocess.run([sys.executable, "-c", HEARS], env=environment, check=True, timeout=60)


def test_domain_events_go_through_every_door_in_the_same_transaction(monkeypatch):
    seen = []
    monkeypatch.setattr(outbox, "DOORS", [lambda *a: seen.append(a) or "evt_1"])
    assert outbox.emit("session", "org_1", "installation.created", {"app": "x"}, "ins_1") == [
        "evt_1"
    ]
    assert seen == [("session", "org_1", "installation.created", {"app": "x"}, "ins_1")]
