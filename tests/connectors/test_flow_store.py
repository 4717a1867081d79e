"""The data store: what flows keep, exactly once, within bounds, and behind the tenant's wall."""

import pytest
from factories.connectors import runs, settle, steps, vendor
from factories.identity import make_organization
from factories.ways import die_often, each, open_works, send, texts

from connectors import advance, claims, lanes, recording, recovery, stepping
from connectors.stores import shelf, values
from connectors.stores.errors import Refused
from connectors.stores.tables import STORED
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.errors import NotFound
from kernel.settings import settings_override


@pytest.fixture
def app_vendor(app):
    lanes._slice.clear()
    with vendor() as target:
        yield target


def store(key, operation, entry="${event.data.no}", collection="orders", **more):
    step = {"key": key, "kind": "store", "operation": operation, "collection": collection, **more}
    return step if operation == "list" else {**step, "entry": entry}


def kept(organization_id):
    with reading(organization_id) as session:
        rows = session.execute(
            STORED.select()
            .where(STORED.c.organization_id == organization_id)
            .order_by(STORED.c.key)
        )
        return {row.key: row.value for row in rows}


def used(organization_id):
    with reading(organization_id) as session:
        return values.use(session, organization_id)


def test_put_get_list_and_delete(database, app_vendor):
    works = open_works(
        app_vendor.url,
        store("keep", "put", value={"total": "${event.data.total}"}),
        store("read", "get"),
        store("all", "list", prefix="A"),
        send("tell", "${steps.read.output.value.total} ${steps.all.output.count} 条"),
        store("drop", "delete"),
        store("again", "get"),
        send("end", "还在吗 ${steps.again.output.found}"),
    )
    works.happen(no="A7", total="12.50")
    settle()
    (run,) = runs()
    assert run.state == "succeeded", run.detail
    assert texts(app_vendor) == ["12.50 1 条", "还在吗 false"]
    assert steps(run.id)[0].output == {"is_new": True}
    assert kept(works.organization_id) == {}
    assert used(works.organization_id) == (0, 0)


def test_numbers_are_counted_exactly(database, app_vendor):
    works = open_works(
        app_vendor.url,
        store("count", "add", "次数"),
        store("sum", "add", "金额", amount="${event.data.total}"),
    )
    for total in ("0.10", "0.20", 3):
        works.happen(total=total)
    settle()
    found = kept(works.organization_id)
    assert found["次数"] == 3
    assert str(found["金额"]) == "3.30"


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_the_store_count_once(database, app_vendor, monkeypatch, after):
    works = open_works(
        app_vendor.url,
        each(
            "lines",
            "${event.data.lines}",
            store("count", "add", "n", amount="${item}"),
            send("tell", "${steps.count.output.value} 件"),
        ),
        store("keep", "put", "last", value="${event.data.no}"),
    )
    works.happen(no="7", lines=[1, 10, 100])
    assert die_often(monkeypatch, every=2, after=after) > 3
    assert runs()[0].state == "succeeded"
    assert kept(works.organization_id) == {"last": "7", "n": 111}
    assert sorted(texts(app_vendor)) == ["1 件", "11 件", "111 件"]
    assert used(works.organization_id)[0] == 2


def test_a_worker_that_lost_its_lease_counts_nothing(database, app_vendor):
    works = open_works(app_vendor.url, store("count", "add", "n"))
    works.happen()
    (late,) = advance.take("late", 10)
    stepping.work(late)
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle()
    assert recording.record("late", [late]) == []
    assert kept(works.organization_id) == {"n": 1}


def test_what_is_no_number_stops_the_run_and_stays(database, app_vendor):
    works = open_works(app_vendor.url, store("count", "add", "n", amount="${event.data.x}"))
    with transaction(EVERY) as session:
        given = {"operation": "put", "collection": "orders", "entry": "n", "value": "七"}
        values.do(session, works.organization_id, given, None)
    works.happen(x=1)
    works.happen(x="一")
    settle()
    assert [(run.state, run.cause) for run in runs()] == [("parked", "data")] * 2
    assert kept(works.organization_id) == {"n": "七"}


