"""Spreadsheets: read as they are, matched by what people call things, let in once."""

import base64
import io
import zipfile

import openpyxl
import pytest
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    sign_in,
)
from sqlalchemy import select

from catalog import event_types
from connectors.sheets import cells, grids, matching, rows, turns, uploads
from connectors.sheets.fields import of_schema
from connectors.sheets.rows import Plan
from connectors.sheets.tables import SheetUpload
from kernel import clock
from kernel.database import EVERY, StoreUnavailable, reading, transaction, write
from kernel.errors import Conflict, Invalid
from webhooks import quotas
from webhooks.tables import EVENT, Event

CUSTOMERS = (
    "公司,客户编号,客户名称,税号,电话,建档时间\n"
    "QIHANG,C-001,无锡恒达电机有限公司,91320200MA1X4TUQ21,13800000000,2026/11/22 9:30\n"
    'QIHANG,0042,"扬州""启航""\n轴承",,0514-8000000,2026年11月22日\n'
)
ORDERS = (
    "渠道,订单编号,客户编号,客户名称,物料编码,名称,数量,单价,订单金额,下单时间\n"
    "web-shop,SO-1,C-1,甲,A-1,轴承,2,88.00,200.00,2026-11-22 09:30:00\n"
    "web-shop,SO-1,C-1,甲,A-2,密封圈,1,24.00,200.00,2026-11-22 09:30:00\n"
    "自有网店,SO-2,C-2,乙,A-1,轴承,1,88.00,88.00,2026-11-22 10:30:00\n"
)


def workbook(lines, **kinds):
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def read(raw):
    grid = grids.read(raw)
    return grid.header, [row.cells for row in grid.rows()]


# --- reading ---


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16"])
def test_text_files_are_read_in_the_charsets_that_programs_write(charset):
    header, found = read(CUSTOMERS.encode(charset))
    assert header[:3] == ("公司", "客户编号", "客户名称")
    assert found[1][:3] == ("QIHANG", "0042", '扬州"启航"\n轴承')


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_whatever_stands_between_cells(sign):
    assert read(f"a{sign}b{sign}c\n1{sign}{sign}3\n".encode()) == (
        ("a", "b", "c"), [("1", "", "3")],
    )  # fmt: skip


def test_digits_zeros_and_what_looks_like_a_formula_stay():
    raw = "单号,数量,备注\n1234567890123456789,007,=1+1\n".encode()
    assert read(raw)[1] == [("1234567890123456789", "007", "=1+1")]
    book = workbook([["单号", "数量", "备注"], ["1234567890123456789", 7.5, "=1+1"]])
    # a formula's last value is taken; nobody calculated this one
    assert read(book)[1] == [("1234567890123456789", "7.5", "")]


def test_numbers_of_which_excel_lost_digits_are_said_so():
    raw = workbook([["公司", "客户编号", "客户名称"], ["Q", 1234567890123450000, "甲"]])
    plan = plan_for("customer.created", read(raw)[0])
    made = next(rows.made(plan, grids.read(raw).rows()))
    assert "15 位" in made.wrong[0].say["zh"]


def test_a_header_may_come_late_and_rows_may_be_short():
    assert read(b"\n\n,,\na,b\n1\n\n2,3,4\n") == (("a", "b"), [("1", ""), ("2", "3")])


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b"0" * (70 << 20))
    return file.getvalue()


def entity():
    """A workbook whose strings would read a file of ours."""
    raw = workbook([["a"], ["b"]])
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for part in old.namelist():
            text = old.read(part)
            if part == "xl/worksheets/sheet1.xml":
                text = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + text
            new.writestr(part, text)
    return out.getvalue()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xd0\xcf\x11\xe0" + b"0" * 100, "old Excel"),
        (b"PK\x03\x04 not really", "damaged"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no spreadsheet"),
        (b"a" * (grids.MAX_BYTES + 1), "larger"),
        (b'a,b\n"open,1\n' + b"x" * 200_000, "cannot be read"),
        (bomb(), "unpacks"),
        (entity(), "damaged"),
    ],
    ids=["none", "lines", "xls", "zip", "png", "large", "quote", "bomb", "entity"],
)
def test_what_is_no_spreadsheet_is_refused_in_words(raw, words):
    with pytest.raises(Invalid) as refused:
        list(grids.read(raw).rows())
    assert words in refused.value.plain()


def test_too_many_rows_are_refused(monkeypatch):
    monkeypatch.setattr(grids, "MAX_ROWS", 2)
    with pytest.raises(Invalid, match="more than"):
        list(grids.read(b"a\n1\n2\n3\n").rows())


# --- matching and typing ---


