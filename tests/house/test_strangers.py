"""No firm sees or touches another one's things: every address of the hub, asked by a stranger.

The list of addresses is the application's own URL map. An address whose ids nobody has taught this
file is an error, so that a new one cannot slip past.
"""

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from factories import catalog as shelf
from factories.connectors import order_document
from factories.identity import bearer, csrf_of, make_user, sign_in
from factories.strangers import (
    Neighbour,
    Stranger,
    changed,
    everything_but,
    make_neighbour,
    make_stranger,
)
from flask import Flask, Request
from house import reading as house
from pydantic import BaseModel, ValidationError
from sqlalchemy import select, update
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.routing import Rule
from werkzeug.routing.converters import AnyConverter

from catalog import event_types
from identity import roles, sessions
from identity.guard import Access, access_of, cookies, require
from kernel.database import EVERY, reading, transaction
from kernel.web import operation
from webhooks.tables import SOURCE

PAGE, JSON = {"Accept": "text/html"}, {"Accept": "application/json"}
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")

# Addresses that lead to what all firms share; there is nothing of a neighbour's to ask for.
SHARED = {
    "/assets/<digest>/<path:name>": "style sheets, scripts and fonts",
    "/slots/<slot_id>": "the six scenarios",
    "/bundles/<key>": "bundles are the shop's own",
    "/bundles/<key>/install": "bundles are the shop's own",
    "/api/v1/bundles/<key>": "bundles are the shop's own",
    "/api/v1/bundles/<bundle_key>/install": "bundles are the shop's own",
    "/connectors/<key>": "the connector library is the house's own",
    "/connectors/<key>/icon.svg": "the connector library is the house's own",
    "/api/v1/connectors/<key>": "the connector library is the house's own",
}
# Doors without a lock, and why.
PUBLIC = {
    "the shop is open to whoever walks past": {
        "/", "/slots", "/slots/<slot_id>", "/apps", "/apps/<key>", "/bundles", "/bundles/<key>",
        "/compare", "/search", "/events-catalogue", "/events-catalogue/<name>", "/help",
        "/developers", "/api/v1/slots", "/api/v1/layers", "/api/v1/apps", "/api/v1/apps/<key>",
        "/api/v1/apps/suggestions", "/api/v1/bundles", "/api/v1/bundles/<key>",
        "/api/v1/event-types", "/api/v1/event-types/<name>", "/api/v1/openapi.json",
        "/api/v1/asyncapi.json", "/api/v1/asyncapi.yaml",
        "/schemas/<event_type>/<int:version>.json",
    },
    "this is the way in": {
        "/sign-in", "/sign-up", "/api/v1/sign-up", "/invitations/<secret>", "/in/<token>",
    },
    "machines ask how the hub is": {"/healthz", "/readyz", "/metrics"},
    "whoever gets an event gets its data": {"/payloads/<token>"},
    "a flow sends this to whom it asks": {"/decide/<token>"},
    "the portal asks for a subscriber's session itself": {
        "/portal", "/portal/enter", "/portal/enter/<secret>", "/portal/leave",
        "/portal/colours.css", "/portal/endpoints/<endpoint_id>/delete",
        "/portal/endpoints", "/portal/endpoints/new", "/portal/endpoints/<endpoint_id>",
        "/portal/endpoints/<endpoint_id>/change", "/portal/endpoints/<endpoint_id>/reveal",
        "/portal/endpoints/<endpoint_id>/rotate-secret", "/portal/endpoints/<endpoint_id>/test",
        "/portal/endpoints/<endpoint_id>/pause", "/portal/endpoints/<endpoint_id>/resume",
        "/portal/endpoints/<endpoint_id>/recover", "/portal/deliveries/<delivery_id>",
        "/portal/deliveries/<delivery_id>/resend",
    },
    "the address is the leave to renew one connection, once": {
        "/reconnect/<secret>", "/reconnect/<secret>/authorize",
    },
    "members and holders of a link come back here from an app; each is checked by itself": {
        "/connections/oauth/callback",
    },
    "what pages are drawn with": {"/assets/<digest>/<path:name>"},
}  # fmt: skip
# Where a parameter's name alone does not say whose thing it is.
MEANING = {
    "/apps/<key>": "app_key",
    "/apps/<key>/install": "app_key",
    "/api/v1/apps/<key>": "app_key",
    "/api/v1/apps/<app_key>/install": "app_key",
    "/events-catalogue/<name>": "event_type",
    "/api/v1/event-types/<name>": "event_type",
    "/reconnect/<secret>": "reconnect_secret",
    "/reconnect/<secret>/authorize": "reconnect_secret",
    "/decide/<token>": "decide_token",
    "/archive/events/<event_id>": "archived_event_id",
    "/archive/events/<event_id>/replay": "archived_event_id",
    "/api/v1/archive/events/<event_id>": "archived_event_id",
    "/api/v1/archive/events/<event_id>/replay": "archived_event_id",
}
# The address itself is the proof of who may enter: whoever has the neighbour's is the neighbour.
BEARER = {
    "/in/<token>", "/invitations/<secret>", "/payloads/<token>", "/portal/enter/<secret>",
    "/reconnect/<secret>", "/reconnect/<secret>/authorize",
    "/decide/<token>",
}  # fmt: skip
# Until its first release has passed review an app is nowhere but at its vendor's desk.
IN_REVIEW = {
    "/apps/<key>", "/apps/<key>/install", "/api/v1/apps/<key>", "/api/v1/apps/<app_key>/install",
}  # fmt: skip
# Refused before anybody looks whether the thing exists; everywhere else the answer is 404.
OPERATORS_ONLY = "an operator reviews every vendor's releases; for all others the door is shut"
SUBSCRIBERS_ONLY = "without a subscriber's session nothing is looked up in a portal"
SIGN_IN = "it leads to the sign-in; the question is shown to those who may see it, behind that"
DECIDED = {
    "/decide/<token>": (303, SIGN_IN),
    "/operator/review/<release_id>": (403, OPERATORS_ONLY),
    "/operator/vendors/<vendor_id>": (403, OPERATORS_ONLY),
    "/operator/tenants/<organization_id>": (403, OPERATORS_ONLY),
    "/operator/tenants/<organization_id>/limits": (403, OPERATORS_ONLY),
    "/operator/tenants/<organization_id>/suspend": (403, OPERATORS_ONLY),
    "/operator/tenants/<organization_id>/resume": (403, OPERATORS_ONLY),
    "/api/v1/hub/tenants/<organization_id>": (403, OPERATORS_ONLY),
    "/api/v1/hub/tenants/<organization_id>/suspend": (403, OPERATORS_ONLY),
    "/api/v1/hub/tenants/<organization_id>/resume": (403, OPERATORS_ONLY),
    "/api/v1/reviews/<release_id>": (403, OPERATORS_ONLY),
    "/operator/connectors/<edition_id>": (403, OPERATORS_ONLY),
    "/api/v1/connector-reviews/<edition_id>": (403, OPERATORS_ONLY),
    "/api/v1/connector-reviews/<edition_id>/recall": (403, OPERATORS_ONLY),
    "/api/v1/vendor-applications/<vendor_id>": (403, OPERATORS_ONLY),
} | {
    rule: (403, SUBSCRIBERS_ONLY)
    for rule in PUBLIC["the portal asks for a subscriber's session itself"]
    if "<endpoint_id>" in rule or "<delivery_id>" in rule
}
# Reading here leaves a note in the audit trail of whoever may read.
NOTED = {
    "/exports/<export_id>/file",
    "/api/v1/exports/<export_id>/file",
    "/connections/<connection_id>/lookups/<lookup_key>",
    "/api/v1/connections/<connection_id>/lookups/<lookup_key>",
}
# What an operation wants in its body, where an empty one would be refused before any look-up.
BODIES = {
    "identity_api.change_member": {"role": "admin"},
    "webhooks_api.sources.change_source": {"name": "Mine"},
    "webhooks_api.sources.renew_source_values": {"filled": {"token": "Mine"}},
    "webhooks_api.endpoints.change_endpoint": {"description": "Mine"},
    "webhooks_api.endpoints.set_endpoint_certificate": {"certificate": "x", "private_key": "x"},
    "webhooks_api.endpoints.recover_endpoint": {"since": "2026-11-22T00:00:00Z"},
    "connectors_api.connections.change_connection": {"name": "Mine"},
    "connectors_api.reconciliations.set_up_reconciliation": {"connection_id": "con_mine"},
    "connectors_api.polls.start_poll": {"trigger": "orders_asked"},
    "connectors_api.ordered_webhooks.order_webhook": {"trigger": "order_paid"},
    "connectors_api.connection_life.tie_source": {"connection_id": None},
    "connectors_api.flows.change_flow": {"name": "Mine"},
    "connectors_api.stages.move_connection": {"environment": "test"},
    "connectors_api.stages.move_source": {"environment": "test"},
    "connectors_api.runs.replay_run_from": {"step": "erp"},
    "connectors_api.runs.look_at_run_input": {"input": {"customer": "Mine"}},
    "connectors_api.runs.edit_run_input": {"input": {"customer": "Mine"}},
    "connectors_api.approvals.decide_approval": {"decision": "approve"},
    "connectors_api.connection_life.decide_link": {"decision": "drop"},
    "connectors_api.incidents.change_incident": {"note": "Mine"},
    "connectors_api.publishing.write_edition_file": {"file": "README.md", "text": "Mine"},
    "connectors_api.publishing.try_edition": {"action": "mine", "input": {}},
    "connectors_api.publishing.change_edition_state": {"state": "deprecated"},
    "connectors_api.publishing.decide_edition": {"decision": "approve"},
    "connectors_api.publishing.recall_edition": {"reason": "Mine"},
    "marketplace_api.change_link": {"name": "Mine"},
    "catalog_api.decide_release": {"decision": "approve"},
    "catalog_api.decide_vendor": {"decision": "approve"},
    "desk_api.suspend_tenant": {"reason": "Mine"},
}
# What a page's form sends, where an empty form would be refused before any look-up.
FORMS = {
    "identity_pages.change_role": {"role": "admin"},
    "webhooks_pages.change_endpoint": {"url": "http://93.184.216.34/", "event_types": "*"},
    "webhooks_pages.set_unknown_types": {"unknown_types": "reject"},
    "connectors_pages.move_connection": {"environment": "test"},
    "connectors_pages.rename_connection": {"name": "Mine"},
    "connectors_pages.give_to_assistants": {"level": "read"},
    "connectors_pages.start_poll": {"trigger": "orders_asked"},
    "connectors_pages.order_webhook": {"trigger": "order_paid"},
    "connectors_pages.save_yaml": {"yaml": "trigger: {event: order.paid}\nsteps: []\n"},
    "connectors_pages.edit_run_input": {"input": "customer: Mine\n"},
    "connectors_pages.decide_approval": {"decision": "approve"},
    "connectors_pages.decide_reconnect_link": {"decision": "drop"},
    "connectors_pages.write_edition_file": {"file": "README.md", "text": "Mine"},
    "connectors_pages.try_edition": {"action": "mine", "input": "{}"},
    "connectors_pages.restore_flow": {"number": "1"},
    "connectors_pages.try_flow": {"event": "data: {order_no: '1'}\n"},
    "marketplace_pages.change_link": {"name": "Mine", "open_url": "https://example.com/"},
    "marketplace_pages.install_app": {"is_agreed": "1"},
}


