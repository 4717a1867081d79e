"""Organizations, seats, invitations and keys keep their promises on both databases."""

import threading
from datetime import timedelta

import pytest
from factories.identity import (
    cheap_digest,
    make_api_key,
    make_member,
    make_organization,
    make_user,
    start_session,
)
from sqlmodel import select

from identity import api_keys, audit, invitations, members, organizations, sessions, users
from identity.tables import ApiKey, AuditEntry, Invitation, Member, Organization, User
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import Conflict, Forbidden, Invalid, NotFound


def sign_up(session, **over):
    return organizations.sign_up(
        session,
        **{
            "organization_name": "明华五金",
            "email": "Li.Ming@Example.com",
            "name": "李明",
            "password_digest": cheap_digest(),
            **over,
        },
    )


def invite(session, owner, email="new@example.com", role="member", actor_role="owner"):
    return invitations.invite(
        session,
        owner.organization_id,
        email=email,
        role=role,
        actor_role=actor_role,
        actor_id=owner.user_id,
    )


# --- organizations and people --------------------------------------------------------------------


def test_sign_up_makes_an_owner(session):
    made = sign_up(session)
    assert (made.member.role, made.member.organization_id) == ("owner", made.organization.id)
    assert made.user.email == "li.ming@example.com"


@pytest.mark.parametrize("again", ["li.ming@example.com", " LI.MING@EXAMPLE.COM "])
def test_an_address_has_one_account(session, again):
    sign_up(session)
    with pytest.raises(Conflict):
        sign_up(session, email=again)


@pytest.mark.parametrize("email", ["", "x", "a@b@c.com", "a b@c.com", "@c.com", "a@", "a@c..com"])
def test_what_is_no_address_is_refused(session, email):
    with pytest.raises(Invalid):
        sign_up(session, email=email)
    assert users.find_by_email(session, email) is None


def test_a_unicode_domain_has_one_spelling():
    assert users.normalise_email("A@例子.公司") == users.normalise_email("a@xn--fsqu00a.xn--55qx5d")


def test_twenty_sign_ups_with_one_address_make_one_account(database):
    outcomes = run_at_once(20, lambda _: sign_up_alone())
    assert outcomes.count("ok") == 1
    assert set(outcomes) == {"ok", "Conflict"}
    with reading(EVERY) as session:
        assert len(list(session.execute(select(Organization)).scalars())) == 1


def sign_up_alone():
    with transaction(EVERY) as session:
        sign_up(session)


def test_a_slug_is_unique_and_plain(session):
    first, second = make_organization(session), make_organization(session)
    organizations.change(session, first.id, slug="ming-hua")
    with pytest.raises(Conflict):
        organizations.change(session, second.id, slug="MING-hua")
    for bad in ("a", "-a-", "a_b_c", "明华", "x" * 61):
        with pytest.raises(Invalid):
            organizations.change(session, second.id, slug=bad)


# --- seats ---------------------------------------------------------------------------------------


def test_the_last_owner_stays(session):
    owner = make_member(session)
    for leave in (
        lambda: members.remove(session, owner.organization_id, owner.id, actor_role="owner"),
        lambda: members.leave(session, owner.organization_id, owner.id),
        lambda: members.change_role(
            session, owner.organization_id, owner.id, "admin", actor_role="owner"
        ),
    ):
        with pytest.raises(Conflict) as caught:
            leave()
        assert caught.value.code == "last_owner"


def test_two_owners_who_unseat_each_other_leave_one(database):
    with transaction(EVERY) as session:
        first = make_member(session)
        organization = session.get(Organization, first.organization_id)
        second = make_member(session, organization)
    pair = [second.id, first.id]

    def unseat(index):
        with transaction(organization.id) as session:
            members.remove(session, organization.id, pair[index], actor_role="owner")

    outcomes = run_at_once(2, unseat)
    assert sorted(outcomes) == ["Conflict", "ok"]


