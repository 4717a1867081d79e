"""Letters: a mail's bytes read into plain values, whatever its program made of them.

Mail written in China says gb2312 and means GBK or GB18030, or says nothing at all; names and
subjects come encoded twice, or as bare bytes. What cannot be read becomes a replacement sign.
"""

import base64
import hashlib
import re
from datetime import UTC
from email import message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from html.parser import HTMLParser
from typing import Any

MAX_PARTS = 200
MAX_PEOPLE = 100
_CHINESE = {"gb2312", "gbk", "gb_2312-80", "x-gbk", "cp936", "hz-gb-2312", "gb18030", "euc-cn"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def decoded(raw: bytes, charset: str | None) -> str:
    """Return bytes as text, in the charset they are said to be in or in one they fit."""
    name = (charset or "").strip().strip("\"'").lower()
    if name == "hz-gb-2312":
        return raw.decode("hz", "replace")
    if name in _CHINESE:
        return raw.decode("gb18030", "replace")
    for one in (name, "utf-8", "gb18030"):
        if one in ("", "us-ascii", "ascii", "unknown-8bit"):
            continue
        try:
            return raw.decode(one)
        except (LookupError, UnicodeDecodeError):
            continue
    return raw.decode("utf-8", "replace")


def header(value: Any) -> str:
    """Return a header as people read it: RFC 2047 undone, bare bytes read."""
    if value is None:
        return ""
    text = _bare(str(value))
    try:
        parts = decode_header(text)
    except (ValueError, TypeError):
        return " ".join(text.split())
    words = []
    for part, charset in parts:
        words.append(decoded(part, charset) if isinstance(part, bytes) else part)
    return " ".join("".join(words).split())


def _raw(message: Message, name: str) -> list[str]:
    """Return a header's values as they came, bare bytes and all."""
    return [str(value) for key, value in message.raw_items() if key.lower() == name]


def _first(message: Message, name: str) -> str:
    return next(iter(_raw(message, name)), "")


def _bare(text: str) -> str:
    """Read the bytes of a header that nobody encoded."""
    if not _SURROGATE.search(text):
        return text
    return decoded(text.encode("ascii", "surrogateescape"), None)


def read(raw: bytes, max_text: int, *, is_cut: bool = False) -> dict[str, Any]:
    """Return what a mail says; texts have so many characters at most, attachments no content."""
    message = message_from_bytes(raw, policy=policy.compat32)
    bodies: dict[str, str] = {}
    attachments: list[dict[str, Any]] = []
    for number, part in enumerate(_parts(message)):
        kind = part.get_content_type()
        name = _name(part)
        is_body = kind in ("text/plain", "text/html") and not name and not _is_attached(part)
        if is_body and kind not in bodies:
            bodies[kind] = decoded(_payload(part), part.get_content_charset())
        elif name or _is_attached(part) or not kind.startswith("text/"):
            content = _payload(part)
            attachments.append(
                {
                    "number": number,
                    "name": name or "attachment",
                    "type": kind,
                    "size": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    html, text = bodies.get("text/html", ""), bodies.get("text/plain", "")
    text = text or plain(html)
    return {
        "message_id": _message_id(message, raw),
        "from": (_people(message, "from") or [{"name": "", "address": ""}])[0],
        "to": _people(message, "to"),
        "cc": _people(message, "cc"),
        "reply_to": _people(message, "reply-to"),
        "subject": header(_first(message, "subject"))[:1000],
        "sent_at": _sent_at(message),
        "in_reply_to": _bare(_first(message, "in-reply-to")).strip()[:300],
        "text": text.replace("\r\n", "\n").replace("\x00", "")[:max_text],
        "html": html.replace("\x00", "")[:max_text],
        "is_cut": is_cut or len(text) > max_text or len(html) > max_text,
        "attachments": attachments[:50],
    }


def attachment(raw: bytes, number: int) -> tuple[str, str, bytes] | None:
    """Return an attachment's name, media type and content, by its number in the mail."""
    parts = list(_parts(message_from_bytes(raw, policy=policy.compat32)))
    if not 0 <= number < len(parts):
        return None
    part = parts[number]
    return _name(part) or "attachment", part.get_content_type(), _payload(part)


def _parts(message: Message) -> list[Message]:
    """Return the leaves of a mail; of a mail in it, the mail as one."""
    found: list[Message] = []
    waiting: list[Message] = [message]
    while waiting and len(found) < MAX_PARTS:
        part = waiting.pop(0)
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting[:0] = [one for one in inner if isinstance(one, Message)]
        else:
            found.append(part)
    return found


def _payload(part: Message) -> bytes:
    inner = part.get_payload()
    if isinstance(inner, list):  # a mail that was forwarded whole
        return b"".join(one.as_bytes() for one in inner if isinstance(one, Message))
    try:
        found = part.get_payload(decode=True)
    except (ValueError, AssertionError):
        return b""
    return found if isinstance(found, bytes) else b""


def _is_attached(part: Message) -> bool:
    return str(part.get("content-disposition", "")).strip().lower().startswith("attachment")


def _name(part: Message) -> str:
    for name, place in (("filename", "content-disposition"), ("name", "content-type")):
        value = part.get_param(name, header=place)
        if isinstance(value, tuple):  # RFC 2231: charset, language, text
            charset, _, text = value
            raw = text.encode("latin-1", "replace") if text.isascii() or charset else b""
            return header(decoded(raw, charset))[:255] if raw else header(text)[:255]
        if value:
            return header(value)[:255]
    return ""


def _people(message: Message, name: str) -> list[dict[str, str]]:
    lines = [_bare(one) for one in _raw(message, name)]
    found = getaddresses(lines)[:MAX_PEOPLE]
    return [{"name": header(who)[:200], "address": at[:320]} for who, at in found if who or at]


def _message_id(message: Message, raw: bytes) -> str:
    """Return the id that tells a mail apart; one is made of its content where it has none."""
    found = _bare(_first(message, "message-id")).strip().strip("<>").strip()
    if found:
        return found[:250]
    return "sha256-" + hashlib.sha256(raw).hexdigest()


def _sent_at(message: Message) -> str | None:
    try:
        at = parsedate_to_datetime(_bare(_first(message, "date")))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return None


_BLOCKS = frozenset({"p", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "ul", "ol"})


class _Text(HTMLParser):
    """Collects what people read of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        if tag in ("script", "style", "head"):
            self.hidden += 1
        elif tag == "br" or tag in _BLOCKS:
            self.found.append("\n")
        elif tag in ("td", "th"):
            self.found.append("\t")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "head"):
            self.hidden = max(0, self.hidden - 1)
        elif tag in _BLOCKS:
            self.found.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.found.append(data)


def plain(html: str) -> str:
    """Return what people read of a page, line by line."""
    reader = _Text()
    reader.feed(html[: 1 << 20])
    lines = ("".join(reader.found)).splitlines()
    return "\n".join(line for line in (" ".join(one.split()) for one in lines) if line)


def utf7(name: str) -> str:
    """Write a mailbox's name the way IMAP does (RFC 3501, 5.1.3)."""
    out: list[str] = []
    other: list[str] = []

    def flush() -> None:
        if other:
            raw = base64.b64encode("".join(other).encode("utf-16-be")).decode()
            out.append("&" + raw.rstrip("=").replace("/", ",") + "-")
            other.clear()

    for letter in name:
        if " " <= letter <= "~":
            flush()
            out.append("&-" if letter == "&" else letter)
        else:
            other.append(letter)
    flush()
    return "".join(out)
