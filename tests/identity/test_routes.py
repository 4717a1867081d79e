"""The JSON routes, and a sweep that nobody reaches into another organization."""

import pytest
from factories.identity import bearer, make_api_key, make_member, make_user
from sqlmodel import select

from identity import api_keys, audit, invitations
from identity.tables import AuditEntry, Organization, User
from kernel.database import EVERY, reading, transaction

SIGN_UP = {
    "organization_name": "明华五金",
    "email": "li@example.com",
    "name": "李明",
    "password": "maroon kettle 9 fish",
}


@pytest.fixture
def owner(database):
    with transaction(EVERY) as session:
        return make_member(session)


@pytest.fixture
def call(client, owner):
    """Calls the API with a key of the owner's organization."""
    with transaction(EVERY) as session:
        secret = make_api_key(session, session.get(Organization, owner.organization_id))

    def send(method, path, body=None, key=secret):
        return client.open(f"/api/v1{path}", method=method, json=body, headers=bearer(key))

    return send


def test_a_program_signs_up_and_gets_a_key_once(client, database):
    answer = client.post("/api/v1/sign-up", json=SIGN_UP)
    assert answer.status_code == 201
    assert set(answer.json) == {"organization", "user", "api_key"}
    assert set(answer.json["user"]) == {"id", "email", "name", "language"}
    me = client.get("/api/v1/me", headers=bearer(answer.json["api_key"])).json
    assert me["organization_id"] == answer.json["organization"]["id"]
    assert "members:write" in me["permissions"]
    assert "hub:operate" not in me["permissions"]
    assert "Set-Cookie" not in answer.headers
    again = client.post("/api/v1/sign-up", json=SIGN_UP)
    assert (again.status_code, again.json["code"]) == (409, "account_not_created")


@pytest.mark.parametrize(
    "change",
    [
        {"password": "short"},
        {"email": "x"},
        {"name": "x" * 81},
        {"name": "   "},
        {"is_operator": True},
        {"role": "owner"},
        {"size": "5"},
        {"organization_name": "a\u0000b"},
        {"name": "a\u0000b"},
        {"industry": "a\u0000b"},
        {"password": None},
        {"email": ["a@example.com"]},
    ],
)
def test_sign_up_refuses_what_does_not_fit(client, database, change):
    answer = client.post("/api/v1/sign-up", json={**SIGN_UP, **change})
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "/" + next(iter(change))
    with reading(EVERY) as session:
        assert session.execute(select(Organization)).first() is None


def test_sign_up_is_slowed(client, database):
    taken = {**SIGN_UP, "email": "a@example.com"}
    with transaction(EVERY) as session:
        make_user(session, email="a@example.com")
    codes = [client.post("/api/v1/sign-up", json=taken).status_code for _ in range(23)]
    assert codes[0] == 409
    assert codes[-1] == 429


def test_the_organization_is_read_and_changed(call, owner):
    assert call("GET", "/organization").json["name"] == "明华五金"
    changed = call("PATCH", "/organization", {"industry": "五金"}).json
    assert (changed["industry"], changed["name"]) == ("五金", "明华五金")
    for field in ("is_vendor", "is_operator", "id", "created_at", "organization_id"):
        assert call("PATCH", "/organization", {field: True}).status_code == 422
    with reading(EVERY) as session:
        entry = session.execute(AuditEntry.of(owner.organization_id)).scalars().one()
        assert (entry.action, entry.actor_kind) == ("organization.changed", "api_key")
        assert entry.detail == {"industry": "五金"}


def test_members_and_invitations(call, client, owner):
    made = call("POST", "/invitations", {"email": "a@example.com", "role": "finance"}).json
    assert made["link"].startswith("http://127.0.0.1:8000/invitations/yfi_")
    listed = call("GET", "/invitations").json["items"]
    assert [row["id"] for row in listed] == [made["id"]]
    assert "link" not in listed[0]
    assert call("DELETE", f"/invitations/{made['id']}").status_code == 204
    assert call("GET", "/invitations").json["items"] == []
    with transaction(EVERY) as session:
        colleague = make_member(
            session, session.get(Organization, owner.organization_id), role="member"
        )
    path = f"/members/{colleague.id}"
    assert call("PATCH", path, {"role": "finance"}).json["role"] == "finance"
    assert call("PATCH", path, {"role": "emperor"}).status_code == 422
    assert call("DELETE", path).status_code == 204
    assert call("DELETE", path).status_code == 404
    assert call("DELETE", f"/members/{owner.id}").json["code"] == "last_owner"
    assert {row["id"] for row in call("GET", "/members").json["items"]} == {owner.id}


