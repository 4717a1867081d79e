"""The guard: every door, every kind of visitor, and requests nobody meant."""

import pytest
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    sign_in,
)

from identity import api_keys, members, sessions
from identity.guard import access_of, cookies, public, require, safe_path
from identity.tables import LoginSession, Organization
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.settings import settings_override

PAGE = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}


@pytest.fixture
def owner(database):
    with transaction(EVERY) as session:
        return make_member(session)


def token(client):
    return csrf_of(client, "/me")


def key_of(member, role="owner", **over):
    with transaction(EVERY) as session:
        organization = session.get(Organization, member.organization_id)
        return make_api_key(session, organization, role, **over)


# --- every route ---------------------------------------------------------------------------------


def test_every_route_of_identity_is_marked(app):
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("identity"):
            assert access_of(app.view_functions[rule.endpoint]), rule.endpoint


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_route_without_a_mark_is_refused(own_app, owner, method):
    entered = []
    own_app.add_url_rule("/naked", "naked", lambda: entered.append(1) or "in", methods=[method])
    client = own_app.test_client()
    for headers in (PAGE, JSON, bearer(key_of(owner))):
        assert client.open("/naked", method=method, headers=headers).status_code == 403
    sign_in(client, None, owner)
    assert client.open("/naked", method=method).status_code == 403
    assert not entered


def test_nobody_enters_a_guarded_route(app):
    client = app.test_client()
    for rule in app.url_map.iter_rules():
        access = access_of(app.view_functions[rule.endpoint])
        if access is None or access.kind == "public" or not rule.endpoint.startswith("identity"):
            continue
        path = rule.rule
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", "x")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            answer = client.open(path, method=method, headers=JSON)
            assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated"), path
            if not path.startswith("/api/"):
                page = client.open(path, method=method, headers=PAGE)
                assert page.status_code == 303, path
                assert page.location.startswith("/sign-in?next=/")


def test_a_permission_nobody_knows_fails_at_import():
    with pytest.raises(ValueError, match="unknown permissions: tea:drink"):
        require("flows:read", "tea:drink")


def test_missing_permission_says_which(app, owner):
    key = key_of(owner, "member")
    answer = app.test_client().get("/api/v1/audit", headers=bearer(key) | JSON)
    assert answer.status_code == 403
    assert answer.json["code"] == "missing_permission"
    english = app.test_client().get("/api/v1/audit?lang=en", headers=bearer(key) | JSON)
    assert "Read the audit trail" in english.json["detail"]
    assert answer.json["detail"] != english.json["detail"]


# --- API keys ------------------------------------------------------------------------------------


def test_a_key_acts_for_its_organization(client, owner):
    secret = key_of(owner)
    me = client.get("/api/v1/me", headers=bearer(secret)).json
    assert (me["kind"], me["organization_id"]) == ("api_key", owner.organization_id)
    assert (
        client.get("/api/v1/me", headers={"Authorization": f"bearer {secret}"}).status_code == 200
    )


def test_broken_keys_are_refused(client, owner):
    secret = key_of(owner)
    other = key_of(make_elsewhere())
    bad = [
        "yfk_",
        "yfk_x",
        secret[:-1],
        secret + "x",
        secret.upper(),
        other[:30] + secret[30:],
        secret[:30] + other[30:],
        "yfk_" + "%" * 69,
        "yfk_" + "é" * 69,
    ]
    for text in bad:
        answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401, text
    assert client.get(f"/api/v1/me?key={secret}").status_code == 401


def make_elsewhere():
    with transaction(EVERY) as session:
        return make_member(session)


def test_revoked_and_expired_keys_are_refused(client, owner):
    secret = key_of(owner, expires_at=clock.now().replace(year=2200))
    assert client.get("/api/v1/me", headers=bearer(secret)).status_code == 200
    key_id = client.get("/api/v1/me", headers=bearer(secret)).json["api_key_id"]
    with transaction(owner.organization_id) as session:
        api_keys.revoke(session, owner.organization_id, key_id)
    assert client.get("/api/v1/me", headers=bearer(secret)).status_code == 401
    late = key_of(owner, expires_at=clock.now())
    assert client.get("/api/v1/me", headers=bearer(late)).status_code == 401


