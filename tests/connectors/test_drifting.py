"""Where an app departs from its connector: noticed, masked, counted, bounded, told once a day."""

import json

import pytest
from factories.connectors import make_connection, open_shop, rows, runs, settle, vendor
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors.drifting import drifts, watching
from connectors.drifting.tables import Drift, DriftReport
from connectors.engine import departures
from connectors.engine.departures import Departure
from identity.tables import Organization
from kernel import clock
from kernel.database import EVERY, transaction
from webhooks import drain, sources, workers
from webhooks import events as door
from webhooks.events import NewEvent
from webhooks.tables import Event

SCHEMA = {
    "type": "object",
    "required": ["no", "status"],
    "properties": {
        "no": {"type": "string"},
        "status": {"enum": ["open", "done"]},
        "total": {"type": "number"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku"],
                "properties": {"sku": {"type": "string"}},
            },
        },
        "free": {"type": "object"},
        "choice": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {}}}]},
    },
}
GOOD = {"no": "1", "status": "open", "total": 1, "lines": [{"sku": "a"}], "free": {"x": 1}}


@pytest.fixture(autouse=True)
def fresh():
    watching.take()
    watching.forget_looks()


def test_a_value_that_fits_departs_nowhere():
    assert departures.of(SCHEMA, GOOD) == []
    assert departures.of(SCHEMA, {**GOOD, "choice": {"b": 1}}) == []


@pytest.mark.parametrize(
    ("value", "kind", "path"),
    [
        ({**GOOD, "buyer": "张三"}, "new", "/buyer"),
        ({"no": "1"}, "missing", "/status"),
        ({**GOOD, "no": 17}, "other", "/no"),
        ({**GOOD, "status": "paused"}, "code", "/status"),
        ({**GOOD, "lines": [{"sku": "a"}, {"sku": 7}]}, "other", "/lines/*/sku"),
        ({**GOOD, "lines": [{}]}, "missing", "/lines/*/sku"),
        ([], "other", ""),
        ({**GOOD, "a/b~c": 1}, "new", "/a~1b~0c"),
    ],
)
def test_each_kind_of_departure_is_named_with_its_place(value, kind, path):
    (found,) = departures.of(SCHEMA, value)
    assert (found.kind, found.path) == (kind, path)


def test_examples_tell_no_content():
    (found,) = departures.of(SCHEMA, {**GOOD, "buyer": "张三 138-0013-8000"})
    assert found.example == "string: xx 999-9999-9999"
    assert departures.masked({"a": "secret"}) == "object (1)"
    assert len(departures.masked("x" * 500)) < 60


def test_a_huge_value_is_looked_at_within_bounds():
    many = {f"field{n}": n for n in range(5_000)}
    assert len(departures.of(SCHEMA, {**GOOD, **many})) == departures.MOST
    long = {**GOOD, "lines": [{"sku": 1}] * 100_000}
    assert [one.path for one in departures.of(SCHEMA, long)] == ["/lines/*/sku"]


@pytest.fixture
def served():
    with vendor() as target:
        yield target


def test_an_answer_that_no_longer_fits_is_noted_and_told_once_a_day(database, app, served):
    odd = {"code": 0, "data": {"document_no": 17, "status": "booked"}}
    served.always["sales-orders"] = (200, odd)
    shop = open_shop(served.url, orders=2)
    settle()
    assert len(runs()) == 2
    assert drifts.sweep() == 2
    (one,) = rows(Drift)
    assert (one.part, one.part_key, one.kind, one.path) == (
        "action",
        "create_sales_order",
        "other",
        "/document_no",
    )
    assert (one.connection_id, one.count, one.example) == (shop.erp, 2, "integer: 99")
    told = [event for event in rows(Event) if event.type == drifts.NEWS]
    assert [json.loads(event.body)["connection_id"] for event in told] == [shop.erp]
    assert drifts.sweep() == 0


def note(owner, connection, *paths):
    found = [Departure("new", path, "", "string: x") for path in paths]
    watching.note(owner, connection, "action", "do", found)
    drifts.sweep()


@pytest.fixture
def connected(database, app):
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        return owner, make_connection(session, owner).id


def test_the_owner_hears_of_new_departures_at_most_once_a_day(connected):
    def told():
        return [event for event in rows(Event) if event.type == drifts.NEWS]

    note(*connected, "/a")
    note(*connected, "/b")
    assert len(told()) == 1
    with clock.shifted(seconds=90_000):
        note(*connected, "/b")
        assert len(told()) == 1  # nothing new
        note(*connected, "/c")
    assert len(told()) == 2
    assert rows(DriftReport)[0].told_count == 2


def test_rows_of_a_connection_are_bounded_and_the_oldest_leave(connected, monkeypatch):
    monkeypatch.setattr(drifts, "MOST_ROWS", 3)
    for number in range(6):
        with clock.shifted(seconds=number):
            note(*connected, f"/{number}")
    assert sorted(one.path for one in rows(Drift)) == ["/3", "/4", "/5"]


def test_what_is_kept_in_memory_is_bounded(connected):
    for number in range(watching.MOST_NOTED + 50):
        watching.note(*connected, "action", "do", [Departure("new", f"/{number}")])
    assert len(watching.take()[0]) == watching.MOST_NOTED


def test_a_connection_that_is_gone_leaves_no_row(connected):
    note(connected[0], "con_gone", "/a")
    assert rows(Drift) == []


def test_events_are_looked_at_once_in_a_while(connected):
    owner, connection = connected
    with transaction(EVERY) as session:
        source = sources.create(
            session,
            owner,
            name="pretix",
            scheme="none",
            connection_id=connection,
            connector_key="pretix",
            trigger_key="any",
        ).id
        session.flush()
        body = json.dumps({"notification_id": "x", "action": "a", "organizer": "o", "extra": 1})
        new = [
            NewEvent(type="pretix.event.order.placed", body=body.encode(), dedupe_key=key)
            for key in ("1", "2", "3")
        ]
        door.accept(session, owner, source, new)
    for _ in range(10):
        if not drain.drain(workers.name()):
            break
    noted, passing = watching.take()
    assert (noted, len(passing)) == ([], 1)
    watching._passing.extend(passing)
    drifts.sweep()
    found = {(one.part, one.kind, one.path) for one in rows(Drift)}
    assert found == {
        ("trigger", "other", "/notification_id"),
        ("trigger", "new", "/extra"),
    }
    assert {one.count for one in rows(Drift)} == {1}


def test_people_and_programs_see_it_and_say_that_they_have(connected, client):
    owner, connection = connected
    note(owner, connection, "/a/<b>")
    with transaction(EVERY) as session:
        organization = session.get(Organization, owner)
        headers = bearer(make_api_key(session, organization))
        member = make_member(session, organization)
        stranger = bearer(make_api_key(session, make_organization(session)))
    path = f"/api/v1/connections/{connection}/drifts"
    (one,) = client.get(path, headers=headers).get_json()["items"]
    assert (one["kind"], one["path"], one["count"]) == ("new", "/a/<b>", 1)
    assert client.get(path, headers=stranger).status_code == 404
    sign_in(client, None, member)
    page = client.get(f"/connections/{connection}").get_data(as_text=True)
    assert 'id="drifts"' in page
    assert "/a/&lt;b&gt;" in page
    assert client.delete(path, headers=headers).status_code == 204
    assert rows(Drift) == []
    page = client.get(f"/connections/{connection}").get_data(as_text=True)
    assert 'id="drifts"' not in page
