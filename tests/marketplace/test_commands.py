"""Starting the hub: the store is prepared by a process of its own, which takes its memory along."""

import os

import pytest

from kernel.database import StoreUnavailable
from marketplace import commands, migrating, seed, server


@pytest.fixture
def served(monkeypatch):
    found = []
    monkeypatch.setattr(server, "serve", lambda: found.append(os.getpid()))
    return found


def test_the_store_is_prepared_elsewhere_before_anything_is_served(monkeypatch, served, tmp_path):
    note = tmp_path / "prepared by"
    monkeypatch.setattr(migrating, "upgrade", lambda: note.write_text(str(os.getpid())))
    monkeypatch.setattr(seed, "seed", lambda: ["owner  boss@example.com  secret"])
    commands.up.callback()
    assert served == [os.getpid()]
    assert int(note.read_text()) != os.getpid()


def test_a_store_that_is_away_is_said_in_plain_words(monkeypatch, served):
    def upgrade():
        raise StoreUnavailable from OSError("no route to host")

    monkeypatch.setattr(migrating, "upgrade", upgrade)
    with pytest.raises(SystemExit, match="The database cannot be reached: no route to host"):
        commands.up.callback()
    assert served == []
