"""Intake: everything that happens to a POST at a source's address, from raw bytes to the commit.

What is refused (4xx) was not stored. A verified event that breaks its type's rules is stored as
rejected, for its owner to see. An array is judged item by item: 202 as soon as one item is good,
with the bad ones listed under `rejected`; 422 when none is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlmodel import Session

from catalog import event_types
from identity.suspensions import Suspended
from kernel import clock, documents
from kernel.database import EVERY, reading, write
from kernel.errors import N_, Conflict, FieldError, Invalid, Problem, TooLarge
from webhooks import (
    addresses,
    bodies,
    dedupe,
    events,
    inbox,
    measures,
    openings,
    quotas,
    refusals,
    sources,
    type_rules,
)
from webhooks.addresses import OpenSource
from webhooks.envelopes import MAX_BYTES, Envelope, open_envelopes
from webhooks.errors import SourcePaused, UnknownSource
from webhooks.events import Accepted, NewEvent
from webhooks.memory import Memory, NotInMemory
from webhooks.openings import POSTED, Asked
from webhooks.recipes import Heavy
from webhooks.recipes.reading import Reply
from webhooks.tables import Event

CACHE_SECONDS = 3.0
CACHE_LIMIT = 10_000
_KEPT_HEADERS = (
    "user-agent", "content-encoding", "webhook-id", "webhook-timestamp", "x-github-event",
    "x-github-delivery", "ce-source",
)  # fmt: skip

Check = Callable[[Any], Sequence[FieldError]]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that was stored, but breaks its type's rules."""

    index: int
    id: str
    errors: Sequence[FieldError]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a request's events."""

    is_list: bool
    accepted: list[tuple[int, Accepted]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    reply: Reply | None = None  # what the sender hears instead of the hub's own words


@dataclass(frozen=True, slots=True)
class Judged:
    """A request's events, judged and not stored yet; none for a handshake."""

    organization_id: str
    source_id: str
    is_list: bool
    events: list[NewEvent]
    reply: Reply | None = None


_sources = Memory(CACHE_SECONDS, CACHE_LIMIT)
_checks = Memory(CACHE_SECONDS, CACHE_LIMIT)


def forget() -> None:
    """Drop what is remembered for a few seconds, after a source or an event type changed."""
    _sources.clear()
    _checks.clear()


def take_in(
    token: str,
    headers: Mapping[str, str],
    read: Callable[[int], bytes],
    sender: str = "",
    examined: Judged | Problem | None = None,
    asked: Asked = POSTED,
) -> Received:
    """Verify, judge and store what is posted to an address; when it returns, it is committed.

    `read(n)` gives at most n bytes, `examined` is what `examine` found already; header names are
    lower case. Raises Problems for what is refused, StoreUnavailable when nothing was stored.
    """
    started = time.perf_counter()
    try:
        if isinstance(examined, Problem):
            raise examined
        judged = examined or examine(token, headers, bodies.read_all(headers, read), asked=asked)
        if not judged.events:
            return tell(judged, [], started)
        with quotas.admit(judged.organization_id, judged.source_id, len(judged.events)):
            stored = inbox.put(judged.organization_id, judged.source_id, judged.events)
    except Problem as problem:
        refusals.note(_sources.peek(addresses.digest_of(token)), problem, headers, sender)
        measures.count_request(problem.code, started)
        raise
    except Exception:
        measures.count_request("crashed", started)
        raise
    return tell(judged, stored, started)


def tell(judged: Judged, stored: Sequence[Accepted], started: float) -> Received:
    """Put together what became of a request's events, and count them."""
    received = Received(judged.is_list, reply=judged.reply)
    if not judged.events:
        measures.count_request("handshake", started)
        return received
    for index, (event, accepted) in enumerate(zip(judged.events, stored, strict=True)):
        if event.problem is None:
            received.accepted.append((index, accepted))
        else:
            received.rejected.append(Rejected(index, accepted.id, event.problem["errors"]))
    measures.count_request("accepted" if received.accepted else "rejected", started)
    duplicates = sum(1 for _, accepted in received.accepted if accepted.is_duplicate)
    measures.count_events(
        judged.organization_id,
        judged.source_id,
        accepted=len(received.accepted) - duplicates,
        duplicate=duplicates,
        rejected=len(received.rejected),
    )
    return received


def examine(
    token: str,
    headers: Mapping[str, str],
    raw: bytes,
    *,
    asked: Asked = POSTED,
    from_memory: bool = False,
) -> Judged:
    """Verify and judge what is posted to an address, storing nothing.

    Raises Problems for what is refused. With `from_memory` the store is not asked for anything:
    NotInMemory says that it would have to be.
    """
    source = find_source(token, from_memory=from_memory)
    bodies.check_size(headers, raw, may_be_empty=source.scheme == openings.RECIPE)
    now = clock.now()
    try:
        opened = openings.open_request(source, asked, headers, raw, now, is_brief=from_memory)
    except Heavy:
        raise NotInMemory from None  # it holds a thread, and not the event loop
    if opened.once is not None:
        if from_memory:
            raise NotInMemory  # the store is asked, which a thread may wait for
        openings.use_once(source, opened)
    kept = {name: headers[name][:300] for name in _KEPT_HEADERS if name in headers}
    found: list[NewEvent] = []
    for index, envelope in enumerate(opened.envelopes):
        place = index if opened.is_list else None
        key = dedupe.key_of(source, opened.message_id, envelope, opened.body, place)
        errors = list(envelope.errors) or judge(
            source.organization_id,
            envelope,
            rejects_unknown=source.rejects_unknown,
            from_memory=from_memory,
        )
        found.append(new_event(envelope, errors, key, opened.sent_at, kept))
    return Judged(source.organization_id, source.id, opened.is_list, found, opened.reply)


def find_source(token: str, *, from_memory: bool = False) -> OpenSource:
    """Return the active source at an address, remembered for a few seconds."""

    def look_up() -> OpenSource | None:
        with reading(EVERY) as session:
            found = addresses.look_up(session, token)
            if found is not None:
                quotas.learn(session, found.organization_id)
            return found

    digest = addresses.digest_of(token)
    source: OpenSource | None = _sources.get(digest, look_up, from_memory=from_memory)
    if source is None:
        raise UnknownSource
    if source.is_suspended:
        raise Suspended
    if source.is_paused:
        raise SourcePaused
    return source


def _plain_text(text: str | None) -> str | None:
    """Leave out what no database column holds: zero bytes and halves of characters."""
    if text is None or text.isprintable():
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def new_event(
    envelope: Envelope,
    errors: list[FieldError],
    key: str | None,
    sent_at: datetime | None,
    kept: dict[str, str],
) -> NewEvent:
    """Make of a judged envelope the event to store."""
    problem = None
    if errors:
        code = "envelope" if envelope.errors else "rejected"
        problem = {"code": code, "errors": errors[:100]}
    return NewEvent(
        type=envelope.type if envelope.type and type_rules.is_name(envelope.type) else "unknown",
        body=envelope.body,
        version=envelope.version,
        subject=_plain_text(envelope.subject),
        dedupe_key=key,
        occurred_at=envelope.occurred_at or sent_at,
        content_type=_plain_text(envelope.content_type) or "",
        headers=kept,
        problem=problem,
    )


def judge(
    organization_id: str,
    envelope: Envelope,
    *,
    rejects_unknown: bool,
    from_memory: bool = False,
) -> list[FieldError]:
    """Say what keeps an envelope's data from being the fact its type promises; [] is good."""
    name, version = envelope.type or "", envelope.version

    def look_up() -> tuple[Check | None]:
        with reading(organization_id) as session:
            found = event_types.lookup(session, organization_id, name, version)
            return (event_types.validator(found) if found else None,)

    key = (organization_id, name, version)
    (check,) = _checks.get(key, look_up, from_memory=from_memory)
    if check is None:
        if rejects_unknown:
            return [{"pointer": "/type", "message": N_("This event type is not known here")}]
        return []
    if not envelope.is_json:
        return [{"pointer": "", "message": N_("Events of this type carry JSON")}]
    return list(check(envelope.value))


def send(
    organization_id: str,
    *,
    type: str,  # noqa: A002 - the word of the envelope
    data: Any,
    version: int | None = None,
    subject: str | None = None,
    occurred_at: datetime | None = None,
    key: str | None = None,
) -> Accepted:
    """Take one event in that a member or an API key sends; raises Invalid, storing nothing."""
    body = documents.dump(data)
    if len(body) > MAX_BYTES:
        raise TooLarge(detail=N_("The data may have %(limit)s bytes (1 MiB)"), limit=MAX_BYTES)
    envelope = Envelope(body=body, value=data, type=type, version=version)
    found = judge(organization_id, envelope, rejects_unknown=True)
    if found:
        raise Invalid(
            errors=[
                {"pointer": f"/data{error['pointer']}", "message": error["message"]}
                if error["pointer"] != "/type"
                else error
                for error in found
            ]
        )
    event = NewEvent(
        type=type,
        body=body,
        version=version,
        subject=_plain_text(subject),
        occurred_at=occurred_at,
        dedupe_key=dedupe.short(f"key:{key}") if key else None,
    )
    quotas.learn_for(organization_id)
    with quotas.admit(organization_id, None, 1):
        stored = inbox.put(organization_id, None, [event])
    is_new = not stored[0].is_duplicate
    measures.count_events(organization_id, None, accepted=int(is_new), duplicate=int(not is_new))
    if not is_new:
        _refuse_another(organization_id, stored[0].id, event)
    return stored[0]


def _refuse_another(organization_id: str, event_id: str, sent: NewEvent) -> None:
    """Refuse an id that was used before for something else, which would be lost without a word."""
    with reading(organization_id) as session:
        known = events.get(session, organization_id, event_id)
    if (known.type, known.body) != (sent.type, sent.body):
        raise Conflict(
            detail=N_("This id was used before, for another event: %(event)s"),
            code="id_reused",
            event=event_id,
        )


def reconsider(organization_id: str, event_id: str) -> Event:
    """Check a rejected event against today's rules and let it in when it fits now."""
    with reading(organization_id) as session:
        event = events.get(session, organization_id, event_id)
        row = sources.maybe(session, organization_id, event.source_id)
        source = addresses.opened(row) if row else None
    envelope = _read_again(event, source)
    found = list(envelope.errors) or judge(
        organization_id, envelope, rejects_unknown=bool(source and source.rejects_unknown)
    )
    problem = {"code": "rejected", "errors": found[:100]} if found else None

    def work(session: Session) -> Event:
        row = events.get(session, organization_id, event_id)
        if problem is None:
            row.type, row.version = envelope.type or row.type, envelope.version
            row.body, row.content_type = envelope.body, envelope.content_type
        return events.reconsider(session, row, problem)

    return write(work, organization_id)


def _read_again(event: Event, source: OpenSource | None) -> Envelope:
    """Read a stored event's bytes; those of a broken wrapping are unwrapped by today's rules."""
    if event.content_type != "application/json":
        return Envelope(
            event.body, None, event.type, event.version, content_type=event.content_type
        )
    value = documents.parse(event.body)
    is_wrapped = (event.problem or {}).get("code") == "envelope"
    if not is_wrapped:
        return Envelope(event.body, value, event.type, event.version)
    opened = open_envelopes(event.body, "application/json", {}).envelopes[0]
    type_rules.apply(source.type_rules if source else {}, opened, event.headers)
    return opened
