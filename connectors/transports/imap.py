"""IMAP: a mailbox is asked for what came since the last look; nothing in it is changed or marked.

Where the next look begins is UIDVALIDITY and UID in one text. A mailbox that was made anew has
another UIDVALIDITY: it is then read from the given moment, and a mail seen before is known by its
Message-ID.
"""

import base64
import contextlib
import imaplib
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from connectors.transports import letters, wires
from connectors.transports.wires import Wire, as_failure
from kernel.errors import Invalid
from kernel.http import Failure

MAX_MAIL_BYTES = 25 << 20  # of a larger one only the beginning is read
BEGINNING = 1 << 20
MAX_CONVERSATION = 64 << 20
_ERRORS = (OSError, imaplib.IMAP4.error, Invalid, wires.Unsafe, wires.TooMuch)
_TOKEN = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")
_REFERENCE = re.compile(r"([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,3})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
imaplib.Commands.setdefault("ID", ("NONAUTH", "AUTH", "SELECTED"))


class Client(imaplib.IMAP4):
    """imaplib over a wire that was opened for it."""

    def __init__(self, wire: Wire) -> None:
        """Take the wire and hear the greeting."""
        self.wire, self.left = wire, MAX_CONVERSATION
        super().__init__(wire.host)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:  # noqa: ARG002
        """Use the wire instead of a socket of one's own."""
        self.host, self.port = host, port
        self._take(self.wire.socket)

    def _take(self, found: Any) -> None:
        self.sock = found
        self.file = found.makefile("rb")

    def read(self, size: int) -> bytes:
        """Read what a server announced, but not whatever it announces."""
        self.left -= size
        if self.left < 0:
            raise wires.TooMuch("the server sends more than is taken from a mailbox at once")
        return bytes(self.file.read(size))  # type: ignore[arg-type]

    def readline(self) -> bytes:
        """Read a line and count it."""
        line = bytes(self.file.readline(1_000_001))  # type: ignore[arg-type]
        self.left -= len(line)
        if len(line) > 1_000_000 or self.left < 0:
            raise wires.TooMuch("the server sends more than is taken from a mailbox at once")
        return line

    def encrypt(self) -> None:
        """Encrypt the wire (STARTTLS), and believe nothing that was said before."""
        if "STARTTLS" not in self.capabilities:
            raise wires.Unsafe("the server offers no encryption (STARTTLS); nothing was sent")
        kind, _ = self._simple_command("STARTTLS")
        if kind != "OK":
            raise wires.Unsafe("the server refuses encryption; nothing was sent")
        self._take(self.wire.secure())
        self._get_capabilities()


class _SignIn(Exception):  # noqa: N818 - it says what was refused
    pass


@contextlib.contextmanager
def _signed_in(url: str, login: tuple[str, str] | None, seconds: float) -> Iterator[Client]:
    with wires.opened(url, seconds) as wire:
        is_plain = urlsplit(url).scheme == "imap"
        if not is_plain:
            wire.secure()
        try:
            client = Client(wire)
            if is_plain:
                client.encrypt()
            _log_in(client, login)
            yield client
            with contextlib.suppress(*_ERRORS):
                client.logout()
        except _ERRORS as error:
            if wire.is_late:
                raise TimeoutError("the server did not answer in time") from error
            raise


def _log_in(client: Client, login: tuple[str, str] | None) -> None:
    if login is None:
        raise _SignIn("a user name and a password are needed")
    name, secret = (one.encode() for one in login)
    try:
        if "AUTH=PLAIN" in client.capabilities:
            client.authenticate("PLAIN", lambda _: b"\0" + name + b"\0" + secret)
        else:
            client.login(*login)
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, UnicodeError) as refused:
        raise _SignIn(_text(refused)) from refused
    if "ID" in client.capabilities:  # some providers open no mailbox to whoever does not say it
        with contextlib.suppress(imaplib.IMAP4.error):
            client.xatom("ID", '("name" "Yangfan" "version" "1")')


def _text(error: object) -> str:
    said = error.args[0] if isinstance(error, Exception) and error.args else error
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join(said.split())[:400]


def _answered(work: Any, url: str, login: Any, seconds: float) -> tuple[int, Any] | Failure:
    """Do something with a mailbox, and tell in the words of HTTP what went wrong."""
    started = time.monotonic()
    try:
        with _signed_in(url, login, seconds) as client:
            found: tuple[int, Any] = work(client)
            return found
    except _SignIn as refused:
        return 401, {"message": str(refused)}
    except imaplib.IMAP4.abort as broken:
        return Failure("connect", _text(broken))
    except imaplib.IMAP4.error as refused:
        return 422, {"message": _text(refused)}
    except (OSError, Invalid, wires.Unsafe, wires.TooMuch) as error:
        return as_failure(error, started)


def check(
    url: str, login: tuple[str, str] | None, _asked: Mapping[str, Any], seconds: float
) -> tuple[int, Any] | Failure:
    """Sign in and open the inbox."""

    def work(client: Client) -> tuple[int, Any]:
        return _opened(client, "INBOX") or (200, {"ok": True})

    return _answered(work, url, login, seconds)


def _opened(client: Client, mailbox: str) -> tuple[int, Any] | None:
    """Open a mailbox for reading; what the server says if it does not."""
    name = letters.utf7(mailbox).replace("\\", "\\\\").replace('"', '\\"')
    kind, said = client.select(f'"{name}"', readonly=True)
    if kind == "OK":
        return None
    text = _text(said[0] or b"")
    # one provider's way to say that the hub must be allowed first; it is about the sign-in
    status = 401 if "unsafe login" in text.lower() else 404
    return status, {"message": text or f"there is no mailbox {mailbox}"}


