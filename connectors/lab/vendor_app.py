"""A lab vendor: a WSGI app made from a connector's manifest, with faults one can switch on."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from connectors.engine import schemas
from connectors.engine.connector import Connector, LifecycleStep
from connectors.lab import (
    vendor_answers,
    vendor_faults,
    vendor_hooks,
    vendor_looks,
    vendor_pages,
    vendor_parts,
    vendor_proofs,
)
from connectors.lab.pointing import path_of
from connectors.lab.vendor_calls import Answer, Call, Refused, refusal
from connectors.lab.vendor_events import Emitter
from connectors.lab.vendor_ledger import Ledger, digest
from connectors.lab.vendor_routes import Route, likeness, route_of
from connectors.lab.vendor_server import Dropped
from connectors.lab.vendor_tokens import TokenDoors
from kernel import documents
from kernel.errors import Problem

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_JSON = {"Content-Type": "application/json; charset=utf-8"}


class VendorApp:
    """One vendor; call it as a WSGI app."""

    def __init__(self, connector: Connector, ledger: Ledger, *, is_loopback_only: bool) -> None:
        """Derive the vendor from its connector."""
        self.connector, self.ledger = connector, ledger
        self.is_loopback_only = is_loopback_only
        self.url = ""
        self.recorded = vendor_answers.recorded(connector)
        self.bodies = {
            key: vendor_answers.body_schema(action)
            for key, action in connector.actions.items()
            if not vendor_answers.has_more_in_body(connector, action)
        }
        self.looks = vendor_looks.looks_of(connector)
        self.hooks = vendor_hooks.calls_of(connector)
        asked = {**self.looks, **self.hooks}
        self.parts: dict[str, Any] = {**asked, **connector.actions, **connector.lifecycle}
        found = [route_of(key, one.request, _kind(one)) for key, one in self.parts.items()]
        # /orders/count before /orders/<any>, and what flows do before what is looked for
        self.routes = sorted(found, key=lambda one: (len(one.names), one.kind == "look"))
        # a hub that was given this address for the app's calls the app's paths, /api/v4 and all
        self.below = path_of(connector.http.base).rstrip("/")
        self.tokens = TokenDoors(connector, ledger)
        self.steps: dict[str, Callable[[Call, Mapping[str, Any]], dict[str, Any]]] = {
            "install": self._install,
            "uninstall": self._uninstall,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "test": lambda call, facts: {"pong": True, "login": "demo"},  # noqa: ARG005
        }
        self.emitter = Emitter(connector, ledger)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        call = _call(environ)
        try:
            if call.path.startswith("/_mock/"):
                answer = self._mock(call)
            elif self._is_page(call):
                answer = vendor_pages.serve(self, call)
            elif door := self.tokens.find(call):
                answer = self.tokens.answer(door, call, self._behaviour())
            else:
                answer = self._work(call)
        except Refused as no:
            answer = no.answer
        except Problem as broken:
            answer = Answer(400, {"code": "MALFORMED", "message": broken.plain()}, {})
        except (ValueError, TypeError, AttributeError):
            answer = Answer(400, {"code": "MALFORMED", "message": "This is not understood"}, {})
        body = answer.body if isinstance(answer.body, bytes) else documents.dump(answer.body)
        headers = {**_JSON, **answer.headers}
        start(f"{answer.status} {HTTPStatus(answer.status).phrase}", list(headers.items()))
        return [b"" if answer.status == 204 else body]

    def _is_page(self, call: Call) -> bool:
        """Tell whether a person's browser asks, and not the hub for something at the same place."""
        if call.path.startswith("/_page/"):
            return True
        is_front = call.path in ("/", "/style.css") and call.method == "GET"
        return is_front and not any(one.pattern.fullmatch("/") for one in self.routes)

    # the vendor's own work

    def _work(self, call: Call) -> Answer:
        route, places = self._route(call)
        call = Call(call.method, call.path, call.query, call.headers, call.raw, places)
        try:
            mode = self._fault(route)
            installation = self._authorized(route, call)
            if route.kind == "lifecycle":
                answer = self._step(route, call, installation)
            elif route.kind == "look":
                look = self.looks[route.key]
                answer = vendor_looks.answer(self.connector, self.ledger, look, call, installation)
                self.emitter.bell.set()
            elif route.kind == "hook":
                about = self.hooks[route.key]
                answer = vendor_hooks.answer(self.connector, self.ledger, about, call)
            else:
                answer = self._act(route, call, installation)
        except Refused as no:
            self.ledger.refuse(route.key, no.answer.status, no.why)
            raise
        if mode == "lost":
            raise Dropped
        return answer

    def _route(self, call: Call) -> tuple[Route, dict[str, str]]:
        paths = (call.path, call.path.removeprefix(self.below))
        fitting = [
            (route, match)
            for route in self.routes
            for path in paths
            if route.method in (call.method, "*") and (match := route.pattern.fullmatch(path))
        ]
        # some apps do everything at one address: what is fixed in the request tells it apart
        alike = sorted(
            (one for one in fitting if self._is_meant(one[0], call)),
            key=lambda one: -(likeness(self.parts[one[0].key].request, call) or 0),
        )
        for route, match in [*alike, *fitting][:1]:
            found = zip(route.names, match.groups(), strict=True)
            return route, {name: unquote(value) for name, value in found}
        raise refusal(404, "NO_ROUTE", f"There is nothing at {call.method} {call.path}")

    def _is_meant(self, route: Route, call: Call) -> bool:
        """Tell whether what is fixed in a route's request, and its body's fields, fit a call."""
        if likeness(self.parts[route.key].request, call) is None:
            return False
        schema = self.bodies.get(route.key)
        return schema is None or not schemas.problems(schema, call.body)

    def _fault(self, route: Route) -> str:
        """Return the fault that is switched on for this request; raises the ones that refuse."""
        stated = self._behaviour()
        vendor_faults.raise_for(stated, self.recorded.get(route.key, {}), route.kind)
        return str(stated.get("mode", "ok"))

    def _behaviour(self) -> dict[str, Any]:
        """Return the fault switch, counting down `times` as it is used."""
        with self.ledger.lock:
            stated = self.ledger.switch("behaviour") or {}
            if "times" in stated:
                stated["times"] -= 1
                self.ledger.set_switch("behaviour", stated if stated["times"] > 0 else {})
            return dict(stated)

    def _authorized(self, route: Route, call: Call) -> str | None:
        """Return the installation whose key came along; raises 401."""
        wanted = self.parts[route.key].request.auth
        ways = [one for one in self.connector.auth if wanted in (None, one.id)]
        if not ways or any(one.kind == "none" or vendor_proofs.is_only_signed(one) for one in ways):
            return None
        for way in ways:
            shown = vendor_proofs.shown(way, call)
            if not shown or shown == "invalid":
                continue
            if way.has_token:
                if way.kind == "sign" or self.tokens.is_good(shown):
                    return None
            elif "install" not in self.connector.lifecycle:
                return None
            else:
                row = self.ledger.installation_of(shown)
                if row is not None:
                    return str(row["id"])
        fixture = self.recorded.get(route.key, {}).get("unauthorized")
        raise vendor_faults.recorded_refusal(fixture, 401, "UNAUTHORIZED", "Unknown API key")

    def _act(self, route: Route, call: Call, installation: str | None) -> Answer:
        action = self.connector.actions[route.key]
        header = action.idempotency_header
        key = call.headers.get(header.lower()) if header else None
        schema = self.bodies.get(route.key)
        body = call.body
        if schema is not None and (call.raw or "optional" not in str(action.request.json)):
            wrong = schemas.problems(schema, body)
            if wrong:
                raise refusal(400, "INVALID", wrong[0].plain())
        cases = self.recorded.get(route.key, {})
        ok = vendor_parts.page_of(self.connector, action, cases, call)
        with self.ledger.lock:
            earlier = self.ledger.earlier(route.key, key)
            if earlier is not None:
                self.ledger.repeat(earlier["id"])
                if earlier["digest"] != digest(call.raw):
                    raise refusal(409, "KEY_REUSED", "This key was used for other content")
                again = {"Idempotent-Replay": "true"}
                return Answer(earlier["status"], earlier["answer"].encode(), again)
            status, headers, sample = vendor_answers.response(ok, 200, action.sample["output"])
            if action.batch is not None:
                sample = vendor_parts.results(action, sample, call, action.request.json)
            asked = {**call.query, **call.places, **(body if isinstance(body, dict) else {})}
            is_read = action.effect == "read"
            number = None if is_read else self.ledger.next_number(route.key)
            answer = documents.dump(vendor_answers.fresh(sample, asked, number))
            key = None if is_read else key
            self.ledger.keep(route.key, key, call.raw, status, answer, installation)
        return Answer(status, answer, headers)

    # lifecycle

    def _step(self, route: Route, call: Call, installation: str | None) -> Answer:
        facts = {"installation": installation}
        ok = self.recorded.get(route.key, {}).get("ok")
        status, headers, sample = vendor_answers.response(ok, 200, {})
        values = self.steps[route.key](call, facts)
        self.ledger.keep(route.key, None, call.raw, status, b"{}", installation)
        return Answer(status, _filled(sample, values), headers)

    def _install(self, call: Call, facts: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        body = call.body or {}
        organization = body.get("organization") or {}
        key = str(body.get("installation_id") or "")
        if not key:
            raise refusal(400, "INVALID", "installation_id is missing")
        row = self.ledger.install(
            key,
            str(organization.get("id", "")),
            str(organization.get("name", "")),
            "demo_" + secrets.token_urlsafe(24),
        )
        return {"api_key": row["api_key"], "account": row["name"], "open_url": f"{self.url}/"}

    def _uninstall(self, call: Call, facts: Mapping[str, Any]) -> dict[str, Any]:
        key = str((call.body or {}).get("installation_id") or facts["installation"] or "")
        if key != facts["installation"] or not self.ledger.uninstall(key):
            raise refusal(404, "NO_INSTALLATION", "No such installation")
        return {"removed": True}

    def _subscribe(self, call: Call, facts: Mapping[str, Any]) -> dict[str, Any]:
        body = call.body or {}
        url = str(body.get("url") or "")
        host = urlsplit(url).hostname
        if not url.startswith(("http://", "https://")) or host is None:
            raise refusal(400, "INVALID", "url is not a web address")
        if self.is_loopback_only and host not in LOOPBACK:
            raise refusal(
                422, "NOT_LOOPBACK", "This demo app calls addresses on this computer only"
            )
        row = self.ledger.subscribe(
            "sub_" + secrets.token_hex(8),
            str(facts["installation"]),
            url,
            [str(one) for one in body.get("event_types") or ["*"]],
            "whsec_" + b64encode(secrets.token_bytes(32)).decode(),
        )
        return {"id": row["id"], "secret": row["secret"]}

    def _unsubscribe(self, call: Call, facts: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        if not self.ledger.unsubscribe(next(iter(call.places.values()), "")):
            raise refusal(404, "NO_SUBSCRIPTION", "No such subscription")
        return {}

    # the lab's own door

    def _mock(self, call: Call) -> Answer:
        name = call.path.removeprefix("/_mock/")
        if call.method == "GET" and name == "ledger":
            after, limit = int(call.query.get("after", 0)), int(call.query.get("limit", 1000))
            items = self.ledger.calls(call.query.get("action"), after, min(limit, 10_000))
            return Answer(200, {"items": items, "next": items[-1]["id"] if items else None}, {})
        if call.method == "GET" and name == "ledger/count":
            return Answer(200, self.ledger.counts(), {})
        if call.method == "GET" and name == "behaviour":
            return Answer(200, self.ledger.switch("behaviour") or {"mode": "ok"}, {})
        if call.method != "POST":
            raise refusal(404, "NO_ROUTE", "There is nothing here")
        body = call.body or {}
        if name == "behaviour":
            return Answer(200, self.behave(body), {})
        if name == "emit":
            return Answer(202, self.emit(body), {})
        if name == "subscribe":
            return Answer(201, self._subscribe_by_hand(body), {})
        if name == "reset":
            self.ledger.reset()
            return Answer(200, {"reset": True}, {})
        raise refusal(404, "NO_ROUTE", "There is nothing here")

    def _subscribe_by_hand(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send events to an address as if somebody had typed it in; {url, secret, event_types?}."""
        url, secret = str(body["url"]), str(body["secret"])
        types = [str(one) for one in body.get("event_types") or ["*"]]
        key = "sub_" + secrets.token_hex(8)
        return {"id": self.ledger.subscribe(key, "by-hand", url, types, secret)["id"]}

    def behave(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """Switch a fault on or off; {mode, seconds?, times?, case?, share?}."""
        mode = stated.get("mode")
        if mode not in vendor_faults.MODES:
            raise refusal(422, "INVALID", f"mode is one of {', '.join(vendor_faults.MODES)}")
        if "seconds" in stated:
            stated = {**stated, "seconds": float(stated["seconds"])}
        if "share" in stated:
            stated = {**stated, "share": min(max(float(stated["share"]), 0.0), 1.0)}
        kept = {name: stated[name] for name in ("mode", "seconds", "times", "case", "share")
                if name in stated}  # fmt: skip
        self.ledger.set_switch("behaviour", kept if mode != "ok" else {})
        return kept

    def emit(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """Send events of a trigger to everyone who subscribed; {trigger, count?, data?}."""
        trigger = str(stated.get("trigger") or "")
        if trigger not in self.connector.triggers:
            known = ", ".join(self.connector.triggers)
            raise refusal(422, "INVALID", f"trigger is one of {known}")
        count = max(1, min(int(stated.get("count", 1)), 100_000))
        return self.emitter.emit(trigger, count, stated.get("data"))


def _kind(part: Any) -> str:
    if isinstance(part, vendor_looks.Look):
        return "look"
    if isinstance(part, vendor_hooks.HookCall):
        return "hook"
    return "lifecycle" if isinstance(part, LifecycleStep) else "action"


def _call(environ: Mapping[str, Any]) -> Call:
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    raw = environ["wsgi.input"].read()
    return Call(environ["REQUEST_METHOD"], environ["PATH_INFO"], query, headers, raw, {})


def _filled(sample: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(sample, dict):
        return {
            name: values[name] if name in values else _filled(one, values)
            for name, one in sample.items()
        }
    return sample