def plan_for(name, header, **fixed):
    found = event_types.built_in()[name, 1]
    columns = matching.match(header, of_schema(found.schema))
    return Plan.of(found, columns, fixed)


def test_columns_are_known_by_what_people_call_them():
    header = CUSTOMERS.splitlines()[0].split(",")
    columns = plan_for("customer.created", header).columns
    assert {name: header[place] for name, place in columns.items()} == {
        "company": "公司", "no": "客户编号", "name": "客户名称",
        "tax_id": "税号", "phone": "电话", "created_at": "建档时间",
    }  # fmt: skip
    english = matching.match(
        ["Company", "Number", "NAME", "Tax ID"],
        of_schema(event_types.built_in()["customer.created", 1].schema),
    )
    assert english == {"company": 0, "no": 1, "name": 2, "tax_id": 3}


def test_rows_about_the_same_thing_become_one_event():
    raw = ORDERS.encode()
    plan = plan_for("order.placed", read(raw)[0])
    assert [one.name for one in plan.missing()] == []
    found = list(rows.made(plan, grids.read(raw).rows()))
    assert [(one.first_row, one.last_row, one.wrong) for one in found] == [(2, 3, []), (4, 4, [])]
    assert found[0].data["lines"][0]["item"] == {"sku": "A-1", "name": "轴承"}
    assert found[0].data["customer"] == {"id": "C-1", "name": "甲"}
    first = found[0].data
    assert first["order_no"] == "SO-1"
    assert first["placed_at"] == "2026-11-22T09:30:00+08:00"
    assert first["total"] == {"value": "200.00", "currency": "CNY"}
    assert [one["line_id"] for one in first["lines"]] == ["1", "2"]
    assert first["lines"][0]["quantity"] == {"value": "2", "unit_code": "C62"}
    assert found[1].data["channel"] == "web-shop"  # what people call it stands for its code
    for one in found:
        assert rows.judged(plan, one).wrong == []


def test_what_is_wrong_is_said_cell_by_cell():
    raw = ORDERS.replace("88.00,200.00,2026-11-22 09:30:00", "很多,200.00,昨天", 1).encode()
    plan = plan_for("order.placed", read(raw)[0])
    wrong = next(rows.made(plan, grids.read(raw).rows())).wrong
    assert {(one.row, one.field, one.text) for one in wrong} == {
        (2, "lines[].unit_price.value", "很多"), (2, "placed_at", "昨天"),
    }  # fmt: skip


def test_keys_are_of_what_names_the_thing_and_of_nothing_else():
    plan = plan_for("customer.created", CUSTOMERS.splitlines()[0].split(","))

    def keys(text):
        return [one.key for one in rows.made(plan, grids.read(text.encode()).rows())]

    first = keys(CUSTOMERS)
    assert len(set(first)) == 2
    assert keys(CUSTOMERS.replace("13800000000", "13900000000")) == first
    assert keys(CUSTOMERS.replace("C-001", "C-002"))[0] != first[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-22", "2026-11-22T00:00:00+08:00"),
        ("2026/1/2 3:04", "2026-01-02T03:04:00+08:00"),
        ("2026年11月22日 09时30分", "2026-11-22T09:30:00+08:00"),
        ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00Z"),
        ("2026-11-22 09:30:00+0530", "2026-11-22T09:30:00+05:30"),
    ],
)
def test_times_as_people_write_them(text, wanted):
    assert cells.moment(text) == wanted


@pytest.mark.parametrize("text", ["", "11/22/2026", "2026-13-01", "2026-02-30", "今天"])
def test_what_is_no_time(text):
    with pytest.raises(cells.BadCell):
        cells.moment(text)


# --- letting in ---


@pytest.fixture
def firm(app):
    quotas.forget()
    with transaction(EVERY) as session:
        return make_organization(session).id


def sent(organization_id, text=CUSTOMERS, **more):
    content = text if isinstance(text, bytes) else text.encode()
    with transaction(organization_id) as session:
        upload = uploads.send_in(
            session, organization_id, name="客户.csv", content=content, uploaded_by="A", **more
        )
        return upload.id


def let_in(organization_id, upload_id):
    with transaction(organization_id) as session:
        uploads.let_in(session, uploads.find(session, organization_id, upload_id))
    turns.work_all("w1")
    with reading(organization_id) as session:
        return uploads.find(session, organization_id, upload_id)


def events_of(organization_id):
    with reading(organization_id) as session:
        return list(session.execute(Event.of(organization_id).order_by(EVENT.c.id)).scalars())