def test_keys_are_made_listed_and_revoked(call):
    made = call("POST", "/api-keys", {"name": "ERP", "permissions": ["events:send"]}).json
    assert call("GET", "/me", key=made["secret"]).json["permissions"] == ["events:send"]
    assert call("GET", "/members", key=made["secret"]).status_code == 403
    listed = call("GET", "/api-keys").json["items"]
    assert made["id"] in {row["id"] for row in listed}
    assert not any("secret" in row or "digest" in row for row in listed)
    assert call("DELETE", f"/api-keys/{made['id']}").status_code == 204
    assert call("GET", "/me", key=made["secret"]).status_code == 401


def test_a_small_key_makes_no_bigger_one(call):
    small = call(
        "POST", "/api-keys", {"name": "s", "role": "admin", "permissions": ["api_keys:write"]}
    ).json["secret"]
    for wish in ({"role": "admin"}, {"role": "member"}, {"role": "owner"}):
        assert call("POST", "/api-keys", {"name": "b", **wish}, small).status_code == 403
    narrow = {"name": "b", "role": "admin", "permissions": ["api_keys:write"]}
    assert call("POST", "/api-keys", narrow, small).status_code == 201


def test_the_trail_comes_in_pages(call, owner):
    with transaction(owner.organization_id) as session:
        for number in range(7):
            audit.record(
                session,
                None,
                "member.left",
                f"mem_{number}",
                organization_id=owner.organization_id,
            )
    seen, cursor = [], ""
    for _ in range(4):
        page = call("GET", f"/audit?limit=2&cursor={cursor}").json
        seen += [entry["object_id"] for entry in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [f"mem_{number}" for number in range(6, -1, -1)]
    assert cursor is None
    assert call("GET", "/audit?action=member.joined").json["items"] == []
    for wrong in ("cursor=%F0%9F", "cursor=%00", "action=a%00", "cursor=AAAA", "cursor=8J%2Bk"):
        assert call("GET", f"/audit?{wrong}").status_code == 400, wrong
    assert call("GET", "/audit?limit=x").status_code == 200


def test_nobody_reaches_into_another_organization(call, owner):
    """The same answer, to the letter, for a stranger's id and for one that never was."""
    with transaction(EVERY) as session:
        other = make_member(session)
        there = session.get(Organization, other.organization_id)
        seat = make_member(session, there, role="member")
        offer, _ = invitations.invite(
            session,
            there.id,
            email="x@example.com",
            role="member",
            actor_role="owner",
            actor_id=other.user_id,
        )
        key, _ = api_keys.mint(session, there, name="k", role="member")
        audit.record(session, None, "member.left", organization_id=there.id)
    sweep = [
        ("PATCH", "/members/{}", seat.id, {"role": "finance"}),
        ("DELETE", "/members/{}", seat.id, None),
        ("DELETE", "/invitations/{}", offer.id, None),
        ("DELETE", "/api-keys/{}", key.id, None),
    ]
    for method, path, real, body in sweep:
        answers = []
        for row_id in (real, real[:-1] + "0", f"{there.id}", "%00"):
            answer = call(method, path.format(row_id), body)
            answers.append((answer.status_code, {**answer.json, "trace_id": ""}))
        assert answers[0][0] == 404, path
        assert all(answer == answers[0] for answer in answers), path
    for path in ("/members", "/invitations", "/api-keys", "/audit"):
        shown = call("GET", f"{path}?organization_id={there.id}").get_data(as_text=True)
        for secret_of_theirs in (seat.id, offer.id, key.id, there.id, other.id):
            assert secret_of_theirs not in shown
    with reading(EVERY) as session:
        assert session.get(User, seat.user_id) is not None
        assert len(list(session.execute(AuditEntry.of(there.id)))) == 1
