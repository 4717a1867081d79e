"""A shop owner brings a spreadsheet in: drops the file, sees what is wrong, lets the rest in."""

import io

import openpyxl
import pytest
import requests
from journeys.browser import DESKTOP, PHONE, Visitor
from journeys.town import PASSWORD, Person, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("sheets")]

HEAD = "渠道 订单编号 客户编号 客户名称 物料编码 名称 数量 单价 订单金额 下单时间"
ROWS = [
    HEAD.split(),
    ["自有网店", "SO-1", "C-1", "甲", "A-1", "轴承", "2", "88.00", "200.00", "2026-11-22 09:30"],
    ["自有网店", "SO-1", "C-1", "甲", "A-2", "密封圈", "1", "24.00", "200.00", "2026-11-22 09:30"],
    ["自有网店", "SO-2", "C-2", "乙", "A-1", "轴承", "很多", "88.00", "88.00", "昨天"],
]


def book() -> bytes:
    made, file = openpyxl.Workbook(), io.BytesIO()
    for row in ROWS:
        made.active.append(row)
    made.save(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def owner(hub):
    """Somebody with an empty firm."""
    who = {"organization_name": "表格五金", "name": "何洁", "email": "he@sheets.example"}
    requests.post(
        f"{hub.url}/api/v1/sign-up", json={**who, "password": PASSWORD}, timeout=60
    ).raise_for_status()
    return Person(hub.url, who["email"], PASSWORD)


@pytest.mark.parametrize(
    ("size", "language", "new"),
    [(DESKTOP, "zh-CN", 1), (PHONE, "en-GB", 0)],
    ids=["desktop-zh", "phone-en"],
)
def test_somebody_brings_a_spreadsheet_in(hub, owner, browser, size, language, new):
    mark = f"{language[:2]}-{size['width']}"
    visitor = Visitor(browser, hub.url, size=size, language=language, person=owner)
    visitor.go("/sheets")
    visitor.examine(f"sheets-{mark}")
    file = {"name": "订单.xlsx", "mimeType": "application/octet-stream", "buffer": book()}
    visitor.page.set_input_files("input[name=file]", file)
    visitor.press("form[enctype] button[type=submit]")
    words = visitor.page.inner_text("main")
    assert "很多" in words
    assert "昨天" in words
    visitor.examine(f"sheet-preview-{mark}")
    visitor.press("form[action$='/let-in'] button")
    path = visitor.page.url.split("?")[0].removeprefix(hub.url)
    wait_for(lambda: owner.call("GET", path)["state"] == "done")
    visitor.go(path)
    visitor.examine(f"sheet-done-{mark}")
    shown = owner.call("GET", path)
    # the second visitor sends the same file: nothing of it is new
    assert (shown["new_count"], shown["known_count"], shown["bad_count"]) == (new, 1 - new, 1)
    assert not visitor.complaints
