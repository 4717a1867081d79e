"""Subscriber portals: in by a link that works once, and then at one's own endpoints alone."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from factories import identity
from factories import webhooks as make
from factories.strangers import changed, everything_but

from identity.guard import access_of, cookies
from identity.tables import AuditEntry
from kernel import clock
from kernel.errors import Conflict, Invalid
from kernel.settings import settings_override
from webhooks import drain, endpoints, logos, portals, subscribers
from webhooks.tables import Attempt, Delivery, Endpoint, PortalLink, PortalLogo, PortalVisit

PAGE = {"Accept": "text/html"}
WORD = "Zwiebelturm"


@pytest.fixture
def firm(database):
    """An organization with an integrator's API key."""

    def setup(session):
        organization = identity.make_organization(session, name="恒力精密机械")
        key = identity.make_api_key(session, organization, role="integrator")
        return organization.id, {"Authorization": f"Bearer {key}"}

    return make.in_transaction(setup)


class Partner:
    """A subscriber at a browser of its own."""

    def __init__(self, app, firm, **over) -> None:
        self.organization_id, self.bearer = firm
        self.client = app.test_client()
        body = {"subscriber_name": "Nordwind", "event_types": ["order.*"], **over}
        answer = app.test_client().post("/api/v1/portal-links", json=body, headers=self.bearer)
        assert answer.status_code == 201, answer.text
        self.link = answer.json
        self.path = urlsplit(self.link["url"]).path

    def enter(self) -> "Partner":
        answer = self.client.post(self.path)
        assert answer.status_code == 303, answer.text
        assert answer.location == "/portal"
        self.token = re.search(r'name="csrf-token" content="([^"]+)"', self.get("/portal").text)[1]
        return self

    def get(self, path):
        return self.client.get(path, headers=PAGE)

    def send(self, path, **form):
        return self.client.post(path, data={"csrf_token": self.token, **form}, headers=PAGE)

    def add(self, url, **form):
        """Register an endpoint; gives its id."""
        wanted = {"url": url, "event_types": ["order.*"], **form}
        answer = self.send("/portal/endpoints", **wanted)
        assert answer.status_code == 200, answer.text
        return make.rows(Endpoint)[-1].id


@pytest.fixture
def partner(app, firm):
    return Partner(app, firm).enter()


@pytest.fixture
def target(database):
    with make.sink() as found:
        yield found


# --- getting in ----------------------------------------------------------------------------------


def test_looking_at_a_link_does_not_use_it_up_and_opening_it_does(app, firm):
    partner = Partner(app, firm)
    for _ in range(2):
        page = partner.get(partner.path)
        assert page.status_code == 200
        assert "恒力精密机械" in page.text
    partner.enter()
    other = app.test_client()
    assert other.get(partner.path, headers=PAGE).status_code == 404
    assert other.post(partner.path, headers=PAGE).status_code == 404
    # whoever is in already comes in again by the same address, as when a frame is loaded anew
    assert partner.get(partner.path).location == "/portal"


def test_of_two_browsers_at_once_one_gets_in(app, firm):
    partner = Partner(app, firm)
    secret = partner.path.rpartition("/")[2]
    with pytest.raises(portals.NotFound):
        make.in_transaction(
            lambda session: [portals.enter(session, secret), portals.enter(session, secret)]
        )
    partner.enter()


def test_nobody_is_in_without_a_link(app, firm):
    client = app.test_client()
    for path in ("/portal", "/portal/endpoints/new"):
        answer = client.get(path, headers=PAGE)
        assert answer.status_code == 403
        assert "yf-side" not in answer.text
    assert client.get("/portal/enter/ypl_made_up", headers=PAGE).status_code == 404


