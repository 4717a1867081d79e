"""Refusals: what was refused at a source's address, counted by code, the last few kept.

Whoever sends the wrong things may send many: a refusal costs a note in memory, and however many
there are, a source's row is written once a second at most (webhooks.ledger). Nothing is noted of
addresses that nobody has.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlmodel import Session

from kernel import clock
from kernel.errors import Problem
from kernel.rows import insert_ignore
from webhooks import usage
from webhooks.addresses import OpenSource
from webhooks.tables import REFUSALS, Refusals

KEPT = 20  # of a source
KEPT_PER_CODE = 5
HEADER_BYTES = 200
CODES = 40  # no source meets so many; what is beyond them is only counted
_SHOWN = (
    "content-type", "content-length", "content-encoding", "user-agent", "webhook-id",
    "webhook-timestamp", "x-github-event", "x-github-delivery", "ce-type", "ce-specversion",
)  # fmt: skip
_HIDDEN = "•••"
_KINDS = {401: "refused_proof", 403: "refused_pause", 409: "refused_pause", 429: "refused_limit"}

Key = tuple[str, str]  # organization, source


@dataclass(slots=True)
class Notes:
    """What was refused at one source since the last time somebody wrote it down."""

    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: list[dict[str, Any]] = field(default_factory=list)  # oldest first


_pending: dict[Key, Notes] = {}
_lock = threading.Lock()


def forget() -> None:
    """Leave to the parent what it has noted."""
    global _lock
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=forget)


def note(
    source: OpenSource | None, problem: Problem, headers: Mapping[str, str], sender: str
) -> None:
    """Note that a request at a source was refused; without a source nothing is noted."""
    if source is None or problem.status >= 500:
        return
    kind = "refused_limit" if problem.code == "batch_over_quota" else _KINDS.get(problem.status)
    usage.add(source.organization_id, source.id, **{kind or "refused_form": 1})
    at = clock.now().isoformat()
    reason = getattr(problem, "reason", None)  # what the owner of a recipe is told, and only they
    code = reason.code if reason is not None else problem.code
    one = {
        "at": at,
        "code": code,
        "title": problem.title,
        "detail": problem.detail or "",
        **({"say": reason.say} if reason is not None else {}),
        "params": {name: _short(value, source) for name, value in problem.params.items()},
        "headers": {n: _short(headers[n], source) for n in _SHOWN if headers.get(n)},
        "sender": sender[:64],
    }
    with _lock:
        notes = _pending.setdefault((source.organization_id, source.id), Notes())
        _count(notes.counts, code, {"count": 1, "first_at": at, "last_at": at})
        notes.latest.append(one)
        if len(notes.latest) > 2 * KEPT:
            notes.latest = trimmed(notes.latest)


def _short(value: Any, source: OpenSource) -> Any:
    """Cut a text, and keep the source's own secret out of it in every spelling senders use."""
    if isinstance(value, int):
        return value
    text = str(value).replace("\x00", "")
    for secret in source.secrets:
        for spelling in {secret, secret.removeprefix("whsec_")} - {""}:
            text = text.replace(spelling, _HIDDEN)
    return text.encode("utf-8", "replace")[:HEADER_BYTES].decode("utf-8", "ignore")


def _count(counts: dict[str, dict[str, Any]], code: str, more: Mapping[str, Any]) -> None:
    if code not in counts and len(counts) >= CODES:
        return
    known = counts.setdefault(code, {"count": 0, "first_at": more["first_at"]})
    known["count"] += more["count"]
    known["last_at"] = more["last_at"]


def trimmed(latest: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the last few of each code, so that a flood of one hides no other; oldest first."""
    kept: list[dict[str, Any]] = []
    per_code: dict[str, int] = {}
    for one in reversed(latest):
        if len(kept) == KEPT:
            break
        if per_code.get(one["code"], 0) < KEPT_PER_CODE:
            per_code[one["code"]] = per_code.get(one["code"], 0) + 1
            kept.append(one)
    return kept[::-1]


def take() -> dict[Key, Notes]:
    """Take out what was noted since the last time."""
    global _pending
    with _lock:
        taken, _pending = _pending, {}
    return taken


def put_back(taken: Mapping[Key, Notes]) -> None:
    """Note again what could not be written down."""
    with _lock:
        for key, old in taken.items():
            notes = _pending.setdefault(key, Notes())
            fresh, notes.counts = notes.counts, old.counts
            for code, more in fresh.items():
                _count(notes.counts, code, more)
            notes.latest = trimmed([*old.latest, *notes.latest])


def store(session: Session, taken: Mapping[Key, Notes]) -> None:
    """Add the notes to their sources' rows, always in one order."""
    now = clock.now()
    for (organization_id, source_id), notes in sorted(taken.items(), key=lambda item: item[0]):
        blank = {
            "organization_id": organization_id,
            "id": source_id,
            "created_at": now,
            "counts": {},
            "latest": [],
        }
        insert_ignore(session, Refusals, [blank], ("organization_id", "id"))
        row = session.execute(
            Refusals.of(organization_id).where(REFUSALS.c.id == source_id).with_for_update()
        ).scalar_one()
        counts = {code: dict(known) for code, known in row.counts.items()}
        for code, more in notes.counts.items():
            _count(counts, code, more)
        row.counts = counts
        row.latest = trimmed([*row.latest[::-1], *notes.latest])[::-1]
        session.add(row)
    session.flush()


def find(session: Session, organization_id: str, source_id: str) -> Refusals | None:
    """Return what was refused at a source; None: nothing ever was."""
    return session.get(Refusals, (organization_id, source_id))


def drop_notes(session: Session, organization_id: str, since: datetime) -> None:
    """Drop the notes on single requests that are older; the counts stay."""
    rows = session.execute(Refusals.of(organization_id).with_for_update()).scalars()
    for row in rows:
        kept = [one for one in row.latest if datetime.fromisoformat(one["at"]) >= since]
        if len(kept) < len(row.latest):
            row.latest = kept
            session.add(row)
    session.flush()


def clear(session: Session, organization_id: str, source_id: str) -> None:
    """Forget what was refused at a source, once its owner has dealt with it."""
    row = find(session, organization_id, source_id)
    if row is not None:
        session.delete(row)
