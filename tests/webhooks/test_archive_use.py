"""What people do with the archive: bring events back, take them out as a file, have them erased."""

import csv
import hashlib
import io
import json
import zipfile
from base64 import b64decode
from datetime import timedelta

import pytest
from factories import keeping
from factories import webhooks as make
from factories.connectors import make_connection, make_flow, order_document
from factories.identity import make_member

from identity.principals import Principal
from identity.tables import AuditEntry, Organization
from kernel import clock
from kernel.database import EVERY, reading
from kernel.errors import Conflict, Invalid, NotFound
from kernel.http import Response
from kernel.settings import settings_override
from webhooks import drain, events
from webhooks.keeping import chunks, erasures, export_files, exports, restoring, stores
from webhooks.keeping.restoring import Span
from webhooks.keeping.tables import ArchiveChunk, DataExport, Erasure, Keeping
from webhooks.tables import Attempt, Delivery, Event, Source

GOOD = Response(200, {}, b"", truncated=False, elapsed_ms=3)
AGES = timedelta(days=3650)


@pytest.fixture(autouse=True)
def folder(tmp_path, app):
    with settings_override(archive_dir=str(tmp_path / "archive")):
        yield tmp_path / "archive"


class Town:
    """A firm whose owner asks for things."""

    def __init__(self) -> None:
        self.firm = keeping.firm()

        def setup(session):
            self.endpoint_id = make.make_endpoint(session, self.firm).id
            erp = make_connection(session, self.firm)
            chat = make_connection(session, self.firm, connector_key="demo-chat")
            self.flow = make_flow(session, self.firm, order_document(erp.id, chat.id))
            member = make_member(session, session.get(Organization, self.firm))
            self.owner = Principal(
                self.firm, member.user_id, member.id, "owner", "member", frozenset(), "Anna"
            )  # fmt: skip

        make.in_transaction(setup)

    def add(self, **over):
        return make.in_transaction(
            lambda s: keeping.finished(s, self.firm, self.endpoint_id, self.flow, **over)
        )

    def all_time(self, kind="*"):
        return Span(clock.now() - AGES, clock.now() + AGES, kind)

    def export(self, kind="*"):
        return make.in_transaction(lambda s: exports.ask(s, self.owner, self.all_time(kind)))

    def erase(self, kind, value):
        return make.in_transaction(lambda s: erasures.ask(s, self.owner, kind, value))

    def archived_ids(self):
        with reading(EVERY) as session:
            found = chunks.after(session, self.firm, limit=1000)
        return [record["event"]["id"] for chunk in found for record in chunks.read(chunk)]


@pytest.fixture
def town(folder):
    return Town()


def send_all():
    drain.drain("w1", lambda requests: [GOOD] * len(requests))


def live_ids():
    return [event.id for event in make.rows(Event) if event.state != "archived"]


def opened(export_id):
    raw = b"".join(exports.open_file(make.row(DataExport, export_id)))
    return raw, zipfile.ZipFile(io.BytesIO(raw))


# --- replay -------------------------------------------------------------------------------------


def test_an_archived_event_is_repeated_under_its_id(town):
    event_id = town.add(body=b'{"a": 1.50}', subject="S-1", dedupe_key="k1")
    keeping.keep_house()
    assert restoring.replay_one(town.firm, event_id) == event_id
    (event,) = make.rows(Event)
    assert (event.id, event.body, event.subject, event.state) == (
        event_id, b'{"a": 1.50}', "S-1", "new",
    )  # fmt: skip
    assert event.dedupe_key == "k1"
    send_all()
    (delivery,) = make.rows(Delivery)
    assert (delivery.event_id, delivery.state) == (event_id, "delivered")
    with pytest.raises(Conflict):
        restoring.replay_one(town.firm, event_id)
    with pytest.raises(NotFound):
        restoring.replay_one(town.firm, "evt_nowhere")


def test_what_came_back_leaves_again_in_its_turn_and_both_journeys_are_kept(town):
    event_id = town.add()
    keeping.keep_house()
    with clock.shifted(seconds=keeping.OLD_SECONDS):
        restoring.replay_one(town.firm, event_id)
        send_all()
    keeping.keep_house(keeping.OLD_SECONDS + 89 * 86_400)
    assert live_ids() == [event_id]
    keeping.keep_house(keeping.OLD_SECONDS + 92 * 86_400)
    assert live_ids() == []
    with reading(EVERY) as session:
        found = chunks.records_of(chunks.covering(session, town.firm, event_id), event_id)
    assert [(one["restored"], len(one["deliveries"])) for one in found] == [(False, 1), (True, 1)]
    span = town.all_time()
    assert restoring.preview(town.firm, span).count == 1


