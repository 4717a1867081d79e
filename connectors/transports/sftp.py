"""SFTP: files are listed, read row by row, moved aside and put there, over one's own SSH server.

A server is known by its key: without the key's fingerprint in the settings nothing is done but to
say it, and another key than that one ends the call before anybody signs in.
"""

import base64
import binascii
import contextlib
import errno
import fnmatch
import hashlib
import hmac
import io
import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import paramiko

from connectors.transports import drops, papers, wires
from connectors.transports.wires import Wire, as_failure
from kernel.errors import Invalid
from kernel.http import Failure

MAX_FILES = 5_000
MAX_WRITTEN = 8 << 20
_UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".swp")
_NAME = re.compile(r"[^/\x00-\x1f\x7f]{1,200}")
Work = Callable[["Files", Mapping[str, Any]], tuple[int, Any]]


class Refused(Exception):  # noqa: N818 - it says what the server did
    """The call ends here: with a status, as HTTP would have it, and words."""

    def __init__(self, status: int, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.status, self.message = status, message


class Files:
    """An open SFTP session, and the few things done with it."""

    def __init__(self, session: paramiko.SFTPClient) -> None:
        """Keep the session."""
        self.session = session

    def names(self, folder: str, pattern: str, stable_seconds: int) -> list[drops.Found]:
        """Return the files of a folder that fit a pattern and do not grow any more, by name."""
        found = self._listed(folder, pattern)
        if found and stable_seconds:
            time.sleep(min(stable_seconds, 10))
            again = {(one.name, one.size, one.modified) for one in self._listed(folder, pattern)}
            found = [one for one in found if (one.name, one.size, one.modified) in again]
        return found

    def _listed(self, folder: str, pattern: str) -> list[drops.Found]:
        found: list[drops.Found] = []
        for count, one in enumerate(self.session.listdir_iter(folder)):
            if count >= MAX_FILES:
                raise Refused(413, f"the folder holds more than {MAX_FILES} entries")
            name = one.filename
            if not stat.S_ISREG(one.st_mode or 0) or name.startswith("."):
                continue
            if name.lower().endswith(_UNFINISHED) or not fnmatch.fnmatchcase(name, pattern):
                continue
            found.append(drops.Found(name, one.st_size or 0, int(one.st_mtime or 0)))
        return sorted(found, key=lambda one: one.name)

    def open(self, path: str) -> Any:
        """Open a file for reading."""
        return self.session.open(path, "rb")

    def move_aside(self, folder: str, name: str, aside: str) -> None:
        """Move a file into a folder below its own; a file of that name there is kept as well."""
        target = posixpath.join(folder, aside)
        with contextlib.suppress(OSError):
            self.session.mkdir(target)
        place = posixpath.join(target, name)
        if self._is_there(place):
            place = posixpath.join(target, f"{int(time.time())}-{name}")
        with contextlib.suppress(FileNotFoundError):  # moved before a crash that nobody noted
            self.session.rename(posixpath.join(folder, name), place)

    def _is_there(self, path: str) -> bool:
        try:
            self.session.stat(path)
        except FileNotFoundError:
            return False
        return True

    def put(self, path: str, content: bytes, mark: str) -> None:
        """Write a file under another name and give it its own at the end, in one go."""
        folder, name = posixpath.split(path)
        draft = posixpath.join(folder, f".{name}.{mark}.part")
        with self.session.open(draft, "wb") as file:
            file.write(content)
        try:
            self.session.posix_rename(draft, path)
        except OSError:
            if not self._is_there(draft):
                raise
            # a server without the extension: the old file has to go first
            with contextlib.suppress(FileNotFoundError):
                self.session.remove(path)
            self.session.rename(draft, path)


def _fingerprint(key: paramiko.PKey) -> str:
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@contextlib.contextmanager
def _session(wire: Wire, login: Any, asked: Mapping[str, Any], seconds: float) -> Iterator[Files]:
    transport = paramiko.Transport(wire.socket)
    transport.banner_timeout = transport.auth_timeout = seconds
    try:
        transport.start_client(timeout=seconds)
        _known(transport, str(asked.get("host_key") or ""))
        _sign_in(transport, login, asked)
        client = paramiko.SFTPClient.from_transport(transport, max_packet_size=1 << 15)
        if client is None:
            raise Refused(422, "the server offers no files (SFTP)")
        channel = client.get_channel()
        if channel is not None:
            channel.settimeout(seconds)
        yield Files(client)
    finally:
        transport.close()


def _known(transport: paramiko.Transport, stated: str) -> None:
    """Go on only with the server whose key was agreed upon."""
    found = _fingerprint(transport.get_remote_server_key())
    if not stated:
        raise Refused(428, f"{found} is the server's key; compare it and enter it")
    if not hmac.compare_digest(found, stated.strip()):
        raise Refused(409, f"{found} is the server's key now, and not the one that was entered")


def _sign_in(transport: paramiko.Transport, login: Any, asked: Mapping[str, Any]) -> None:
    try:
        if asked.get("private_key"):
            key = _private(str(asked["private_key"]))
            transport.auth_publickey(str(asked.get("username") or ""), key)
        elif login is not None:
            transport.auth_password(login[0], login[1])
        else:
            raise Refused(401, "a user name with a password or a key is needed")
    except paramiko.AuthenticationException as refused:
        raise Refused(401, str(refused)) from refused


_PEM = re.compile(r"(-----BEGIN [A-Z ]+-----)(.*?)(-----END [A-Z ]+-----)", re.DOTALL)


def _private(text: str) -> paramiko.PKey:
    """Read a key, also one whose line breaks were lost on the way through a form."""
    found = _PEM.search(text)
    if not found:
        raise Refused(401, "this is no private key")
    body = "".join(found[2].split())
    lines = [body[at : at + 70] for at in range(0, len(body), 70)]
    whole = "\n".join([found[1], *lines, found[3], ""])
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(whole))
        except (paramiko.SSHException, ValueError):
            continue
    raise Refused(401, "the private key cannot be read, or has a password")


