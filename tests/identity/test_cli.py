"""The operator's commands, and the names people see for their browsers."""

import pytest
from click.testing import CliRunner
from factories.identity import PASSWORD, make_member, make_organization, make_user, start_session

from identity import browsers, entrance, sessions
from identity.cli import org
from identity.tables import AuditEntry, Organization
from kernel.database import EVERY, reading, transaction
from kernel.errors import Unauthenticated


def run(*arguments):
    return CliRunner().invoke(org, arguments)


def test_an_organization_is_made_listed_and_promoted(database):
    made = run("create", "明华五金", "--email", "li@example.com", "--owner", "李明")
    assert made.exit_code == 0, made.output
    organization_id = made.output.split("\t")[0]
    password = made.output.strip().rsplit(" ", 1)[1]
    visitor = entrance.Visitor("192.0.2.1")
    entrance.sign_in("li@example.com", password, visitor)
    assert run("make-vendor", organization_id).exit_code == 0
    assert run("make-operator", organization_id).exit_code == 0
    assert f"{organization_id}\t明华五金\tvendor,operator" in run("list").output
    assert run("make-operator", organization_id, "--undo").exit_code == 0
    with reading(EVERY) as session:
        found = session.get(Organization, organization_id)
        assert (found.is_vendor, found.is_operator) == (True, False)
        rows = session.execute(AuditEntry.of(organization_id)).scalars()
        assert [row.action for row in rows].count("organization.kind_changed") == 3


def test_a_password_is_reset_and_everybody_is_out(database):
    with transaction(EVERY) as session:
        member = make_member(session, user=make_user(session, email="li@example.com"))
        secret = start_session(session, member)
    done = run("reset-password", "LI@example.com")
    password = done.output.strip().rsplit(" ", 1)[1]
    with reading(EVERY) as session:
        assert sessions.find(session, secret) is None
    entered = entrance.sign_in("li@example.com", password, entrance.Visitor("192.0.2.1"))
    assert entered.login.organization_id == member.organization_id


def test_an_account_is_closed_and_opened_again(database):
    with transaction(EVERY) as session:
        member = make_member(session, user=make_user(session, email="li@example.com"))
        secret = start_session(session, member)
    assert run("close-account", "li@example.com").exit_code == 0
    with reading(EVERY) as session:
        assert sessions.find(session, secret) is None
    with pytest.raises(Unauthenticated):
        entrance.sign_in("li@example.com", PASSWORD, entrance.Visitor("192.0.2.1"))
    assert run("close-account", "li@example.com", "--undo").exit_code == 0
    assert entrance.sign_in("li@example.com", PASSWORD, entrance.Visitor("192.0.2.1")).secret
    with reading(EVERY) as session:
        assert sessions.find(session, secret) is None


def test_refusals_are_one_line(database):
    with transaction(EVERY) as session:
        make_organization(session)
    for arguments in (
        ("make-vendor", "org_none"),
        ("reset-password", "nobody@example.com"),
        ("create", "x", "--email", "nobody", "--owner", "x"),
        ("create", "x", "--email", "a@example.com", "--owner", "x", "--password", "short"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit Chrome/140 Safari/537", "Chrome · Windows"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537 Edg/140", "Edge · Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18 like Mac OS X) Safari", "Safari · iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/1 wxwork/4 MicroMessenger/7", None),
        ("", ""),
        ("x" * 300, "x" * 60),
    ],
)
def test_browsers_have_names(user_agent, words):
    assert browsers.describe(user_agent) == (
        words if words is not None else "企业微信 WeCom · Android"
    )
