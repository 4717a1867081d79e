"""The pages of identity, walked through as people do."""

import re
import time

import pytest
from factories.identity import PASSWORD, csrf_of, make_member, make_organization, make_user, sign_in
from sqlmodel import select

from identity import audit, invitations, sessions, users
from identity.guard import cookies
from identity.tables import AuditEntry, LoginSession, Member, Organization, User
from kernel import clock
from kernel.database import EVERY, reading, transaction

PAGE = {"Accept": "text/html"}
NEW_PASSWORD = "maroon kettle 9 fish"


@pytest.fixture
def owner(database):
    with transaction(EVERY) as session:
        return make_member(session)


def post(client, path, start=None, **form):
    """Send a form with the token of the page it starts from."""
    form["csrf_token"] = csrf_of(client, start or path)
    return client.post(path, data=form, headers=PAGE)


def email_of(member):
    with reading(EVERY) as session:
        return session.get(User, member.user_id).email


def secret_of(client):
    found = client.get_cookie(cookies.session_name())
    return found.value if found else None


def session_of(client):
    with reading(EVERY) as session:
        return sessions.find(session, secret_of(client) or "")


def actions_of(organization_id):
    with reading(EVERY) as session:
        rows = session.execute(AuditEntry.of(organization_id).order_by(AuditEntry.id)).scalars()
        return [row.action for row in rows]


def problem_in(answer):
    found = re.search(r'yf-problem-what">([^<]+)<', answer.get_data(as_text=True))
    return found and found[1]


# --- the door ------------------------------------------------------------------------------------


def test_sign_up_sign_out_sign_in(client):
    form = {"organization_name": "明华五金", "name": "李明", "email": "li@example.com"}
    answer = post(client, "/sign-up", **form, password=NEW_PASSWORD, size="10-49", next="/flows")
    assert (answer.status_code, answer.location) == (303, "/flows")
    found = session_of(client)
    assert (found.member.role, found.organization.size) == ("owner", "10-49")
    assert post(client, "/sign-out", "/me").location == "/sign-in"
    assert secret_of(client) is None
    assert client.get("/me", headers=PAGE).status_code == 303
    answer = post(client, "/sign-in", email="LI@example.com", password=NEW_PASSWORD, next="//evil")
    assert (answer.status_code, answer.location) == (303, "/")
    assert actions_of(found.organization.id) == [
        "organization.created",
        "session.started",
        "session.ended",
        "session.started",
    ]


def test_sign_up_says_what_is_wrong(client, owner):
    good = {
        "organization_name": "明华五金",
        "name": "李明",
        "email": "li@example.com",
        "password": NEW_PASSWORD,
    }
    for field, value in [
        ("password", "short"),
        ("password", "明华五金明华五金"),
        ("email", "nobody"),
        ("name", " "),
        ("organization_name", ""),
        ("size", "huge"),
        ("email", email_of(owner)),
    ]:
        answer = post(client, "/sign-up", **{**good, field: value})
        assert answer.status_code in (409, 422), field
        assert problem_in(answer), field
        assert NEW_PASSWORD not in answer.get_data(as_text=True)
    with reading(EVERY) as session:
        assert len(list(session.execute(select(Organization)).scalars())) == 1


def test_sign_up_tells_all_mistakes_at_once(client):
    wrong = {"organization_name": "", "name": " ", "email": "nobody", "password": "short"}
    page = post(client, "/sign-up", **wrong).get_data(as_text=True)
    for field in wrong:
        assert f'id="f-{field.replace("_", "-")}-error"' in page, field


def test_the_door_says_that_it_leads_on(client):
    on_the_way = client.get("/sign-in?next=/flows&lang=en", headers=PAGE).get_data(as_text=True)
    assert "you come to the page you asked for" in on_the_way
    plain = client.get("/sign-in?lang=en", headers=PAGE).get_data(as_text=True)
    assert "you come to the page you asked for" not in plain


def test_unknown_closed_and_wrong_look_the_same(app, owner):
    with transaction(EVERY) as session:
        closed = make_user(session)
        users.disable(session, closed.id, is_disabled=True)
        empty = make_user(session, password_digest=None)
    cases = [
        (email_of(owner), "not the password"),
        ("nobody@example.com", PASSWORD),
        (closed.email, PASSWORD),
        (empty.email, PASSWORD),
        ("no address", PASSWORD),
        ("", ""),
    ]
    seen = set()
    for email, password in cases:
        client = app.test_client()
        answer = post(client, "/sign-in", email=email, password=password)
        body = answer.get_data(as_text=True)
        for changing in (email, csrf_of(client)):
            body = body.replace(changing, "") if changing else body
        seen.add((answer.status_code, body))
        assert secret_of(client) is None
    assert len(seen) == 1
    assert next(iter(seen))[0] == 401