def test_a_link_ends_by_time_and_by_hand_and_an_address_by_time(app, firm):
    partner = Partner(app, firm, minutes=30).enter()
    late = Partner(app, firm, minutes=30)
    with clock.shifted(seconds=31 * 60):
        assert late.get(late.path).status_code == 404
        assert partner.get("/portal").status_code == 200
    with clock.shifted(seconds=12.1 * 3600):
        assert partner.get("/portal").status_code == 403
    path = f"/api/v1/portal-links/{partner.link['id']}"
    ended = app.test_client().post(f"{path}/revoke", headers=partner.bearer)
    assert ended.json["state"] == "revoked"
    assert partner.get("/portal").status_code == 403
    again = app.test_client().post(f"{path}/addresses", json={}, headers=partner.bearer)
    assert again.status_code == 409
    assert [one.link_id for one in make.rows(PortalVisit)] == [late.link["id"]]


def test_a_session_never_outlives_its_link(app, firm):
    soon = (clock.now() + timedelta(hours=1)).isoformat()
    partner = Partner(app, firm, expires_at=soon).enter()
    with clock.shifted(seconds=3700):
        assert partner.get("/portal").status_code == 403
        assert make.in_transaction(portals.forget_old) == 1


def test_leaving_ends_the_session_also_for_a_copied_cookie(partner, app):
    copy = app.test_client()
    copy.set_cookie("yf_portal", partner.client.get_cookie("yf_portal").value)
    assert copy.get("/portal", headers=PAGE).status_code == 200
    assert partner.send("/portal/leave").status_code == 200
    assert copy.get("/portal", headers=PAGE).status_code == 403


def test_secrets_are_kept_as_digests_alone(partner):
    (visit,) = make.rows(PortalVisit)
    secret = partner.client.get_cookie("yf_portal").value
    assert secret not in repr(visit)
    assert partner.path.rpartition("/")[2] not in repr(visit)


# --- frames, cookies and forms -------------------------------------------------------------------


def test_only_the_links_origins_may_frame_the_portal(app, firm):
    origins = ["https://portal.example.com", "https://shop.example.com:8443"]
    framed = Partner(app, firm, origins=origins).enter()
    alone = Partner(app, firm).enter()
    for path in ("/portal", "/portal/endpoints/ep_none"):
        policy = framed.get(path).headers["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors " + " ".join(origins))
        assert "X-Frame-Options" not in framed.get(path).headers
        policy = alone.get(path).headers["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors 'none'")
    assert app.test_client().get("/help").headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "origin",
    ["http://portal.example.com", "https://*.example.com", "https://a.example/x", "*", "'self'",
     "https://a.example; script-src *", "https://a.example https://b.example", "javascript:x", "",
     "https://A.example", "data:", "https://-a.example"],
)  # fmt: skip
def test_an_origin_is_nothing_but_an_origin(app, firm, origin):
    body = {"subscriber_name": "N", "event_types": ["*"], "origins": [origin]}
    answer = app.test_client().post("/api/v1/portal-links", json=body, headers=firm[1])
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "/origins/0"


def test_over_https_the_cookie_may_travel_in_a_frame_and_is_kept_apart(app, firm):
    with settings_override(base_url="https://hub.example"):
        partner = Partner(app, firm)
        answer = partner.client.post(partner.path, base_url="https://hub.example")
        cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-yf_portal=")
    for part in ("Secure", "HttpOnly", "SameSite=None", "Partitioned", "Path=/"):
        assert part in cookie, cookie


def test_forms_of_other_pages_are_refused(partner, target):
    endpoint_id = partner.add(target.url)
    path = f"/portal/endpoints/{endpoint_id}/pause"
    assert partner.client.post(path, headers=PAGE).status_code == 403
    assert partner.client.post(path, data={"csrf_token": "x"}, headers=PAGE).status_code == 403
    token = {"csrf_token": partner.token}
    for more in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert partner.client.post(path, data=token, headers={**PAGE, **more}).status_code == 403
    assert make.row(Endpoint, endpoint_id).state == "active"
    assert partner.client.post(path, data=token, headers=PAGE).status_code == 303
    assert make.row(Endpoint, endpoint_id).state == "paused"


