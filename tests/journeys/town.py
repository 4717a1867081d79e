"""A hub with people in it: a factory whose flows run, a vendor, an operator, and their things."""

import base64
import json
import re
import sqlite3
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from factories import editions
from factories.catalog import manifest_text

from bench.hub import Hub
from kernel import ids

PASSWORD = "hebei-lantern-48-orchard"
ORDERS, FLAWED = "order_paid", "reject"


class Person:
    """Somebody who is signed in; sends forms and JSON as their browser would."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self.url, self.http = url, requests.Session()
        self.http.headers["Accept"] = "text/html"
        self._learn_token("/sign-in")
        self.send("/sign-in", email=email, password=password)
        self._learn_token("/help")

    def _learn_token(self, path: str) -> None:
        page = self.http.get(self.url + path, timeout=30).text
        self.token = re.search(r'name="csrf-token" content="([^"]+)"', page)[1]

    def send(self, path: str, **form: str) -> requests.Response:
        """Send a form; a refusal is an error that shows the page."""
        answer = self.http.post(
            self.url + path, data={**form, "csrf_token": self.token}, timeout=60
        )
        assert answer.status_code < 400, f"{path}: {answer.status_code} {answer.text[-3000:]}"
        return answer

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; a refusal is an error that shows the problem."""
        headers = {"X-CSRF-Token": self.token, "Accept": "application/json"}
        answer = self.http.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=60
        )
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def cookies(self) -> list[dict[str, str]]:
        """The cookies that make a browser this person's, but for the language."""
        kept = self.http.cookies.get_dict()
        return [
            {"name": name, "value": value, "url": self.url}
            for name, value in kept.items()
            if name != "yf_lang"
        ]


class Partner:
    """A subscriber in the portal of the factory: no account, only a link."""

    def __init__(self, url: str, address: str) -> None:
        self.url, self.http = url, requests.Session()
        self.http.headers["Accept"] = "text/html"
        page = self.http.post(address, timeout=30)
        assert page.url.endswith("/portal"), page.text[-3000:]
        self.token = re.search(r'name="csrf-token" content="([^"]+)"', page.text)[1]

    def send(self, path: str, **form: Any) -> requests.Response:
        """Send a form of the portal; a refusal is an error that shows the page."""
        answer = self.http.post(
            self.url + path, data={**form, "csrf_token": self.token}, timeout=60
        )
        assert answer.status_code < 400, f"{path}: {answer.status_code} {answer.text[-3000:]}"
        return answer

    cookies = Person.cookies


