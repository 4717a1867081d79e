"""Polls of the library's connectors against small stand-ins of their apps that change meanwhile.

A list by time of change loses what changes while its pages are read: the rest moves up, and what
moved over the edge of a page is on neither. Whoever asks must come by it all the same.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from connectors.engine import listings, loader, reconcile, requests, triggers
from connectors.engine.connector import ConnectionValues
from kernel import http

BEIJING = timezone(timedelta(hours=8))
BEGUN = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
SINCE, UNTIL = BEGUN - timedelta(hours=6), BEGUN
MANY = 1_234


def busy() -> dict[int, datetime]:
    """Return many changes in the stretch, one from before it and one from after it."""
    times = (SINCE + timedelta(seconds=1 + number * 17 % 21_000) for number in range(1, MANY + 1))
    outside = (SINCE - timedelta(minutes=1), UNTIL + timedelta(minutes=1))
    return dict(enumerate((*times, *outside), start=1))


@dataclass
class App:
    """What changed when, by number; a `restless` one changes an early thing after each page."""

    restless: bool = False
    changed: dict[int, datetime] = field(default_factory=busy)
    touched: set[int] = field(default_factory=set)
    calls: int = 0

    def fitting(self, since: datetime, until: datetime) -> list[int]:
        """Return the numbers in the stretch, what changed first before the others."""
        found = [(at, number) for number, at in self.changed.items() if since <= at <= until]
        return [number for _, number in sorted(found)]

    def serve(self, listed: list[int], start: int, size: int) -> list[int]:
        """Return a page; afterwards the first thing of the list changes, if it is restless."""
        self.calls += 1
        page = listed[start : start + size]
        if self.restless and listed:
            self.touched.add(listed[0])
            self.changed[listed[0]] = UNTIL + timedelta(minutes=5, seconds=self.calls)
        return page

    def told(self, number: int) -> str:
        """Return when a thing changed, in Beijing's time."""
        return self.changed[number].astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")


def local(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING)


def form_of(request: http.Request) -> dict[str, str]:
    return {name: one[0] for name, one in parse_qs(request.body.decode()).items()}


def jushuitan(app: App, request: http.Request) -> object:
    """Pages by number, and whether more follow."""
    asked = json.loads(form_of(request)["biz"])
    listed = app.fitting(local(asked["modified_begin"]), local(asked["modified_end"]))
    start = (asked["page_index"] - 1) * asked["page_size"]
    more = start + asked["page_size"] < len(listed)
    ids = [(one, app.told(one)) for one in app.serve(listed, start, asked["page_size"])]
    rows = [{"o_id": one, "so_id": f"S{one}", "modified": at} for one, at in ids]
    name = "orders"
    if request.url.endswith("/inventory/query"):
        name, rows = "inventorys", [{"sku_id": f"K{one}", "modified": at} for one, at in ids]
    if request.url.endswith("/logistic/query"):
        rows = [{"so_id": f"S{one}", "l_id": f"L{one}", "send_date": at} for one, at in ids]
    return {"code": 0, "msg": "", "data": {name: rows, "has_next": more}}


def taobao(app: App, request: http.Request) -> object:
    """Pages by number, and how many there are; no list at all where there is nothing."""
    asked = form_of(request)
    since, until = local(asked["start_modified"]), local(asked["end_modified"])
    assert until - since <= timedelta(days=1)
    assert asked["use_has_next"] == "false"
    listed, size = app.fitting(since, until), int(asked["page_size"])
    page = app.serve(listed, (int(asked["page_no"]) - 1) * size, size)
    kind, outer, inner = "refunds_receive_get", "refunds", "refund"
    if asked["method"] == "taobao.trades.sold.increment.get":
        kind, outer, inner = "trades_sold_increment_get", "trades", "trade"
    names = {"tid", "refund_id", "modified"} & set(asked["fields"].split(","))
    told = [{"tid": one, "refund_id": str(one), "modified": app.told(one)} for one in page]
    rows = [{name: one[name] for name in names} for one in told]
    found = {outer: {inner: rows}} if rows else {}
    return {f"{kind}_response": {**found, "total_results": len(listed)}}


def youzan(app: App, request: http.Request) -> object:
    """Pages by number, a hundred at most, and how many things there are."""
    asked = json.loads(request.body)
    listed = app.fitting(local(asked["start_update"]), local(asked["end_update"]))
    assert asked["page_no"] <= 100
    page = app.serve(listed, (asked["page_no"] - 1) * asked["page_size"], asked["page_size"])
    told = [{"order_info": {"tid": f"E{one}", "update_time": app.told(one)}} for one in page]
    rows = [{"full_order_info": one} for one in told]
    data = {"full_order_info_list": rows, "total_results": len(listed)}
    return {"success": True, "code": 200, "data": data}


