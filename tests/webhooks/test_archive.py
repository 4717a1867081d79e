"""The archive: finished events leave the live list whole, once, and when their file is safe."""

import dataclasses
import errno
from datetime import timedelta

import pytest
from factories import keeping
from factories import webhooks as make
from factories.connectors import make_connection, make_flow, order_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.tables import Run, Step
from kernel import clock
from kernel.database import EVERY, reading, transaction
from kernel.settings import settings_override
from webhooks import events
from webhooks.hooks import CHORES
from webhooks.keeping import archiver, chunks, records, rules, stores, turns
from webhooks.keeping.rules import Rule
from webhooks.keeping.tables import ArchiveChunk, Keeping
from webhooks.tables import Attempt, Delivery, Event


@pytest.fixture(autouse=True)
def folder(tmp_path, app):
    with settings_override(archive_dir=str(tmp_path / "archive")):
        yield tmp_path / "archive"


class Killed(BaseException):
    """The process is gone at this point."""


def town(count=5, **over):
    """A firm with finished events; gives its id and theirs."""
    firm = keeping.firm()

    def setup(session):
        endpoint = make.make_endpoint(session, firm)
        erp = make_connection(session, firm)
        chat = make_connection(session, firm, connector_key="demo-chat")
        flow = make_flow(session, firm, order_document(erp.id, chat.id))
        return [
            keeping.finished(session, firm, endpoint.id, flow, dedupe_key=f"k{n}", **over)
            for n in range(count)
        ]

    return firm, make.in_transaction(setup)


def decide(firm, **numbers):
    rule = dataclasses.replace(rules.DEFAULT, **numbers)
    make.in_transaction(lambda s: rules.decide(s, firm, rule))


def archived(firm):
    """Every record of the firm's archive."""
    with reading(EVERY) as session:
        found = chunks.after(session, firm, limit=1000)
    return [record for chunk in found for record in chunks.read(chunk)]


def archived_ids(firm):
    return [record["event"]["id"] for record in archived(firm)]


def live_ids():
    return [event.id for event in make.rows(Event) if event.state != "archived"]


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_old_and_finished_moves_with_all_that_hangs_on_it(folder):
    firm, ids = town()
    decide(firm, detail_days=3650)
    before = {event.id: event for event in make.rows(Event)}
    keeping.keep_house()
    assert make.rows(Delivery) == make.rows(Attempt) == make.rows(Run) == make.rows(Step) == []
    assert make.rows(Event) == []
    (chunk,) = make.rows(ArchiveChunk)
    assert (chunk.event_count, chunk.delivery_count, chunk.run_count) == (5, 5, 5)
    assert archived_ids(firm) == ids
    for record in archived(firm):
        event = records.event_of(record)
        assert event["body"] == before[event["id"]].body
        assert event["received_at"] == before[event["id"]].received_at
        assert record["deliveries"][0]["attempts"][0]["status"] == 200
        assert record["runs"][0]["steps"][0]["input"] == {"price": 12}
    (file,) = files(folder)
    assert b"order_no" not in file.read_bytes()
    (row,) = make.rows(Keeping)
    assert (row.moved, row.trouble, row.passed_id) == (5, None, "")


def test_what_is_young_or_still_on_its_way_stays(folder):
    firm, ids = town(6)
    new = make.in_transaction(lambda s: make.make_event(s, firm))

    def stir(session):
        rows = {row.event_id: row for row in session.execute(Delivery.of(firm)).scalars()}
        rows[ids[0]].state, rows[ids[1]].state = "waiting", "leased"
        runs = {row.event_id: row for row in session.execute(Run.of(firm)).scalars()}
        runs[ids[2]].state = "due"
        session.get(Event, (firm, ids[3])).created_at = clock.now() + timedelta(days=60)

    make.in_transaction(stir)
    keeping.keep_house()
    assert live_ids() == [*ids[:4], new]
    assert archived_ids(firm) == ids[4:]


def test_what_waits_for_a_person_stays_for_ninety_days_whatever_the_rule():
    firm, ids = town(2)
    decide(firm, live_days=1)

    def park(session):
        for row in session.execute(Run.of(firm).where(Run.event_id == ids[0])).scalars():
            row.state = "parked"

    make.in_transaction(park)
    keeping.keep_house(2 * 86_400)
    assert live_ids() == ids[:1]
    keeping.keep_house()
    assert archived_ids(firm) == [ids[1], ids[0]]


def test_a_dedupe_key_is_remembered_for_35_days():
    firm, (first, *_) = town()
    decide(firm, live_days=1)
    keeping.keep_house(2 * 86_400)
    (stub, *_) = make.rows(Event)
    assert (stub.state, stub.body, stub.headers, stub.subject) == ("archived", b"", {}, None)
    new = [events.NewEvent(type="test.happened", body=b"{}", dedupe_key="k0")]
    (again,) = make.in_transaction(lambda s: events.accept(s, firm, None, new))
    assert (again.id, again.is_duplicate) == (first, True)
    keeping.keep_house(34 * 86_400)
    assert len(make.rows(Event)) == 5
    keeping.keep_house(36 * 86_400)
    assert make.rows(Event) == []


