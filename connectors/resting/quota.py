"""Quota: how many runs of an organization may rest, so that no flow fills the store with waits."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import text
from sqlmodel import Session

from connectors.moving import Moving
from connectors.resting import meeting
from kernel.database import EVERY, reading
from kernel.settings import settings

RESTS = ("delay", "approval", "wait", "call")
_FRESH_SECONDS = 2.0  # so long a count is good, with what this process adds to it
_guard = threading.Lock()
_counts: dict[str, tuple[float, int]] = {}

# word for word as the partial index has it, and no further than the limit
_RESTING = text(
    "SELECT count(*) FROM (SELECT 1 FROM run WHERE organization_id = :tenant"
    " AND state = 'waiting' AND cause IN ('delay', 'approval', 'wait', 'call')"
    " LIMIT :most) AS resting"
)


def hold_back(movings: Sequence[Moving]) -> None:
    """Stop runs that are about to rest where so many of their organization do already."""
    fresh = [moving for moving in movings if moving.rests_anew]
    if not fresh:
        return
    most = settings().resting_limit
    for organization_id, count in Counter(one.organization_id for one in fresh).items():
        room = most - _count(organization_id, most, count)
        for moving in fresh:
            if moving.organization_id == organization_id:
                room -= 1
                if room < 0:
                    meeting.hold_back(moving)
                moving.rests_anew = False


def count(session: Session, organization_id: str, most: int) -> int:
    """Count the runs that rest as their flows want it, up to `most`."""
    found = session.connection().execute(_RESTING, {"tenant": organization_id, "most": most})
    return int(found.scalar_one())


def _count(organization_id: str, most: int, more: int) -> int:
    """Return how many rest; those to come are added to what is remembered."""
    now = time.monotonic()
    with _guard:
        at, known = _counts.get(organization_id, (0.0, 0))
        if now - at < _FRESH_SECONDS and known + more < most:
            _counts[organization_id] = (at, known + more)
            return known
    with reading(EVERY) as session:
        known = count(session, organization_id, most)
    with _guard:
        if len(_counts) > 10_000:
            _counts.clear()
        _counts[organization_id] = (now, known + more)
    return known
