"""Approvals by a link: it leads to the question, decides nothing when opened, and works once."""

import json

import pytest
from factories.connectors import rows, runs, settle, vendor
from factories.identity import csrf_of, make_member, make_organization, make_user, sign_in
from factories.ways import approval, open_works

from connectors import approval_addresses, approval_links, flow_checks
from connectors.tables import Approval
from identity import members
from identity.tables import AuditEntry, Organization
from kernel import clock
from kernel.database import EVERY, transaction
from kernel.errors import NotFound
from webhooks.tables import Event


@pytest.fixture
def app_vendor():
    with vendor() as target:
        yield target


def asked(app_vendor, **more):
    """Works whose flow asks one member, and the path of the link that its event carries."""
    works = open_works(app_vendor.url, approval("ok", subject="付 SO-1？", text="176 元"))
    with transaction(EVERY) as session:
        organization = session.get(Organization, works.organization_id)
        seat = make_member(session, organization, make_user(session, name="王主管"), "finance")
        make_member(session, organization, role="owner")
        from connectors.tables import FlowVersion

        version = session.execute(FlowVersion.of(works.organization_id)).scalar_one()
        document = json.loads(json.dumps(version.document))
        document["steps"][0] |= {"who": {"members": [seat.id]}, **more}
        version.document = document
        session.add(version)
    works.happen(order_no="SO-1")
    settle()
    (news,) = [one for one in rows(Event) if one.type == "approval.asked"]
    return works, seat, json.loads(news.body)["link"]


def path(link: str) -> str:
    return link[link.index("/decide/") :]


def post(client, link, decision="approve", **more):
    form = {"decision": decision, "csrf_token": csrf_of(client), **more}
    return client.post(path(link), data=form, headers={"Accept": "text/html"})


def test_a_named_link_decides_once_in_the_persons_name(database, app, client, app_vendor):
    _works, _, link = asked(app_vendor, by_link="named")
    page = client.get(f"{path(link)}?lang=zh", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "付 SO-1？" in page.text
    assert "王主管" in page.text
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Cache-Control"] == "no-store"
    for method in (client.get, client.head, client.options):
        method(path(link))
    assert rows(Approval)[0].state == "open"
    assert post(client, link, comment="好").status_code == 303
    (one,) = rows(Approval)
    assert (one.state, one.decided_name, one.comment) == ("approved", "王主管", "好")
    settle()
    assert runs()[0].state == "succeeded"
    again = post(client, link, "refuse")
    assert again.status_code == 409
    assert rows(Approval)[0].state == "approved"
    (entry,) = [one for one in rows(AuditEntry) if one.action == "approval.approved"]
    assert entry.detail == {"by": "王主管", "how": "link"}


def test_without_the_flows_word_one_has_to_sign_in(database, app, client, app_vendor):
    _works, seat, link = asked(app_vendor)
    (one,) = rows(Approval)
    answer = client.get(path(link), headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.location.startswith("/sign-in?next=%2Fapprovals%2F")
    assert "SO-1" not in answer.text
    assert post(client, link).status_code in (303, 409)
    assert rows(Approval)[0].state == "open"
    sign_in(client, None, seat)
    assert client.get(path(link)).location == f"/approvals/{one.id}"


def test_a_link_for_several_people_never_decides(database, app, client, app_vendor):
    _works, _seat, link = asked(app_vendor, by_link="named", who={"roles": ["finance"]})
    assert client.get(path(link)).status_code == 303
    post(client, link)
    assert rows(Approval)[0].state == "open"


def test_a_link_dies_with_the_deadline_the_run_and_the_person(database, app, client, app_vendor):
    works, seat, link = asked(app_vendor, by_link="named")
    with clock.shifted(seconds=8 * 86_400):
        assert post(client, link).status_code == 409
    with transaction(EVERY) as session:
        members.remove(session, works.organization_id, seat.id, actor_role="owner")
    assert client.get(path(link)).status_code == 303
    post(client, link)
    assert rows(Approval)[0].state == "open"


def test_a_link_cannot_be_made_up(database, app, client, app_vendor):
    works, _, link = asked(app_vendor, by_link="named")
    token = path(link).removeprefix("/decide/")
    (one,) = rows(Approval)
    assert approval_addresses.key_of(token) == (works.organization_id, one.id)
    with transaction(EVERY) as session:
        other = make_organization(session, name="别家").id.partition("_")[2]
    wrong = [token[:-1] + ("0" if token[-1] != "0" else "1"), token[:-1], "x", other + token[26:]]
    for made_up in wrong:
        with pytest.raises(NotFound):
            approval_addresses.key_of(made_up)
        assert client.get(f"/decide/{made_up}").status_code == 404
        assert (
            client.post(f"/decide/{made_up}", data={"csrf_token": csrf_of(client)}).status_code
            == 404
        )


def test_a_browsers_own_form_gets_through(database, app, client, app_vendor):
    _, _, link = asked(app_vendor, by_link="named")
    policy = client.get(path(link)).headers["Referrer-Policy"]
    # what Chromium sends of a page that wants no referrer, and of any other
    origin = "null" if policy == "no-referrer" else "http://localhost"
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
    form = {"decision": "approve", "csrf_token": csrf_of(client)}
    assert client.post(path(link), data=form, headers=headers).status_code == 303
    assert rows(Approval)[0].state == "approved"


def test_a_form_of_another_site_decides_nothing(database, app, client, app_vendor):
    _, _, link = asked(app_vendor, by_link="named")
    assert client.post(path(link), data={"decision": "approve"}).status_code == 403
    assert rows(Approval)[0].state == "open"


@pytest.mark.parametrize(
    ("who", "by_link", "is_wrong"),
    [
        ({"members": ["mem_1"]}, "named", False),
        ({"members": ["mem_1", "mem_2"]}, "named", True),
        ({"members": ["mem_1"], "roles": ["owner"]}, "named", True),
        ({"roles": ["owner"]}, "sign_in", False),
        ({"roles": ["owner"]}, "anybody", True),
    ],
)
def test_a_flow_says_so_for_one_person_alone(who, by_link, is_wrong):
    step = {"key": "ok", "kind": "approval", "subject": "x", "who": who, "by_link": by_link}
    found = list(flow_checks._check_approval(step, "/steps/0", {"mem_1", "mem_2"}))
    assert [one["pointer"] for one in found] == (["/steps/0/by_link"] if is_wrong else [])


def test_the_link_stands_in_every_news_of_it(database, app, app_vendor):
    _works, _, link = asked(app_vendor, remind="1h")
    with clock.shifted(seconds=3_700):
        from connectors import approvals

        approvals.sweep()
    told = {
        one.type: json.loads(one.body)["link"] for one in rows(Event) if "approval." in one.type
    }
    assert told == {"approval.asked": link, "approval.reminded": link}
    with transaction(EVERY) as session:
        found = approval_links.look_up(session, approval_addresses.key_of(link.rpartition("/")[2]))
        assert found.id == rows(Approval)[0].id
