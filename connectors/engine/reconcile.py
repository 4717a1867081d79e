"""Reconciling: what an app lists, read back into deliveries and into what its webhook would say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.engine import mapping, paging, schemas
from connectors.engine.connector import Reconcile
from connectors.engine.findings import EngineError, say
from kernel import documents
from webhooks.envelopes import moment

# What is said of a listed delivery, and of a delivery made from a listed object.
DELIVERY: dict[str, Any] = {
    "type": "object",
    "required": ["id", "message_id", "at", "is_failed"],
    "properties": {
        "id": {"type": ["string", "integer"], "maxLength": 200},
        "message_id": {"type": "string", "minLength": 1, "maxLength": 300},
        "at": {"type": "string", "maxLength": 60},
        "is_failed": {"type": "boolean"},
        "type": {"type": ["string", "null"], "maxLength": 200},
        "detail": {"type": ["string", "null"], "maxLength": 500},
    },
}
EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["body"],
    "properties": {
        "headers": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 500}}
    },
}


class Unlisted(EngineError):  # noqa: N818 - it says what the item is
    """An item of a list cannot be read as the manifest says."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One delivery as the app remembers it; the same message may be listed several times."""

    id: str | int
    message_id: str
    at: datetime
    is_failed: bool
    type: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The delivery that the webhook would have brought: header names in small letters."""

    headers: Mapping[str, str]
    raw: bytes


def delivery(reconcile: Reconcile, item: Any) -> Listed:
    """Read one item of a list of deliveries; raises Unlisted."""
    value = _mapped(reconcile, item, DELIVERY)
    at = moment(value["at"])
    if at is None:
        raise Unlisted(say("送达时间读不出来", "The time of the delivery cannot be read"))
    return Listed(
        id=value["id"],
        message_id=value["message_id"],
        at=at,
        is_failed=value["is_failed"],
        type=value.get("type") or "",
        detail=value.get("detail") or "",
    )


def rebuilt(reconcile: Reconcile, item: Any) -> Rebuilt:
    """Make of one listed object what its webhook would have brought; raises Unlisted."""
    value = _mapped(reconcile, item, EVENT)
    headers = {name.lower(): text for name, text in value.get("headers", {}).items()}
    return Rebuilt({"content-type": "application/json", **headers}, documents.dump(value["body"]))


def _mapped(reconcile: Reconcile, item: Any, schema: Mapping[str, Any]) -> Any:
    try:
        value = mapping.prepare_once(reconcile.item).apply({"item": item})
    except mapping.MappingError as lost:
        raise Unlisted(lost.say) from lost
    wrong = schemas.problems(schema, value)
    if wrong:
        at = wrong[0].target
        raise Unlisted(say(f"{at}：{wrong[0].say['zh']}", f"{at}: {wrong[0].say['en']}"))
    return value


def next_page(reconcile: Reconcile, output: Mapping[str, Any]) -> str | None:
    """Return what names the page after this one, None after the last; raises Unlisted.

    Of a Link header only one parameter is taken, never the address: where calls go is fixed.
    """
    try:
        return paging.named(output.get("next"), reconcile.link)
    except paging.Unpaged as lost:
        raise Unlisted(lost.say) from lost


def token_of(output: Mapping[str, Any]) -> str | None:
    """Return where the app says that the next look begins; raises Unlisted."""
    found = output.get("token")
    if found in (None, ""):
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise Unlisted(say("下次查询的起点读不出来", "Where the next look begins cannot be read"))
    if len(str(found)) > paging.MAX_PAGE_NAME:
        raise Unlisted(say("下次查询的起点太长", "Where the next look begins is too long"))
    return str(found)


def clock_of(headers: Mapping[str, str]) -> datetime | None:
    """Return what the app's own clock said when it answered, None when it did not tell."""
    try:
        told = parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    """Write a moment the way `look.since` has it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