@dataclass(frozen=True)
class Call:
    """One request to one address."""

    rule: Rule
    method: str
    path: str

    @property
    def is_api(self) -> bool:
        """Tell whether programs ask here."""
        return self.rule.rule.startswith(("/api/", "/in/"))

    def __str__(self) -> str:
        return f"{self.method} {self.rule.rule}"


def calls(app: Flask, neighbour: Neighbour, *, with_lists: bool = False) -> list[Call]:
    """Every address and method that takes an id, filled with the neighbour's ids."""
    found = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        if rule.rule in SHARED or not (rule.arguments or with_lists):
            continue
        # HEAD is GET; OPTIONS names methods and nothing else, but for a view of its own
        methods = rule.methods - {"HEAD"} - ({"OPTIONS"} if len(rule.methods) > 1 else set())
        found += [
            Call(rule, method, path)
            for method in sorted(methods)
            for path in paths(rule, neighbour)
        ]
    return found


def paths(rule: Rule, neighbour: Neighbour) -> list[str]:
    """The address with every value that its parameters can take."""
    found = [rule.rule]
    for argument in sorted(rule.arguments):
        part = re.compile(rf"<(?:[^<>]*:)?{argument}>")
        found = [
            part.sub(value, path) for path in found for value in values(rule, argument, neighbour)
        ]
    return found