def _answered(work: Work) -> Any:
    def carry(
        url: str, login: Any, asked: Mapping[str, Any], seconds: float
    ) -> tuple[int, Any] | Failure:
        started, late = time.monotonic(), False
        try:
            with wires.opened(url, seconds) as wire:
                try:
                    with _session(wire, login, asked, seconds) as files:
                        return work(files, asked)
                finally:
                    late = wire.is_late
        except Refused as refused:
            return refused.status, {"message": refused.message}
        except drops.BadFile as bad:
            return 422, {"message": str(bad)}
        except PermissionError as no:
            return 403, {"message": str(no) or "the server does not allow this"}
        except FileNotFoundError as no:
            return 404, {"message": str(no) or "there is no such file or folder"}
        except (OSError, EOFError, paramiko.SSHException, Invalid) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                return 503, {"message": "the server has no room left"}
            return as_failure(error, started, is_late=late)

    return carry


def _check(files: Files, asked: Mapping[str, Any]) -> tuple[int, Any]:
    files.session.stat(asked.get("folder") or ".")
    return 200, {"ok": True}


def _files(files: Files, asked: Mapping[str, Any]) -> tuple[int, Any]:
    """List a folder's files, some at a time."""
    folder, limit = asked["folder"], asked.get("limit", 200)
    found = files.names(folder, asked.get("pattern") or "*", asked.get("stable_seconds", 3))
    after, since = asked.get("page") or "", _seconds(asked.get("since"))
    rest = [one for one in found if one.name > after and one.modified >= since]
    items = [
        {
            "name": one.name,
            "path": posixpath.join(folder, one.name),
            "size": one.size,
            "modified_at": datetime.fromtimestamp(one.modified, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "id": one.identity,
        }
        for one in rest[:limit]
    ]
    following = rest[limit - 1].name if len(rest) > limit else None
    return 200, {"items": items, "next": following}


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _rows(files: Files, asked: Mapping[str, Any]) -> tuple[int, Any]:
    return 200, drops.page(files, asked)


def _write(files: Files, asked: Mapping[str, Any]) -> tuple[int, Any]:
    name = asked["name"]
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise Refused(422, "this is no name for a file")
    if asked.get("content_base64") is not None:
        try:
            content = base64.b64decode(asked["content_base64"], validate=True)
        except (binascii.Error, ValueError) as bad:
            raise Refused(422, "the content is not written in base64") from bad
    else:
        content = papers.written(name, asked.get("columns") or [], asked.get("rows") or [])
    if len(content) > MAX_WRITTEN:
        raise Refused(413, f"the file is over {MAX_WRITTEN >> 20} MiB")
    path = posixpath.join(asked["folder"], name)
    mark = hashlib.sha256(str(asked.get("mark", "")).encode()).hexdigest()[:12]
    files.put(path, content, mark)
    return 200, {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


WORKS = {
    "/check": _answered(_check),
    "/files": _answered(_files),
    "/rows": _answered(_rows),
    "/write": _answered(_write),
}
