"""Every text that a tenant, a vendor, a sender or an app can bring to a page stays a text.

One firm's things all carry a text that would become an element or an attribute wherever it is not
escaped; then every page is read with a parser that looks for either.
"""

import json
import re
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import pytest
from factories import catalog as shelf
from factories import strangers
from factories.identity import csrf_of, sign_in
from markupsafe import escape

from catalog import releases, search
from catalog.tables import Release, Vendor
from connectors.tables import Connection, Run, Step
from identity.tables import AuditEntry, Member, Organization, User
from kernel.database import EVERY, transaction
from webhooks.tables import Attempt, Event

# breaks out of a text, of an attribute in either quotes, and of one without
HOSTILE = "\" id=p '<i id=p>"
PAGE = {"Accept": "text/html"}
PICTURE = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*")
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "hx-get", "hx-post", "data")
ASKED = (
    *("q", "next", "state", "type", "source", "app", "slot", "a", "view", "flow", "cause"),
    *("action", "back", "canary_of", "canary", "done", "order", "template", "connector", "scheme"),
    *("event", "version", "lang", "auth", "differences", *search.FACETS),
)


class Reader(HTMLParser):
    """Collects what no page of ours has: the hostile element, handlers, addresses that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if (tag, name) == ("img", "src") and PICTURE.fullmatch(value or ""):
                continue  # a logo; a browser never runs what is an image by name
            runs = (value or "").strip().lower().startswith(("javascript:", "data:", "vbscript:"))
            # the last three begin what a script would evaluate
            acts = name == "style" or name.startswith(("on", "x-", "@", ":"))
            if (name, value) == ("id", "p") or acts or (name in ADDRESSES and runs):
                self.found.append(f"<{tag} {name}={value}>")
        is_data = dict(attrs).get("type") == "application/json"  # which no browser runs
        if tag == "script" and "src" not in dict(attrs) and not is_data:
            self.found.append("<script> of its own")
        self.scripts += tag == "script"


def read(text: str) -> list[str]:
    reader = Reader()
    reader.feed(text)
    return reader.found


@pytest.fixture
def firm(database, monkeypatch):
    """A vendor that also runs the hub, all of whose texts are hostile."""
    monkeypatch.setattr(strangers, "WORD", HOSTILE)
    made = strangers.make_neighbour()
    with transaction(EVERY) as session:
        owner = made.organization_id
        organization = session.get(Organization, owner)
        organization.is_operator, organization.industry = True, HOSTILE
        vendor = session.get(Vendor, made.ids["vendor_id"][0])
        vendor.about, vendor.contact_email = {"zh": HOSTILE, "en": HOSTILE}, f"{HOSTILE}@x"
        publish(session, vendor, made)
        event = session.get(Event, (owner, made.ids["event_id"][0]))
        event.headers = {"user-agent": HOSTILE, HOSTILE: HOSTILE, "ce-source": HOSTILE}
        event.problem = {"code": HOSTILE, "errors": [{"pointer": HOSTILE, "message": HOSTILE}]}
        event.body = json.dumps({HOSTILE: [HOSTILE, {"a": HOSTILE}]}).encode()
        for attempt in session.execute(Attempt.of(owner)).scalars():
            attempt.response_headers = {HOSTILE: HOSTILE, "content-type": HOSTILE}
            attempt.response_body = f"<script>alert(1)</script>{HOSTILE}".encode()
            attempt.failure = HOSTILE
        words = {"zh": HOSTILE, "en": HOSTILE}
        connection = session.get(Connection, (owner, made.ids["connection_id"][0]))
        connection.problem = {"cause": "auth", "say": words, "detail": HOSTILE}
        connection.settings = {"base_url": f"http://{HOSTILE}"}
        for run in session.execute(Run.of(owner)).scalars():
            run.say, run.detail, run.event_type = words, HOSTILE, HOSTILE
        for step in session.execute(Step.of(owner)).scalars():
            step.problem = {"cause": HOSTILE, "say": words, "detail": HOSTILE}
            step.output = {HOSTILE: HOSTILE}
        detail = {HOSTILE: HOSTILE, "role": HOSTILE}
        session.add(
            AuditEntry(
                organization_id=owner, actor_kind="member", actor_name=HOSTILE, action=HOSTILE,
                object_id=HOSTILE, at=strangers.MOMENT, ip=HOSTILE, detail=detail,
            )
        )  # fmt: skip
        user = session.get(User, session.get(Member, (owner, made.owner.id)).user_id)
        user.name = HOSTILE
    return made


def publish(session, vendor, made):
    """Put an app on the shelf, and send another for review, with a hostile text in every field."""
    words = {"zh": HOSTILE, "en": HOSTILE}
    over = {
        "id": "zt-shelf", "name": words, "tagline": words, "description": words,
        "licence": {"kind": "proprietary", "spdx": HOSTILE, "note": words},
        "homepage": f"https://x/{quote(HOSTILE)}", "exports": [HOSTILE], "changelog": words,
        "plans": [{"id": "a-plan", "name": words, "price_fen": 1, "period": "month",
                   "third_party_fees": [{"name": words, "price_fen": 1, "period": "month"}]}],
        "scopes": [{"id": "events:read", "reason": words, "sensitivity": "high"}],
        "data_table": [{"object": words, "access": "read", "reason": words, "sensitivity": "high",
                        "region": words, "retention_days": 1}],
        "support": {"email": "a@example.com", "hours": words},
    }  # fmt: skip
    release = releases.submit(session, vendor, shelf.manifest_text(**over), "usr_1")
    releases.approve(session, release.id, HOSTILE, "usr_2")
    releases.publish(session, release.id)
    waiting = shelf.manifest_text(**{**over, "version": "2.0.0"})
    second = releases.submit(session, vendor, waiting, "usr_1")
    made.ids["release_id"] += [release.id, second.id]
    made.ids["app_key"].append("zt-shelf")
    assert session.get(Release, second.id).state == "in_review"


def pages(app, made):
    """Every page, filled with the firm's ids."""
    meaning = {"key": "app_key", "name": "event_type"}
    for rule in app.url_map.iter_rules():
        if "GET" not in rule.methods or rule.rule.startswith(("/api/", "/in/", "/assets/")):
            continue
        choices = [{}]
        for name in rule.arguments:
            values = made.ids.get(meaning.get(name, name), ["x"])
            choices = [{**one, name: value} for one in choices for value in values]
        for one in choices:
            yield app.url_map.bind("localhost").build(rule.endpoint, one, method="GET")