def values(rule: Rule, argument: str, neighbour: Neighbour) -> list[str]:
    """What to put in the place of a parameter; one that nobody knows is an error."""
    converter = rule._converters[argument]
    if isinstance(converter, AnyConverter):
        return sorted(converter.items)
    meant = MEANING.get(rule.rule, argument)
    if meant not in neighbour.ids:
        raise AssertionError(
            f"{rule.rule} takes <{argument}>, which tests/factories/strangers.py does not make: "
            "give the neighbour one, or say in SHARED why it belongs to everybody"
        )
    return neighbour.ids[meant]


class Asker:
    """Somebody who asks: with a session as a browser has it, with an API key, or as nobody."""

    def __init__(
        self, app: Flask, *, member=None, key: str | None = None, accept: dict = PAGE
    ) -> None:
        self.app, self.client = app, app.test_client()
        self.headers = {**JSON, **bearer(key)} if key else accept
        self.token = ""
        if member is not None:
            sign_in(self.client, None, member)
        if key is None:
            self.token = csrf_of(self.client, "/help")

    def ask(self, call: Call):
        """Make the call as a page of ours or a well-written program would."""
        sending = {**self.headers, **(JSON if call.is_api else {}), "X-CSRF-Token": self.token}
        more = self._body_of(call) if call.method in UNSAFE else {}
        return self.client.open(call.path, method=call.method, headers=sending, **more)

    def _body_of(self, call: Call) -> dict:
        endpoint = call.rule.endpoint
        if not call.is_api:
            return {"data": FORMS.get(endpoint, {})}
        described = getattr(self.app.view_functions[endpoint], "operation", None)
        if described is None or described.body is None or not call.rule.arguments:
            return {}
        body = BODIES.get(endpoint, {})
        described.body.model_validate(body)  # a wrong one would be refused before any look-up
        return {"json": body}

    def get(self, path: str):
        """Read a page or a list."""
        return self.client.get(path, headers=self.headers)

    def send(self, path: str, form: dict | None = None, body: dict | None = None):
        """Send a form or a JSON body."""
        headers = {"X-CSRF-Token": self.token, **(PAGE if body is None else JSON)}
        return self.client.post(path, data=form, json=body, headers=headers)