def test_rejected_events_go_by_their_own_number_and_types_by_theirs():
    firm, ids = town(1, state="rejected")
    endpoint = make.rows(Delivery)[0].endpoint_id
    chatty = make.in_transaction(
        lambda s: keeping.finished(s, firm, endpoint, type="chat.said.twice")
    )
    other = make.in_transaction(lambda s: keeping.finished(s, firm, endpoint, type="chat.read"))
    decide(firm, event_types="chat.*", live_days=50, archive_days=10)
    decide(firm, event_types="chat.read", live_days=60, archive_days=0)
    keeping.keep_house(31 * 86_400)
    assert archived_ids(firm) == ids
    keeping.keep_house(51 * 86_400)
    assert archived_ids(firm) == [*ids, chatty]
    assert live_ids() == [other]
    keeping.keep_house(62 * 86_400)
    assert live_ids() == []
    assert archived_ids(firm) == ids  # the one was never archived, the other was dropped


def test_an_archive_that_is_not_wanted_is_not_written(folder):
    firm, _ids = town()
    decide(firm, archive_days=0)
    keeping.keep_house()
    assert make.rows(Event) == make.rows(ArchiveChunk) == []
    assert not files(folder)


def test_chunks_expire_a_page_at_a_time(folder, monkeypatch):
    firm, _ = town(5)
    monkeypatch.setattr(archiver, "CHUNK_BYTES", 1)
    monkeypatch.setattr(archiver, "_READ", 1)
    keeping.keep_house()
    assert len(make.rows(ArchiveChunk)) == 5
    monkeypatch.setattr(archiver, "PAGE", 2)
    decide(firm, archive_days=1)
    keeping.keep_house(keeping.OLD_SECONDS + 3 * 86_400)
    assert make.rows(ArchiveChunk) == []
    assert not files(folder)


def test_details_of_attempts_go_after_thirty_days():
    _firm, _ids = town()
    keeping.keep_house(29 * 86_400)
    assert make.rows(Attempt)[0].response_body == b"\xff\x00ok"
    keeping.keep_house(31 * 86_400)
    for attempt in make.rows(Attempt):
        assert (attempt.status, attempt.request_headers, attempt.response_body) == (200, {}, b"")


