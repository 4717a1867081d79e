"""Operations: what can be asked of each transport, and with what; the typed requests of manifests.

A request of another transport than HTTP is a POST to the path of an operation with a JSON body that
fits its schema. What comes back is a status that means what it means in HTTP, and a JSON body.
"""

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_LINE: dict[str, Any] = {"type": "string", "maxLength": 1000}
_NULL_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def _count(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _shape(needed: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": needed,
        "additionalProperties": False,
        "properties": properties,
    }


_ATTACHMENT = _shape(
    ["name"],
    name=_LINE,
    type=_LINE,
    content_base64=_TEXT,
    url={"type": "string", "maxLength": 4000},
)
_FILES: dict[str, Any] = {
    "folder": _LINE,
    "pattern": _LINE,
    "stable_seconds": _count(0, 10),
}
OPERATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "smtp": {
        "/check": _shape([]),
        "/send": _shape(
            ["from", "to", "subject", "message_id"],
            **{"from": _LINE},
            to=_TEXT,
            cc=_TEXT,
            bcc=_TEXT,
            reply_to=_LINE,
            subject=_LINE,
            text=_TEXT,
            html=_TEXT,
            message_id=_LINE,
            in_reply_to=_LINE,
            attachments={"type": "array", "maxItems": 20, "items": _ATTACHMENT},
        ),
    },
    "imap": {
        "/check": _shape([]),
        "/search": _shape(
            ["mailbox"],
            mailbox=_LINE,
            after=_NULL_TEXT,  # where the last answer's `token` says that it goes on
            since=_NULL_TEXT,  # without it: a moment, from which mail is taken
            limit=_count(1, 50),
            max_text=_count(100, 200_000),
        ),
        "/part": _shape(
            ["mailbox", "reference", "max_bytes"],
            mailbox=_LINE,
            reference=_LINE,
            max_bytes=_count(1, 4 << 20),
        ),
    },
    "sftp": {
        "/check": _shape([], folder=_LINE, host_key=_LINE),
        "/files": _shape(
            ["folder"],
            host_key=_LINE,
            since=_NULL_TEXT,
            page=_NULL_TEXT,
            limit=_count(1, 1000),
            **_FILES,
        ),
        "/rows": _shape(
            ["folder"],
            host_key=_LINE,
            page=_NULL_TEXT,
            token=_NULL_TEXT,
            limit=_count(1, 1000),
            encoding=_LINE,
            delimiter={"enum": ["comma", "tab", "semicolon", "pipe"]},
            event_type=_LINE,
            columns=_TEXT,  # "field=column; field='the same in all rows'"
            when_done={"enum": ["move", "keep"]},
            aside=_LINE,
            **_FILES,
        ),
        "/write": _shape(
            ["folder", "name"],
            host_key=_LINE,
            folder=_LINE,
            name=_LINE,
            content_base64=_TEXT,
            columns={"type": "array", "items": _TEXT},
            rows={"type": "array", "items": {"type": "object"}},
            mark=_LINE,
        ),
    },
}


def schema_of(transport: str, path: str) -> dict[str, Any] | None:
    """Return what an operation takes; None when the transport has no such."""
    return OPERATIONS.get(transport, {}).get(path)