def leaks(answer, hidden: list[str]) -> list[str]:
    """The hidden texts that an answer gives away."""
    said = (answer.get_data(as_text=True) + str(answer.headers)).casefold()
    return [f"gives away “{text}”" for text in hidden if text.casefold() in said]


def is_hidden(call: Call, answer) -> bool:
    """Tell whether the answer is the one that a stranger must get."""
    return answer.status_code == DECIDED.get(call.rule.rule, (404, ""))[0]


def trespasses(
    asker: Asker,
    neighbour: Neighbour,
    *own: str,
    is_right: Callable[[Call, object], bool] = is_hidden,
    among: Callable[[Access], bool] = lambda _access: True,
    with_lists: bool = False,
    hidden: list[str] | None = None,
) -> list[str]:
    """What somebody gets or changes, asking everywhere with the neighbour's ids.

    `own` are ids of the asker's, whose rows may change; `is_right` judges each answer; `hidden` is
    what no answer may hold, which is all of the neighbour's texts unless something else is said.
    """
    found = []
    hidden = neighbour.secrets if hidden is None else hidden
    before = everything_but(*own)
    for call in calls(asker.app, neighbour, with_lists=with_lists):
        if not among(access_of(asker.app.view_functions[call.rule.endpoint])):
            continue
        answer = asker.ask(call)
        if not is_right(call, answer):
            found.append(f"{call}: answers {answer.status_code}")
        found += [f"{call}: {leak}" for leak in leaks(answer, hidden)]
        if call.method in UNSAFE:
            after = everything_but(*own)
            found += [f"{call}: changes {table}" for table in changed(before, after)]
            before = after
        elif call.rule.rule in NOTED:
            before = everything_but(*own)
    return found


@pytest.fixture
def neighbour(database) -> Neighbour:
    return make_neighbour()


@pytest.fixture
def stranger(database) -> Stranger:
    return make_stranger()


# --- a stranger ----------------------------------------------------------------------------------


def test_a_stranger_at_a_browser_finds_nothing(app, neighbour, stranger):
    asker = Asker(app, member=stranger.owner)
    found = trespasses(asker, neighbour, *stranger.own)
    assert not found, "\n".join(found)


