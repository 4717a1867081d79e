"""The harness of the job with real apps, tried on rooms that hold no real app."""

import fcntl
import itertools
import json
import os
import sys
from collections import Counter
from decimal import Decimal

import pytest
import requests

from bench.real import __main__ as real
from bench.real import flow, job
from bench.real.pretix import Pretix
from bench.real.redmine import Redmine
from bench.real.rooms import Deadline, NotInstalledError, PythonRoom, Room
from bench.real.tryton import Tryton
from connectors.engine import flow_templates, loader, schemas

SERVER = """
import http.server, pathlib, sys
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(pathlib.Path(sys.argv[2], "word").read_bytes())
    def log_message(self, *said): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
"""


class Kiosk(Room):
    """An app of a few lines that says a word which its base holds."""

    key = "kiosk"
    wants = "kiosk 1"
    made = 0

    def install(self):
        """Nothing to install."""

    def make_base(self):
        type(self).made += 1
        (self.base / "word").write_text(f"word {self.made}")
        return {"word": f"word {self.made}"}

    def version(self):
        return "1"

    def environment(self, state):
        return {"STATE": str(state)}

    def command(self):
        return (sys.executable, "-c", SERVER, str(self.port), str(self.state))

    def is_ready(self):
        return requests.get(self.url, timeout=2).text == self.facts["word"]


class Locked(Room):
    """An app that cannot be had here."""

    key = "locked"
    wants = "locked"

    def install(self):
        raise NotInstalledError("there is no key to it")


@pytest.fixture
def kiosk(tmp_path, monkeypatch):
    monkeypatch.setattr(Kiosk, "made", 0)
    room = Kiosk(tmp_path, Deadline(60))
    yield room
    room.stop()


# --- rooms ---------------------------------------------------------------------------------------


def test_a_base_is_made_once_and_every_run_begins_from_it(kiosk, tmp_path):
    kiosk.prepare()
    (kiosk.state / "word").write_text("changed in a run")
    again = Kiosk(tmp_path, Deadline(60))
    again.prepare()
    assert again.facts["word"] == "word 1"
    assert (again.state / "word").read_text() == "word 1"
    assert Kiosk.made == 1


def test_another_wish_makes_the_base_anew_and_so_does_a_half_made_one(kiosk, tmp_path, monkeypatch):
    kiosk.prepare()
    monkeypatch.setattr(Kiosk, "wants", "kiosk 2")
    other = Kiosk(tmp_path, Deadline(60))
    other.prepare()
    assert other.facts["word"] == "word 2"
    (other.base / "facts.json").unlink()  # a run that was broken off left no facts
    last = Kiosk(tmp_path, Deadline(60))
    last.prepare()
    assert last.facts["word"] == "word 3"


def test_an_app_is_started_and_ended_and_starts_again_at_its_address(kiosk):
    kiosk.prepare()
    kiosk.start()
    pid, address = kiosk.process.pid, kiosk.url
    assert requests.get(address, timeout=2).text == "word 1"
    kiosk.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=2)
    kiosk.start()
    assert requests.get(address, timeout=2).text == "word 1"
    kiosk.kill()
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=2)
    kiosk.stop()


def test_an_app_that_does_not_start_shows_its_log(kiosk, monkeypatch):
    kiosk.prepare()
    broken = (sys.executable, "-c", "raise SystemExit('no paper in the kiosk')")
    monkeypatch.setattr(Kiosk, "command", lambda self: broken)
    with pytest.raises(RuntimeError, match="no paper in the kiosk"):
        kiosk.start()
    assert kiosk.process is None


def test_a_tool_that_fails_or_takes_too_long_says_so_and_leaves_nothing_running(kiosk, tmp_path):
    kiosk.folder.mkdir()
    with pytest.raises(NotInstalledError, match="no such paper"):
        kiosk.tool(sys.executable, "-c", "raise SystemExit('no such paper')")
    note = tmp_path / "pid"
    slow = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(NotInstalledError, match="too long"):
        kiosk.tool(sys.executable, "-c", slow, seconds=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_tools_see_the_base_and_nothing_of_the_hubs_settings(kiosk, monkeypatch):
    monkeypatch.setenv("YANGFAN_SECRET_KEY", "the hub's")
    kiosk.folder.mkdir()
    code = "import os; print(os.environ['STATE'], 'YANGFAN_SECRET_KEY' in os.environ)"
    assert kiosk.tool(sys.executable, "-c", code).split() == [str(kiosk.base), "False"]


def test_a_package_is_installed_once_for_each_wish(tmp_path, monkeypatch):
    calls = []

    class Wheel(PythonRoom):
        key, package, wants = "wheel", "wheel", "wheel>=1"

        def tool(self, *command, **_):
            calls.append([str(part) for part in command][1:4])
            self.python.parent.mkdir(parents=True, exist_ok=True)
            self.python.touch()
            return ""

    Wheel(tmp_path, Deadline(60)).install()
    Wheel(tmp_path, Deadline(60)).install()
    assert calls == [["-m", "venv", str(tmp_path / "wheel" / "venv")], ["-m", "pip", "install"]]
    monkeypatch.setattr(Wheel, "wants", "wheel>=2")
    Wheel(tmp_path, Deadline(60)).install()
    assert len(calls) == 3


def test_redmine_says_why_it_cannot_be_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.real.redmine.HOME", tmp_path / "nowhere")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotInstalledError, match="Debian"):
        Redmine(tmp_path, Deadline(60)).install()
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NotInstalledError, match="root"):
        Redmine(tmp_path, Deadline(60)).install()