def test_a_span_is_previewed_and_repeated_up_to_a_limit(town, monkeypatch):
    ids = [town.add(type="a.b") for _ in range(5)] + [town.add(type="c.d")]
    town.add(type="a.b", state="rejected")
    keeping.keep_house()
    span = town.all_time("a.*")
    assert restoring.preview(town.firm, span) == restoring.Preview(5, is_more=False)
    monkeypatch.setattr(restoring, "LIMIT", 3)
    assert restoring.preview(town.firm, span) == restoring.Preview(3, is_more=True)
    assert restoring.replay(town.firm, span) == restoring.Preview(3, is_more=True)
    assert restoring.replay(town.firm, span) == restoring.Preview(2, is_more=False)
    assert restoring.replay(town.firm, span) == restoring.Preview(0, is_more=False)
    assert live_ids() == ids[:5]
    empty = Span(clock.now() - AGES, clock.now() - timedelta(days=1))
    assert restoring.preview(town.firm, empty).count == 0
    with pytest.raises(Invalid):
        restoring.check(Span(span.until, span.until))


def test_a_key_that_came_in_anew_and_a_source_that_went_stand_in_no_ones_way(town):
    source = make.in_transaction(lambda s: make.make_source(s, town.firm))
    event_id = town.add(dedupe_key="k1", source_id=source.id)
    keeping.keep_house()
    make.in_transaction(lambda s: s.delete(s.get(Source, (town.firm, source.id))))
    new = make.in_transaction(
        lambda s: events.accept(
            s, town.firm, None, [events.NewEvent("a.b", b"{}", dedupe_key="k1")], origin=source.id
        )
    )
    assert not new[0].is_duplicate
    restoring.replay_one(town.firm, event_id)
    back = make.row(Event, event_id)
    assert (back.source_id, back.dedupe_key) == (None, f"again:{event_id}")


def test_the_memory_of_a_key_gives_way_to_its_event(town):
    event_id = town.add(dedupe_key="k1")
    keeping.keep_house(3 * 86_400)
    make.in_transaction(lambda s: s.get(Event, (town.firm, event_id)))
    assert live_ids() == [event_id]  # ninety days are not over
    from webhooks.keeping import rules

    short = rules.Rule(live_days=1)
    make.in_transaction(lambda s: rules.decide(s, town.firm, short))
    keeping.keep_house(3 * 86_400)
    assert live_ids() == []
    restoring.replay_one(town.firm, event_id)
    (event,) = make.rows(Event)
    assert (event.id, event.dedupe_key, event.state) == (event_id, "k1", "new")


# --- export -------------------------------------------------------------------------------------

BODIES = {
    "application/json": [b'{"a":1.50}', b'{"a":\n 1}', b'{"a":1,"a":2}', b"not json"],
    "application/octet-stream": [b"\xff\x00\n", b""],
    "text/plain; charset=utf-8": ["扬帆\n".encode()],
}


def test_an_export_holds_live_and_archived_events_byte_for_byte(town):
    sent = {}
    for kind, bodies in BODIES.items():
        for body in bodies:
            sent[town.add(body=body, content_type=kind)] = body
    keeping.keep_house()
    for body in BODIES["application/json"]:
        sent[town.add(body=body)] = body
    make.in_transaction(lambda s: make.make_event(s, "org_other"))
    asked = town.export()
    keeping.keep_house(0)
    export = make.row(DataExport, asked.id)
    assert (export.state, export.event_count, export.run_count) == ("done", 11, 11)
    raw, file = opened(asked.id)
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (export.byte_count, export.digest)
    assert file.testzip() is None
    got = {}
    for line in file.read("events.jsonl").splitlines():
        event = json.loads(line)
        assert event["specversion"] == "1.0"
        if "data_base64" in event:
            got[event["id"]] = b64decode(event["data_base64"])
        else:
            got[event["id"]] = line.split(b',"data":', 1)[1][:-1]
    assert got == sent
    for name in ("deliveries.csv", "runs.csv"):
        rows = list(csv.DictReader(io.StringIO(file.read(name).decode("utf-8-sig"))))
        assert {row["event_id"] for row in rows} == set(sent)


def test_an_export_is_encrypted_on_disk_and_gone_after_a_week(town, folder):
    town.add(subject="Zwiebelturm", body=b'{"who":"Zwiebelturm"}')
    asked = town.export()
    keeping.keep_house(0)
    (path,) = [one for one in folder.rglob("*") if one.is_file()]
    assert b"Zwiebelturm" not in path.read_bytes()
    assert b"Zwiebelturm" in opened(asked.id)[1].read("events.jsonl")
    keeping.keep_house(6 * 86_400)
    assert make.row(DataExport, asked.id).state == "done"
    keeping.keep_house(8 * 86_400)
    assert make.row(DataExport, asked.id).state == "expired"
    with pytest.raises(NotFound):
        exports.open_file(make.row(DataExport, asked.id))
    assert not path.exists()