def test_another_site_cannot_put_its_own_session_into_a_browser(app, firm):
    partner = Partner(app, firm)
    answer = partner.client.post(partner.path, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_a_members_session_is_nothing_here_and_a_portals_nothing_there(app, firm, partner):
    def owner(session):
        organization = identity.make_organization(session)
        return identity.make_member(session, organization)

    member = make.in_transaction(owner)
    client = app.test_client()
    identity.sign_in(client, None, member)
    assert client.get("/portal", headers=PAGE).status_code == 403
    assert partner.get("/endpoints").status_code == 303
    assert partner.client.get("/api/v1/endpoints").status_code == 401
    assert cookies.session_name() not in (cookie.key for cookie in partner.client._cookies.values())


# --- what a subscriber does ----------------------------------------------------------------------


def test_a_partner_adds_an_endpoint_and_gets_events(partner, target):
    page = partner.send("/portal/endpoints", url=target.url, event_types=["order.paid"])
    (made,) = make.rows(Endpoint)
    assert endpoints.secret_of(made) in page.text
    assert made.subscriber_id == partner.link["subscriber_id"]
    make.in_transaction(lambda s: make.make_event(s, partner.organization_id, type="order.paid"))
    make.in_transaction(lambda s: make.make_event(s, partner.organization_id, type="order.placed"))
    drain.drain("w1")
    assert len(target.requests) == 1
    (delivery,) = make.rows(Delivery)
    shown = partner.get(f"/portal/endpoints/{made.id}")
    assert f"/portal/deliveries/{delivery.id}" in shown.text
    detail = partner.get(f"/portal/deliveries/{delivery.id}").text
    assert "SO-1001" in detail
    assert "webhook-signature" in detail


def test_a_secret_is_shown_and_rotated_and_both_are_written_down(partner, target):
    endpoint_id = partner.add(target.url)
    first = endpoints.secret_of(make.row(Endpoint, endpoint_id))
    assert first not in partner.get(f"/portal/endpoints/{endpoint_id}").text
    assert first in partner.send(f"/portal/endpoints/{endpoint_id}/reveal").text
    rotated = partner.send(f"/portal/endpoints/{endpoint_id}/rotate-secret").text
    second = endpoints.secret_of(make.row(Endpoint, endpoint_id))
    assert second != first
    assert second in rotated
    entries = [one for one in make.rows(AuditEntry) if one.actor_kind == "subscriber"]
    assert [one.action for one in entries] == [
        "portal.entered",
        "endpoint.created",
        "endpoint.secret_shown",
        "endpoint.secret_rotated",
    ]
    assert {one.actor_name for one in entries} == {"Nordwind"}
    assert {one.actor_id for one in entries} == {partner.link["subscriber_id"]}


def test_a_test_event_resend_and_recover(partner, target):
    make.in_transaction(lambda s: make.make_event(s, partner.organization_id, type="order.paid"))
    drain.drain("w1")
    endpoint_id = partner.add(target.url)
    tried = partner.send(f"/portal/endpoints/{endpoint_id}/test")
    assert tried.status_code == 200
    assert len(target.requests) == 1
    assert partner.send(f"/portal/endpoints/{endpoint_id}/recover", hours="24").status_code == 303
    drain.drain("w1")
    assert len(target.requests) == 2
    (delivery,) = make.rows(Delivery)
    assert partner.send(f"/portal/deliveries/{delivery.id}/resend").status_code == 303
    drain.drain("w1")
    assert len(target.requests) == 3
    assert target.requests[1][1]["webhook-id"] == target.requests[2][1]["webhook-id"]


@pytest.mark.parametrize("chosen", [["*"], ["invoice.issued"], ["order.paid", "goods.*"], []])
def test_only_what_the_link_allows_can_be_chosen(partner, target, chosen):
    answer = partner.send("/portal/endpoints", url=target.url, event_types=chosen)
    assert answer.status_code == 422
    assert make.rows(Endpoint) == []
    endpoint_id = partner.add(target.url)
    path = f"/portal/endpoints/{endpoint_id}/change"
    assert partner.send(path, url=target.url, event_types=chosen).status_code == 422
    assert make.row(Endpoint, endpoint_id).event_types == ["order.*"]


def test_what_covers_what():
    assert subscribers.is_within(["*"], "*")
    assert subscribers.is_within(["order.*"], "order.*")
    assert subscribers.is_within(["order.*"], "order.line.*")
    assert not subscribers.is_within(["order.*"], "orders.paid")
    assert not subscribers.is_within(["order.paid"], "order.*")
    assert not subscribers.is_within(["order.*", "invoice.*"], "*")


def test_no_more_endpoints_than_allowed_and_no_private_address(app, firm, target):
    partner = Partner(app, firm, max_endpoints=1).enter()
    private = partner.send("/portal/endpoints", url="http://10.0.0.1/x", event_types=["order.*"])
    assert private.status_code == 422
    endpoint_id = partner.add(target.url)
    more = partner.send("/portal/endpoints", url=target.url, event_types=["order.*"])
    assert more.status_code == 409
    inside = {"url": "http://169.254.169.254/", "event_types": ["order.*"]}
    assert partner.send(f"/portal/endpoints/{endpoint_id}/change", **inside).status_code == 422
    assert len(make.rows(Endpoint)) == 1
    assert make.rows(Endpoint)[0].url == target.url


def test_deeds_that_call_out_are_limited(partner, target):
    endpoint_id = partner.add(target.url)
    path = f"/portal/endpoints/{endpoint_id}/test"
    answers = [partner.send(path).status_code for _ in range(32)]
    assert answers[0] == 200
    assert answers[-1] == 429
    assert len(target.requests) < 32


def test_a_second_link_leads_to_the_same_endpoints_and_not_to_fewer_events(app, firm, target):
    first = Partner(app, firm).enter()
    endpoint_id = first.add(target.url)
    same = first.link["subscriber_id"]
    second = Partner(app, firm, subscriber_id=same, event_types=["order.*", "invoice.*"]).enter()
    assert second.get(f"/portal/endpoints/{endpoint_id}").status_code == 200
    narrow = {"subscriber_name": "N", "subscriber_id": same, "event_types": ["order.paid"]}
    answer = app.test_client().post("/api/v1/portal-links", json=narrow, headers=firm[1])
    assert answer.status_code == 409
    unknown = {**narrow, "subscriber_id": "sub_unknown"}
    answer = app.test_client().post("/api/v1/portal-links", json=unknown, headers=firm[1])
    assert answer.status_code == 422


def test_a_colour_is_used_and_an_unreadable_one_refused(app, firm):
    partner = Partner(app, firm, colour="#7a1f5c").enter()
    assert 'href="/portal/colours.css"' in partner.get("/portal").text
    assert "--yf-sea:#7a1f5c" in partner.get("/portal/colours.css").text
    for colour in ("#ffff00", "red", "#7a1f5c;}"[:7], "#7a1f5"):
        body = {"subscriber_name": "N", "event_types": ["*"], "colour": colour}
        answer = app.test_client().post("/api/v1/portal-links", json=body, headers=firm[1])
        assert answer.status_code == (201 if colour == "#7a1f5c" else 422), colour


@pytest.mark.usefixtures("database")
def test_numbers_and_times_are_bounded():
    organization_id = make.in_transaction(lambda s: identity.make_organization(s).id)

    def create(**over):
        values = {
            "subscriber_name": "N",
            "event_types": ["*"],
            "expires_at": clock.now() + timedelta(days=1),
        }
        return make.in_transaction(
            lambda s: portals.create(s, organization_id, **{**values, **over})
        )

    for wrong in (
        {"max_endpoints": 0},
        {"max_endpoints": 51},
        {"expires_at": clock.now()},
        {"expires_at": clock.now() + timedelta(days=800)},
        {"subscriber_name": "  "},
        {"event_types": []},
        {"origins": ["https://a.example"] * 11},
    ):
        with pytest.raises(Invalid):
            create(**wrong)
    link = create()
    make.in_transaction(lambda s: portals.revoke(s, organization_id, link.id))
    with pytest.raises(Conflict):
        make.in_transaction(lambda s: portals.offer(s, organization_id, link.id, 5))
    assert len(make.rows(PortalLink)) == 1


# --- nobody else's -------------------------------------------------------------------------------


def test_a_subscriber_finds_nothing_that_is_not_its_own(app, firm, target):
    """Every address of the portal, asked with the ids of everybody else's endpoints."""
    mine, other = Partner(app, firm).enter(), Partner(app, firm, subscriber_name=WORD).enter()
    mine.add(target.url)

    def endpoint_with_delivery(session, organization_id, **over):
        row = make.make_endpoint(
            session, organization_id, f"https://{WORD.lower()}.example/", description=WORD, **over
        )
        event = make.make_event(session, organization_id, subject=WORD, body=f'"{WORD}"'.encode())
        delivery = Delivery(
            organization_id=organization_id, id=portals.new_id("dlv"), event_id=event,
            endpoint_id=row.id, state="parked",
        )  # fmt: skip
        session.add(delivery)
        session.flush()
        session.add(
            Attempt(
                organization_id=organization_id, id=portals.new_id("atm"), delivery_id=delivery.id,
                number=1, started_at=clock.now(), elapsed_ms=1, response_body=WORD.encode(),
            )
        )  # fmt: skip
        return row.id, delivery.id

    def setup(session):
        stranger = identity.make_organization(session, name=WORD)
        theirs = other.link["subscriber_id"]
        return [
            endpoint_with_delivery(session, firm[0]),
            endpoint_with_delivery(session, firm[0], subscriber_id=theirs),
            endpoint_with_delivery(session, stranger.id),
            endpoint_with_delivery(session, stranger.id, subscriber_id=mine.link["subscriber_id"]),
        ]

    everybodys = make.in_transaction(setup)
    rules = [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/portal/") and rule.arguments - {"secret"}
        for method in rule.methods & {"GET", "POST"}
    ]
    assert len(rules) >= 10
    found, before = [], everything_but()
    form = {"url": target.url, "event_types": ["order.*"], "csrf_token": mine.token}
    for endpoint_id, delivery_id in everybodys:
        for method, rule in rules:
            path = rule.replace("<endpoint_id>", endpoint_id).replace("<delivery_id>", delivery_id)
            sent = {"data": form} if method == "POST" else {}
            answer = mine.client.open(path, method=method, headers=PAGE, **sent)
            if answer.status_code != 404:
                found.append(f"{method} {path}: answers {answer.status_code}")
            if WORD.casefold() in (answer.text + str(answer.headers)).casefold():
                found.append(f"{method} {path}: gives away")
    found += [f"changes {one}" for one in changed(before, everything_but())]
    for path in ("/portal", "/portal/endpoints/new"):
        if WORD.casefold() in mine.get(path).text.casefold():
            found.append(f"{path}: gives away")
    assert not found, "\n".join(found)
    assert WORD in other.get(f"/portal/endpoints/{everybodys[1][0]}").text
    assert other.get(f"/portal/deliveries/{everybodys[1][1]}").status_code == 200
    assert len(target.requests) == 0


def test_a_portals_session_opens_no_other_door(app, partner):
    """Every address outside the portal, asked with a portal's session alone."""
    found = []
    for rule in app.url_map.iter_rules():
        access = access_of(app.view_functions[rule.endpoint])
        if rule.rule.startswith("/portal") or access.kind == "public" or rule.arguments:
            continue
        for method in rule.methods & {"GET", "POST"}:
            answer = partner.client.open(rule.rule, method=method, headers=PAGE)
            is_shut = answer.status_code == 401 or (
                answer.status_code == 303 and answer.location.startswith("/sign-in")
            )
            if not is_shut:
                found.append(f"{method} {rule.rule}: {answer.status_code}")
    assert not found, "\n".join(found)


# --- the organization's own pages ----------------------------------------------------------------


def test_an_integrator_makes_shows_and_ends_a_link_on_pages(client):
    organization_id = make.seat_of_integrator(client)
    token = identity.csrf_of(client, "/portal-links/new")

    def send(path, **form):
        return client.post(path, data={"csrf_token": token, **form}, headers=PAGE)

    assert "/portal-links/new" in client.get("/portal-links", headers=PAGE).text
    form = {
        "subscriber_name": "Nordwind",
        "event_types": "order.*\ninvoice.issued",
        "max_endpoints": "3",
        "days": "30",
        "origins": "https://portal.example.com",
    }
    wrong = send("/portal-links", **{**form, "max_endpoints": "99"})
    assert wrong.status_code == 422
    made = send("/portal-links", **form)
    assert "/portal/enter/ypl_" in made.text
    (link,) = make.rows(PortalLink)
    assert link.organization_id == organization_id
    assert link.event_types == ["order.*", "invoice.issued"]
    assert "/portal/enter/ypl_" not in client.get(f"/portal-links/{link.id}", headers=PAGE).text
    assert "/portal/enter/ypl_" in send(f"/portal-links/{link.id}/addresses").text
    assert "Nordwind" in client.get("/portal-links", headers=PAGE).text
    assert send(f"/portal-links/{link.id}/revoke").status_code == 303
    assert make.rows(PortalLink)[0].revoked_at is not None
    refused = send(f"/portal-links/{link.id}/addresses")
    assert refused.status_code == 409


# --- a token in a header -------------------------------------------------------------------------

SITE = "https://portal.example.com"


def hand_over(client, token, origin=SITE):
    headers = {"Authorization": f"Bearer {token}", "Sec-Fetch-Site": "cross-site"}
    return client.post("/portal/enter", headers=headers | ({"Origin": origin} if origin else {}))


def test_a_page_of_the_links_website_hands_the_token_over_in_a_header(app, firm):
    partner = Partner(app, firm, origins=[SITE])
    answer = hand_over(partner.client, partner.link["token"])
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == SITE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]
    assert partner.link["token"] not in str(answer.headers)
    page = partner.get("/portal")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].endswith(f"frame-ancestors {SITE}")
    assert [row.action for row in make.rows(AuditEntry)].count("portal.entered") == 1
    assert hand_over(app.test_client(), partner.link["token"]).status_code == 404, "it works once"