# --- the flow ------------------------------------------------------------------------------------

APPS = ("tryton", "redmine")


@pytest.mark.parametrize(
    "here", [some for n in range(3) for some in itertools.combinations(APPS, n)], ids="+".join
)
def test_the_flow_is_whole_with_whichever_apps_there_are(here):
    chosen = {key: f"con_{key}" for key in ("pretix", "demo-chat", *here)}
    document = flow.document(chosen, "src_1")
    assert flow_templates.check_flow(document) == []
    called = {step["connector"] for step in document["steps"] if "connector" in step}
    assert called == set(chosen)
    assert all(
        step["connection"] == f"con_{step['connector']}"
        for step in document["steps"]
        if "connector" in step
    )


@pytest.mark.parametrize("kind", [Pretix, Tryton, Redmine], ids=lambda kind: kind.key)
def test_connections_are_what_the_library_asks_for(kind, tmp_path):
    room = kind(tmp_path, Deadline(60))
    room.facts = {"token": "t", "key": "k", "company": 1}
    body = room.connection()
    connector = loader.find(body["connector"])
    way = connector.auth_by_id(body["auth"])
    assert set(body["fields"]) == set(way.fields)
    assert schemas.problems(connector.settings, body["settings"]) == []


# --- the count -----------------------------------------------------------------------------------


def sent(*codes):
    return job.Sent(dict.fromkeys(codes, ("a@example.com", 2)))


def test_only_what_is_everywhere_has_arrived_and_every_copy_is_counted():
    names = sent("A", "B", "C").references
    places = {"x": Counter(names), "y": Counter([*names[:2], names[0], "not ours"])}
    found = job.Found(places)
    assert found.arrived(names) == 2
    assert found.duplicates == 1
    assert found.strangers(names) == 1
    assert sent("A", "B").amount == Decimal("352.00")


def test_waiting_ends_when_all_is_there_or_time_is_up():
    one = sent("A")
    full = job.Found({"x": Counter(one.references)})
    empty = job.Found({"x": Counter()})
    seen = iter([empty, full])
    assert job.wait(lambda: next(seen), one, Deadline(60), 60) is full
    assert job.wait(lambda: empty, one, Deadline(60), 0) is empty
    assert job.wait(lambda: empty, one, Deadline(0), 60) is empty


GOOD = {
    "orders_sent": 51,
    "arrived": 51,
    "duplicates": 0,
    "strangers": 0,
    "amount_sent": "4576.00",
    "amount_booked": "4576.00",
}


@pytest.mark.parametrize(
    "bad",
    [
        {"arrived": 50},
        {"duplicates": 1},
        {"strangers": 1},
        {"amount_booked": "4488.00"},
        {"orders_sent": 0, "arrived": 0},
    ],
    ids=str,
)
def test_the_exit_code_tells_loss_copies_strangers_and_wrong_amounts(bad):
    assert real.is_good(GOOD)
    assert real.is_good({name: n for name, n in GOOD.items() if "amount" not in name})
    assert not real.is_good({**GOOD, **bad})


def test_what_is_not_there_is_named_with_its_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Kiosk, "made", 0)
    assert real.main([Kiosk, Locked], tmp_path) == 1
    told = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(told[-1])
    assert figures["apps"] == ["kiosk"]
    assert figures["not_installed"] == [{"app": "locked", "why": "there is no key to it"}]
    assert figures["versions"] == {"kiosk": "1"}
    assert (figures["orders_sent"], figures["arrived"], figures["duplicates"]) == (0, 0, 0)
    assert any("locked" in line and "no key" in line for line in told[:-1])


def test_two_runs_do_not_share_a_folder(tmp_path, capsys):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert real.main([Locked], tmp_path) == 1
    assert "another run" in capsys.readouterr().out
    assert not (tmp_path / "locked").exists()