def test_no_cell_is_a_formula(town):
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1"):
        assert export_files._cell(text) == f"'{text}"
    assert export_files._cell("a=1") == "a=1"

    def spoil(session):
        for row in session.execute(Delivery.of(town.firm)).scalars():
            row.last_problem = '=HYPERLINK("http://x","y")'

    town.add()
    make.in_transaction(spoil)
    asked = town.export()
    keeping.keep_house(0)
    text = opened(asked.id)[1].read("deliveries.csv").decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["last_problem"].startswith("'=")


def test_an_export_that_can_never_be_written_keeps_nobody_from_their_turn(town, monkeypatch):
    town.add()
    bad = town.export()
    real = export_files.Draft.pieces

    def pieces(self):
        if self.export.id == bad.id:
            raise ValueError("a record that nobody can read")
        return real(self)

    monkeypatch.setattr(export_files.Draft, "pieces", pieces)
    good = town.export()
    keeping.keep_house(0)
    failed = make.row(DataExport, bad.id)
    assert (failed.state, failed.problem) == ("failed", "failed")
    assert make.row(DataExport, good.id).state == "done"
    (kept,) = make.rows(Keeping)
    assert (kept.trouble, kept.finished_at is not None) == (None, True), "and the archive had its"


def test_an_erasure_that_cannot_be_read_any_more_lets_the_next_one_pass(town):
    event_id = town.add(subject="S-1")
    lost, meant = (town.erase("subject", "S-1") for _ in range(2))
    broken = {"value_sealed": "nonsense"}
    make.in_transaction(
        lambda s: s.execute(Erasure.__table__.update().where(Erasure.id == lost.id).values(broken))
    )
    keeping.keep_house(0)
    assert make.row(Erasure, lost.id).state == "failed"
    assert make.row(Erasure, meant.id).state == "done"
    assert event_id not in live_ids()


def test_an_export_is_narrowed_cancelled_and_limited(town, monkeypatch):
    town.add(type="a.b")
    wanted = town.add(type="c.d")
    asked = town.export("c.*")
    keeping.keep_house(0)
    lines = opened(asked.id)[1].read("events.jsonl").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [wanted]
    with pytest.raises(Conflict):
        make.in_transaction(lambda s: exports.cancel(s, town.firm, asked.id))
    second = town.export()
    real = export_files.Draft._advance

    def cancelled(self, stage, **counts):
        make.in_transaction(lambda s: exports.cancel(s, town.firm, second.id))
        real(self, stage, **counts)

    with monkeypatch.context() as patch:
        patch.setattr(export_files.Draft, "_advance", cancelled)
        keeping.keep_house(0)
    assert make.row(DataExport, second.id).state == "cancelled"
    for _ in range(exports.MOST_OPEN):
        town.export()
    with pytest.raises(Conflict):
        town.export()
    with pytest.raises(Invalid):
        town.export("a b")


def test_an_export_goes_on_after_a_kill_and_a_full_disk(town, folder, monkeypatch):
    town.add()
    asked = town.export()

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    def full(*_):
        raise OSError(28, "no space")

    for broken in (die, full):
        with monkeypatch.context() as patch:
            patch.setattr(stores.os, "fsync", broken)
            try:
                keeping.keep_house(0)
            except Killed:
                # the lease runs out
                make.in_transaction(_end_leases)
        assert make.row(DataExport, asked.id).state == "running"
    make.in_transaction(_end_leases)
    keeping.keep_house(0)
    assert make.row(DataExport, asked.id).state == "done"
    keeping.keep_house(86_400 + 1)
    assert len([one for one in folder.rglob("*") if one.is_file()]) == 1


def _end_leases(session):
    from sqlalchemy import update

    from webhooks.keeping.tables import KEEPING

    past = clock.now() - timedelta(seconds=1)
    session.execute(update(KEEPING).values(lease_until=past, next_at=past))


def test_an_event_that_came_back_is_exported_once(town):
    event_id = town.add()
    keeping.keep_house()
    with clock.shifted(seconds=keeping.OLD_SECONDS):
        restoring.replay_one(town.firm, event_id)
        send_all()
    for later in (keeping.OLD_SECONDS, 3 * keeping.OLD_SECONDS):
        with clock.shifted(seconds=later):
            asked = town.export()
        keeping.keep_house(later)
        file = opened(asked.id)[1]
        lines = file.read("events.jsonl").splitlines()
        assert [json.loads(line)["id"] for line in lines] == [event_id]
        rows = file.read("deliveries.csv").decode().splitlines()
        assert len(rows) == 3  # the heads, the first journey and the second


# --- erasure ------------------------------------------------------------------------------------


