"""Fetched events: what the hub brought in itself because no webhook came, by the webhooks' rules.

An app's list has no signature: the connection it was read over is the proof. All else is as in
intake: the same envelope, type, dedupe key and schema, so that a webhook that comes late finds its
event there.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from webhooks import dedupe, inbox, intake, measures, quotas, signing, type_rules
from webhooks.addresses import OpenSource
from webhooks.envelopes import Envelope, open_envelopes
from webhooks.events import Accepted, NewEvent

MARK = "fetched-at"  # among an event's kept headers; no sender can set it
AT_ONCE = 20


def can_tell_apart(scheme_options: Mapping[str, Any]) -> bool:
    """Tell whether a source names events by their ids, without which nothing can be compared."""
    return bool(scheme_options.get("dedupe", "auto") == "auto")


def key_of_message(source: OpenSource, message_id: str) -> str | None:
    """Return the dedupe key of a message that is known by its id alone."""
    return dedupe.key_of(source, message_id, Envelope(b"", None), b"", None)


def read(
    source: OpenSource, headers: Mapping[str, str], raw: bytes, at: datetime
) -> list[NewEvent]:
    """Judge what a webhook would have brought; raises Problems for what cannot be read."""
    opened = open_envelopes(raw, headers.get("content-type", ""), headers)
    message_id = signing.message_id(source.scheme, headers, source.scheme_options)
    found: list[NewEvent] = []
    for index, envelope in enumerate(opened.envelopes):
        type_rules.apply(source.type_rules, envelope, headers)
        place = index if opened.is_list else None
        key = dedupe.key_of(source, message_id, envelope, raw, place)
        errors = list(envelope.errors) or intake.judge(
            source.organization_id, envelope, rejects_unknown=source.rejects_unknown
        )
        kept = {MARK: at.isoformat()}
        found.append(intake.new_event(envelope, errors, key, None, kept))
    return found


def take_in(source: OpenSource, new: Sequence[NewEvent]) -> list[Accepted]:
    """Store what was fetched within the quotas and return once it is committed.

    Raises OverQuota and BacklogFull, storing nothing. Ask for AT_ONCE at most, so that a small
    quota is not too small for ever.
    """
    quotas.learn_for(source.organization_id)
    with quotas.admit(source.organization_id, source.id, len(new)):
        stored = inbox.put(source.organization_id, source.id, new)
    good = [
        event.problem is None
        for event, one in zip(new, stored, strict=True)
        if not one.is_duplicate
    ]
    measures.count_events(
        source.organization_id, source.id, accepted=sum(good), rejected=good.count(False)
    )
    return stored


def fetched_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when the hub fetched an event; None: its sender brought it."""
    told = headers.get(MARK)
    return datetime.fromisoformat(told) if told else None