@pytest.mark.costly
def test_an_unknown_account_costs_the_same_work(app, owner):
    """The work of this process, so that a busy machine does not matter; the median of a few."""
    from identity import passwords

    with transaction(EVERY) as session:
        real = make_user(session)
        real.password_digest = passwords.hash_password(PASSWORD)
        session.add(real)
    passwords.verify(None, "x")

    def median(email):
        client, times = app.test_client(), []
        token = csrf_of(client)
        for number in range(5):
            form = {"email": email, "password": "wrong password", "csrf_token": token}
            origin = {"REMOTE_ADDR": f"192.0.2.{number}"}
            start = time.process_time()
            client.post("/sign-in", data=form, headers=PAGE, environ_base=origin)
            times.append(time.process_time() - start)
        return sorted(times)[2]

    known, unknown = median(real.email), median("nobody@example.com")
    assert 0.5 < known / unknown < 2


def test_guessing_is_slowed_and_says_for_how_long(client, owner):
    token = csrf_of(client)
    for _ in range(6):
        form = {"email": email_of(owner), "password": "x", "csrf_token": token}
        answer = client.post("/sign-in", data=form, headers=PAGE)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "1" in problem_in(answer) or problem_in(answer)
    with clock.shifted(seconds=int(answer.headers["Retry-After"]) + 1):
        answer = post(client, "/sign-in", email=email_of(owner), password=PASSWORD)
        assert answer.status_code == 303


def test_signing_in_changes_the_session_and_ends_the_old_one(app, client, owner):
    planted = "attackers-own-session-secret"
    client.set_cookie(cookies.session_name(), planted)
    post(client, "/sign-in", email=email_of(owner), password=PASSWORD)
    first = secret_of(client)
    assert first not in (None, planted)
    thief = app.test_client()
    thief.set_cookie(cookies.session_name(), first)
    token = csrf_of(client, "/me")
    form = {"email": email_of(owner), "password": PASSWORD, "csrf_token": token}
    client.post("/sign-in", data=form, headers=PAGE)
    assert secret_of(client) != first
    assert thief.get("/me", headers=PAGE).status_code == 303


@pytest.mark.costly
def test_an_old_digest_is_renewed_at_sign_in(client, owner):
    with reading(EVERY) as session:
        before = session.get(User, owner.user_id).password_digest
    post(client, "/sign-in", email=email_of(owner), password=PASSWORD)
    with reading(EVERY) as session:
        after = session.get(User, owner.user_id).password_digest
    assert "m=8," in before
    assert "m=65536," in after


def test_signing_out_by_a_picture_does_nothing(client, owner):
    sign_in(client, None, owner)
    assert client.get("/sign-out").status_code == 405
    stranger = client.application.test_client()
    assert stranger.post("/sign-out", headers=PAGE).location.startswith("/sign-in")
    assert client.post("/sign-out", headers=PAGE).status_code == 403
    assert client.get("/me", headers=PAGE).status_code == 200


# --- invitations ---------------------------------------------------------------------------------


def invited(owner, email="new@example.com", role="finance"):
    with transaction(EVERY) as session:
        _, secret = invitations.invite(
            session,
            owner.organization_id,
            email=email,
            role=role,
            actor_role="owner",
            actor_id=owner.user_id,
        )
    return f"/invitations/{secret}"


def test_a_new_colleague_joins(client, owner):
    path = invited(owner)
    page = client.get(path, headers=PAGE)
    assert "明华五金" in page.get_data(as_text=True)
    # The address holds a secret, so other sites must not learn it. Not "no-referrer": browsers then
    # send "Origin: null" with the form, which the guard takes for another site.
    assert page.headers["Referrer-Policy"] == "same-origin"
    weak = post(client, path, name="王芳", password="new@example.com")
    assert weak.status_code == 422
    answer = post(client, path, name="王芳", password=NEW_PASSWORD)
    assert answer.status_code == 303
    assert session_of(client).member.role == "finance"
    assert client.get(path, headers=PAGE).status_code == 404


