"""Nobody climbs: not by invitations, roles, keys, other people's links or fields nobody offered."""

import itertools

import pytest
from factories.identity import (
    bearer,
    csrf_of,
    make_api_key,
    make_member,
    make_organization,
    sign_in,
)

from identity import roles
from identity.tables import ApiKey, Invitation, Member, Organization
from kernel.database import EVERY, reading, transaction

STRONG = "seven brown kettles 12"

TAKERS = [("PATCH", "/organization"), ("PATCH", "/me"), ("POST", "/sources"), ("POST", "/flows")]


@pytest.fixture
def firm(database):
    """An organization with an owner, an administrator and a plain member."""
    with transaction(EVERY) as session:
        organization = make_organization(session, is_vendor=True)
        seats = {role: make_member(session, organization, role=role) for role in roles.ROLES}
        return organization, seats


def make_key(organization_id, **over):
    with transaction(EVERY) as session:
        return make_api_key(session, session.get(Organization, organization_id), **over)


class Asker:
    """A member at a browser or a program with a key, asking the JSON routes."""

    def __init__(self, app, member=None, key=None):
        self.client, self.headers = app.test_client(), bearer(key) if key else {}
        if member is not None:
            sign_in(self.client, None, member)
            self.headers = {"X-CSRF-Token": csrf_of(self.client, "/me")}

    def ask(self, method, path, body=None):
        return self.client.open(f"/api/v1{path}", method=method, json=body, headers=self.headers)


def rows(model):
    from sqlmodel import select

    with reading(EVERY) as session:
        return list(session.execute(select(model)).scalars())


NARROW = [
    {"role": "owner", "permissions": ["members:write"]},
    {"role": "admin", "permissions": ["members:write", "members:read"]},
    {"role": "owner", "permissions": sorted(set(roles.PERMISSIONS) - {"api_keys:write"})},
]


def test_a_narrow_key_makes_nobody_more_than_it_is(app, firm):
    organization, seats = firm
    plain = seats["member"]
    for narrow, role in itertools.product(NARROW, ("owner", "admin")):
        asker = Asker(app, key=make_key(organization.id, **narrow))
        body = {"email": "climber@example.com", "role": role}
        assert asker.ask("POST", "/invitations", body).status_code == 403
        assert asker.ask("PATCH", f"/members/{plain.id}", {"role": role}).status_code == 403
    assert rows(Invitation) == []
    assert {one.role for one in rows(Member) if one.id == plain.id} == {"member"}


def test_a_key_that_holds_a_role_may_hand_it_out(app, firm):
    organization, seats = firm
    held = [*roles.permissions_of("member"), "members:write"]
    asker = Asker(app, key=make_key(organization.id, role="admin", permissions=held))
    body = {"email": "new@example.com", "role": "member"}
    assert asker.ask("POST", "/invitations", body).status_code == 201
    assert asker.ask("POST", "/invitations", {**body, "role": "integrator"}).status_code == 403
    whole = Asker(app, key=make_key(organization.id))
    assert whole.ask("POST", "/invitations", {**body, "role": "owner"}).status_code == 201
    change = whole.ask("PATCH", f"/members/{seats['member'].id}", {"role": "finance"})
    assert change.status_code == 200


def test_a_key_of_a_hub_operator_without_that_right_names_no_operators(app, firm):
    organization, _ = firm
    with transaction(EVERY) as session:
        session.get(Organization, organization.id).is_operator = True
    everything_else = sorted(set(roles.PERMISSIONS) - roles.OPERATOR_PERMISSIONS)
    asker = Asker(app, key=make_key(organization.id, permissions=everything_else))
    body = {"email": "climber@example.com", "role": "admin"}
    assert asker.ask("POST", "/invitations", body).status_code == 403
    assert asker.ask("POST", "/invitations", {**body, "role": "integrator"}).status_code == 201


def test_a_narrow_key_mints_no_wider_one(app, firm):
    organization, _ = firm
    asker = Asker(app, key=make_key(organization.id, role="admin", permissions=["api_keys:write"]))
    for more in (
        {"role": "owner"},
        {"role": "admin"},
        {"role": "admin", "permissions": ["members:write"]},
        {"role": "owner", "permissions": ["api_keys:write"]},
    ):
        assert asker.ask("POST", "/api-keys", {"name": "x", **more}).status_code == 403
    assert len(rows(ApiKey)) == 1
    # what is left of a wish for somebody else's rights is nothing
    wish = {"name": "x", "role": "admin", "permissions": ["hub:operate"]}
    assert asker.ask("POST", "/api-keys", wish).json["permissions"] == []


# who → method, path with the seat's role in braces, body: all of it refused
CLIMBS = [
    ("admin", "POST", "/invitations", {"email": "a@example.com", "role": "owner"}),
    ("admin", "PATCH", "/members/{admin}", {"role": "owner"}),
    ("admin", "PATCH", "/members/{member}", {"role": "owner"}),
    ("admin", "PATCH", "/members/{owner}", {"role": "member"}),
    ("admin", "DELETE", "/members/{owner}", None),
    ("admin", "POST", "/api-keys", {"name": "x", "role": "owner"}),
    *((role, "PATCH", f"/members/{{{role}}}", {"role": "admin"})
      for role in ("member", "purchaser", "finance", "integrator")),
    *((role, "POST", "/invitations", {"email": "a@example.com", "role": "member"})
      for role in ("member", "purchaser", "finance", "integrator")),
    *((role, "POST", "/api-keys", {"name": "x", "role": "member"})
      for role in ("member", "purchaser", "finance", "integrator")),
    *((role, "PATCH", "/organization", {"name": "Mine"})
      for role in ("member", "purchaser", "finance", "integrator")),
    *((role, "GET", "/api-keys", None)
      for role in ("member", "purchaser", "finance", "integrator")),
    *((role, "GET", "/audit", None) for role in ("member", "purchaser", "integrator")),
    *((role, "GET", "/events", None) for role in ("member", "purchaser", "finance")),
    *((role, "GET", "/reviews", None) for role in roles.ROLES),
    *((role, "GET", "/vendor-applications", None) for role in roles.ROLES),
]  # fmt: skip