def test_the_cookie_of_a_frame_is_kept_apart_for_each_website(app, firm):
    with settings_override(base_url="https://hub.example"):
        partner = Partner(app, firm, origins=[SITE])
        cookie = hand_over(partner.client, partner.link["token"]).headers["Set-Cookie"]
    for word in ("__Host-yf_portal=", "Secure", "HttpOnly", "SameSite=None", "Partitioned"):
        assert word in cookie


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", None, "http://portal.example.com"]
)
def test_a_strange_website_gets_nobody_in_and_uses_no_token_up(app, firm, origin):
    partner = Partner(app, firm, origins=[SITE])
    answer = hand_over(app.test_client(), partner.link["token"], origin)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert hand_over(partner.client, partner.link["token"]).status_code == 204


def test_a_browser_may_ask_first_and_learns_nothing(app, firm):
    asks = {"Origin": "https://any.example", "Access-Control-Request-Headers": "authorization"}
    answer = app.test_client().options("/portal/enter", headers=asks)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer nonsense", "Bearer ypv_x"])
def test_no_token_is_no_way_in(app, firm, header):
    answer = app.test_client().post(
        "/portal/enter", headers={"Authorization": header, "Origin": SITE}
    )
    assert answer.status_code in (403, 404)
    assert answer.headers["Access-Control-Allow-Origin"] == SITE, "so that its page can say so"


