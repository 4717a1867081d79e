"""The archive's files and workers: sealed, whole or not there, looked up by an index."""

import threading

import pytest
from alembic import command
from factories import keeping
from factories import webhooks as make
from sqlalchemy import create_engine, inspect, text
from sqlalchemy import event as listening

from kernel.database import EVERY, reading
from kernel.errors import NotFound
from kernel.settings import settings_override
from kernel.vault import VaultError
from marketplace import migrating
from webhooks.hooks import CHORES
from webhooks.keeping import chunks, sealed_files, sizes, stores, turns
from webhooks.keeping.tables import ArchiveChunk
from webhooks.tables import Delivery, Event

SIZES = (0, 1, sealed_files.FRAME_BYTES, sealed_files.FRAME_BYTES + 1, 3 * sealed_files.FRAME_BYTES)


def sealed(content, context="a|b|c|d", step=70_000):
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    return b"".join(sealed_files.seal(pieces, context))


def unsealed(raw, context="a|b|c|d"):
    return b"".join(sealed_files.unseal([raw[:50], raw[50:]], context))


@pytest.mark.parametrize("size", SIZES)
def test_a_sealed_file_opens_again_and_shows_nothing(size):
    content = b"Zwiebelturm"[: max(size, 0)] * (size // 11) + b"x" * (size % 11)
    raw = sealed(content)
    assert unsealed(raw) == content
    assert b"Zwiebelturm" not in raw


def test_a_sealed_file_that_was_touched_does_not_open():
    raw = sealed(b"a" * (2 * sealed_files.FRAME_BYTES + 5))
    head = raw.index(b"\n", len(sealed_files.MAGIC)) + 1
    frame = 4 + sealed_files.FRAME_BYTES + 16
    swapped = raw[:head] + raw[head + frame : head + 2 * frame] + raw[head : head + frame]
    broken = {
        "cut in a frame": raw[:-1],
        "cut between frames": raw[: head + frame],
        "frames swapped": swapped + raw[head + 2 * frame :],
        "one bit": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:],
        "more behind it": raw + b"x",
        "no file of ours": b"PK" + raw,
        "nothing": b"",
        "a head without end": sealed_files.MAGIC + b"v1" * 9000,
    }
    for name, one in broken.items():
        with pytest.raises(VaultError):
            unsealed(one)
            pytest.fail(name)
    with pytest.raises(VaultError):
        unsealed(raw, "a|b|c|other")


def test_a_folder_keeps_files_whole_and_to_itself(tmp_path):
    folder = stores.Folder(tmp_path / "archive")
    assert folder.list("org_1") == []
    stored = folder.put("org_1/2026-01-01/a.1.yfa", [b"one", b"two"])
    assert (stored.byte_count, b"".join(folder.get("org_1/2026-01-01/a.1.yfa"))) == (6, b"onetwo")
    assert folder.list("org_1") == ["org_1/2026-01-01/a.1.yfa"]
    assert (tmp_path / "archive/org_1/2026-01-01/a.1.yfa").stat().st_mode & 0o077 == 0

    def breaking():
        yield b"half"
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        folder.put("org_1/2026-01-01/b.1.yfa", breaking())
    assert folder.list("org_1") == ["org_1/2026-01-01/a.1.yfa"]
    folder.delete("org_1/2026-01-01/a.1.yfa")
    folder.delete("org_1/2026-01-01/a.1.yfa")
    assert folder.list("org_1") == []
    with pytest.raises(NotFound):
        folder.get("org_1/2026-01-01/a.1.yfa")
    for key in ("../x", "a/../../x", "/etc/passwd", "", "a//b", "a/.", "a\0b"):
        with pytest.raises(ValueError, match="no key"):
            folder.put(key, [b""])


def fill(count):
    firm = keeping.firm()

    def setup(session):
        endpoint = make.make_endpoint(session, firm)
        return [keeping.finished(session, firm, endpoint.id) for _ in range(count)]

    return firm, make.in_transaction(setup)


def test_workers_at_once_archive_everything_once(app, tmp_path, monkeypatch):
    from webhooks.keeping import archiver

    monkeypatch.setattr(archiver, "PAGE", 3)
    monkeypatch.setattr(archiver, "TURN_SECONDS", 0.0)
    with settings_override(archive_dir=str(tmp_path)):
        firms = dict(fill(10) for _ in range(3))
        from kernel import clock

        with clock.shifted(seconds=keeping.OLD_SECONDS):
            failed = []

            def work():
                try:
                    while turns.turn(CHORES):
                        pass
                except BaseException as error:
                    failed.append(error)
                    raise

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            while turns.turn(CHORES):  # whose turn was taken when a thread looked
                pass
        assert not failed
        assert make.rows(Event) == make.rows(Delivery) == []
        for firm, ids in firms.items():
            with reading(EVERY) as session:
                found = chunks.after(session, firm, limit=100)
            kept = [one["event"]["id"] for chunk in found for one in chunks.read(chunk)]
            assert kept == ids
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == len(make.rows(ArchiveChunk))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_keeping_house_reads_no_table_from_end_to_end(app, tmp_path):
    """SQLite explains its plans without statistics; one database is enough."""
    from kernel import database as store

    steps = []

    def explain(_connection, cursor, statement, parameters, _context, many):
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")) and not many:
            found = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            steps.extend(f"{row[-1]}  <- {statement[:200]}" for row in found)

    with settings_override(archive_dir=str(tmp_path)):
        firm, _ids = fill(5)
        engines = (store._store().reader, store._store().writer)
        for engine in engines:
            listening.listen(engine, "before_cursor_execute", explain)
        try:
            keeping.keep_house()
            with reading(EVERY) as session:
                sizes.find(session, firm)
                turns.trouble(session)
        finally:
            for engine in engines:
                listening.remove(engine, "before_cursor_execute", explain)
    assert steps
    scans = [step for step in steps if step.startswith("SCAN") and " INDEX " not in step]
    # a few rows, read whole: processes, and what a statement itself made
    small = ("SCAN worker", "SCAN anon", "SCAN (", "SCAN CONSTANT")
    scans = [step for step in scans if not step.startswith(small)]
    assert not scans, "\n".join(scans)


def test_the_revision_goes_down_again(tmp_path):
    url = f"sqlite:///{tmp_path}/down.db"
    with settings_override(database_url=url):
        migrating.upgrade()
        with create_engine(url).begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO event (organization_id, id, created_at, origin, type, dedupe_key,"
                    " occurred_at, received_at, content_type, headers, body, state, replay_nonce,"
                    " failure_count) VALUES ('o', 'e', '2026-01-01', 'api', 'a.b', 'k',"
                    " '2026-01-01', '2026-01-01', 'x', '{}', '', 'archived', '', 0)"
                )
            )
            config = migrating._config()
            config.attributes["connection"] = connection
            command.downgrade(config, "0006")
        with create_engine(url).connect() as connection:
            tables = inspect(connection).get_table_names()
            assert connection.execute(text("SELECT count(*) FROM event")).scalar() == 0
        assert not {"archive_chunk", "data_export", "erasure", "keeping"} & set(tables)
        migrating.upgrade()