def test_only_an_owner_touches_owners(session):
    owner = make_member(session)
    organization = session.get(Organization, owner.organization_id)
    make_member(session, organization)
    plain = make_member(session, organization, role="member")
    for attempt in (
        lambda: members.change_role(
            session, organization.id, plain.id, "owner", actor_role="admin"
        ),
        lambda: members.change_role(
            session, organization.id, owner.id, "member", actor_role="admin"
        ),
        lambda: members.remove(session, organization.id, owner.id, actor_role="admin"),
        lambda: members.remove(session, organization.id, plain.id, actor_role="member"),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert (
        members.change_role(session, organization.id, plain.id, "finance", actor_role="admin").role
        == "finance"
    )


def test_removal_takes_sessions_keys_and_offers_along(session):
    owner = make_member(session)
    organization = session.get(Organization, owner.organization_id)
    admin = make_member(session, organization, role="admin")
    _, key = api_keys.mint(session, organization, name="k", role="admin", created_by=admin.user_id)
    _, offer = invite(session, admin, actor_role="admin")
    secret = start_session(session, admin)
    session.flush()
    members.remove(session, organization.id, admin.id, actor_role="owner")
    session.flush()
    session.expire_all()
    assert sessions.find(session, secret).member is None
    assert api_keys.find(session, key) is None
    with pytest.raises(NotFound):
        invitations.look_up(session, offer)


def test_a_removed_person_gets_the_same_seat_back(session):
    owner = make_member(session)
    seat = make_member(session, session.get(Organization, owner.organization_id), role="member")
    members.remove(session, owner.organization_id, seat.id, actor_role="owner")
    back = members.add(session, owner.organization_id, seat.user_id, "finance")
    assert (back.id, back.role, back.status) == (seat.id, "finance", "active")
    with pytest.raises(Conflict):
        members.add(session, owner.organization_id, seat.user_id, "member")


def test_a_strangers_rows_are_not_found(session):
    mine, other = make_member(session), make_member(session)
    invitation, _ = invite(session, other)
    key, _ = api_keys.mint(
        session, session.get(Organization, other.organization_id), name="k", role="member"
    )
    session.flush()
    for attempt in (
        lambda: members.find(session, mine.organization_id, other.id),
        lambda: members.remove(session, mine.organization_id, other.id, actor_role="owner"),
        lambda: invitations.revoke(session, mine.organization_id, invitation.id),
        lambda: api_keys.revoke(session, mine.organization_id, key.id),
    ):
        with pytest.raises(NotFound):
            attempt()


def test_the_tenants_wall_hides_seats_keys_and_trails(database):
    if not database.url.startswith("postgresql"):
        pytest.skip("SQLite has no row security")
    with transaction(EVERY) as session:
        mine, other = make_member(session), make_member(session)
        make_api_key(session, session.get(Organization, other.organization_id))
        audit.record(session, None, "member.left", organization_id=other.organization_id)
    with reading(mine.organization_id) as session:
        for table in (Member, ApiKey, AuditEntry):
            found = list(session.execute(select(table)).scalars())
            assert all(row.organization_id == mine.organization_id for row in found)


# --- invitations ---------------------------------------------------------------------------------


def test_an_invitation_seats_a_new_person(session):
    owner = make_member(session)
    _, secret = invite(session, owner, role="finance")
    member, user = invitations.accept_as_new(
        session, secret, name="王芳", password_digest=cheap_digest()
    )
    assert (member.role, user.email) == ("finance", "new@example.com")
    with pytest.raises(NotFound):
        invitations.accept_as_new(session, secret, name="x", password_digest=cheap_digest())


def test_an_invitation_seats_a_known_person_only(session):
    owner = make_member(session)
    known, stranger = make_user(session, email="new@example.com"), make_user(session)
    _, secret = invite(session, owner)
    with pytest.raises(Forbidden), session.begin_nested():
        invitations.accept(session, secret, stranger)
    session.expire_all()
    assert invitations.accept(session, secret, known).user_id == known.id


def test_of_twenty_acceptances_one_wins(database):
    with transaction(EVERY) as session:
        owner = make_member(session)
        _, secret = invite(session, owner)

    def accept(_):
        with transaction(owner.organization_id) as session:
            invitations.accept_as_new(session, secret, name="x", password_digest=cheap_digest())

    outcomes = run_at_once(20, accept)
    assert outcomes.count("ok") == 1
    assert set(outcomes) == {"ok", "NotFound"}
    with reading(EVERY) as session:
        assert len(list(session.execute(select(User)).scalars())) == 2


def test_old_withdrawn_and_forged_links_look_the_same(session):
    owner = make_member(session)
    first, withdrawn = invite(session, owner)
    invitations.revoke(session, owner.organization_id, first.id)
    _, old = invite(session, owner)
    other = make_member(session).organization_id
    forged = [old[:-1] + ("A" if old[-1] != "A" else "B"), "yfi_", "", "yfi_" + "x" * 69]
    forged.append("yfi_" + other[4:] + old[30:])
    said = set()
    for secret in [withdrawn, *forged]:
        with pytest.raises(NotFound) as caught:
            invitations.look_up(session, secret)
        said.add(caught.value.plain())
    assert invitations.look_up(session, old)[0].email == "new@example.com"
    with clock.shifted(seconds=7 * 86_400 + 1), pytest.raises(NotFound) as caught:
        invitations.accept_as_new(session, old, name="x", password_digest=cheap_digest())
    assert said == {caught.value.plain()}


def test_a_second_invitation_replaces_the_first(session):
    owner = make_member(session)
    _, first = invite(session, owner)
    session.flush()
    _, second = invite(session, owner, email="NEW@example.com")
    session.flush()
    with pytest.raises(NotFound):
        invitations.look_up(session, first)
    assert invitations.look_up(session, second)
    assert len(invitations.list_open(session, owner.organization_id)) == 1


def test_who_may_invite_whom(session):
    owner = make_member(session)
    with pytest.raises(Forbidden):
        invite(session, owner, role="owner", actor_role="admin")
    with pytest.raises(Invalid):
        invite(session, owner, role="emperor")
    with pytest.raises(Conflict):
        invite(session, owner, email=session.get(User, owner.user_id).email)


def test_only_a_digest_is_kept(session):
    owner = make_member(session)
    _, secret = invite(session, owner)
    key = make_api_key(session, session.get(Organization, owner.organization_id))
    login = start_session(session, owner)
    kept = [
        *session.execute(select(Invitation.digest)).scalars(),
        *session.execute(select(ApiKey.digest)).scalars(),
    ]
    assert all(len(digest) == 64 for digest in kept)
    assert not any(part in "".join(kept) for part in (secret[-43:], key[-43:], login))


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_works_until_it_is_revoked_or_old(session):
    organization = make_organization(session)
    key, secret = api_keys.mint(
        session,
        organization,
        name="k",
        role="integrator",
        expires_at=clock.now() + timedelta(days=1),
    )
    session.flush()
    assert api_keys.find(session, secret).key.id == key.id
    assert api_keys.find(session, secret[:-1] + "!") is None
    with clock.shifted(seconds=86_401):
        assert api_keys.find(session, secret) is None
    api_keys.revoke(session, organization.id, key.id)
    session.flush()
    assert api_keys.find(session, secret) is None


def test_a_key_never_outgrows_its_maker(session):
    owner = make_member(session)
    organization = session.get(Organization, owner.organization_id)
    admin = make_member(session, organization, role="admin")
    _, secret = api_keys.mint(
        session, organization, name="k", role="admin", created_by=admin.user_id
    )
    session.flush()
    assert "members:write" in api_keys.find(session, secret).permissions
    members.change_role(session, organization.id, admin.id, "finance", actor_role="owner")
    session.flush()
    found = api_keys.find(session, secret)
    assert "members:write" not in found.permissions
    assert "audit:read" in found.permissions


def test_a_demoted_owners_key_names_no_owners(session):
    owner = make_member(session)
    organization = session.get(Organization, owner.organization_id)
    second = make_member(session, organization)
    _, secret = api_keys.mint(
        session, organization, name="k", role="owner", created_by=second.user_id
    )
    members.change_role(session, organization.id, second.id, "admin", actor_role="owner")
    session.flush()
    assert api_keys.find(session, secret).role == "admin"


def test_minting_is_bounded_by_the_maker(session):
    organization = make_organization(session)
    with pytest.raises(Forbidden):
        api_keys.mint(
            session,
            organization,
            name="k",
            role="admin",
            actor_role="integrator",
            actor_permissions=frozenset({"flows:read"}),
        )
    with pytest.raises(Forbidden):
        api_keys.mint(session, organization, name="k", role="owner", actor_role="admin")
    with pytest.raises(Invalid):
        api_keys.mint(session, organization, name="k", role="emperor")
    with pytest.raises(Invalid):
        api_keys.mint(session, organization, name="k", role="admin", permissions=["all:all"])
    key, secret = api_keys.mint(
        session, organization, name="k", role="admin", permissions=["flows:read", "hub:operate"]
    )
    session.flush()
    assert api_keys.find(session, secret).permissions == {"flows:read"}
    assert key.permissions == ["flows:read"]


def test_a_key_of_a_disabled_person_stops(session):
    owner = make_member(session)
    organization = session.get(Organization, owner.organization_id)
    _, secret = api_keys.mint(
        session, organization, name="k", role="owner", created_by=owner.user_id
    )
    users.disable(session, owner.user_id, is_disabled=True)
    session.flush()
    assert api_keys.find(session, secret) is None


# --- the trail -----------------------------------------------------------------------------------


def test_the_trail_is_append_only_and_its_actions_are_named(session):
    owner = make_member(session)
    entry = audit.record(session, None, "member.left", organization_id=owner.organization_id)
    session.flush()
    with pytest.raises(ValueError, match="name the action"):
        audit.record(session, None, "tea.drunk", organization_id=owner.organization_id)
    entry.action = "member.joined"
    with pytest.raises(RuntimeError, match="append only"):
        session.flush()
    session.rollback()


def run_at_once(count, work):
    """Run work(index) in that many threads at once; returns "ok" or the error's class name."""
    gate, outcomes = threading.Barrier(count), [""] * count

    def one(index):
        gate.wait()
        try:
            work(index)
            outcomes[index] = "ok"
        except Exception as error:
            outcomes[index] = type(error).__name__

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