def test_no_role_climbs(app, firm):
    _, seats = firm
    ids = {name: seat.id for name, seat in seats.items()}
    askers = {role: Asker(app, member=seat) for role, seat in seats.items()}
    before = sorted((one.id, one.role, one.status) for one in rows(Member))
    got = [
        (role, method, path)
        for role, method, path, body in CLIMBS
        if askers[role].ask(method, path.format(**ids), body).status_code != 403
    ]
    assert got == []
    assert sorted((one.id, one.role, one.status) for one in rows(Member)) == before
    assert (rows(Invitation), rows(ApiKey)) == ([], [])


def test_the_last_owner_stays_whatever_way_out_is_tried(app, firm):
    organization, seats = firm
    owner = Asker(app, member=seats["owner"])
    path = f"/members/{seats['owner'].id}"
    for method, body in (("PATCH", {"role": "admin"}), ("DELETE", None)):
        answer = owner.ask(method, path, body)
        assert (answer.status_code, answer.json["code"]) == (409, "last_owner")
    page = owner.client.post("/settings/leave", headers=owner.headers)
    assert page.status_code == 409
    for role in ("admin", "member"):
        form = {"role": role}
        page = owner.client.post(f"/settings{path}/role", data=form, headers=owner.headers)
        assert page.status_code == 409
    assert owner.client.post(f"/settings{path}/remove", headers=owner.headers).status_code == 409
    program = Asker(app, key=make_key(organization.id))
    assert program.ask("DELETE", path).status_code == 409


# what a body may not say: rights, owners, ids
SMUGGLED = [
    {"is_operator": True}, {"is_vendor": True}, {"id": "org_0"}, {"organization_id": "org_0"},
    {"created_at": "2020-01-01T00:00:00Z"}, {"user_id": "usr_0"}, {"password_digest": "x"},
    {"permissions": ["hub:operate"]}, {"__class__": {}}, {"role": "owner"}, {"disabled_at": None},
]  # fmt: skip


def test_fields_nobody_offered_are_refused_in_json_and_ignored_in_forms(app, firm):
    organization, seats = firm
    owner = Asker(app, member=seats["owner"])
    for more, (method, path) in itertools.product(SMUGGLED, TAKERS):
        assert owner.ask(method, path, {"name": "N", **more}).status_code == 422, (path, more)
    for more in SMUGGLED:
        form = {"name": "Renamed", **{name: str(value) for name, value in more.items()}}
        assert owner.client.post("/settings", data=form, headers=owner.headers).status_code == 303
    with reading(EVERY) as session:
        found = session.get(Organization, organization.id)
        assert (found.name, found.is_operator, found.is_vendor) == ("Renamed", False, True)
    assert {one.role for one in rows(Member) if one.id == seats["member"].id} == {"member"}


def test_an_invitations_link_works_once_for_one_person_and_one_role(app, firm):
    organization, seats = firm
    owner = Asker(app, member=seats["owner"])
    made = owner.ask("POST", "/invitations", {"email": "new@example.com", "role": "member"})
    path = "/" + made.json["link"].split("/", 3)[3]
    # somebody else, signed in, with the link
    other = Asker(app, member=seats["integrator"])
    assert other.client.post(path, headers=other.headers).status_code == 403
    # the form cannot say who or what one becomes
    visitor = app.test_client()
    form = {"csrf_token": csrf_of(visitor, path), "name": "N", "password": STRONG,
            "email": "other@example.com", "role": "owner", "organization_id": "org_0"}  # fmt: skip
    assert visitor.post(path, data=form).status_code == 303
    (seat,) = [one for one in rows(Member) if one.id not in {m.id for m in seats.values()}]
    assert (seat.organization_id, seat.role) == (organization.id, "member")
    assert visitor.get("/api/v1/me").json["email"] == "new@example.com"
    again = app.test_client()
    form["csrf_token"] = csrf_of(again)
    assert again.post(path, data=form).status_code == 404
    assert again.get(path).status_code == 404
    revoked = owner.ask("POST", "/invitations", {"email": "b@example.com", "role": "member"}).json
    assert owner.ask("DELETE", f"/invitations/{revoked['id']}").status_code == 204
    assert again.get("/" + revoked["link"].split("/", 3)[3]).status_code == 404


def test_what_an_inviter_offered_ends_with_their_role(app, firm):
    _, seats = firm
    admin = Asker(app, member=seats["admin"])
    made = admin.ask("POST", "/invitations", {"email": "new@example.com", "role": "admin"}).json
    owner = Asker(app, member=seats["owner"])
    owner.ask("PATCH", f"/members/{seats['admin'].id}", {"role": "member"})
    assert app.test_client().get("/" + made["link"].split("/", 3)[3]).status_code == 404