def test_a_bad_key_is_not_rescued_by_a_cookie(client, owner):
    sign_in(client, None, owner)
    assert client.get("/api/v1/me").status_code == 200
    assert client.get("/api/v1/me", headers=bearer("yfk_wrong")).status_code == 401


def test_a_key_needs_no_csrf_token_and_notes_its_use(client, owner):
    secret = key_of(owner)
    answer = client.patch("/api/v1/organization", json={"name": "新名"}, headers=bearer(secret))
    assert (answer.status_code, answer.json["name"]) == (200, "新名")
    assert client.get("/api/v1/api-keys", headers=bearer(secret)).json["items"][0]["last_used_at"]


# --- CSRF ----------------------------------------------------------------------------------------


def change(client, **kwargs):
    return client.patch("/api/v1/organization", json={"name": "新名"}, **kwargs)


def test_a_session_needs_its_own_token(app, client, owner):
    sign_in(client, None, owner)
    other = app.test_client()
    sign_in(other, None, make_elsewhere())
    stranger = app.test_client()
    assert change(client).status_code == 403
    for foreign in ("", "x" * 64, token(other), csrf_of(stranger), "é"):
        assert change(client, headers={"X-CSRF-Token": foreign}).status_code == 403, foreign
    assert change(client, headers={"X-CSRF-Token": token(client)}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost@evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_where_a_request_comes_from(client, owner, headers, status):
    sign_in(client, None, owner)
    right = {"X-CSRF-Token": token(client)}
    assert change(client, headers={**right, **headers}).status_code == status


def test_the_hub_behind_a_proxy_knows_its_own_name(client, owner):
    sign_in(client, None, owner)
    right = {"X-CSRF-Token": token(client), "Origin": "http://hub.example"}
    with settings_override(base_url="http://hub.example/"):
        assert change(client, headers=right).status_code == 200


def test_anonymous_forms_are_bound_to_a_visit(app, client):
    form = {"email": "a@example.com", "password": "x"}
    assert client.post("/sign-in", data=form, headers=PAGE).status_code == 403
    mine = csrf_of(client)
    other = app.test_client()
    csrf_of(other)
    assert (
        other.post("/sign-in", data={**form, "csrf_token": mine}, headers=PAGE).status_code == 403
    )
    assert (
        client.post("/sign-in", data={**form, "csrf_token": mine}, headers=PAGE).status_code == 401
    )


def test_a_machine_door_ignores_cookies(own_app, owner):
    from identity.guard import principal_or_none

    @own_app.post("/machine")
    @public(csrf=False)
    def machine():
        return {"seen": principal_or_none() is not None}

    client = own_app.test_client()
    sign_in(client, None, owner)
    evil = {"Origin": "https://evil.example"}
    assert client.post("/machine", headers=evil).json == {"seen": False}
    assert client.post("/machine", headers=bearer(key_of(owner))).json == {"seen": True}


# --- sessions ------------------------------------------------------------------------------------


def test_cookie_flags(app, owner):
    client = app.test_client()
    page = client.get("/sign-in", headers=PAGE)
    assert_flags(page.headers["Set-Cookie"], "yf_visit", secure=False)
    with settings_override(base_url="https://hub.example"):
        client = app.test_client()
        page = client.get("/sign-in", headers=PAGE, base_url="https://hub.example")
        assert_flags(page.headers["Set-Cookie"], "__Host-yf_visit", secure=True)


def assert_flags(header, name, *, secure):
    assert header.startswith(f"{name}=")
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "Path=/" in header
    assert ("Secure" in header) is secure
    assert "Domain" not in header


def test_a_role_change_bites_at_once_and_renews_the_secret(client, owner):
    with transaction(EVERY) as session:
        organization = session.get(Organization, owner.organization_id)
        admin = make_member(session, organization, role="admin")
    old = sign_in(client, None, admin)
    assert client.get("/api/v1/audit").status_code == 200
    with transaction(EVERY) as session:
        members.change_role(session, owner.organization_id, admin.id, "member", actor_role="owner")
    assert client.get("/api/v1/audit").status_code == 403
    new = client.get_cookie(cookies.session_name()).value
    assert new != old
    assert client.get("/api/v1/me").json["role"] == "member"
    client.set_cookie(cookies.session_name(), old)
    assert client.get("/api/v1/me").status_code == 200
    with clock.shifted(seconds=31):
        assert client.get("/api/v1/me").status_code == 401


def test_a_removed_member_is_out_at_once(client, owner):
    with transaction(EVERY) as session:
        organization = session.get(Organization, owner.organization_id)
        leaver = make_member(session, organization, role="admin")
    sign_in(client, None, leaver)
    assert client.get("/settings/members", headers=PAGE).status_code == 200
    with transaction(EVERY) as session:
        members.remove(session, owner.organization_id, leaver.id, actor_role="owner")
    page = client.get("/settings/members", headers=PAGE)
    assert (page.status_code, page.location) == (303, "/organizations?next=/settings/members")
    assert client.get("/api/v1/me", headers=JSON).json["code"] == "no_seat"
    assert client.get("/organizations", headers=PAGE).status_code == 200


def test_being_seen_is_noted_at_most_each_minute(client, owner):
    sign_in(client, None, owner)

    def seen():
        with reading(EVERY) as session:
            login = sessions.find(session, client.get_cookie(cookies.session_name()).value).login
            return login.last_seen_at

    before = seen()
    client.get("/api/v1/me")
    assert seen() == before
    with clock.shifted(seconds=61):
        client.get("/api/v1/me")
        assert seen() > before


def test_what_a_person_sees_is_kept_by_no_cache(client, owner):
    sign_in(client, None, owner)
    for path in ("/me", "/api/v1/me"):
        assert client.get(path).headers["Cache-Control"] == "private, no-store"


def test_power_needs_a_fresh_password(client, owner):
    sign_in(client, None, owner)
    assert client.get("/settings/api-keys/new", headers=PAGE).status_code == 200
    with transaction(EVERY) as session:
        login = session.get(LoginSession, session_of(client).id)
        login.authenticated_at = clock.now().replace(year=2020)
        session.add(login)
    page = client.get("/settings/api-keys/new", headers=PAGE)
    assert (page.status_code, page.location) == (303, "/confirm?next=/settings/api-keys/new")
    answer = client.post(
        "/api/v1/api-keys", json={"name": "k"}, headers={"X-CSRF-Token": token(client)} | JSON
    )
    assert (answer.status_code, answer.json["code"]) == (401, "confirm")


def session_of(client):
    with reading(EVERY) as session:
        return sessions.find(session, client.get_cookie(cookies.session_name()).value).login


# --- next= ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "http:evil.example",
        "evil.example",
        "?next=x",
        "#x",
        "",
        None,
        "/x\r\nSet-Cookie: a=b",
        "/" + "x" * 3000,
        "/sign-out",
        "/sign-in?next=/sign-in",
        "/\u202e/evil",
        "/.//evil.example\\",
    ],
)
def test_next_never_leaves_the_hub(wanted):
    assert safe_path(wanted) == "/"