def yonsuite(app: App, request: http.Request) -> object:
    """Pages by number, and how many pages there are."""
    asked = json.loads(request.body)
    limits = asked["simpleVOs"][0]
    assert (limits["field"], limits["op"], asked["isSum"]) == ("pubts", "between", True)
    listed = app.fitting(local(limits["value1"]), local(limits["value2"]))
    size = asked["pageSize"]
    page = app.serve(listed, (asked["pageIndex"] - 1) * size, size)
    rows = [{"id": one, "code": f"SO{one}", "pubts": app.told(one)} for one in page]
    told = {"recordList": rows, "pageCount": -(-len(listed) // size), "recordCount": len(listed)}
    return {"code": "200", "message": "ok", "data": told}


def kingdee(app: App, request: http.Request) -> object:
    """Reads the filter as SQL would: between two times, and above a key."""
    asked = json.loads(request.body)["data"]
    since, until = re.findall(r"FModifyDate [<>]= \{ts'([^']+)'\}", asked["FilterString"])
    listed = app.fitting(local(since), local(until))
    key = asked["OrderString"]
    if key == "FID":
        above = int(re.search(r"FID > (\d+)", asked["FilterString"])[1])
        listed = sorted(one for one in listed if one > above)
    else:
        last = re.search(r"FNumber > '(.*)'$", asked["FilterString"])[1].replace("''", "'")
        listed = sorted((one for one in listed if f"C'{one}" > last), key=lambda one: f"C'{one}")
    rows = []
    for one in app.serve(listed, asked["StartRow"], asked["Limit"]):
        at = app.told(one).replace(" ", "T") + ".1234567"
        whole = {"FID": one, "FBillNo": f"B{one}", "FDocumentStatus": "C", "FName": "N"}
        whole |= {"FNumber": f"C'{one}", "FCreateDate": at, "FModifyDate": at, "FDate": at}
        rows.append({name: whole[name] for name in asked["FieldKeys"].split(",")})
    return rows


def erpnext(app: App, request: http.Request) -> object:
    """Reads the filters, in order of the names."""
    asked = {name: one[0] for name, one in parse_qs(urlsplit(request.url).query).items()}
    assert urlsplit(request.url).path.endswith("/Sales%20Order")
    filters = {(one[0], one[1]): one[2] for one in json.loads(asked["filters"])}
    since, until = filters["modified", ">="], filters["modified", "<="]
    after = filters.get(("name", ">"), "")
    assert asked["order_by"] == "name asc"
    names = {f'A"{one}': one for one in app.fitting(local(since), local(until))}
    listed = [names[name] for name in sorted(names) if name > after]
    page = app.serve(listed, 0, int(asked["limit_page_length"]))
    return {"data": [{"name": f'A"{one}', "modified": f"{app.told(one)}.000001"} for one in page]}


def by_offset(app: App, request: http.Request) -> object:
    """Redmine: from a time on without an end, in the order that was asked for, from a row on."""
    asked = {name: one[0] for name, one in parse_qs(urlsplit(request.url).query).items()}
    since = datetime.fromisoformat(asked["updated_on"].removeprefix(">="))
    listed = app.fitting(since, datetime.max.replace(tzinfo=UTC))
    listed = sorted(listed) if asked["sort"] == "id" else listed
    start, size = int(asked.get("offset", 0)), int(asked["limit"])
    page = app.serve(listed, start, size)
    rows = [{"id": one, "updated_on": app.changed[one].isoformat()} for one in page]
    return {"issues": rows, "total_count": len(listed), "offset": start, "limit": size}


def by_link(app: App, request: http.Request) -> object:
    """GitLab, WooCommerce: the same, and a header that names the next page."""
    asked = {name: one[0] for name, one in parse_qs(urlsplit(request.url).query).items()}
    since = asked.get("updated_after") or asked["modified_after"]
    listed = app.fitting(datetime.fromisoformat(since), datetime.max.replace(tzinfo=UTC))
    order = asked.get("order_by") or asked["orderby"]
    listed = sorted(listed) if order in ("id", "created_at") else listed
    number, size = int(asked.get("page", 1)), int(asked["per_page"])
    more = number * size < len(listed)
    rows = []
    for one in app.serve(listed, (number - 1) * size, size):
        at = app.changed[one].isoformat()
        rows.append({"id": one, "iid": one, "updated_at": at, "date_modified_gmt": at})
    link = f'<https://app.example.com/list?page={number + 1}>; rel="next"' if more else ""
    return rows, {"link": link}


BILLS = {"form_id": "SAL_SaleOrder", "fields": "FDate"}
POLLS = [
    ("jushuitan", "order_changed", jushuitan, {}),
    ("jushuitan", "stock_changed", jushuitan, {}),
    ("jushuitan", "parcel_sent", jushuitan, {}),
    ("taobao-top", "trade_changed", taobao, {}),
    ("taobao-top", "refund_changed", taobao, {}),
    ("youzan", "order_changed", youzan, {}),
    ("yonsuite", "order_changed", yonsuite, {}),
    ("kingdee-k3cloud", "bill_changed", kingdee, BILLS),
    ("kingdee-k3cloud", "customer_changed", kingdee, {}),
    ("erpnext", "document_changed", erpnext, {"doctype": "Sales Order"}),
    ("redmine", "issue_changed", by_offset, {}),
    ("gitlab", "issue_changed", by_link, {"project": "7"}),
    ("woocommerce", "order_changed", by_link, {}),
]
OPEN = ("redmine", "gitlab", "woocommerce")  # asked without an end


def connection_of(key: str) -> ConnectionValues:
    connector = loader.find(key)
    way = connector.auth[0]
    fields = dict.fromkeys(way.fields, "example")
    if key == "kingdee-k3cloud":
        fields |= {"app_id": "204399_72epSbtEQMC92Vwt2d3LRa9LRqSc1tqJ", "language": "2052"}
    settings = dict.fromkeys(connector.settings_hosts, "https://app.example.com")
    return ConnectionValues(settings, way.id, fields, {"access": "example"})


def look(key: str, trigger_key: str, app: App, serve, given) -> list[triggers.Fired]:
    """Do one whole look, as turns do, and return the events of it, each dedupe key once."""
    connector = loader.find(key)
    trigger = connector.triggers[trigger_key]
    plan, page, found = trigger.reconcile, None, {}
    for _ in range(200):
        asked = {"since": reconcile.written(SINCE), "until": reconcile.written(UNTIL)}
        asked |= {"page": page, "token": None}
        request = requests.build_list(connector, plan, connection_of(key), given, asked)
        told = serve(app, request)
        body, headers = told if isinstance(told, tuple) else (told, {})
        raw = json.dumps(body).encode()
        outcome = http.Response(200, headers, raw, truncated=False, elapsed_ms=1)
        answer = listings.read_list(connector, plan, asked, outcome)
        assert answer.kind == "ok", answer.detail
        for item in answer.output["items"]:
            made = reconcile.rebuilt(plan, item)
            for fired in triggers.read(trigger, made.headers, made.raw):
                found[fired.dedupe_key] = fired
        following = reconcile.next_page(plan, answer.output)
        if following is None:
            return list(found.values())
        assert following != page
        page = following
    raise AssertionError("the list has no end")


def numbers(fired: list[triggers.Fired]) -> list[int]:
    return sorted(int(re.sub(r"\D", "", one.subject)) for one in fired)


WHICH = pytest.mark.parametrize(
    ("key", "trigger", "serve", "given"), POLLS, ids=[f"{one[0]}:{one[1]}" for one in POLLS]
)


@WHICH
def test_all_that_changed_in_the_stretch_comes_and_nothing_else(key, trigger, serve, given):
    app = App()
    fired = look(key, trigger, app, serve, given)
    later = [MANY + 2] if key in OPEN else []
    assert numbers(fired) == [*range(1, MANY + 1), *later]
    assert app.calls > 2
    assert {one.type for one in fired} == {f"{key}.{trigger}"}
    for one in fired:
        if one.occurred_at is not None:
            assert one.occurred_at == app.changed[int(re.sub(r"\D", "", one.subject))]


@WHICH
def test_what_changes_while_pages_are_read_hides_nothing_else(key, trigger, serve, given):
    app = App(restless=True)
    came = set(numbers(look(key, trigger, app, serve, given)))
    assert app.touched
    assert set(range(1, MANY + 1)) - app.touched <= came


@WHICH
def test_a_quiet_app_is_asked_once(key, trigger, serve, given):
    app = App(changed={})
    assert look(key, trigger, app, serve, given) == []
    assert app.calls == 1


@WHICH
def test_a_change_is_another_event_and_the_same_state_is_not(key, trigger, serve, given):
    def keys(at: datetime) -> list[str | None]:
        app = App(changed={7: at})
        return [one.dedupe_key for one in look(key, trigger, app, serve, given)]

    first, again = keys(UNTIL - timedelta(hours=2)), keys(UNTIL - timedelta(hours=2))
    later = keys(UNTIL - timedelta(hours=1))
    assert len(first) == 1
    assert first == again
    # a parcel is sent once: its number is all there is to know it by
    assert (later == first) is (trigger == "parcel_sent")


def test_a_customers_number_cannot_leave_its_quotes():
    connector = loader.find("kingdee-k3cloud")
    plan = connector.triggers["customer_changed"].reconcile
    asked = {"since": reconcile.written(SINCE), "until": reconcile.written(UNTIL)}
    asked |= {"page": "x' or '1' = '1", "token": None}
    request = requests.build_list(connector, plan, connection_of(connector.key), {}, asked)
    said = json.loads(request.body)["data"]["FilterString"]
    assert said.endswith("FNumber > 'x'' or ''1'' = ''1'")


def test_erpnexts_times_are_asked_for_in_its_own_zone():
    connector = loader.find("erpnext")
    plan = connector.triggers["document_changed"].reconcile
    asked = {"since": reconcile.written(SINCE), "until": reconcile.written(UNTIL)}
    given = {"doctype": "Item", "time_zone": "Asia/Kolkata"}
    request = requests.build_list(connector, plan, connection_of(connector.key), given, asked)
    assert '"2026-11-22 06:30:00"' in unquote(request.url)