def test_a_known_person_joins_after_signing_in(app, client, owner):
    with transaction(EVERY) as session:
        elsewhere = make_member(session, make_organization(session, name="别家"))
    path = invited(owner, email_of(elsewhere), "integrator")
    assert "/sign-in?next=" in client.get(path, headers=PAGE).get_data(as_text=True)
    stranger = app.test_client()
    with transaction(EVERY) as session:
        sign_in(stranger, session, make_member(session))
    assert post(stranger, path).status_code == 403
    sign_in(client, None, elsewhere)
    before = secret_of(client)
    assert post(client, path).status_code == 303
    assert secret_of(client) != before
    found = session_of(client)
    assert (found.organization.id, found.member.role) == (owner.organization_id, "integrator")
    page = client.get("/organizations", headers=PAGE).get_data(as_text=True)
    assert "别家" in page


def test_making_the_account_of_a_known_person_is_refused(client, owner):
    with transaction(EVERY) as session:
        known = make_user(session)
    path = invited(owner, known.email)
    answer = post(client, path, name="x", password=NEW_PASSWORD)
    assert answer.status_code == 409
    assert secret_of(client) is None


# --- one's own pages -----------------------------------------------------------------------------


def test_profile_and_language(client, owner):
    sign_in(client, None, owner)
    answer = post(client, "/me", name="李 小明", language="en")
    assert answer.location == "/me?done=saved"
    assert client.get_cookie("yf_lang").value == "en"
    assert 'value="李 小明"' in client.get("/me", headers=PAGE).get_data(as_text=True)
    assert post(client, "/me", name="", language="en").status_code == 422
    assert post(client, "/me", name="x", language="tlh").status_code == 422


def test_changing_the_password_ends_every_other_session(app, client, owner):
    sign_in(client, None, owner)
    other = app.test_client()
    sign_in(other, None, owner)
    before = secret_of(client)
    start = "/me/security"
    wrong = post(client, "/me/password", start, old_password="wrong", password=NEW_PASSWORD)
    assert wrong.status_code == 403
    weak = post(client, "/me/password", start, old_password=PASSWORD, password="李明李明李明")
    assert weak.status_code == 422
    assert other.get("/me", headers=PAGE).status_code == 200
    done = post(client, "/me/password", start, old_password=PASSWORD, password=NEW_PASSWORD)
    assert done.status_code == 303
    assert secret_of(client) != before
    assert session_of(client).organization.id == owner.organization_id
    assert other.get("/me", headers=PAGE).status_code == 303
    assert "password.changed" in actions_of(owner.organization_id)


def test_where_am_i_signed_in(app, client, owner):
    with transaction(EVERY) as session:
        stranger = make_member(session)
    browsers = [app.test_client() for _ in range(3)]
    for browser in browsers:
        sign_in(browser, None, owner)
    foreign = app.test_client()
    sign_in(foreign, None, stranger)
    sign_in(client, None, owner)
    theirs = session_of(foreign).login.id
    start = "/me/security"
    assert post(client, f"/me/sessions/{theirs}/end", start).status_code == 404
    assert post(client, "/me/sessions/ses_none/end", start).status_code == 404
    gone = session_of(browsers[0]).login.id
    assert post(client, f"/me/sessions/{gone}/end", start).status_code == 303
    assert browsers[0].get("/me", headers=PAGE).status_code == 303
    assert browsers[1].get("/me", headers=PAGE).status_code == 200
    post(client, "/me/sessions/end-others", start)
    assert browsers[1].get("/me", headers=PAGE).status_code == 303
    assert client.get("/me", headers=PAGE).status_code == 200
    assert foreign.get("/me", headers=PAGE).status_code == 200


def test_confirming_makes_the_session_fresh(client, owner):
    sign_in(client, None, owner)
    with transaction(EVERY) as session:
        for login in session.execute(select(LoginSession)).scalars():
            login.authenticated_at = clock.now().replace(year=2020)
            session.add(login)
    path = "/settings/api-keys/new"
    assert client.get(path, headers=PAGE).location == f"/confirm?next={path}"
    assert post(client, "/confirm", password="wrong", next=path).status_code == 403
    before = secret_of(client)
    assert post(client, "/confirm", password=PASSWORD, next=path).location == path
    assert secret_of(client) != before
    assert client.get(path, headers=PAGE).status_code == 200


# --- the organization ----------------------------------------------------------------------------


@pytest.fixture
def signed_in(client, owner):
    sign_in(client, None, owner)
    return client


