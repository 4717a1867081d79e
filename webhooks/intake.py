"""Intake: everything that happens to a POST at a source's address, from raw bytes to the commit.

What is refused (4xx) was not stored. A verified event that breaks its type's rules is stored as
rejected, for its owner to see. An array is judged item by item: 202 as soon as one item is good,
with the bad ones listed under `rejected`; 422 when none is.
"""

import gzip
import io
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Histogram
from sqlmodel import Session

from catalog import event_types
from kernel import clock, documents
from kernel.database import EVERY, reading, write
from kernel.errors import (
    N_,
    Conflict,
    FieldError,
    Invalid,
    Malformed,
    Problem,
    TooLarge,
    UnsupportedMedia,
)
from webhooks import addresses, dedupe, events, inbox, signing, sources, type_rules
from webhooks.addresses import OpenSource
from webhooks.envelopes import MAX_BYTES, Envelope, Opened, open_envelopes
from webhooks.errors import SourcePaused, UnknownSource
from webhooks.events import Accepted, NewEvent
from webhooks.tables import Event

CACHE_SECONDS = 3.0
CACHE_LIMIT = 10_000
MAX_RATIO = 100
_KEPT_HEADERS = (
    "user-agent",
    "content-encoding",
    "webhook-id",
    "webhook-timestamp",
    "x-github-event",
    "x-github-delivery",
    "ce-source",
)