def search(
    url: str, login: tuple[str, str] | None, asked: Mapping[str, Any], seconds: float
) -> tuple[int, Any] | Failure:
    """Read what came after a token, else since a moment, the oldest first; some at a time."""

    def work(client: Client) -> tuple[int, Any]:
        refused = _opened(client, asked["mailbox"])
        if refused is not None:
            return refused
        validity = int((client.response("UIDVALIDITY")[1] or [b"0"])[0] or 0)
        after = _after(asked.get("after"), validity)
        # read before the list: what comes in between is then behind the token, and not passed over
        newest = _newest(client) if after is None else after
        uids = _uids(client, after, asked.get("since"))
        limit = asked.get("limit", 20)
        items = []
        for uid in uids[:limit]:
            one = _read(client, validity, uid, asked.get("max_text", 50_000))
            if one is not None:
                items.append(one)
        token = f"{validity}:{uids[:limit][-1] if uids else newest}"
        return 200, {"items": items, "token": token, "next": token if uids[limit:] else None}

    return _answered(work, url, login, seconds)


def _told(client: Client, command: str, *given: str) -> list[Any]:
    """Ask for something by UID; a refusal ends the look, as nothing may be passed over."""
    kind, said = client.uid(command, *given)
    if kind != "OK":
        raise imaplib.IMAP4.abort(_text((said or [b""])[0] or b"the server refuses this now"))
    return said


def _after(token: str | None, validity: int) -> int | None:
    found = _TOKEN.fullmatch(token or "")
    return int(found[2]) if found and int(found[1]) == validity else None


def _uids(client: Client, after: int | None, since: str | None) -> list[int]:
    if after is not None:
        said = _told(client, "SEARCH", f"UID {after + 1}:*")
    else:
        # a day earlier: the server compares days, by a clock of its own
        day = _moment(since) - timedelta(days=1)
        said = _told(client, "SEARCH", f"SINCE {day.day}-{_MONTHS[day.month - 1]}-{day.year}")
    found = sorted({int(one) for one in (said[0] or b"").split() if one.isdigit()})
    if after is None:
        return _from_moment(client, found, _moment(since))
    return [uid for uid in found if uid > after]


def _from_moment(client: Client, uids: list[int], since: datetime) -> list[int]:
    """Leave out what came before a moment: from the first mail on that came after it."""
    if not uids:
        return []
    said = _told(client, "FETCH", f"{uids[0]}:{uids[-1]}", "(INTERNALDATE)")
    came: dict[int, float] = {}
    for line in said:
        raw = line[0] if isinstance(line, tuple) else line
        uid = re.search(rb"UID (\d+)", raw or b"")
        at = imaplib.Internaldate2tuple(raw) if uid else None
        if uid and at:
            came[int(uid[1])] = time.mktime(at)
    first = min((uid for uid in uids if came.get(uid, 0.0) >= since.timestamp()), default=None)
    return [uid for uid in uids if first is not None and uid >= first]


def _moment(since: str | None) -> datetime:
    try:
        return datetime.fromisoformat((since or "").replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return datetime(1970, 1, 2, tzinfo=UTC)


def _newest(client: Client) -> int:
    said = _told(client, "SEARCH", "UID *:*")
    found = [int(one) for one in (said[0] or b"").split() if one.isdigit()]
    return max(found, default=0)


def _read(client: Client, validity: int, uid: int, max_text: int) -> dict[str, Any] | None:
    size, raw = _fetch(client, uid)
    if raw is None:
        return None  # it was deleted meanwhile
    told = letters.read(raw, max_text, is_cut=size > len(raw))
    for part in told["attachments"]:
        part["reference"] = f"{validity}:{uid}:{part.pop('number')}"
    return {"uid": uid, "size": size, **told}


def _fetch(client: Client, uid: int) -> tuple[int, bytes | None]:
    said = _told(client, "FETCH", str(uid), "(RFC822.SIZE)")
    found = re.search(
        rb"RFC822\.SIZE (\d+)", said[0] if said and isinstance(said[0], bytes) else b""
    )
    if not found:
        return 0, None
    size = int(found[1])
    part = "BODY.PEEK[]" if size <= MAX_MAIL_BYTES else f"BODY.PEEK[]<0.{BEGINNING}>"
    client.left = MAX_CONVERSATION
    parts = _told(client, "FETCH", str(uid), f"({part})")
    raw = next((one[1] for one in parts if isinstance(one, tuple)), None)
    return size, raw


def part(
    url: str, login: tuple[str, str] | None, asked: Mapping[str, Any], seconds: float
) -> tuple[int, Any] | Failure:
    """Read one attachment by its reference."""

    def work(client: Client) -> tuple[int, Any]:
        found = _REFERENCE.fullmatch(asked["reference"])
        if not found:
            return 422, {"message": "this is no reference of an attachment"}
        refused = _opened(client, asked["mailbox"])
        if refused is not None:
            return refused
        validity = int((client.response("UIDVALIDITY")[1] or [b"0"])[0] or 0)
        raw = _fetch(client, int(found[2]))[1] if int(found[1]) == validity else None
        one = letters.attachment(raw, int(found[3])) if raw is not None else None
        if one is None:
            return 404, {"message": "the mail or its attachment is not there any more"}
        name, kind, content = one
        if len(content) > asked["max_bytes"]:
            return 413, {"message": f"{name} has {len(content)} bytes"}
        told = base64.b64encode(content).decode()
        return 200, {"name": name, "type": kind, "size": len(content), "content_base64": told}

    return _answered(work, url, login, seconds)


WORKS = {"/check": check, "/search": search, "/part": part}
