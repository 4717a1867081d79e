"""Openings: a request at a source, proved and opened, in the source's own way of proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kernel.errors import N_, Malformed
from webhooks import bodies, nonces, signing, type_rules
from webhooks.addresses import OpenSource
from webhooks.envelopes import Envelope, Opened, open_envelopes
from webhooks.errors import BadSignature
from webhooks.recipes import Refused, Surroundings, reading
from webhooks.recipes.reading import Delivery, Reply

RECIPE = "recipe"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is beside its headers and body."""

    method: str = "POST"
    path: str = ""
    query: bytes = b""


POSTED = Asked()


@dataclass(frozen=True, slots=True)
class Opening:
    """What came, without its wrapping; no envelopes for a handshake, which is only answered."""

    envelopes: list[Envelope]
    is_list: bool
    body: bytes
    message_id: str | None = None
    sent_at: datetime | None = None
    reply: Reply | None = None
    once: str | None = None


class RecipeRefused(BadSignature):
    """A recipe refused: the sender hears always the same, `reason` is for the owner."""

    def __init__(self, reason: Refused, reply: Reply | None) -> None:
        """Hold why, and what the sender is told instead of the hub's words."""
        super().__init__()
        self.reason, self.reply = reason, reply


def open_request(
    source: OpenSource,
    asked: Asked,
    headers: Mapping[str, str],
    raw: bytes,
    now: datetime,
    *,
    is_brief: bool = False,
) -> Opening:
    """Prove and open what came at a source; raises Problems for what is refused.

    With `is_brief`, raises Heavy when that would take long.
    """
    if source.scheme == RECIPE:
        return _by_recipe(source, asked, headers, raw, now, is_brief=is_brief)
    verified = signing.verify(
        source.scheme, raw, headers, source.secrets, source.scheme_options, now
    )
    body = bodies.decode(raw, headers.get("content-encoding", ""))
    opened = _opened(source, body, headers)
    return Opening(opened.envelopes, opened.is_list, body, verified.dedupe_id, verified.sent_at)


def _opened(source: OpenSource, body: bytes, headers: Mapping[str, str]) -> Opened:
    opened = open_envelopes(body, headers.get("content-type", ""), headers)
    if not opened.envelopes:
        raise Malformed(detail=N_("The array is empty"), code="empty")
    for envelope in opened.envelopes:
        type_rules.apply(source.type_rules, envelope, headers)
    return opened


def _by_recipe(
    source: OpenSource,
    asked: Asked,
    headers: Mapping[str, str],
    raw: bytes,
    now: datetime,
    *,
    is_brief: bool,
) -> Opening:
    options = source.scheme_options
    try:
        read = reading.read(
            options,
            Delivery(asked.method, asked.path, asked.query, headers, raw),
            source.given,
            Surroundings(now),
            is_brief=is_brief,
        )
    except Refused as refused:
        raise RecipeRefused(refused, reading.refusal(options)) from None
    if read.is_handshake:
        return Opening([], is_list=False, body=b"", reply=read.reply)
    opened = open_read(source.type_rules, read, headers, raw)
    body = raw if read.body is None else read.body
    return Opening(
        opened.envelopes, opened.is_list, body, read.message_id, read.occurred_at, read.reply,
        read.once,
    )  # fmt: skip


def use_once(source: OpenSource, opened: Opening) -> None:
    """Note the word that a message may use once; raises RecipeRefused for a used one."""
    assert opened.once is not None
    try:
        nonces.use(source.organization_id, source.id, opened.once, opened.body)
    except Refused as refused:
        raise RecipeRefused(refused, reading.refusal(source.scheme_options)) from None


def open_read(
    rules: Mapping[str, Any], read: reading.Read, headers: Mapping[str, str], raw: bytes
) -> Opened:
    """Return the envelopes of what a recipe read; raises Problems for what is no event."""
    if read.body is None:
        body = bodies.decode(raw, headers.get("content-encoding", ""))
        kind = headers.get("content-type", "")
        # what senders call their JSON is seldom right; a form cannot be told by its looks
        is_told = any(word in kind for word in ("x-www-form-urlencoded", "cloudevents"))
        kind = kind if is_told else "application/json"
        opened = open_envelopes(reading.as_json(body), kind, headers)
    else:
        opened = open_envelopes(read.body, "application/json", {})
    if not opened.envelopes:
        raise Malformed(detail=N_("The array is empty"), code="empty")
    for envelope in opened.envelopes:
        fixed = {"from": "fixed", "value": read.type} if read.type else {}
        type_rules.apply({**rules, **fixed}, envelope, headers)
        envelope.occurred_at = envelope.occurred_at or read.occurred_at
    return opened