def test_a_strangers_key_finds_nothing(app, neighbour, stranger):
    asker = Asker(app, key=stranger.key)
    # a key is no person: it has no browsers to sign out
    found = trespasses(asker, neighbour, *stranger.own, among=lambda a: a.kind != "person")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_neighbour_finds_everything(app, neighbour):
    """Without this the sweep could be asking for things that never were."""
    asker, number, shut = Asker(app, member=neighbour.owner), 1, []
    asked = calls(app, neighbour)
    for position in range(len(asked)):
        if asked[position].rule.rule in {*DECIDED, *BEARER, *IN_REVIEW}:
            continue
        answer = asker.ask(asked[position])
        if answer.status_code in (401, 404) or asks_again(
            answer
        ):  # an earlier call may have deleted it
            number += 1
            neighbour = make_neighbour(number)
            asker, asked = Asker(app, member=neighbour.owner), calls(app, neighbour)
            answer = asker.ask(asked[position])
        # what no longer fits is told so, which is an answer to whoever owns it
        if answer.status_code >= 400 and answer.status_code not in (409, 422):
            shut.append(f"{asked[position]}: answers {answer.status_code}")
    assert not shut, "\n".join(shut)


def asks_again(answer) -> bool:
    """Tell whether somebody was sent to sign in again, as after ending their own session."""
    return answer.status_code == 303 and answer.location.startswith("/sign-in")


# --- ids that travel in a query, a form or a body ------------------------------------------------


# A parameter or field that names somebody's thing, and which of the neighbour's to put there …
CARRIES_ID = {
    "flow": "flow_id", "flow_id": "flow_id", "canary": "run_id", "event_id": "event_id",
    "source": "source_id", "source_id": "source_id", "endpoint_id": "endpoint_id",
    "organization_id": "organization_id", "actor_id": "user_id",
    "subscriber_id": "subscriber_id", "tenant": "organization_id",
    "connection_id": "connection_id",
    "app": "app_key", "a": "app_key", "app_key": "app_key", "incident": "incident_id",
    "assignee": "member_id", "assignee_id": "member_id",
}  # fmt: skip
# … those whose value holds such ids, asked for one by one in `errands` below …
HOLDS_IDS = {"connections", "use", "document", "yaml", "manifest", "id", "next", "back"}
# … and those that name nothing of anybody's.
PLAIN = {
    "about", "about_en", "about_zh", "action", "actor", "all", "answer", "archive", "archive_days",
    "assistant_access", "auth", "back_hours", "backlog", "bulk_hours", "bulk_types", "burst", "by",
    "called_input", "called_output", "canaries", "cause", "certificate", "code", "collection",
    "colour", "column", "columns", "comment", "condition", "confirmed", "connector",
    "contact_email", "content_base64", "credentials_end_at", "credit_code", "csrf_token", "current",
    "cursor", "data", "day", "days", "decision", "description", "detail_days", "do", "done",
    "email", "ends_on", "environment", "event", "event_type", "event_types", "every_seconds",
    "expires_at", "expires_seconds", "field", "fields", "file", "filled", "fixed", "flow_error",
    "flow_unknown", "force", "fresh_effect", "headers", "homepage", "hours", "industry", "input",
    "is_agreed", "is_confirmed", "is_secret", "iss", "key", "kind", "lang", "language",
    "large_payloads", "level", "limit", "live_days", "logo", "max_endpoints", "max_in_flight",
    "minutes", "name", "name_en", "name_zh", "natural_key", "note", "number", "occurred_at",
    "offer", "old_password", "only_failed", "open_url", "order", "ordering", "organization_name",
    "origins", "output", "overlap_hours", "part", "password", "pasted", "per_day", "per_minute",
    "permissions", "prefix", "private_key", "q", "reason", "rejected_days", "revision", "role",
    "sample", "schema", "scheme", "scheme_options", "search", "secret", "settings", "show",
    "signature", "since", "size", "slot", "slug", "sort", "start", "state", "step", "sub_scenario",
    "subject", "subscriber_name", "template", "text", "title", "title_en", "title_zh", "trigger",
    "trigger_kind", "type", "type_from", "type_rules", "type_value", "unknown_types", "until",
    "url", "value", "version", "view", "weight",
}  # fmt: skip


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_field_and_parameter_is_known(app):
    """A new one that carries an id must be asked with a stranger's."""
    known = {*CARRIES_ID, *HOLDS_IDS, *PLAIN}
    unknown = sorted((fields_of_operations(app) | names_asked_for()) - known)
    assert not unknown, f"say in this file what these name: {unknown}"


