"""The instruments of the later faults: the wire that can be harmed, the small disk, the judge."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from bench.faults import clocks, disks, slow
from bench.faults.judging import judge
from bench.faults.ledger import Ledger
from bench.faults.private_servers import ServiceMissingError
from bench.faults.proxy import LATE_SECONDS, Proxy
from bench.faults.stage import Verdict


class Echo:
    """Sends back what it is sent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(caller,), daemon=True).start()

    @staticmethod
    def answer(caller):
        with caller, contextlib.suppress(OSError):
            while data := caller.recv(65536):
                caller.sendall(data)


@pytest.fixture
def proxy():
    echo = Echo()
    made = Proxy(echo.port)
    yield made
    made.stop()
    echo.listener.close()


def dial(proxy, seconds=5.0):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=seconds)


def ask(wire, data=b"hello"):
    wire.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = wire.recv(65536)
        assert piece, "hung up"
        got += piece
    return got


def test_a_healthy_wire_carries_everything(proxy):
    with dial(proxy) as wire:
        assert ask(wire, b"x" * 100_000) == b"x" * 100_000
    assert proxy.harmed == 0


def test_a_cut_resets_old_and_new_connections_until_it_is_healed(proxy):
    with dial(proxy) as wire:
        ask(wire)
        proxy.harm("cut")
        with pytest.raises(ConnectionResetError):
            wire.recv(1)
    with pytest.raises(ConnectionResetError), dial(proxy) as wire:
        wire.recv(1)
    proxy.heal()
    with dial(proxy) as wire:
        assert ask(wire) == b"hello"


def test_a_hole_takes_and_never_answers_and_forgets_who_lived_through_it(proxy):
    with dial(proxy) as old, dial(proxy) as idle:
        ask(old)
        ask(idle)
        proxy.harm("hole")
        old.settimeout(0.3)
        old.sendall(b"lost")
        with dial(proxy, 0.3) as new:
            new.sendall(b"lost too")
            for wire in (old, new):
                with pytest.raises(TimeoutError):
                    wire.recv(1)
            proxy.heal()
            for wire in (old, new):
                wire.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    wire.recv(1)
        assert ask(idle) == b"hello", "nothing of it was lost"


def test_late_pieces_come_late_and_whole(proxy):
    with dial(proxy) as wire:
        ask(wire)
        proxy.harm("late")
        began = time.monotonic()
        assert ask(wire) == b"hello"
        assert time.monotonic() - began >= 2 * LATE_SECONDS


def test_a_trickle_comes_whole_and_gets_going_when_healed(proxy):
    with dial(proxy, 30) as wire:
        proxy.harm("trickle")
        wire.sendall(b"y" * 50_000)
        time.sleep(0.3)
        proxy.heal()
        got = b""
        while len(got) < 50_000:
            got += wire.recv(65536)
        assert got == b"y" * 50_000


def test_an_unknown_harm_is_refused(proxy):
    with pytest.raises(ValueError, match="fire"):
        proxy.harm("fire")


def test_slow_targets_are_slow_each_in_its_way(monkeypatch):
    monkeypatch.setattr(slow, "LATE_SECONDS", (0.3, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = slow.SlowServer(port)
    try:
        began = time.monotonic()
        assert post(port, "late", 5) == 200
        assert time.monotonic() - began >= 0.3
        with pytest.raises((http.client.HTTPException, OSError)):
            post(port, "hangup", 5)
        with pytest.raises(TimeoutError):
            post(port, "trickle", 0.2)
        assert server.taken == {"late": 1, "hangup": 1, "trickle": 1}
    finally:
        server.stop()


def post(port, way, seconds):
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    caller.request("POST", f"/{way}", b"{}")
    return caller.getresponse().status


def test_a_small_disk_runs_full_and_has_room_again(tmp_path):
    with ExitStack() as closing:
        try:
            disk = disks.Disk(tmp_path / "disk", 1, closing)
        except ServiceMissingError as missing:
            pytest.skip(str(missing))
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "one").write_bytes(b"x" * 5000)
        (disk.folder / "one").unlink()
        disk.empty()
        (disk.folder / "one").write_bytes(b"x" * 5000)
    assert not (tmp_path / "disk" / "one").exists(), "it is mounted no more"


def test_a_process_with_a_wrong_clock_is_an_hour_off_and_no_faster():
    code = (
        "import json, os, time; from bench.faults import starter; from marketplace import cli\n"
        "def run():\n"
        "    from kernel import clock\n"
        "    began = time.monotonic(); time.sleep(0.2)\n"
        "    print(time.time(), clock.now().timestamp(), time.monotonic() - began)\n"
        "cli._run = run; cli.run = lambda: cli._run(); starter.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | clocks.wrong_by(-3600),
        capture_output=True,
        check=True,
    )
    at, ours, waited = map(float, done.stdout.split())
    assert abs(time.time() - 3600 - at) < 60
    assert abs(ours - at) < 5
    assert 0.19 < waited < 20


def test_waits_are_from_the_2xx_to_the_first_arrival(tmp_path):
    ledger = Ledger(tmp_path)
    for number in (1, 2, 3):
        ledger.note_accepted(number, f"evt_{number}")
    ledger.note_arrival(ledger.endpoint, "evt_1", 1, b"x")
    ledger.endpoint.arrivals["evt_1"].at = ledger.accepted_at[1] + 2
    ledger.note_arrival(ledger.endpoint, "evt_3", 3, b"x")
    ledger.endpoint.arrivals["evt_3"].at = ledger.accepted_at[3] - 1
    assert ledger.waits(1, 4) == [0.0, 2.0]
    assert ledger.waits(2, 3) == []
    ledger.close()


@pytest.mark.parametrize(
    "more",
    [
        {"answers_while_full": ["202", "503"]},
        {"was_full": False},
        {"p99_without_ms": 100, "p99_with_ms": 5000},
        {"poison": {"send": {"set_aside": False, "after_s": 150}}},
        {"refusals": [{"status": 202, "code": None, "detail": None}]},
        {"refusals": [{"status": None}]},
        {"not_met": 1},
    ],
)
def test_what_the_later_faults_must_not_cause_is_trouble(more):
    assert list(judge("embedded fault", Verdict(accepted=1, more=more)))


def test_what_they_may_cause_is_none():
    more = {
        "answers_while_full": ["503"],
        "was_full": True,
        "retry_after": True,
        "p99_without_ms": 100,
        "p99_with_ms": 1900,
        "poison": {"send": {"set_aside": True, "after_s": 20}},
        "refusals": [{"status": 401, "code": "signature_too_old", "detail": "…"}],
        "not_met": 0,
    }
    assert list(judge("embedded fault", Verdict(accepted=1, more=more))) == []
    assert json.dumps(more)