def test_a_file_comes_in_once_however_often_it_is_sent(firm):
    upload_id = sent(firm)
    with reading(firm) as session:
        upload = uploads.find(session, firm, upload_id)
        assert upload.event_type == "customer.created"  # found out from the columns
        preview = uploads.preview(session, upload)
    assert (preview.events, preview.good, preview.wrong) == (2, 2, [])
    done = let_in(firm, upload_id)
    assert (done.state, done.new_count, done.known_count, done.bad_count) == ("done", 2, 0, 0)
    assert done.content is None
    assert [one.type for one in events_of(firm)] == ["customer.created"] * 2
    longer = sent(firm, CUSTOMERS + "QIHANG,C-777,丙,,,2026-11-23\n")
    again = let_in(firm, longer)
    assert (again.new_count, again.known_count) == (1, 2)
    assert len(events_of(firm)) == 3


def test_what_cannot_come_in_is_left_out_and_told(firm):
    text = CUSTOMERS + "QIHANG,,丁,,,2026-11-23\nQIHANG,C-9,戊,,,何时\n"
    done = let_in(firm, sent(firm, text))
    assert (done.new_count, done.bad_count) == (2, 2)
    assert [one["row"] for one in done.problems] == [4, 5]
    assert len(events_of(firm)) == 2


def test_a_worker_that_dies_leaves_nothing_twice_and_nothing_out(firm, monkeypatch):
    lines = "".join(f"QIHANG,C-{n},客户 {n},,,2026-11-22\n" for n in range(450))
    upload_id = sent(firm, CUSTOMERS.splitlines()[0] + "\n" + lines)
    with transaction(firm) as session:
        uploads.let_in(session, uploads.find(session, firm, upload_id))
    real, calls = turns.fetched.take_in, []

    class Killed(BaseException):
        pass

    def dying(source, new):
        stored = real(source, new)
        calls.append(len(new))
        if len(calls) == 13:
            raise Killed  # between the events' commit and the note of how far it is
        return stored

    monkeypatch.setattr(turns.fetched, "take_in", dying)
    with pytest.raises(Killed):
        turns.work_all("w1")
    assert len(events_of(firm)) == 260
    with reading(firm) as session:
        assert uploads.find(session, firm, upload_id).done_row == 201
    assert write(lambda session: turns.claim(session, "w2")) is None  # still leased
    write(lambda session: turns.release(session, "w1"))
    turns.work_all("w2")
    with reading(firm) as session:
        done = uploads.find(session, firm, upload_id)
    assert (done.state, done.new_count, done.known_count) == ("done", 390, 60)
    assert len(events_of(firm)) == 450


def test_a_store_that_is_away_for_a_moment_leaves_no_row_out(firm, monkeypatch):
    upload_id = sent(firm)
    with transaction(firm) as session:
        uploads.let_in(session, uploads.find(session, firm, upload_id))
    real = turns.fetched.take_in

    def away(source, new):
        raise StoreUnavailable

    monkeypatch.setattr(turns.fetched, "take_in", away)
    turns.work_all("w1")
    with reading(firm) as session:
        kept = uploads.find(session, firm, upload_id)
        assert (kept.state, kept.content is None) == ("leased", False)
    monkeypatch.setattr(turns.fetched, "take_in", real)
    write(lambda session: turns.release(session, "w1"))
    turns.work_all("w2")
    assert len(events_of(firm)) == 2


def test_a_late_worker_writes_nothing_down(firm):
    upload_id = sent(firm)
    with transaction(firm) as session:
        uploads.let_in(session, uploads.find(session, firm, upload_id))
    slow = write(lambda session: turns.claim(session, "w1"))
    write(lambda session: turns.release(session, "w1"))
    turns.work_all("w2")
    turns.take(slow)
    with reading(firm) as session:
        done = uploads.find(session, firm, upload_id)
    assert (done.state, done.new_count, done.known_count) == ("done", 2, 0)


def test_a_used_up_quota_waits_and_goes_on(firm, monkeypatch):
    upload_id = sent(firm)
    with transaction(firm) as session:
        uploads.let_in(session, uploads.find(session, firm, upload_id))
    real = turns.fetched.take_in

    def full(source, new):
        raise turns.OverQuota(retry_after_seconds=60)

    monkeypatch.setattr(turns.fetched, "take_in", full)
    turns.work_all("w1")
    with reading(firm) as session:
        waiting = uploads.find(session, firm, upload_id)
        assert (waiting.state, waiting.done_row) == ("waiting", 0)
        assert waiting.next_at > clock.now()
    monkeypatch.setattr(turns.fetched, "take_in", real)
    with transaction(firm) as session:
        uploads.find(session, firm, upload_id).next_at = clock.now()
    turns.work_all("w1")
    assert len(events_of(firm)) == 2