def fields_of_operations(app: Flask) -> set[str]:
    """The fields of every JSON body."""
    described = [getattr(view, "operation", None) for view in app.view_functions.values()]
    bodies = [one.body for one in described if one is not None and one.body is not None]
    return {field.alias or name for body in bodies for name, field in body.model_fields.items()}


def names_asked_for() -> set[str]:
    """The names that pages and routes ask a query or a form for."""
    found: set[str] = set()
    for path in house.modules("identity", "catalog", "webhooks", "connectors", "marketplace"):
        if not house.is_noun(path) and {"lab", "engine"}.isdisjoint(path.parts):
            found |= names_in(house.tree(path))
    return found


def names_in(tree: ast.AST) -> set[str]:
    """The first arguments of typed(…) and of .get(…) on what the browser sent."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            if is_asking(node.func):
                found |= texts(node.args[0])
        elif isinstance(node, ast.Subscript) and is_sent(node.value):
            found |= texts(node.slice)
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.DictComp):
            asks = any(isinstance(one, ast.Call) and is_asking(one.func) for one in ast.walk(node))
            lists = [part.iter for part in node.generators if isinstance(part.iter, ast.Tuple)]
            found |= {name for one in lists if asks for part in one.elts for name in texts(part)}
    return found


def is_asking(asked: ast.expr) -> bool:
    if isinstance(asked, ast.Name):
        return asked.id in ("typed", "typed_under")
    return isinstance(asked, ast.Attribute) and (
        asked.attr in ("get", "getlist") and is_sent(asked.value)
    )


def is_sent(thing: ast.expr) -> bool:
    """Tell whether an expression is request.args, .form, .values or .files, or a name for one."""
    if isinstance(thing, ast.Name):
        return thing.id in ("given", "form", "args")
    return isinstance(thing, ast.Attribute) and thing.attr in ("args", "form", "values", "files")


def texts(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_no_list_shows_a_neighbours_things(app, neighbour, stranger):
    """Every page and list without an id in its address, bare and narrowed by a neighbour's ids."""
    looked_at: set[str] = set()
    app.request_class = listening(looked_at)
    askers = [Asker(app, member=stranger.owner), Asker(app, key=stranger.key)]
    found, narrowed = [], 0
    for call in calls(app, neighbour, with_lists=True):
        if call.rule.arguments or call.method != "GET":
            continue
        looked_at.clear()
        ask = askers[call.is_api].get
        addresses, bare = [call.path], ask(call.path)
        for name in sorted(looked_at & set(CARRIES_ID)):
            value = neighbour.ids[CARRIES_ID[name]][0]
            addresses.append(f"{call.path}?{urlencode({name: value})}")
        for address in addresses:
            answer = bare if address == call.path else ask(address)
            # narrowed by what is not there for the asker, a list may also be not there
            usual = (200, 303, 403) if address == call.path else (200, 303, 403, 404)
            if answer.status_code not in usual:
                found.append(f"{address}: answers {answer.status_code}")
            found += [f"{address}: {leak}" for leak in leaks(answer, neighbour.secrets)]
        narrowed += len(addresses) - 1
    assert not found, "\n".join(found)
    assert narrowed >= 8