REQUESTS = Counter("yangfan_intake_requests", "Requests at sources' addresses.", ["outcome"])
EVENTS = Counter("yangfan_intake_events", "Events that came in at sources.", ["outcome"])
SECONDS = Histogram(
    "yangfan_intake_seconds",
    "Time from the first byte to the answer of an intake request.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

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


@dataclass(slots=True)
class _Memory:
    """Things looked up a moment ago, by key, each with the time it goes stale."""

    found: dict[Any, tuple[float, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Any, look_up: Callable[[], Any]) -> Any:
        entry = self.found.get(key)
        if entry is not None and entry[0] > time.monotonic():
            return entry[1]
        value = look_up()
        with self.lock:
            if len(self.found) >= CACHE_LIMIT:
                self.found.clear()
            if value is not None:
                self.found[key] = (time.monotonic() + CACHE_SECONDS, value)
        return value


_sources = _Memory()
_checks = _Memory()


def forget() -> None:
    """Drop what is remembered for a few seconds, after a source or an event type changed."""
    _sources.found.clear()
    _checks.found.clear()


def take_in(token: str, headers: Mapping[str, str], read: Callable[[int], bytes]) -> Received:
    """Verify, judge and store what is posted to an address; `read(n)` gives at most n bytes.

    Header names are lower case. Raises Problems for what is refused; StoreUnavailable when
    nothing could be stored. When it returns, the events are committed.
    """
    started = time.perf_counter()
    outcome = "crashed"
    try:
        received = _take_in(token, headers, read)
        outcome = "accepted" if received.accepted else "rejected"
        _count(received)
        return received
    except Problem as problem:
        outcome = problem.code
        raise
    finally:
        REQUESTS.labels(outcome).inc()
        SECONDS.observe(time.perf_counter() - started)


def _count(received: Received) -> None:
    duplicates = sum(1 for _, accepted in received.accepted if accepted.is_duplicate)
    EVENTS.labels("accepted").inc(len(received.accepted) - duplicates)
    if duplicates:
        EVENTS.labels("duplicate").inc(duplicates)
    if received.rejected:
        EVENTS.labels("rejected").inc(len(received.rejected))


def _take_in(token: str, headers: Mapping[str, str], read: Callable[[int], bytes]) -> Received:
    source = find_source(token)
    raw = _read_all(headers, read)
    now = clock.now()
    verified = signing.verify(
        source.scheme, raw, headers, source.secrets, source.scheme_options, now
    )
    body = _decode(raw, headers.get("content-encoding", ""))
    opened = _open(source, body, headers)
    kept = {name: headers[name][:300] for name in _KEPT_HEADERS if name in headers}
    found: list[NewEvent] = []
    for index, envelope in enumerate(opened.envelopes):
        place = index if opened.is_list else None
        key = dedupe.key_of(source, verified.dedupe_id, envelope, body, place)
        found.append(_judge(source, envelope, key, verified.sent_at, kept))
    stored = inbox.put(source.organization_id, source.id, found)
    received = Received(opened.is_list)
    for index, (event, accepted) in enumerate(zip(found, stored, strict=True)):
        if event.problem is None:
            received.accepted.append((index, accepted))
        else:
            received.rejected.append(Rejected(index, accepted.id, event.problem["errors"]))
    return received


def find_source(token: str) -> OpenSource:
    """Return the active source at an address, remembered for a few seconds."""

    def look_up() -> OpenSource | None:
        with reading(EVERY) as session:
            return addresses.look_up(session, token)

    source: OpenSource | None = _sources.get(addresses.digest_of(token), look_up)
    if source is None:
        raise UnknownSource
    if source.is_paused:
        raise SourcePaused
    return source


def _read_all(headers: Mapping[str, str], read: Callable[[int], bytes]) -> bytes:
    """Read the body, at most one byte more than allowed, also when its length is not announced."""
    announced = headers.get("content-length", "")
    raw = b"" if announced.isdigit() and int(announced[:12]) > MAX_BYTES else read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES or (announced.isdigit() and int(announced[:12]) > MAX_BYTES):
        raise TooLarge(
            detail=N_("The request body may have %(limit)s bytes (1 MiB)"), limit=MAX_BYTES
        )
    if announced.isdigit() and len(raw) < int(announced[:12]):
        raise Malformed(detail=N_("The request body ended too early"), code="cut_off")
    if not raw:
        raise Malformed(detail=N_("The request has no body"), code="empty")
    return raw


def _decode(raw: bytes, encoding: str) -> bytes:
    """Undo gzip within bounds, so that a small bomb stays small."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return raw
    if name not in ("gzip", "x-gzip"):
        raise UnsupportedMedia(
            detail=N_("Send the body uncompressed or with gzip"), code="content_encoding"
        )
    limit = min(MAX_BYTES, len(raw) * MAX_RATIO)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            body = file.read(limit + 1)
    except (OSError, EOFError, zlib.error):
        raise Malformed(detail=N_("The body is not good gzip"), code="not_gzip") from None
    if len(body) > limit:
        raise TooLarge(detail=N_("Unpacked, the body may have %(limit)s bytes"), limit=limit)
    return body


def _open(source: OpenSource, body: bytes, headers: Mapping[str, str]) -> Opened:
    opened = open_envelopes(body, headers.get("content-type", ""), headers)
    if not opened.envelopes:
        raise Malformed(detail=N_("The array is empty"), code="empty")
    for envelope in opened.envelopes:
        type_rules.apply(source.type_rules, envelope, headers)
    return opened


def _plain_text(text: str | None) -> str | None:
    """Leave out what no database column holds: zero bytes and halves of characters."""
    if text is None or text.isprintable():
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _judge(
    source: OpenSource,
    envelope: Envelope,
    key: str | None,
    sent_at: datetime | None,
    kept: dict[str, str],
) -> NewEvent:
    found = list(envelope.errors) or judge(
        source.organization_id, envelope, rejects_unknown=source.rejects_unknown
    )
    problem = None
    if found:
        code = "envelope" if envelope.errors else "rejected"
        problem = {"code": code, "errors": found[:100]}
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


def judge(organization_id: str, envelope: Envelope, *, rejects_unknown: bool) -> list[FieldError]:
    """Say what keeps an envelope's data from being the fact its type promises; [] is good."""
    name, version = envelope.type or "", envelope.version

    def look_up() -> tuple[Check | None]:
        with reading(organization_id) as session:
            found = event_types.lookup(session, organization_id, name, version)
            return (event_types.validator(found) if found else None,)

    (check,) = _checks.get((organization_id, name, version), look_up)
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
    stored = inbox.put(organization_id, None, [event])
    EVENTS.labels("duplicate" if stored[0].is_duplicate else "accepted").inc()
    if stored[0].is_duplicate:
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