def test_settings(signed_in, owner):
    form = {"name": "明华精密", "slug": "ming-hua", "industry": "五金", "size": "50-199"}
    assert post(signed_in, "/settings", **form).location == "/settings?done=saved"
    with reading(EVERY) as session:
        assert session.get(Organization, owner.organization_id).slug == "ming-hua"
    assert post(signed_in, "/settings", **{**form, "slug": "?"}).status_code == 422


def test_members_are_invited_changed_and_removed(signed_in, owner):
    start = "/settings/members"
    page = post(signed_in, "/settings/invitations", start, email="a@example.com", role="member")
    link = re.search(r"http://[^<\"]+/invitations/yfi_[\w-]+", page.get_data(as_text=True))
    assert link
    bad = post(signed_in, "/settings/invitations", start, email="nobody", role="member")
    assert bad.status_code == 422
    with transaction(EVERY) as session:
        organization = session.get(Organization, owner.organization_id)
        colleague = make_member(session, organization, role="member")
    role = f"/settings/members/{colleague.id}/role"
    assert post(signed_in, role, start, role="finance").status_code == 303
    last = post(signed_in, f"/settings/members/{owner.id}/role", start, role="member")
    assert last.status_code == 409
    assert "owner" in problem_in(last) or "所有者" in problem_in(last)
    remove = f"/settings/members/{colleague.id}/remove"
    assert post(signed_in, remove, start).status_code == 303
    assert post(signed_in, remove, start).status_code in (303, 404)
    assert post(signed_in, "/settings/leave", "/me").status_code == 409
    with reading(EVERY) as session:
        assert session.get(Member, (owner.organization_id, colleague.id)).status == "removed"


def test_a_key_is_shown_once(signed_in, owner):
    start = "/settings/api-keys/new"
    form = {"name": "ERP", "role": "integrator", "days": "90"}
    page = post(signed_in, "/settings/api-keys", start, **form).get_data(as_text=True)
    secret = re.search(r"yfk_[\w-]{60,}", page)[0]
    me = signed_in.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).json
    assert me["role"] == "integrator"
    listed = signed_in.get("/settings/api-keys", headers=PAGE).get_data(as_text=True)
    assert secret not in listed
    assert "ERP" in listed
    path = f"/settings/api-keys/{me['api_key_id']}/revoke"
    assert post(signed_in, path, "/settings/api-keys").status_code == 303
    gone = signed_in.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})
    assert gone.status_code == 401
    for change in ({"name": ""}, {"role": "emperor"}, {"days": "-1"}, {"permissions": "x:y"}):
        wrong = post(signed_in, "/settings/api-keys", start, **{**form, **change})
        assert wrong.status_code == 422, change


def test_the_trail_is_paged_and_filtered(signed_in, owner):
    with transaction(owner.organization_id) as session:
        for _ in range(60):
            audit.record(
                session, None, "organization.changed", organization_id=owner.organization_id
            )
    page = signed_in.get("/settings/audit", headers=PAGE).get_data(as_text=True)
    cursor = re.search(r"cursor=([\w=%-]+)", page)[1]
    second = signed_in.get(f"/settings/audit?cursor={cursor}", headers=PAGE)
    assert second.status_code == 200
    none = signed_in.get("/settings/audit?action=member.left", headers=PAGE)
    assert none.status_code == 200


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("role", ["owner", "member", "finance"])
def test_every_page_is_drawn_for_everybody(client, owner, role, language):
    with transaction(EVERY) as session:
        organization = session.get(Organization, owner.organization_id)
        member = make_member(session, organization, role=role)
        invitations.invite(
            session,
            organization.id,
            email="x@example.com",
            role="member",
            actor_role="owner",
            actor_id=None,
        )
    sign_in(client, None, member)
    for path in (
        "/me",
        "/me/security",
        "/settings",
        "/settings/members",
        "/settings/api-keys",
        "/settings/api-keys/new",
        "/settings/audit",
        "/organizations",
        "/confirm",
    ):
        page = client.get(f"{path}?lang={language}", headers=PAGE)
        assert page.status_code in (200, 403), path
        assert not re.search(
            r"<(script|style)(?![^>]*src=)[^>]*>\s*\S", page.get_data(as_text=True)
        )
        assert " style=" not in page.get_data(as_text=True)
    with reading(EVERY) as session:
        sessions.find(session, secret_of(client))
