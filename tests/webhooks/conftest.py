"""What several tests of sending begin with."""

import pytest

from kernel import outbox
from webhooks import carrying
from webhooks.pace import Pace


@pytest.fixture
def quiet(monkeypatch):
    """Know no slow target, and keep the hub's own events out of the counts.

    A test that wants those events opens the door itself.
    """
    carrying.pace = Pace()
    monkeypatch.setattr(outbox, "DOORS", [])