def test_a_page_that_does_not_escape_is_noticed():
    """The break that the sweep must notice, in every place a text can stand."""
    assert read(f"<p>{HOSTILE}</p>")
    assert read(f'<p title="{HOSTILE}">')
    assert read(f"<p title='{HOSTILE}'>")
    assert read('<a href=" JavaScript:alert(1)">')
    assert read("<script>1</script>")
    assert read(f'<p title="{escape(HOSTILE)}">{escape(HOSTILE)}</p>') == []


def test_no_page_takes_a_text_for_markup(app, client, firm):
    sign_in(client, None, firm.owner)
    headers = {**PAGE, "Referer": f"http://x/{HOSTILE}", "User-Agent": HOSTILE}
    query = urlencode(dict.fromkeys(ASKED, HOSTILE))
    shown = found = 0
    broken = {}
    for path in pages(app, firm):
        for address in (path, f"{path}?{query}", f"{path}?lang=en&{query}"):
            answer = client.get(address, headers=headers)
            text = answer.get_data(as_text=True)
            assert answer.status_code < 500, address
            # data that says what it is, and that no browser guesses about, is no page
            is_file = answer.headers.get("Content-Disposition", "").startswith("attachment")
            is_data = "json" in answer.mimetype or is_file
            if is_data and answer.headers.get("X-Content-Type-Options") == "nosniff":
                continue
            # in the portal somebody else is in, or nobody: there is nothing of the firm to show
            # who is sent elsewhere sees no page
            counts = not path.startswith("/portal/") and not 300 <= answer.status_code < 400
            found += counts
            shown += counts and "id=p" in text
            if bad := read(text):
                broken[address[:60]] = bad[:3]
    assert broken == {}
    assert found > 200
    assert shown > found * 0.9, "the hostile text did not come to the pages"


def test_forms_that_come_back_keep_what_was_typed_a_text(app, client, firm):
    sign_in(client, None, firm.owner)
    typed = dict.fromkeys(
        ("name", "email", "url", "event_types", "description", "slug", "title_zh", "title_en",
         "schema", "sample", "manifest", "yaml", "open_url", "slot", "role", "days", "scheme",
         "secret", "type_value", "type_prefix", "event", "input", "contact_email", "homepage",
         "about_zh", "credit_code", "reason", "old_password", "language", "industry", "size",
         "settings.base_url", "fields.key", "connector", "s0.key", "s0.when", "s0.r0.target",
         "s0.r0.source", "organization_name", "flow_id", "cause", "decision", "number"),
        HOSTILE,
    )  # fmt: skip
    typed |= {"count": "1", "s0.kind": "map", "s0.rows": "1", "csrf_token": csrf_of(client, "/me")}
    broken, shown, tried = {}, 0, 0
    for rule in app.url_map.iter_rules():
        if "POST" not in rule.methods or rule.rule.startswith(("/api/", "/in/")):
            continue
        if rule.rule in ("/sign-out", "/settings/leave", "/me/password"):
            continue
        ids = {name: firm.ids.get(name, ["zt-shelf"])[0] for name in rule.arguments}
        if "deed" in ids:
            ids["deed"] = next(iter(rule._converters["deed"].items))
        path = app.url_map.bind("localhost").build(rule.endpoint, ids, method="POST")
        for more in ({}, {"connector": "demo-erp", "scheme": "hmac", "template": ""}):
            answer = client.post(path, data={**typed, **more}, headers=PAGE)
            text = answer.get_data(as_text=True)
            assert answer.status_code < 500, path
            tried += 1
            shown += "id=p" in text
            if bad := read(text):
                broken[path] = bad[:3]
    assert broken == {}
    assert shown > 40, f"{shown} of {tried}"


def test_json_is_never_taken_for_a_page(client, firm):
    headers = {"Authorization": f"Bearer {firm.key}", **PAGE}
    for path in ("/events", "/sources", "/flows", "/runs", "/connections", "/members", "/audit"):
        answer = client.get(f"/api/v1{path}", headers=headers)
        assert answer.mimetype == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "id=p" in answer.get_data(as_text=True)
    refused = client.get(f"/api/v1/flows/{quote(HOSTILE)}?cursor={quote(HOSTILE)}", headers=headers)
    assert refused.mimetype == "application/problem+json"


@pytest.mark.parametrize(
    "path", [f"/{quote(HOSTILE)}", f"/flows/{quote(HOSTILE)}", f"/apps/{quote(HOSTILE)}"]
)
def test_an_address_nobody_has_is_told_as_text(client, firm, path):
    sign_in(client, None, firm.owner)
    answer = client.get(path, headers=PAGE)
    assert answer.status_code == 404
    assert read(answer.get_data(as_text=True)) == []