def errands(neighbour: Neighbour, stranger: Stranger) -> list[tuple[str, dict, int]]:
    """What a stranger may try with ids in a form or body: address, what is sent, the answer."""
    theirs = {name: found[0] for name, found in neighbour.ids.items()}
    _, erp, chat = neighbour.ids["connection_id"]
    document = order_document(erp, chat)
    parked = {"flow_id": stranger.flow_id, "cause": "data", "canary": theirs["run_id"]}
    use = {"demo-shop": erp, "demo-erp": erp, "demo-chat": chat}
    paid = event_types.built_in()["order.paid", 1]
    link = {"app_key": theirs["app_key"], "open_url": "https://example.com/"}
    return [
        ("/api/v1/runs/replay", {"flow_id": theirs["flow_id"], "cause": "data"}, 404),
        ("/api/v1/runs/replay", parked, 404),
        ("/runs/replay", {"flow_id": theirs["flow_id"], "cause": "data"}, 404),
        ("/runs/replay", parked, 404),
        ("/session/organization", {"organization_id": neighbour.organization_id}, 404),
        (
            "/flows",
            {"template": "order-to-erp-to-chat", "do": "publish"}
            | {f"use.{key}": value for key, value in use.items()},
            422,
        ),
        # a draft may name anything; it is told that the connection does not exist
        ("/api/v1/flows", {"template": "order-to-erp-to-chat", "connections": use}, 201),
        ("/api/v1/flows", {"name": "Mine", "document": document}, 201),
        (f"/flows/{stranger.flow_id}/edit/yaml", {"yaml": json.dumps(document)}, 200),
        (f"/api/v1/flows/{stranger.flow_id}/dry-run", {"document": document}, 200),
        (f"/api/v1/flows/{stranger.flow_id}/publish", {}, 422),
        (f"/flows/{stranger.flow_id}/publish", {}, 422),
        ("/api/v1/installations", link, 422),
        ("/toolbox/links", link, 422),
        (
            "/api/v1/portal-links",
            {
                "subscriber_name": "Mine",
                "event_types": ["*"],
                "subscriber_id": theirs["subscriber_id"],
            },
            422,
        ),
        ("/api/v1/releases", {"manifest": shelf.manifest_text(id=theirs["app_key"])}, 409),
        # the same dedupe key is another event for another firm
        (
            "/api/v1/events",
            {"type": paid.name, "id": theirs["event_id"], "data": paid.sample},
            202,
        ),
    ]


def test_ids_in_forms_and_bodies_reach_nothing_either(app, neighbour, stranger):
    asker = Asker(app, member=stranger.owner)
    found, before = [], everything_but(*stranger.own)
    for path, sending, wanted in errands(neighbour, stranger):
        kind = "body" if path.startswith("/api/") and not path.endswith("/yaml") else "form"
        answer = asker.send(
            path.replace("/api/v1", "") if kind == "form" else path, **{kind: sending}
        )
        if answer.status_code != wanted:
            said = answer.get_data(as_text=True)[:300]
            found.append(f"{path} {sending}: answers {answer.status_code}, not {wanted}: {said}")
        found += [f"{path}: {leak}" for leak in leaks(answer, neighbour.secrets)]
        found += [
            f"{path}: changes {one}" for one in changed(before, everything_but(*stranger.own))
        ]
    assert not found, "\n".join(found)


def listening(looked_at: set[str]) -> type[Request]:
    """A request that notes which parameters a view looks at."""

    class Noting(ImmutableMultiDict):
        def get(self, key, *more, **options):
            looked_at.add(key)
            return super().get(key, *more, **options)

        def getlist(self, key, *more, **options):
            looked_at.add(key)
            return super().getlist(key, *more, **options)

        def __getitem__(self, key):
            looked_at.add(key)
            return super().__getitem__(key)

    return type("Listening", (Request,), {"parameter_storage_class": Noting})


# --- whoever may not at all ----------------------------------------------------------------------


# The guard looks at no row of a tenant's, so one database shows all there is to see.
guard_alone = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@guard_alone
def test_nobody_enters_without_signing_in(app, neighbour):
    def is_shown_the_door(call, answer):
        if call.is_api:
            return answer.status_code == 401
        return answer.status_code == 303 and answer.location.startswith("/sign-in?next=/")

    found = trespasses(
        Asker(app),
        neighbour,
        is_right=is_shown_the_door,
        among=lambda access: access.kind != "public",
        with_lists=True,
    )
    assert not found, "\n".join(found)


@guard_alone
def test_every_door_without_a_lock_is_known(app):
    rules = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if access_of(app.view_functions[rule.endpoint]).kind == "public"
    }
    assert rules == {rule for known in PUBLIC.values() for rule in known}


def test_a_stranger_finds_nothing_behind_the_open_doors(app, neighbour):
    found = trespasses(Asker(app), neighbour, among=lambda access: access.kind == "public")
    assert not found, "\n".join(found)