def test_the_store_is_bounded_and_says_so(database, app_vendor):
    works = open_works(app_vendor.url, store("keep", "put", value="${event.data.no}"))
    with settings_override(store_limit_values=2):
        for number in ("1", "2", "3"):
            works.happen(no=number)
        settle()
        assert [(run.state, run.cause) for run in runs()][2] == ("parked", "limit")
        assert "data store is full" in runs()[2].say["en"]
        assert used(works.organization_id)[0] == 2
        with transaction(EVERY) as session:
            values.remove(session, works.organization_id, "orders", "1")
            recovery.retry_now(session, works.organization_id, runs()[2].id)
        settle()
        assert sorted(kept(works.organization_id)) == ["2", "3"]
    with settings_override(store_limit_bytes=8), transaction(EVERY) as session:
        given = {"operation": "put", "collection": "orders", "entry": "2", "value": "x" * 20}
        with pytest.raises(Refused):
            values.do(session, works.organization_id, given, None)
    with transaction(EVERY) as session:
        given = {**given, "value": "x" * 70_000}
        with pytest.raises(Refused):
            values.do(session, works.organization_id, given, None)


def test_a_refusal_may_go_an_error_path(database, app_vendor):
    step = store("keep", "put", value="x", on_error={"steps": [send("tell", "${error.class}")]})
    works = open_works(app_vendor.url, step)
    with settings_override(store_limit_values=0):
        works.happen(no="1")
        settle()
    assert texts(app_vendor) == ["limit"]
    assert runs()[0].cause == "error_path"


def test_values_expire(database, app_vendor):
    works = open_works(
        app_vendor.url,
        store("keep", "put", value="x", expires="2h"),
        store("count", "add", "n", expires="2h"),
    )
    works.happen(no="7")
    settle()
    with clock.shifted(seconds=3_600):
        works.happen(no="8")
        settle()
    with clock.shifted(seconds=7_300):
        with reading(works.organization_id) as session, pytest.raises(NotFound):
            values.find(session, works.organization_id, "orders", "7")
        assert values.sweep() == 1
        assert sorted(kept(works.organization_id)) == ["8", "n"]
        assert used(works.organization_id)[0] == 2
    with clock.shifted(seconds=20_000):
        works.happen(no="9")  # what expired counts from the beginning
        settle()
        assert kept(works.organization_id)["n"] == 1
        assert kept(works.organization_id)["9"] == "x"


def test_strangers_see_and_change_nothing(database, app_vendor):
    works = open_works(app_vendor.url, store("keep", "put", value="x"))
    works.happen(no="7")
    settle()
    with transaction(EVERY) as session:
        other = make_organization(session, name="别家").id
    with transaction(other) as session:
        assert values.collections(session, other) == []
        with pytest.raises(NotFound):
            values.find(session, other, "orders", "7")
        with pytest.raises(NotFound):
            values.remove(session, other, "orders", "7")
    assert kept(works.organization_id) == {"7": "x"}


def test_the_shelf_does_what_the_store_does(database, app):
    with transaction(EVERY) as session:
        owner = make_organization(session, name="一家").id
    todo = [
        {"operation": "get", "entry": "a"},
        {"operation": "put", "entry": "a", "value": "1.5"},
        {"operation": "put", "entry": "a", "value": 2},
        {"operation": "add", "entry": "a", "amount": "0.5"},
        {"operation": "add", "entry": "ab", "amount": 1},
        {"operation": "list", "entry": "", "prefix": "a", "limit": 1},
        {"operation": "list", "entry": "", "prefix": "ab"},
        {"operation": "delete", "entry": "a"},
        {"operation": "delete", "entry": "a"},
        {"operation": "list", "entry": ""},
    ]
    dry: shelf.Shelf = {}
    for one in todo:
        given = {"collection": "c", **one}
        with transaction(owner) as session:
            assert values.do(session, owner, given, None) == shelf.do(dry, given), one