def test_other_pages_of_the_portal_answer_no_strange_website(partner):
    answer = partner.client.get("/portal", headers={"Origin": SITE})
    assert "Access-Control-Allow-Origin" not in answer.headers


# --- deleting ------------------------------------------------------------------------------------


def test_a_deletion_says_what_happens_to_what_is_under_way_and_wants_a_tick(partner, target):
    endpoint_id = partner.add(target.url)
    more = [
        make.in_transaction(
            lambda s: make.make_event(s, partner.organization_id, type="order.paid")
        )
        for _ in range(3)
    ]
    assert more
    make.routed_by("w1", room=0)
    path = f"/portal/endpoints/{endpoint_id}/delete"
    assert path in partner.get(f"/portal/endpoints/{endpoint_id}").text
    assert "有 3 条消息正等待发往这个推送地址" in partner.get(path).text
    refused = partner.send(path)
    assert refused.status_code == 422
    assert "请勾选以确认操作" in refused.text
    assert make.rows(Endpoint)[0].state == "active"
    answer = partner.send(path, confirmed="yes")
    assert (answer.status_code, answer.location) == (303, "/portal?done=endpoint_deleted")
    assert "推送地址已删除" in partner.get(answer.location).text
    assert {row.state for row in make.rows(Delivery)} == {"cancelled"}
    assert partner.get(f"/portal/endpoints/{endpoint_id}").status_code == 404
    assert partner.get(f"/portal/deliveries/{make.rows(Delivery)[0].id}").status_code == 404
    (entry,) = [row for row in make.rows(AuditEntry) if row.action == "endpoint.deleted"]
    assert (entry.actor_kind, entry.actor_name) == ("subscriber", "Nordwind")


