"""Files over SFTP against OpenSSH and asyncssh: found, read row by row, moved aside, put there."""

import io
import json
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest
from factories.file_servers import SSHD, openssh, with_password
from factories.mail_servers import scripted

from connectors.engine import answers, listings, loader, reconcile, requests, triggers
from connectors.engine.connector import ConnectionValues
from connectors.transports import drops, papers, sending, sftp
from kernel.settings import settings_override

needs_sshd = pytest.mark.skipif(not Path(SSHD).exists(), reason="OpenSSH's server is not installed")
CONNECTOR = "sftp-files"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sshd")
    with (
        openssh(folder) as running,
        settings_override(outbound_allow=(f"127.0.0.1:{running.port}",)),
    ):
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nobody writes to these files: do not wait whether they grow."""
    monkeypatch.setattr(sftp.time, "sleep", lambda _seconds: None)


def by_key(server, host_key=None, private_key=None):
    settings = {"server": f"sftp://127.0.0.1:{server.port}"}
    settings["host_key"] = server.fingerprint if host_key is None else host_key
    fields = {"username": server.username, "private_key": private_key or server.private_key}
    return ConnectionValues(
        settings={k: v for k, v in settings.items() if v}, auth="key", fields=fields
    )


def by_password(server, password):
    settings = {"server": f"sftp://127.0.0.1:{server.port}", "host_key": server.fingerprint}
    fields = {"username": server.username, "password": password}
    return ConnectionValues(settings=settings, auth="password", fields=fields)


def check(way):
    return sending.send(requests.build_lifecycle(loader.find(CONNECTOR), "test", way, {}))


def act(way, action, given, key="eff_1"):
    connector = loader.find(CONNECTOR)
    return answers.read(
        connector, action, sending.send(requests.build(connector, action, given, way, key))
    )


def look(way, trigger_key, page=None, token=None, **given):
    connector = loader.find(CONNECTOR)
    plan = connector.triggers[trigger_key].reconcile
    asked = {"since": "2026-01-01T00:00:00Z", "until": None, "page": page, "token": token}
    request = requests.build_list(connector, plan, way, given, asked)
    return listings.read_list(connector, plan, asked, sending.send(request))


def events(way, pages=50, **given):
    """Read all pages as a look does, and return the events and the token at the end."""
    connector = loader.find(CONNECTOR)
    trigger = connector.triggers["rows_received"]
    found, page, token = [], None, given.pop("token", None)
    for _ in range(pages):
        answer = look(way, "rows_received", page=page, token=token, **given)
        assert answer.kind == "ok", (answer.say, answer.detail)
        for item in answer.output["items"]:
            made = reconcile.rebuilt(trigger.reconcile, item)
            found += triggers.read(trigger, made.headers, made.raw)
        token = answer.output.get("token") or token
        page = reconcile.next_page(trigger.reconcile, answer.output)
        if page is None:
            return found, token
    raise AssertionError("no end")


def put(server, name, content, folder="in"):
    place = server.files / folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return place


@pytest.fixture
def inbox(server):
    """A fresh folder for each test."""
    name = f"in-{time.monotonic_ns()}"
    (server.files / name).mkdir()
    return name


# --- who is there ---


@needs_sshd
def test_a_server_is_known_by_its_key(server):
    first = check(by_key(server, host_key=""))
    assert first.status == 428
    assert server.fingerprint in json.loads(first.body)["message"]
    assert check(by_key(server)).status == 200
    other = check(by_key(server, host_key="SHA256:" + "A" * 43))
    assert other.status == 409
    read = answers.read_lifecycle(loader.find(CONNECTOR), "test", other)
    assert (read.kind, read.cause) == ("fail", "config")
    assert "指纹变了" in read.say["zh"]


@needs_sshd
def test_a_key_that_lost_its_line_breaks_in_a_form_still_opens(server):
    assert check(by_key(server, private_key=server.private_key.replace("\n", ""))).status == 200
    assert check(by_key(server, private_key="nonsense")).status == 401


def test_passwords_go_only_to_the_server_that_was_agreed_upon(tmp_path):
    with with_password(tmp_path / "files", "yangfan", "example-word") as running:
        with settings_override(outbound_allow=(f"127.0.0.1:{running.port}",)):
            assert check(by_password(running, "example-word")).status == 200
            assert check(by_password(running, "wrong")).status == 401


def test_private_addresses_and_other_ports_are_refused():
    for server in ("sftp://127.0.0.1:22", "sftp://10.0.0.1", "sftp://files.example:25"):
        way = ConnectionValues(
            settings={"server": server, "host_key": "SHA256:" + "A" * 43},
            auth="password",
            fields={"username": "u", "password": "p"},
        )
        assert check(way).kind == "refused_address"


def test_a_server_that_never_gets_to_the_point_is_cut_off():
    with scripted(drip=0.1) as (port, _), settings_override(outbound_allow=(f"127.0.0.1:{port}",)):
        way = ConnectionValues(
            settings={"server": f"sftp://127.0.0.1:{port}"},
            auth="password",
            fields={"username": "u", "password": "p"},
        )
        request = requests.build_lifecycle(loader.find(CONNECTOR), "test", way, {})
        began = time.monotonic()
        outcome = sending.send(replace(request, timeout_seconds=1))
    assert time.monotonic() - began < 4
    assert outcome.kind in ("timeout", "connect")


# --- files ---


@needs_sshd
def test_files_are_found_when_they_are_whole(server, inbox):
    for name in ("a.csv", "b.csv", "c.csv.part", ".hidden.csv", "d.txt"):
        put(server, name, "x", inbox)
    (server.files / inbox / "e.csv").mkdir()
    way = by_key(server)
    found = look(way, "file_received", folder=inbox, pattern="*.csv").output["items"]
    assert [one["name"] for one in found] == ["a.csv", "b.csv"]
    assert found[0]["path"] == f"{inbox}/a.csv"
    os.utime(server.files / inbox / "a.csv", (1, 1))
    found = look(way, "file_received", folder=inbox, pattern="*.csv").output["items"]
    assert [one["name"] for one in found] == ["b.csv"]  # the other is older than the look
    missing = look(way, "file_received", folder="nowhere")
    assert (missing.kind, missing.cause) == ("fail", "config")


@needs_sshd
def test_a_file_that_still_grows_is_left_alone(server, inbox, monkeypatch):
    place = put(server, "a.csv", "a\n1\n", inbox)
    monkeypatch.setattr(sftp.time, "sleep", lambda _seconds: place.write_text("a\n1\n2\n"))
    assert look(by_key(server), "file_received", folder=inbox).output["items"] == []


# --- rows ---


@needs_sshd
@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
def test_rows_come_in_as_they_are(server, inbox, charset):
    text = '编号,名称,备注\r\n0012345678901234567,"轴承\n大","=1+1"\r\n\r\n2,乙\r\n'
    put(server, "a.csv", text.encode(charset), inbox)
    found, _ = events(by_key(server), folder=inbox)
    assert [one.type for one in found] == ["row.received"] * 2
    assert found[0].data == {
        "file": "a.csv", "row": 2,
        "values": {"编号": "0012345678901234567", "名称": "轴承\n大", "备注": "=1+1"},
    }  # fmt: skip
    assert found[1].data["values"] == {"编号": "2", "名称": "乙", "备注": ""}
    # read to its end, it is moved aside, and nothing comes a second time
    assert (server.files / inbox / "done" / "a.csv").exists()
    assert events(by_key(server), folder=inbox)[0] == []


@needs_sshd
def test_a_file_of_a_name_that_was_done_is_kept_as_well(server, inbox):
    for text in ("a\n1\n", "a\n2\n"):
        put(server, "a.csv", text, inbox)
        events(by_key(server), folder=inbox)
    assert len(list((server.files / inbox / "done").iterdir())) == 2


@needs_sshd
def test_rows_of_one_order_become_one_event_also_over_the_edge_of_a_page(server, inbox):
    head = "渠道,订单编号,客户编号,物料编码,数量,单价,订单金额,下单时间\n"
    lines = [
        f"web-shop,SO-{number // 7},C-1,A-{number},1,2.00,14.00,2026-11-22 09:30\n"
        for number in range(1400)
    ]
    put(server, "orders.csv", head + "".join(lines), inbox)
    found, _ = events(by_key(server), folder=inbox, event_type="order.placed")
    assert [one.type for one in found] == ["order.placed"] * 200
    assert [one.data["order_no"] for one in found] == [f"SO-{n}" for n in range(200)]
    assert {len(one.data["lines"]) for one in found} == {7}
    assert len({one.dedupe_key for one in found}) == 200


@needs_sshd
def test_what_cannot_be_read_is_told_and_holds_nothing_up(server, inbox):
    head = "渠道,单据,客户编号,物料编码,数量,单价,订单金额,下单时间\n"
    put(
        server, "o.csv",
        head + "x,SO-1,C,A,很多,2,2,2026-11-22\nx,SO-2,C,A,1,2,2,2026-11-22\n", inbox,
    )  # fmt: skip
    way = by_key(server)
    lacking = look(way, "rows_received", folder=inbox, event_type="order.placed")
    assert lacking.kind == "fail"
    assert "order_no" in lacking.detail
    found, _ = events(
        way, folder=inbox, event_type="order.placed", columns="order_no=单据; channel='pos'"
    )
    assert [one.type for one in found] == ["row.rejected", "order.placed"]
    assert found[0].data["problems"][0]["text"] == "很多"
    assert found[0].data["row"] == 2
    assert found[1].data["channel"] == "x"  # the fixed text stands in only where nothing stands


@needs_sshd
def test_workbooks_are_read_too(server, inbox):
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (["编号", "数量"], ["007", 3], ["008", 4]):
        book.active.append(row)
    book.save(file)
    put(server, "a.xlsx", file.getvalue(), inbox)
    found, _ = events(by_key(server), folder=inbox, pattern="*.xlsx")
    assert [one.data["values"] for one in found] == [
        {"编号": "007", "数量": "3"}, {"编号": "008", "数量": "4"},
    ]  # fmt: skip


@needs_sshd
def test_files_that_stay_are_read_once_in_the_order_of_their_names(server, inbox):
    put(server, "2026-11-01.csv", "a\n1\n", inbox)
    put(server, "2026-11-02.csv", "a\n2\n", inbox)
    way = by_key(server)
    found, token = events(way, folder=inbox, when_done="keep")
    assert [one.data["values"]["a"] for one in found] == ["1", "2"]
    assert token == "2026-11-02.csv"
    put(server, "2026-11-03.csv", "a\n3\n", inbox)
    found, token = events(way, folder=inbox, when_done="keep", token=token)
    assert [one.data["values"]["a"] for one in found] == ["3"]


@needs_sshd
def test_a_page_asked_for_again_gives_the_same_rows(server, inbox):
    put(server, "a.csv", "a\n" + "".join(f"{n}\n" for n in range(1200)), inbox)
    way = by_key(server)
    first = look(way, "rows_received", folder=inbox)
    again = look(way, "rows_received", folder=inbox)
    assert first.output == again.output
    assert len(first.output["items"]) == 500
    second = look(way, "rows_received", folder=inbox, page=first.output["next"])
    assert second.output["items"][0]["data"]["values"]["a"] == "500"
    # somebody writes the file anew meanwhile: it is begun again, the rows known by their ids
    put(server, "a.csv", "a\n7\n", inbox)
    anew = look(way, "rows_received", folder=inbox, page=second.output["next"])
    assert [one["data"]["values"]["a"] for one in anew.output["items"]] == ["7"]


def test_a_cell_without_an_end_is_told_with_the_files_name():
    raw = b'a,b\n1,"' + b"x" * 200_000 + b'"\n'

    class Here:
        def names(self, folder, pattern, stable_seconds):
            return [drops.Found("odd.csv", len(raw), 1)]

        def open(self, path):
            return io.BytesIO(raw)

    with pytest.raises(drops.BadFile, match=r"odd\.csv"):
        drops.page(Here(), {"folder": "/in"})


def test_a_hundred_thousand_rows_need_little_memory(tmp_path):
    """Without a server in between: a page reads a piece of the file, whatever its size."""
    big = tmp_path / "big.csv"
    with big.open("w") as file:
        file.write("编号,名称,数量\n")
        for number in range(100_000):
            file.write(f'{number:019d},"轴承, 大",{number}\n')

    class Here:
        def names(self, folder, pattern, stable_seconds):
            return [drops.Found("big.csv", big.stat().st_size, 1)]

        def open(self, path):
            return big.open("rb")

        def move_aside(self, folder, name, aside):
            raise AssertionError("not yet")

    asked, count, page = {"folder": "x", "limit": 1000}, 0, None
    while True:
        if count == 50_000:
            tracemalloc.start()
        told = drops.page(Here(), {**asked, "page": page})
        if count == 50_000:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        count += len(told["items"])
        assert told["items"][-1]["data"]["values"]["编号"] == f"{count - 1:019d}"
        page = told["next"]
        if json.loads(page)[-1]:
            break
    assert count == 100_000
    assert peak < big.stat().st_size


# --- putting ---


@needs_sshd
def test_a_sheet_is_put_there_whole(server, inbox):
    way = by_key(server)
    rows = [{"sku": "007", "name": "=1+1", "count": 12}, {"sku": "1234567890123456789"}]
    given = {"folder": inbox, "name": "out.xlsx", "rows": rows}
    assert act(way, "put_sheet", given).kind == "ok"
    sheet = openpyxl.load_workbook(server.files / inbox / "out.xlsx").active
    assert [[cell.value for cell in row] for row in sheet] == [
        ["sku", "name", "count"], ["007", "=1+1", "12"], ["1234567890123456789", None, None],
    ]  # fmt: skip
    assert sheet["B2"].data_type == "s"
    answer = act(way, "put_sheet", {**given, "name": "out.csv", "columns": ["sku"]})
    assert answer.output["path"] == f"{inbox}/out.csv"
    text = (server.files / inbox / "out.csv").read_bytes()
    assert text == b"\xef\xbb\xbfsku\r\n007\r\n1234567890123456789\r\n"
    # once more, as after a lost answer: the file is the same and nothing lies around
    assert act(way, "put_sheet", {**given, "name": "out.csv", "columns": ["sku"]}).kind == "ok"
    assert sorted(one.name for one in (server.files / inbox).iterdir()) == ["out.csv", "out.xlsx"]


@needs_sshd
def test_what_cannot_be_put_is_refused_in_words(server, inbox):
    way = by_key(server)
    nowhere = act(way, "put_file", {"folder": "nowhere", "name": "a", "content_base64": "YQ=="})
    assert (nowhere.kind, nowhere.cause) == ("fail", "config")
    bad = act(way, "put_file", {"folder": inbox, "name": "a", "content_base64": "?"})
    assert (bad.kind, bad.cause) == ("fail", "data")
    climbing = act(way, "put_file", {"folder": inbox, "name": "..", "content_base64": "YQ=="})
    assert (climbing.kind, climbing.cause) == ("fail", "data")


def test_csv_is_written_so_that_it_reads_back():
    raw = papers.written("a.csv", [], [{"名称": '带,"引号"\n换行', "数": 1.50}])
    assert raw == '\ufeff名称,数\r\n"带,""引号""\n换行",1.5\r\n'.encode()