def test_nothing_comes_in_while_something_needed_is_missing(firm):
    upload_id = sent(firm, "客户编号,客户名称\nC-1,甲\n", event_type="customer.created")
    with transaction(firm) as session:
        upload = uploads.find(session, firm, upload_id)
        with pytest.raises(Invalid) as missing:
            uploads.let_in(session, upload)
        assert missing.value.errors[0]["pointer"] == "/columns/company"
        with pytest.raises(Invalid):
            uploads.arrange(session, upload, {"no": 9}, {})
        uploads.arrange(session, upload, upload.columns, {"company": "QIHANG"})
    done = let_in(firm, upload_id)
    assert (done.new_count, done.bad_count) == (1, 0)
    with transaction(firm) as session, pytest.raises(Conflict):
        uploads.let_in(session, uploads.find(session, firm, upload_id))


def test_files_that_nobody_lets_in_go(firm):
    upload_id = sent(firm)
    write(turns.forget_old)
    with transaction(firm) as session:
        uploads.find(session, firm, upload_id).next_at = clock.now()
    assert write(turns.forget_old) >= 1
    with reading(EVERY) as session:
        gone = select(SheetUpload).where(SheetUpload.id == upload_id)
        assert session.execute(gone).first() is None


@pytest.mark.parametrize("name", ["customer.created", "order.placed", "stock.counted"])
def test_a_template_filled_with_its_example_comes_in(firm, name):
    """A real program saves the template again; here it is read as it is."""
    with reading(firm) as session:
        raw = uploads.template(session, firm, name, "zh")
    upload_id = sent(firm, raw, event_type=name)
    done = let_in(firm, upload_id)
    assert (done.new_count, done.bad_count, done.problems) == (1, 0, [])


def test_the_api_does_all_of_it(app, client):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        key = make_api_key(session, organization)
        organization_id = organization.id
    body = {"name": "客户.csv", "content_base64": base64.b64encode(CUSTOMERS.encode()).decode()}
    made = client.post("/api/v1/sheets", json=body, headers=bearer(key))
    assert made.status_code == 201, made.json
    assert (made.json["events"], made.json["missing"]) == (2, [])
    path = f"/api/v1/sheets/{made.json['id']}"
    columns = {"columns": made.json["columns"], "fixed": {"group": "重点"}}
    assert client.post(f"{path}/columns", json=columns, headers=bearer(key)).status_code == 200
    assert client.post(f"{path}/let-in", headers=bearer(key)).json["state"] == "waiting"
    turns.work_all("w1")
    shown = client.get(path, headers=bearer(key)).json
    assert (shown["state"], shown["new_count"]) == ("done", 2)
    assert client.get("/api/v1/sheets", headers=bearer(key)).json["items"]
    bad = client.post(
        "/api/v1/sheets", json={"name": "x", "content_base64": "?"}, headers=bearer(key)
    )
    assert bad.status_code == 422
    assert len(events_of(organization_id)) == 2


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_pages_do_all_of_it(app, client, language):
    with transaction(EVERY) as session:
        organization = make_organization(session)
        member = make_member(session, organization, role="owner")
        organization_id = organization.id
        sign_in(client, session, member)
    page = client.get(f"/sheets?lang={language}", headers={"Accept": "text/html"}).text
    assert ("把表格带进来" if language == "zh" else "Bring a spreadsheet in") in page
    form = {"csrf_token": csrf_of(client, "/sheets")}
    nothing = client.post("/sheets", data=form)
    assert nothing.status_code == 422
    file = (io.BytesIO(CUSTOMERS.encode("gbk")), "客户.csv")
    made = client.post("/sheets", data={**form, "file": file})
    assert made.status_code == 303, made.text
    page = client.get(made.location).text
    assert "无锡恒达电机有限公司" in page
    arranged = client.post(f"{made.location}/columns", data={**form, "fixed.company": "Q"})
    assert arranged.status_code == 303
    assert ("还没有填" if language == "zh" else "Not filled yet") in client.get(made.location).text
    again = {"event_type": "customer.created"}
    assert client.post(f"{made.location}/type", data={**form, **again}).status_code == 303
    assert client.post(f"{made.location}/let-in", data=form).status_code == 303
    turns.work_all("w1")
    page = client.get(made.location).text
    assert ("已完成" if language == "zh" else "Done") in page
    assert len(events_of(organization_id)) == 2
    gone = client.post(f"{made.location}/give-up", data=form)
    assert gone.status_code == 409
    template = client.get("/sheet-template?event_type=stock.counted")
    assert template.data.startswith(b"PK")
    assert client.get("/sheet-template?event_type=nonsense").status_code == 404