class Town:
    """The hub, its people, and the addresses of what they have."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.url = hub, hub.url
        password = json.loads((hub.folder / "demo-login.json").read_text())["password"]
        self.owner = Person(hub.url, "owner@factory.example", password)
        self.vendor = Person(hub.url, "vendor@vendor.example", password)
        self.operator = Person(hub.url, "operator@hub.example", password)
        self.password = password
        # URL parameter, or the whole rule where the parameter alone says too little → values
        self.things: dict[str, list[str]] = {}
        self._install()
        self._let_a_partner_in()
        self._let_orders_run()
        self._ask_people()
        self._miss_events()
        self._send_sheets()
        self._keep_values()
        self._make_small_things()
        self._let_an_event_grow_old()
        self._publish()
        self._offer_a_connector()
        wait_for(lambda: self.owner.call("GET", "/incidents")["items"])
        self._keep("incident_id", *(o["id"] for o in self.owner.call("GET", "/incidents")["items"]))

    def _keep(self, name: str, *values: str) -> None:
        self.things.setdefault(name, []).extend(values)

    def _install(self) -> None:
        owner = self.owner
        endpoint = owner.call(
            "POST",
            "/endpoints",
            {"url": f"http://127.0.0.1:{self.hub.sink_port}/", "event_types": ["order.*"]},
        )
        self._keep("endpoint_id", endpoint["id"])
        rollout = owner.call("POST", "/bundles/order-to-chat/install", {})
        self._keep("rollout_id", rollout["id"])
        path = f"/rollouts/{rollout['id']}"
        wait_for(lambda: owner.call("GET", path)["state"] == "active")
        self._keep("installation_id", owner.call("GET", "/installations")["items"][0]["id"])
        self._keep("connection_id", owner.call("GET", "/connections")["items"][0]["id"])
        self._keep("flow_id", owner.call("GET", "/flows")["items"][0]["id"])
        self._keep("source_id", owner.call("GET", "/sources")["items"][0]["id"])
        tenants = self.operator.call("GET", "/hub/tenants")["items"]
        self._keep("organization_id", *(one["id"] for one in tenants))

    def _offer_a_connector(self) -> None:
        """Let the vendor send a connector to review, and begin another one with mistakes in it."""
        files = editions.folder()
        sent = []
        for broken in (b"", b"  sumary: {}\n"):
            manifest = files["manifest.yaml"].replace(b"  slots:", broken + b"  slots:", 1)
            raw = editions.zipped({**files, "manifest.yaml": manifest})
            body = {"archive": base64.b64encode(raw).decode()}
            sent.append(self.vendor.call("POST", "/connector-editions", body)["id"])
        at = [f"/connector-editions/{one}" for one in sent]
        wait_for(
            lambda: all(self.vendor.call("GET", one)["state"] != "checking" for one in at), 120
        )
        self.vendor.call("POST", f"{at[0]}/submit", {})
        self._keep("/vendor/connectors/<edition_id>", *sent)
        self._keep("/operator/connectors/<edition_id>", sent[0])

    def _let_a_partner_in(self) -> None:
        """Give a partner a portal, with a colour of its own and an endpoint that orders go to."""
        asked = {
            "subscriber_name": "北风物流 Nordwind",
            "event_types": ["order.*", "shipment.dispatched"],
            "origins": ["https://portal.example.com"],
            "colour": "#7a1f5c",
        }
        link = self.owner.call("POST", "/portal-links", asked)
        self.partner = Partner(self.url, link["url"])
        made = self.partner.send(
            "/portal/endpoints",
            url=f"http://127.0.0.1:{self.hub.sink_port}/orders",
            event_types=["order.*"],
            description="仓库 Warehouse",
        )
        endpoint_id = re.search(r"/portal/endpoints/(ep_\w+)/", made.text)[1]
        self._keep("link_id", link["id"])
        self._keep("/portal/endpoints/<endpoint_id>", endpoint_id)
        self._keep("/portal/endpoints/<endpoint_id>/delete", endpoint_id)
        again = self.owner.call("POST", f"/portal-links/{link['id']}/addresses", {})
        self._keep("/portal/enter/<secret>", again["url"].rpartition("/")[2])

    def _let_orders_run(self) -> None:
        """Let one order through, stop one at the ERP, and take in an event that does not fit."""
        shop, erp = self.hub.vendor("demo-shop"), self.hub.vendor("demo-erp")
        for mode, state in (("ok", "succeeded"), (FLAWED, "parked")):
            erp.call("POST", "/_mock/behaviour", {"mode": mode})
            shop.call("POST", "/_mock/emit", {"trigger": ORDERS, "count": 1})
            found = wait_for(lambda state=state: self._runs(state))
            self._keep("run_id", found[0]["id"])
            self._keep("event_id", found[0]["event_id"])
        erp.call("POST", "/_mock/behaviour", {"mode": "ok"})
        deliveries = wait_for(lambda: self.owner.call("GET", "/deliveries")["items"])
        self._keep("delivery_id", deliveries[0]["id"])
        (partners, *_) = self.things["/portal/endpoints/<endpoint_id>"]
        theirs = wait_for(
            lambda: self.owner.call("GET", f"/deliveries?endpoint_id={partners}")["items"]
        )
        self._keep("/portal/deliveries/<delivery_id>", theirs[0]["id"])
        again = {"endpoint_id": self.things["endpoint_id"][0], "since": "2020-01-01T00:00:00Z"}
        self._keep("bulk_replay_id", self.owner.call("POST", "/bulk-replays", again)["id"])
        source = self.owner.call(
            "POST",
            "/sources",
            {"name": "仓库 Warehouse", "scheme": "none", "unknown_types": "reject"},
        )
        envelope = {"type": "stock.guessed", "data": {"sku": "A-1"}, "id": "1", "source": "/w"}
        answer = requests.post(
            source["url"], json={"specversion": "1.0", **envelope}, timeout=30,
            headers={"Content-Type": "application/cloudevents+json"},
        )  # fmt: skip
        assert answer.status_code == 422, answer.text
        self._keep("source_id", source["id"])
        self._keep("event_id", self.owner.call("GET", "/events?state=rejected")["items"][0]["id"])

    def _runs(self, state: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.owner.call("GET", f"/runs?state={state}")["items"]
        return found

    def _ask_people(self) -> None:
        """Let a flow with every kind of step go through a list, ask people, and wait."""
        ask = {
            "key": "ask",
            "kind": "approval",
            "who": {"roles": ["owner", "admin"]},
            "subject": "报废 ${item.sku} 吗？Scrap it?",
            "text": "数量 ${item.count}\n仓库 Warehouse 3",
            "remind": "4h",
            "refused": [{"key": "kept", "kind": "map", "mapping": {"sku": "${item.sku}"}}],
        }
        few = {"key": "few", "kind": "delay", "for": "2d"}
        branch = {
            "key": "size",
            "kind": "branch",
            "ways": [{"key": "many", "title": {"zh": "数量多", "en": "Many"},
                      "when": "${item.count > 9}", "steps": [ask]}],
            "else": [few],
        }  # fmt: skip
        over = "${event.data.lines}"
        loop = {"key": "lines", "kind": "each", "over": over, "steps": [branch]}
        document = {"trigger": {"event": "stock.scrapped", "version": None}, "steps": [loop]}
        words = {"zh": "库存已报废", "en": "Stock scrapped"}
        named = {"name": "stock.scrapped", "title": words, "schema": {"type": "object"}}
        self.owner.call("POST", "/custom-event-types", {**named, "sample": {}})
        made = self.owner.call("POST", "/flows", {"name": "报废审批", "document": document})
        self.owner.call("POST", f"/flows/{made['id']}/publish", {})
        self._keep("flow_id", made["id"])
        self._keep("/flows/<flow_id>/changes", made["id"])
        for counts in ([12], [3], [12, 12]):
            lines = [{"sku": f"BRG-{count}", "count": count} for count in counts]
            self.owner.call("POST", "/events", {"type": "stock.scrapped", "data": {"lines": lines}})
        asked = wait_for(lambda: self.owner.call("GET", "/approvals")["items"][1:] or None)
        self._keep("approval_id", asked[0]["id"])
        found = self.owner.call("GET", f"/runs?flow={made['id']}")["items"]
        self._keep("run_id", *(one["id"] for one in found))
        for decision in ("approve", "refuse"):
            (*_, first) = self.owner.call("GET", "/approvals?state=open")["items"]
            path = f"/approvals/{first['id']}/decide"
            self.owner.call("POST", path, {"decision": decision, "comment": "可以 Yes"})
            self._keep("approval_id", first["id"])

    def _keep_values(self) -> None:
        """Keep a number and a text in the data store."""
        for key, value in (("2026-11-28", 12), ("C-1001", {"name": "无锡恒达电机有限公司"})):
            self.owner.call("POST", "/stores", {"collection": "daily", "key": key, "value": value})
        self._keep("collection", "daily")

    def _send_sheets(self) -> None:
        """Bring spreadsheets in: one that nobody can make out, a draft with mistakes, one done."""
        head = "公司,客户编号,客户名称,建档时间\n"
        for text in ("甲,乙\n1,2\n", f"{head}Q,C-1,丙,昨天\nQ,C-2,丁,2026-11-22\n"):
            body = {"name": "客户.csv", "content_base64": b64encode(text.encode()).decode()}
            made = self.owner.call("POST", "/sheets", body)
            self._keep("upload_id", made["id"])
        again = self.owner.call("POST", "/sheets", body)
        self.owner.call("POST", f"/sheets/{again['id']}/let-in")
        self._keep("upload_id", again["id"])

    def _miss_events(self) -> None:
        """Let the shop lose a webhook that the hub fetches, and a look that cannot be made."""
        owner, shop = self.owner, self.hub.vendor("demo-shop")
        watched = next(
            one["id"]
            for one in owner.call("GET", "/sources")["items"]
            if one["connection_id"] is not None
        )
        path = f"/sources/{watched}/reconciliation"

        def look(mode: str, until: Callable[[Any], Any]) -> None:
            shop.call("POST", "/_mock/behaviour", {"mode": mode, "share": 1})
            shop.call("POST", "/_mock/emit", {"trigger": "order_cancelled", "count": 1})
            owner.call("POST", path)
            wait_for(lambda: until(owner.call("GET", path)))
            shop.call("POST", "/_mock/behaviour", {"mode": "ok"})

        look("lossy", lambda found: found["counts"]["fetched"])
        cancelled = owner.call("GET", "/events?type=order.cancelled")["items"]
        self._keep("event_id", cancelled[0]["id"])
        look("unauthorized", lambda found: found["state"] == "trouble")
        self._keep("source_id", watched)
        token = {"key": "ghp-example-0123456789"}
        named = {"connector": "github", "name": "代码库 Code", "fields": token}
        owner.call("POST", "/connections", named)
        # its card offers to ask GitHub
        github = {"name": "仓库 Repository", "scheme": "github"}
        self._keep("source_id", owner.call("POST", "/sources", github)["id"])

    def _make_small_things(self) -> None:
        owner = self.owner
        words = {"zh": "盘点完成", "en": "Stock counted by hand"}
        schema = {"type": "object", "properties": {"sku": {"type": "string"}}}
        named = {"name": "factory.counted", "title": words, "schema": schema, "sample": {}}
        owner.call("POST", "/custom-event-types", named)
        schema = {"type": "object", "properties": {"sku": {"type": "string", "maxLength": 40}}}
        owner.call("POST", "/custom-event-types", {**named, "schema": schema})
        link = {"name": "老账本", "open_url": "https://books.example.com/", "slot": "organization"}
        self._keep("installation_id", owner.call("POST", "/installations", link)["id"])
        self._keep("/toolbox/links/<installation_id>", self.things["installation_id"][-1])
        invitation = {"email": "new@factory.example", "role": "finance"}
        offered = owner.call("POST", "/invitations", invitation)
        self._keep("secret", offered["link"].rpartition("/")[2])
        path = f"/connections/{self.things['connection_id'][0]}/reconnect-links"
        renewing = owner.call("POST", path, {"note": "钥匙明天到期，请换新的"})
        self._keep("/reconnect/<secret>", renewing["url"].rpartition("/")[2])
        owner.call("POST", "/api-keys", {"name": "仓库接口", "role": "integrator"})
        draft = {"trigger": {"event": "order.paid", "version": None}, "steps": []}
        flow = owner.call("POST", "/flows", {"name": "草稿 Draft", "document": draft})
        self._keep("flow_id", flow["id"])

    def _let_an_event_grow_old(self) -> None:
        """Archive an event, take events along as a file, and erase what is about nobody."""
        owner = self.owner
        counted = {"type": "factory.counted", "data": {"sku": "A-1"}, "subject": "仓库 A-1"}
        event_id = owner.call("POST", "/events", counted)["id"]
        wait_for(lambda: owner.call("GET", f"/events/{event_id}")["state"] == "routed")
        old_id = ids.first_id("evt", datetime.now(UTC) - timedelta(days=100))
        store = sqlite3.connect(self.hub.folder / "hub.db", timeout=30)
        with store:
            store.execute(
                "UPDATE event SET id = ?, received_at = datetime(received_at, '-100 days'),"
                " created_at = datetime(created_at, '-100 days') WHERE id = ?",
                (old_id, event_id),
            )
        store.close()
        rule = {"event_types": "factory.*", "archive_days": 365}
        owner.call("PUT", "/retention/rules", rule)
        chunks = wait_for(lambda: owner.call("GET", "/archive")["items"])
        self._keep("chunk_id", chunks[0]["id"])
        self._keep("day", chunks[0]["day"])
        self._keep("/archive/events/<event_id>", old_id)
        span = {"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}
        made = owner.call("POST", "/exports", span)["id"]
        wait_for(lambda: owner.call("GET", f"/exports/{made}")["state"] == "done")
        nobody = {"kind": "subject", "value": "nobody"}
        erased = owner.call("POST", "/erasures", nobody)["id"]
        wait_for(lambda: owner.call("GET", f"/erasures/{erased}")["state"] == "done")
        self._keep("erasure_id", erased)
        owner.call("POST", "/exports", span)

    def _publish(self) -> None:
        """Bring one app to the shelf, leave its next version in review, and refuse another app."""
        words = {"name": {"zh": "码头排班", "en": "Dock Planner"}}
        first = self._submit(id="dock-planner", version="1.0.0", **words)
        self._decide(first, "approve")
        self.vendor.call("POST", f"/releases/{first}/publish")
        more = [
            _scope("events:read", "读取消息", "Reads messages", "high"),
            _scope("orders:write", "改约车时间", "Moves bookings", "medium"),
        ]
        second = self._submit(id="dock-planner", version="1.1.0", scopes=more, **words)
        third = self._submit(id="dock-lights", name={"zh": "码头灯", "en": "Dock Lights"})
        self._decide(third, "reject", "说明里没有写数据存在哪里。 The data table names no region.")
        self._keep("release_id", second, third, first)
        self._keep("/operator/review/<release_id>", second, first)
        asking = {
            "organization_name": "泰州软件有限公司", "name": "孙蕾", "email": "sun@taizhou.example",
            "password": PASSWORD,
        }  # fmt: skip
        requests.post(f"{self.url}/api/v1/sign-up", json=asking, timeout=60).raise_for_status()
        self.applicant = Person(self.url, asking["email"], PASSWORD)
        self.applicant.call(
            "POST",
            "/vendor",
            {
                "name": {"zh": "泰州软件", "en": "Taizhou Software"},
                "contact_email": asking["email"],
            },
        )

    def _submit(self, **over: Any) -> str:
        made = self.vendor.call("POST", "/releases", {"manifest": manifest_text(**over)})
        return str(made["id"])

    def _decide(self, release_id: str, decision: str, reason: str | None = None) -> None:
        body = {"decision": decision, "reason": reason}
        self.operator.call("POST", f"/reviews/{release_id}", body)


def wait_for(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until the answer is something, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def _scope(name: str, zh: str, en: str, sensitivity: str) -> dict[str, Any]:
    return {"id": name, "reason": {"zh": zh, "en": en}, "sensitivity": sensitivity}