def test_everything_about_a_subject_goes_live_and_archived_with_a_receipt(town, folder):
    gone = [town.add(subject="Zwiebelturm"), town.add(subject="other")]
    lonely = town.add(subject="Zwiebelturm", type="lonely.kind")
    from webhooks.keeping import rules

    rule = rules.Rule(event_types="lonely.*")
    make.in_transaction(lambda s: rules.decide(s, town.firm, rule))
    keeping.keep_house()
    live = [town.add(subject="Zwiebelturm", dedupe_key="k1"), town.add(subject="other")]
    export = town.export()
    keeping.keep_house(0)
    asked = town.erase("subject", "Zwiebelturm")
    keeping.keep_house(0)
    receipt = make.row(Erasure, asked.id)
    assert receipt.state == "done"
    assert (receipt.live_events, receipt.archived_events, receipt.chunks_rewritten) == (1, 2, 2)
    assert (receipt.deliveries, receipt.runs, receipt.exports_deleted) == (3, 3, 1)
    assert receipt.value_sealed is None
    assert receipt.value_mark == erasures.mark_of(town.firm, "Zwiebelturm")
    assert town.archived_ids() == [gone[1]]
    assert lonely not in town.archived_ids()
    assert live_ids() == [live[1]]
    assert make.row(DataExport, export.id).state == "expired"
    assert all(event.subject != "Zwiebelturm" for event in make.rows(Event))
    (again,) = make.in_transaction(
        lambda s: events.accept(
            s, town.firm, None, [events.NewEvent("a.b", b"{}", dedupe_key="k1")]
        )
    )
    assert (again.id, again.is_duplicate) == (live[0], True)
    (chunk,) = make.rows(ArchiveChunk)
    assert chunk.event_count == 1
    keeping.keep_house(86_401)
    assert len([one for one in folder.rglob("*") if one.is_file()]) == 1
    actions = [entry.action for entry in make.rows(AuditEntry)]
    assert actions == ["erasure.asked", "erasure.done"]


def test_what_is_still_on_its_way_is_not_erased_and_it_is_said(town):
    done = town.add(subject="S-1")
    moving = town.add(subject="S-1")

    def stir(session):
        for row in session.execute(Delivery.of(town.firm)).scalars():
            if row.event_id == moving:
                row.state = "waiting"

    make.in_transaction(stir)
    with pytest.raises(Conflict):
        town.erase("event", moving)
    asked = town.erase("subject", "S-1")
    keeping.keep_house(0)
    receipt = make.row(Erasure, asked.id)
    assert (receipt.state, receipt.moving, receipt.live_events) == ("refused", [moving], 0)
    assert live_ids() == [done, moving]


def test_one_event_is_erased_wherever_it_is(town):
    archived, kept = town.add(), town.add()
    keeping.keep_house()
    live = town.add()
    for event_id in (archived, live):
        town.erase("event", event_id)
    keeping.keep_house(0)
    assert town.archived_ids() == [kept]
    assert live_ids() == make.rows(Delivery) == make.rows(Attempt) == []
    assert {row.state for row in make.rows(Erasure)} == {"done"}
    for kind, value in (("event", ""), ("subject", "x" * 501), ("name", "x")):
        with pytest.raises(Invalid):
            town.erase(kind, value)


@pytest.mark.parametrize("point", ["_rewrite", "take_live_rows", "end"])
def test_an_erasure_is_made_good_after_a_kill(town, monkeypatch, point):
    town.add(subject="S-1")
    kept = town.add(subject="S-2")
    keeping.keep_house()
    town.add(subject="S-1")
    asked = town.erase("subject", "S-1")

    class Killed(BaseException):
        pass

    real = getattr(erasures._Work, point)

    def die(self, *args, **values):
        if point == "_rewrite":
            real(self, *args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(erasures._Work, point, die)
        with pytest.raises(Killed):
            keeping.keep_house(0)
    make.in_transaction(_end_leases)
    keeping.keep_house(0)
    receipt = make.row(Erasure, asked.id)
    assert (receipt.state, receipt.live_events, receipt.archived_events) == ("done", 1, 1)
    assert town.archived_ids() == [kept]
    assert live_ids() == []


def test_a_replay_does_not_bring_back_what_is_being_erased(town, monkeypatch):
    event_id = town.add(subject="S-1")
    town.add(subject="S-2")
    keeping.keep_house()
    with reading(EVERY) as session:
        (chunk,) = chunks.covering(session, town.firm, event_id)
    (record,) = [one for one in chunks.read(chunk) if one["event"]["id"] == event_id]
    town.erase("subject", "S-1")
    keeping.keep_house(0)
    with pytest.raises(Conflict):
        restoring._restore(town.firm, chunk, [record])
    assert live_ids() == []