POINTS = {
    "before the file": (chunks, "write"),
    "in the draft": (stores.os, "fsync"),
    "before the draft has its name": (stores.Path, "replace"),
    "before it is read back": (chunks, "_verify"),
    "before the transaction": (archiver.time, "sleep"),
    "in the transaction": (records, "drop"),
    "after the rows are gone": (archiver, "_count"),
    "after the transaction": (turns.Lease, "hold"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_nothing_and_doubles_nothing(folder, monkeypatch, point):
    firm, ids = town()
    where, name = POINTS[point]
    real, seen = getattr(where, name), []

    def killed(*args, **kwargs):
        seen.append(args)
        if point == "after the transaction" and "passed_id" not in kwargs:
            return real(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(Killed):
            keeping.keep_house()
    assert seen
    # each is in one place at least, and whole
    assert sorted({*live_ids(), *archived_ids(firm)}) == ids
    keeping.keep_house(keeping.OLD_SECONDS + 200)
    assert archived_ids(firm) == ids
    assert live_ids() == make.rows(Delivery) == []
    # the next pass clears up
    keeping.keep_house(keeping.OLD_SECONDS + 2 * 86_400)
    assert len(files(folder)) == len(make.rows(ArchiveChunk)) == 1


def test_what_moves_between_file_and_deletion_stays(folder, monkeypatch):
    firm, ids = town()
    real = archiver._take_away

    def stirred(*args):
        make.in_transaction(lambda s: events.replay(s, firm, ids[2]))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(archiver, "_take_away", stirred)
        keeping.keep_house()
    assert live_ids() == ids
    assert not files(folder)
    assert make.rows(ArchiveChunk) == []


def test_a_worker_that_was_too_slow_takes_nothing_away(folder):
    firm, ids = town()
    with clock.shifted(seconds=keeping.OLD_SECONDS):
        slow = keeping.claim(firm)
    with clock.shifted(seconds=keeping.OLD_SECONDS + 200):
        fast = keeping.claim(firm)
        assert fast.epoch == slow.epoch + 1
        with pytest.raises(turns.LeaseLost):
            archiver.archive(slow)
        assert live_ids() == ids
        archiver.archive(fast)
    assert archived_ids(firm) == ids


def test_two_workers_share_the_firms_and_never_one_of_them():
    firms = {town(2)[0] for _ in range(2)}
    leases = {keeping.claim().organization_id for _ in range(2)}
    assert leases == firms
    with transaction(EVERY) as session:
        assert turns.claim(session, "wrk_third") is None


FULL, SHUT = (errno.ENOSPC, "disk_full"), (errno.EACCES, "folder")


@pytest.mark.parametrize(("number", "word"), [FULL, SHUT])
def test_a_full_disk_deletes_nothing_and_is_told(folder, client, monkeypatch, number, word):
    firm, ids = town()

    def full(*_):
        raise OSError(number, "no")

    with monkeypatch.context() as patch:
        patch.setattr(stores.os, "fsync", full)
        keeping.keep_house()
    assert live_ids() == ids
    assert not files(folder)
    (row,) = make.rows(Keeping)
    assert row.trouble == word
    assert client.get("/readyz").json["archive"] == word
    keeping.keep_house(keeping.OLD_SECONDS + 700)
    assert archived_ids(firm) == ids
    assert make.rows(Keeping)[0].trouble is None
    assert client.get("/readyz").json["archive"] == "ok"


def test_a_file_that_does_not_come_back_the_same_deletes_nothing(folder, monkeypatch):
    _firm, ids = town()
    real = stores.Folder.put

    def rotten(self, key, pieces):
        stored = real(self, key, pieces)
        path = self.root / key
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
        return stored

    monkeypatch.setattr(stores.Folder, "put", rotten)
    keeping.keep_house()
    assert live_ids() == ids
    assert not files(folder)
    assert make.rows(Keeping)[0].trouble == "not_verified"


def test_a_changed_file_is_not_read(folder):
    firm, _ids = town()
    keeping.keep_house()
    (file,) = files(folder)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(chunks.Unreadable):
        archived(firm)


def test_a_worker_whose_clock_runs_ahead_archives_nothing(database, monkeypatch):
    """Age is told by the store's clock, so only the store itself could be wrong about it."""
    if database.url.startswith("sqlite"):
        pytest.skip("SQLite's clock is its machine's, which has no other to compare with")
    _firm, ids = town()
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(days=3000))
    while turns.turn(CHORES):
        pass
    assert live_ids() == ids


def test_the_archive_ends_after_its_days(folder):
    firm, ids = town()
    keeping.keep_house()
    keeping.keep_house(keeping.OLD_SECONDS + 729 * 86_400)
    assert archived_ids(firm) == ids
    keeping.keep_house(keeping.OLD_SECONDS + 731 * 86_400)
    assert make.rows(ArchiveChunk) == []
    assert not files(folder)


def test_every_firm_gets_its_turn_without_being_asked():
    firm, _ = town(1)
    make.in_transaction(lambda s: s.delete(s.get(Keeping, (firm, firm))))
    assert turns.welcome_newcomers() == 1
    assert turns.welcome_newcomers() == 0
    assert make.rows(Keeping)[0].organization_id == firm


def test_a_large_pass_goes_on_over_several_turns(monkeypatch):
    firm, ids = town(12)
    monkeypatch.setattr(archiver, "PAGE", 5)
    monkeypatch.setattr(archiver, "TURN_SECONDS", 0.0001)
    monkeypatch.setattr(archiver, "CHUNK_BYTES", 1)
    monkeypatch.setattr(archiver, "_READ", 2)
    assert keeping.keep_house() >= 3
    assert archived_ids(firm) == ids
    assert len(make.rows(ArchiveChunk)) == 7


_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)
_events = st.lists(
    st.tuples(
        st.binary(max_size=3000),
        _text,
        st.sampled_from(["order.paid", "a.b", "chat.said"]),
        st.dictionaries(_text, _text, max_size=3),
        st.integers(-400, 0),
    ),
    min_size=1,
    max_size=30,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=_events)
def test_any_events_come_back_byte_for_byte(database, found):
    database.empty()
    firm = keeping.firm()

    def setup(session):
        for body, subject, kind, headers, days in found:
            event_id = make.make_event(
                session, firm, body=body, subject=subject, type=kind, headers=headers,
                content_type="application/octet-stream",
            )  # fmt: skip
            event = session.get(Event, (firm, event_id))
            event.state = "routed"
            event.received_at += timedelta(days=days)

    make.in_transaction(setup)
    before = [dict(event) for event in make.rows(Event)]
    keeping.keep_house(keeping.OLD_SECONDS + 86_400)
    back = {record["event"]["id"]: records.event_of(record) for record in archived(firm)}
    after = [back[event["id"]] for event in before]
    assert after == before
    assert live_ids() == []


def test_rules_that_are_out_of_bounds_are_refused():
    firm = keeping.firm()
    for wrong in (
        {"live_days": 0},
        {"live_days": 3651},
        {"rejected_days": 0},
        {"detail_days": 0},
        {"archive_days": -1},
        {"archive_days": 3651},
        {"event_types": ""},
        {"event_types": "order paid"},
        {"event_types": "*.paid"},
    ):
        with pytest.raises(rules.Invalid):
            decide(firm, **wrong)


def test_the_closest_rule_holds():
    found = rules.Rules(
        [Rule("order.*", 5), Rule("order.paid.*", 6), Rule("order.paid.late", 7), Rule("*", 8)]
    )
    days = [
        found.of_type(name).live_days
        for name in ("order.made", "order.paid.early", "order.paid.late", "orders", "a.b")
    ]
    assert days == [5, 6, 7, 8, 8]