@pytest.mark.parametrize(
    "wanted",
    ["/", "/flows", "/flows?cursor=a%20b", "/apps/app_1#reviews", "/a/b?next=//x", "/中文"],
)
def test_next_keeps_local_paths(wanted):
    assert safe_path(wanted) == wanted


def test_the_way_back_is_remembered(client, owner):
    page = client.get("/settings/members?x=1&y=2", headers=PAGE)
    assert page.location == "/sign-in?next=/settings/members%3Fx%3D1%26y%3D2"
    htmx = client.get(
        "/settings/members",
        headers={"HX-Request": "true", "HX-Current-URL": "http://localhost/flows?a=b"},
    )
    assert htmx.headers["HX-Redirect"] == "/sign-in?next=/flows%3Fa%3Db"
    evil = client.post("/settings", headers={**PAGE, "Referer": "https://evil.example/flows"})
    assert evil.location == "/sign-in?next=/flows"


def test_a_strangers_organization_cannot_be_entered(client, owner):
    with transaction(EVERY) as session:
        other = make_organization(session)
    sign_in(client, None, owner)
    for wanted in (other.id, "org_nothing", ""):
        answer = client.post(
            "/session/organization",
            data={"organization_id": wanted, "csrf_token": token(client)},
            headers=PAGE,
        )
        assert answer.status_code == 404
    assert client.get("/api/v1/me").json["organization_id"] == owner.organization_id
