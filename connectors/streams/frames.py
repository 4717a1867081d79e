"""Frames: what the gateway of DingTalk's Stream mode says, and what it wants to hear back.

A frame is JSON: {specVersion, type, headers, data}, its data again a text that holds JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel import documents
from kernel.errors import Problem

MAX_FRAME = 1 << 20
ID_HEADER = "webhook-id"
BOT_TOPIC = "/v1.0/im/bot/messages/get"
SUBSCRIPTIONS = ({"type": "EVENT", "topic": "*"}, {"type": "CALLBACK", "topic": BOT_TOPIC})


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the gateway."""

    kind: str  # SYSTEM | EVENT | CALLBACK
    topic: str
    message_id: str
    headers: Mapping[str, Any]
    data: str

    @property
    def is_disconnect(self) -> bool:
        """Tell whether the gateway asks to be left, and called anew."""
        return self.kind == "SYSTEM" and self.topic == "disconnect"

    @property
    def is_message(self) -> bool:
        """Tell whether it brings something to be kept."""
        return self.kind in ("EVENT", "CALLBACK")


def read(raw: str | bytes) -> Frame | None:
    """Read a frame; None for what is none."""
    try:
        told = documents.parse(raw.encode() if isinstance(raw, str) else raw, max_bytes=MAX_FRAME)
    except Problem:
        return None
    headers = told.get("headers") if isinstance(told, dict) else None
    if not isinstance(headers, dict):
        return None
    texts = {name: headers.get(name) for name in ("topic", "messageId")}
    data = told.get("data")
    return Frame(
        kind=str(told.get("type") or ""),
        topic=str(texts["topic"] or ""),
        message_id=str(texts["messageId"] or ""),
        headers=headers,
        data=data if isinstance(data, str) else "",
    )


def delivery(frame: Frame, prefix: str) -> tuple[dict[str, str], bytes] | None:
    """Return what a frame brings the way a webhook would: headers and body; None: unreadable.

    An event is told apart by its id, which stays the same when it is sent again.
    """
    try:
        data = documents.parse(frame.data.encode(), max_bytes=MAX_FRAME)
    except Problem:
        return None
    if frame.kind == "EVENT":
        kind = str(frame.headers.get("eventType") or "")
        identity = str(frame.headers.get("eventId") or frame.message_id)
    else:
        kind = "robot_message" if frame.topic == BOT_TOPIC else "callback"
        told = data.get("msgId") if isinstance(data, dict) else None
        identity = str(told or frame.message_id)
    if not kind or not identity:
        return None
    body = {"type": f"{prefix}.{kind.lower()}", "data": data}
    return {"content-type": "application/json", ID_HEADER: identity}, documents.dump(body)


def answer(frame: Frame, *, is_kept: bool = True) -> str:
    """Return what the gateway wants to hear; of what was not kept: that it sends it again."""
    if frame.kind == "SYSTEM":
        data = frame.data
    elif frame.kind == "EVENT":
        data = '{"status": "SUCCESS"}' if is_kept else '{"status": "LATER"}'
    else:
        data = '{"response": {}}'
    headers = {"contentType": "application/json", "messageId": frame.message_id}
    told = {"code": 200 if is_kept else 500, "headers": headers, "message": "OK", "data": data}
    return documents.dump(told).decode()
