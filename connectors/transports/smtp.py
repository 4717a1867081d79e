"""SMTP: a mail is handed over to the firm's own mail server, once, or it is known that it was not.

Until the last line of the mail is sent nothing has happened, and whatever goes wrong may be tried
again. After it, only the server's answer tells; without one the outcome is unknown.
"""

import re
import smtplib
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from connectors.transports import composing, wires
from connectors.transports.wires import Wire, as_failure
from kernel.errors import Invalid
from kernel.http import Failure

MAX_REPLY = 65_536
# Refusals that are about who calls, whatever the text says.
_AUTH_CODES = frozenset({530, 534, 535, 538})
_TOO_FAST = re.compile(r"4\.7\.\d|too many|rate|frequen|频率|过于频繁", re.IGNORECASE)
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})\b")


class Client(smtplib.SMTP):
    """smtplib over a wire that was opened for it."""

    def __init__(self, wire: Wire) -> None:
        """Take the wire; nothing is said yet."""
        self.wire, self.heard = wire, 0
        # the name under which one greets; an address of ours is nobody's business
        super().__init__(local_hostname="localhost")
        self._host = wire.host  # what STARTTLS checks the certificate against

    def _get_socket(self, _host: str, _port: int, _timeout: float) -> Any:
        return self.wire.socket

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply, but not one without an end."""
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))  # type: ignore[assignment]
        code, text = super().getreply()
        if code == -1 or self.wire.is_late:
            raise smtplib.SMTPServerDisconnected("the server's reply was cut off")
        return code, text


class _Bounded:
    """A file that gives so much and no more."""

    def __init__(self, file: Any) -> None:
        self.file, self.left = file, MAX_REPLY

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self.file.readline(size)
        self.left -= len(line)
        if self.left < 0:
            raise wires.TooMuch("the server's replies have no end")
        return line

    def close(self) -> None:
        self.file.close()


def _begin(wire: Wire, login: tuple[str, str] | None) -> Client:
    """Greet, encrypt and sign in; raises smtplib's and the wire's errors."""
    is_plain = urlsplit(wire.url).scheme == "smtp"
    if not is_plain:
        wire.secure()
    client = Client(wire)
    code, text = client.connect("localhost", 1)
    if code != 220:
        raise smtplib.SMTPResponseException(code, text)
    client.ehlo_or_helo_if_needed()
    if is_plain:
        if not client.has_extn("starttls"):
            raise wires.Unsafe("the server offers no encryption (STARTTLS); nothing was sent")
        code, text = client.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPResponseException(code, text)
        # whatever came along before the encryption began is not to be believed
        client.sock, client.file = wire.secure(), None
        client.helo_resp = client.ehlo_resp = None
        client.esmtp_features, client.does_esmtp = {}, False
        client.ehlo_or_helo_if_needed()
    if login is not None:
        if not client.has_extn("auth"):
            raise smtplib.SMTPResponseException(535, b"the server takes no sign-in here")
        client.login(*login)
    return client


def check(
    url: str, login: tuple[str, str] | None, _asked: Mapping[str, Any], seconds: float
) -> tuple[int, Any] | Failure:
    """Sign in and leave."""
    started, late = time.monotonic(), False
    try:
        with wires.opened(url, seconds) as wire:
            try:
                client = _begin(wire, login)
                client.docmd("QUIT")
            finally:
                late = wire.is_late
        return 200, {"ok": True}
    except smtplib.SMTPResponseException as refused:
        return _refused(refused.smtp_code, refused.smtp_error)
    except (OSError, smtplib.SMTPException, Invalid, wires.Unsafe, wires.TooMuch) as error:
        return as_failure(error, started, is_late=late)


def send(
    url: str, login: tuple[str, str] | None, asked: Mapping[str, Any], seconds: float
) -> tuple[int, Any] | Failure:
    """Hand a mail over: all its recipients take it, or nothing is sent."""
    started = time.monotonic()
    try:
        mail = composing.compose(asked, seconds / 2)
    except composing.Unfit as unfit:
        return 422, {"code": 0, "message": str(unfit)}
    is_out, late = False, False
    try:
        with wires.opened(url, seconds) as wire:
            try:
                client = _begin(wire, login)
                refused = _envelope(client, mail)
                if refused is not None:
                    return refused
                code, text = client.docmd("DATA")
                if code != 354:
                    return _refused(code, text)
                is_out = True
                client.send(composing.on_the_wire(mail.raw))
                code, text = client.getreply()
                if code != 250:
                    return _refused(code, text)
                return 200, {"code": code, "message_id": mail.message_id, "message": _text(text)}
            finally:
                late = wire.is_late
    except smtplib.SMTPResponseException as refused_at:
        return _refused(refused_at.smtp_code, refused_at.smtp_error)
    except (OSError, smtplib.SMTPException, Invalid, wires.Unsafe, wires.TooMuch) as error:
        failure = as_failure(error, started, is_late=late)
        if is_out:  # it may have been taken: nobody tells
            return Failure("timeout", failure.detail, elapsed_ms=failure.elapsed_ms)
        if failure.kind in ("timeout", "protocol"):  # nothing was handed over yet
            return Failure("connect", failure.detail, elapsed_ms=failure.elapsed_ms)
        return failure


def _envelope(client: Client, mail: composing.Mail) -> tuple[int, Any] | None:
    """Say from whom and for whom; what was refused, if anything was."""
    is_international = not (mail.sender + "".join(mail.recipients)).isascii()
    if is_international and not client.has_extn("smtputf8"):
        text = "the server takes no addresses with such letters (SMTPUTF8)"
        return 422, {"code": 553, "message": text}
    options = ["SMTPUTF8"] if is_international else []
    if client.has_extn("size"):
        options.append(f"SIZE={len(mail.raw)}")
    code, said = client.mail(mail.sender, options)
    if code != 250:
        return _refused(code, said)
    bad: dict[str, str] = {}
    worst: tuple[int, bytes] = (0, b"")
    for address in mail.recipients:
        code, said = client.docmd("RCPT", f"TO:<{address}>")
        if code not in (250, 251):
            bad[address] = f"{code} {_text(said)}"
            worst = max(worst, (code, said))
    if not bad:
        return None
    client.docmd("RSET")
    status, told = _refused(*worst)
    return status, {**told, "refused": bad}


def _text(text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(said.split())[:500]


def _refused(code: int, text: bytes | str) -> tuple[int, dict[str, Any]]:
    """Return a refusal as HTTP would have it, with the server's own code and words."""
    said = _text(text)
    found = _ENHANCED.match(said)
    told = {"code": code, "enhanced": found[1] if found else None, "message": f"{code} {said}"}
    if code in _AUTH_CODES:
        return 401, told
    if 400 <= code < 500:
        return (429 if _TOO_FAST.search(said) else 503), told
    return (413 if code == 552 else 422), told


WORKS = {"/check": check, "/send": send}