def test_a_deleted_endpoint_makes_room_for_another(app, firm, target):
    partner = Partner(app, firm, max_endpoints=1).enter()
    first = partner.add(target.url)
    assert (
        partner.send("/portal/endpoints", url=target.url, event_types="order.*").status_code == 409
    )
    partner.send(f"/portal/endpoints/{first}/delete", confirmed="yes")
    assert partner.add(target.url) != first


def test_nobody_deletes_anothers_endpoint(app, firm, partner, target):
    endpoint_id = partner.add(target.url)
    other = Partner(app, firm, subscriber_name="Südwind").enter()
    path = f"/portal/endpoints/{endpoint_id}/delete"
    assert other.get(path).status_code == 404
    assert other.send(path, confirmed="yes").status_code == 404
    assert make.rows(Endpoint)[0].state == "active"


def test_the_firm_still_sees_what_was_sent_to_a_deleted_endpoint(app, firm, partner, target):
    endpoint_id = partner.add(target.url)
    make.in_transaction(lambda s: make.make_event(s, partner.organization_id, type="order.paid"))
    drain.drain("w1")
    client = app.test_client()
    deleted = client.delete(f"/api/v1/endpoints/{endpoint_id}", headers=partner.bearer)
    assert (deleted.status_code, deleted.json["state"]) == (200, "deleted")
    assert client.get("/api/v1/endpoints", headers=partner.bearer).json["items"] == []
    assert client.get(f"/api/v1/endpoints/{endpoint_id}", headers=partner.bearer).status_code == 404
    (delivery,) = make.rows(Delivery)
    shown = client.get(f"/api/v1/deliveries/{delivery.id}", headers=partner.bearer)
    assert shown.json["state"] == "delivered"


# --- the logo ------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


def test_the_firms_logo_stands_at_the_head_of_its_portals(app, firm, partner):
    assert "data:image/png" not in partner.get("/portal").text
    assert "logo.svg" in partner.get("/portal").text, "the hub's, while there is no other"
    make.in_transaction(lambda s: logos.choose(s, partner.organization_id, PNG))
    assert "data:image/png;base64," in partner.get("/portal").text
    fresh = Partner(app, firm)
    assert "data:image/png;base64," in fresh.get(fresh.path).text, "before anybody is in, too"
    make.in_transaction(lambda s: logos.remove(s, partner.organization_id))
    assert "data:image/png" not in partner.get("/portal").text


@pytest.mark.parametrize(
    "content",
    [b"", b"<svg onload='alert(1)'/>", b"GIF89a", PNG + b"x" * (64 << 10), b"RIFF....WAVE"],
)
def test_what_is_no_small_picture_is_refused(partner, content):
    with pytest.raises(Invalid):
        make.in_transaction(lambda s: logos.choose(s, partner.organization_id, content))
    assert make.rows(PortalLogo) == []