@guard_alone
@pytest.mark.parametrize("by", ["browser", "key"])
def test_a_colleague_without_the_permission_is_refused(app, neighbour, by):
    clerk = neighbour.clerk
    asker = (
        Asker(app, member=clerk, accept=JSON)
        if by == "browser"
        else Asker(app, key=neighbour.clerk_key)
    )
    asker.get("/api/v1/me")  # what notes that the key was used is no trespass
    held = roles.permissions_of("member", is_vendor=True)
    found = trespasses(
        asker,
        neighbour,
        is_right=lambda _call, answer: answer.status_code == 403,
        among=lambda access: not held.issuperset(access.permissions),
        with_lists=True,
        # a colleague may know the name of the firm
        hidden=neighbour.secrets[2:],
    )
    assert not found, "\n".join(found)


@guard_alone
def test_whoever_has_no_seat_is_refused(app, neighbour):
    with transaction(EVERY) as session:
        user = make_user(session)
        _login, secret = sessions.start(session, user.id, organization_id=None)
    asker = Asker(app)
    asker.client.set_cookie(cookies.session_name(), secret)
    asker.token = csrf_of(asker.client, "/me")
    found = trespasses(
        asker,
        neighbour,
        user.id,
        is_right=lambda call, answer: answer.status_code == (403 if call.is_api else 303),
        among=lambda access: access.kind == "principal",
        with_lists=True,
    )
    assert not found, "\n".join(found)


@guard_alone
def test_another_site_cannot_send_our_forms(app, neighbour):
    """The owner's own cookies, but not the token that only our pages know."""
    asker = Asker(app, member=neighbour.owner, accept=JSON)
    asker.token = ""

    def is_refused(call, answer):
        return call.method not in UNSAFE or answer.status_code == 403

    found = trespasses(
        asker,
        neighbour,
        is_right=is_refused,
        among=lambda access: access.csrf,
        with_lists=True,
        hidden=[],
    )
    assert not found, "\n".join(found)


# --- deliberate breaks ---------------------------------------------------------------------------


def leak_by_name(source_id: str) -> str:
    with reading(EVERY) as session:
        return str(session.execute(select(SOURCE.c.name).where(SOURCE.c.id == source_id)).scalar())


def leak_in_a_refusal(source_id: str) -> tuple[str, int]:
    return leak_by_name(source_id), 404


def write_and_say_nothing(source_id: str) -> tuple[str, int]:
    with transaction(EVERY) as session:
        session.execute(update(SOURCE).where(SOURCE.c.id == source_id).values(name="Mine"))
    return "", 404


def break_down(source_id: str) -> str:
    raise RuntimeError(source_id)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (leak_by_name, "POST /broken/<source_id>: answers 200"),
        (leak_in_a_refusal, "POST /broken/<source_id>: gives away “Zwiebelturm”"),
        (write_and_say_nothing, "POST /broken/<source_id>: changes source"),
        (break_down, "POST /broken/<source_id>: answers 500"),
    ],
)
def test_a_door_that_leaks_is_caught(own_app, neighbour, stranger, view, said):
    def broken(source_id):
        return view(source_id)

    own_app.add_url_rule(
        "/broken/<source_id>", "broken", require("sources:read")(broken), methods=["POST"]
    )
    asker = Asker(own_app, member=stranger.owner)
    found = trespasses(asker, neighbour, *stranger.own, among=lambda a: a is broken.access)
    assert said in found


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_address_with_an_unknown_id_is_an_error(own_app, neighbour):
    own_app.add_url_rule(
        "/widgets/<widget_id>", "widgets", require("sources:read")(lambda widget_id: "")
    )
    with pytest.raises(AssertionError, match="takes <widget_id>"):
        calls(own_app, neighbour)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_operation_whose_body_nobody_wrote_down_is_an_error(own_app, neighbour, stranger):
    class WidgetIn(BaseModel):
        colour: str

    def paint(source_id, body):
        return None

    view = require("sources:read")(operation(summary="Paint", body=WidgetIn)(paint))
    own_app.add_url_rule("/api/v1/paint/<source_id>", "paint", view, methods=["POST"])
    asker = Asker(own_app, key=stranger.key)
    with pytest.raises(ValidationError, match="colour"):
        trespasses(asker, neighbour, among=lambda access: access is view.access)


def test_a_parameter_that_nobody_wrote_down_is_an_error():
    code = "def f():\n    return request.args.get('widget_id'), typed('owner_id')"
    assert names_in(ast.parse(code)) == {"widget_id", "owner_id"}
