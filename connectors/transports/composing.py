"""Composing: a mail written from plain values, without what could break its lines."""

import base64
import mimetypes
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from typing import Any

from kernel import http

MAX_RECIPIENTS = 100
MAX_ATTACHMENT_BYTES = 10 << 20
MAX_MAIL_BYTES = 20 << 20
_SEPARATORS = re.compile(r"[;；，、\n]+")
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[^\s@<>,;:\"()\[\]\\]{1,253}")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Unfit(Exception):  # noqa: N818 - it says what the mail is
    """The mail cannot be written as it was asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail ready to be handed over; who gets it stands outside of it."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    raw: bytes


def compose(asked: Mapping[str, Any], seconds: float) -> Mail:
    """Write a mail; raises Unfit. Attachments by reference are fetched, for so long altogether."""
    sender = people(asked["from"])
    if len(sender) != 1:
        raise Unfit("there must be exactly one sender")
    groups = {name: people(asked.get(name) or "") for name in ("to", "cc", "bcc")}
    recipients = tuple(dict.fromkeys(one.addr_spec for all_ in groups.values() for one in all_))
    if not recipients:
        raise Unfit("nobody is named who should get the mail")
    if len(recipients) > MAX_RECIPIENTS:
        raise Unfit(
            f"a mail goes to {MAX_RECIPIENTS} addresses at most; these are {len(recipients)}"
        )
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender[0]
    for name in ("to", "cc"):
        if groups[name]:
            message[name.title()] = groups[name]
    if asked.get("reply_to"):
        message["Reply-To"] = people(asked["reply_to"])
    message["Subject"] = one_line(asked["subject"])
    message["Date"] = formatdate(localtime=False)
    domain = sender[0].domain
    message_id = f"<{_plain(asked['message_id'])}@{domain if domain.isascii() else 'localhost'}>"
    message["Message-ID"] = message_id
    if asked.get("in_reply_to"):
        answered = f"<{_plain(str(asked['in_reply_to']).strip().strip('<>'))}>"
        message["In-Reply-To"] = message["References"] = answered
    text, html = asked.get("text"), asked.get("html")
    message.set_content(text or ("" if html else " "), cte="base64")
    if html:
        if text:
            message.add_alternative(html, subtype="html", cte="base64")
        else:
            message.set_content(html, subtype="html", cte="base64")
    _attach(message, asked.get("attachments") or [], seconds)
    raw = message.as_bytes(policy=policy.SMTP.clone(utf8=not "".join(recipients).isascii()))
    if len(raw) > MAX_MAIL_BYTES:
        raise Unfit(f"the mail is over {MAX_MAIL_BYTES >> 20} MiB")
    return Mail(sender[0].addr_spec, recipients, message_id, raw)


def people(text: str) -> list[Address]:
    """Read the people of a line; commas, semicolons and line breaks stand between them."""
    if not text.strip():
        return []
    lines = [_SEPARATORS.sub(",", text)]
    found: list[Address] = []
    for name, address in getaddresses(lines):
        if not name and not address:
            continue
        if not _ADDRESS.fullmatch(address):
            raise Unfit(f"“{one_line(address or text)[:100]}” is no mail address")
        user, _, domain = address.rpartition("@")
        found.append(Address(one_line(name), user, domain))
    if not found:
        raise Unfit(f"“{one_line(text)[:100]}” is no mail address")
    return found


def one_line(text: str) -> str:
    """Return a text without what would begin a header of its own."""
    return _BREAKS.sub(" ", str(text)).strip()


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@+=$-]", "-", str(text))[:200] or "mail"


def _attach(message: EmailMessage, stated: Sequence[Mapping[str, Any]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for one in stated:
        name = one_line(one["name"]).replace("/", "_").replace("\\", "_") or "attachment"
        content = _content(one, name, until)
        kind = one.get("type") or mimetypes.guess_type(name)[0] or "application/octet-stream"
        main, _, sub = kind.partition("/")
        if not re.fullmatch(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+", kind) or main in (
            "multipart",
            "message",
        ):
            main, sub = "application", "octet-stream"
        message.add_attachment(content, maintype=main, subtype=sub, filename=name)


def _content(one: Mapping[str, Any], name: str, until: float) -> bytes:
    if one.get("content_base64"):
        try:
            return base64.b64decode(one["content_base64"], validate=True)
        except ValueError as bad:
            raise Unfit(f"the content of {name} is not written in base64") from bad
    if not one.get("url"):
        raise Unfit(f"{name} has neither content nor an address")
    answer = http.send(
        http.Request(
            "GET",
            one["url"],
            timeout_seconds=max(0.5, until - time.monotonic()),
            max_response_bytes=MAX_ATTACHMENT_BYTES,
            follow_redirects=3,
        )
    )
    if isinstance(answer, http.Failure):
        raise Unfit(f"{name} could not be fetched: {answer.kind}: {answer.detail}")
    if answer.status != 200 or answer.truncated:
        why = "it is over 10 MiB" if answer.truncated else f"HTTP {answer.status}"
        raise Unfit(f"{name} could not be fetched: {why}")
    return answer.body


def on_the_wire(raw: bytes) -> bytes:
    """Return a mail as DATA sends it: dots doubled at the start of lines, and the last line."""
    lines = _LINE_END.split(raw)
    if lines and not lines[-1]:
        lines.pop()
    return (
        b"".join((b"." if one.startswith(b".") else b"") + one + b"\r\n" for one in lines)
        + b".\r\n"
    )
