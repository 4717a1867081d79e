"""What an app has to choose from: asked for, kept, searched, and told in words when it fails."""

from dataclasses import replace

import pytest
from factories.connectors import make_connection, rows, vendor
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors.engine import check_lookups, choices, loader
from connectors.engine.check import Folder
from connectors.errors import Unfit
from connectors.lookups import lookups
from connectors.lookups.tables import ChoiceList
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, transaction
from kernel.errors import NotFound


class Erp:
    """Customers by name."""

    def __init__(self, target):
        self.asked = []
        target.answer = self.answer

    def answer(self, path, headers, body):
        self.asked.append(path)
        customers = [
            {"customer_no": f"C-{n}", "name": f"客户 {n}", "tax_id": str(n)} for n in range(120)
        ]
        return 200, {"code": 0, "data": {"customers": customers}}, {}


@pytest.fixture
def served():
    with vendor() as target:
        yield target


@pytest.fixture
def erp(database, served):
    stand_in = Erp(served)
    with transaction(EVERY) as session:
        stand_in.owner = make_organization(session).id
        stand_in.connection = make_connection(session, stand_in.owner, served.url).id
    return stand_in


def find(erp, **over):
    return lookups.find(erp.owner, erp.connection, "customers", {}, **over)


def test_choices_are_asked_for_once_and_kept(erp):
    first = find(erp)
    assert first.items[0] == {"value": "C-0", "label": "客户 0"}
    assert len(first.items) == 50
    assert find(erp) == first
    assert len(erp.asked) == 1
    with clock.shifted(seconds=700):
        find(erp)
    assert len(erp.asked) == 2
    find(erp, refresh=True)
    assert len(erp.asked) == 3
    assert len(rows(ChoiceList)) == 1


def test_pages_of_choices_hold_each_once(erp):
    seen, cursor = [], None
    while True:
        page = find(erp, cursor=cursor)
        seen += [one["value"] for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"C-{n}" for n in range(120)]
    assert len(erp.asked) == 1


def test_an_app_that_searches_itself_is_asked_for_each_text(erp):
    find(erp, search="启航")
    find(erp, search="启航")
    find(erp, search="明华")
    assert len(erp.asked) == 2
    assert "name=%E5%90%AF%E8%88%AA" in erp.asked[0]


def test_an_app_that_is_down_leaves_what_it_gave_before(erp, served):
    before = find(erp)
    served.answer = lambda path, headers, body: (503, {"message": "busy"}, {})
    page = find(erp, refresh=True)
    assert page.items == before.items
    assert page.problem["cause"] == "down"
    assert page.problem["say"]["en"]
    with clock.shifted(seconds=120):
        served.answer = erp.answer
        assert find(erp).problem is None


def test_the_connections_secret_is_in_no_words(erp, served):
    served.answer = lambda path, headers, body: (400, {"message": "no key-0123456789"}, {})
    page = find(erp)
    assert page.items == []
    assert page.problem["cause"] == "data"
    assert "key-0123456789" not in str(rows(ChoiceList))


def test_lists_of_a_connection_are_bounded(erp, monkeypatch):
    monkeypatch.setattr(lookups, "MAX_KEPT", 3)
    for text in "abcdef":
        find(erp, search=text)
    assert len(rows(ChoiceList)) == 3


def test_a_stranger_finds_nothing(erp):
    with transaction(EVERY) as session:
        stranger = make_organization(session).id
    with pytest.raises(NotFound):
        lookups.find(stranger, erp.connection, "customers", {})
    with pytest.raises(Unfit):
        lookups.find(erp.owner, erp.connection, "nothing", {})


def test_what_choices_depend_on_is_checked():
    connector = loader.find("demo-erp")
    needs = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
    lookup = replace(connector.lookups["customers"], input=needs)
    for given in ({}, {"city": 3}):
        with pytest.raises(choices.Unasked) as refused:
            choices.input_of(connector, lookup, given, "", {})
        assert refused.value.problems[0].target.startswith("/input")
    assert choices.input_of(connector, lookup, {"city": "x"}, "y", {}) == {"name": "y"}


def test_the_api_and_the_form_show_the_same(erp, client):
    with transaction(EVERY) as session:
        organization = session.get(Organization, erp.owner)
        key = make_api_key(session, organization)
        member = make_member(session, organization, role="owner")
        headers = bearer(key)
    base = f"/connections/{erp.connection}/lookups"
    (listed,) = client.get(f"/api/v1{base}", headers=headers).get_json()["items"]
    assert (listed["key"], listed["searches"]) == ("customers", True)
    got = client.get(f"/api/v1{base}/customers?limit=2", headers=headers).get_json()
    assert [one["value"] for one in got["items"]] == ["C-0", "C-1"]
    assert got["next_cursor"] == "2"
    sign_in(client, None, member)
    page = client.get(f"{base}/customers?field=s0.r1&current=C-1").get_data(as_text=True)
    assert 'name="s0.r1.choice"' in page
    assert '<option value="C-1" selected>客户 1 (C-1)</option>' in page
    evil = client.get(f"{base}/customers?field=%22onload&search=%3Cb%3E").get_data(as_text=True)
    assert "onload" not in evil
    assert "<b>" not in evil


def test_every_lookup_of_the_library_reads_its_own_sample():
    connectors = [one for one in loader.library().values() if one.lookups]
    assert len(connectors) >= 6
    for connector in connectors:
        assert check_lookups.findings(connector, Folder(connector.folder).manifest) == []


def test_options_without_a_value_are_left_out_and_none_comes_twice():
    lookup = loader.find("demo-erp").lookups["customers"]
    given = [
        {"customer_no": "A", "name": "甲"},
        {"customer_no": "A", "name": "again"},
        {"name": "nobody"},
        {"customer_no": None, "name": "null"},
        {"customer_no": "B", "name": ""},
        "odd",
    ]
    found, is_cut = choices.read(lookup, {"customers": given})
    assert found == [{"value": "A", "label": "甲"}, {"value": "B", "label": "B"}]
    assert not is_cut
    many = [{"customer_no": str(n), "name": "x"} for n in range(choices.MAX_OPTIONS + 1)]
    assert choices.read(lookup, {"customers": many})[1] is True
