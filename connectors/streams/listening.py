"""Listening: threads that hold streams open, each message acknowledged once it is committed.

claim (commit) → ticket → WebSocket → message → event (commit) → acknowledgement. A process that
dies in between has acknowledged nothing: the gateway sends it again, and its id is known then.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from connectors import connections, masking
from connectors.connections import Open
from connectors.engine import grants, requests
from connectors.engine.findings import Say, say
from connectors.engine.lines_open import Stream
from connectors.streams import frames, holds
from connectors.streams.frames import Frame
from connectors.streams.tables import HELD_STREAM, HeldStream
from connectors.transports import wires
from kernel import addresses, clock, http, log, queue
from kernel.database import EVERY, StoreUnavailable, reading, write
from kernel.errors import Invalid, Problem
from webhooks import addresses as source_addresses
from webhooks import drain, fetched, sources, workers
from webhooks.addresses import OpenSource
from webhooks.errors import BacklogFull, OverQuota

MOST = 40  # streams that one process holds
OPEN_SECONDS = 20
LISTEN_SECONDS = 5.0  # so long at most until a stream that was switched off is left
RENEW_SECONDS = 20.0
PING_SECONDS = 60
_logger = log.get_logger(__name__)
_threads: list[threading.Thread] = []
os.register_at_fork(after_in_child=_threads.clear)

NO_TICKET = say(
    "对方没有接受这次接入，请检查凭据和应用权限",
    "The app let nobody in; check credentials and rights",
)
BROKEN = say("连接断开，稍后会自动重连", "The line broke; it is opened again soon")
UNUSABLE = say("连接不可用，请先重新连接", "The connection cannot be used; connect again first")


class Trouble(Exception):  # noqa: N818 - it says why nobody listens
    """The stream cannot be held now; `problem` says why."""

    def __init__(self, cause: str, words: Say, detail: str = "") -> None:
        """Keep the problem."""
        super().__init__(words["en"])
        self.problem = {"cause": cause, "say": dict(words), "detail": detail[:500] or None}


class _Left(Exception):  # noqa: N818 - it says what happened
    """The gateway asked to be called anew, or somebody else holds the stream."""


def hold(row: HeldStream) -> None:
    """Listen until the line ends, the lease is lost or the process stops."""
    ear = _Ear(row)
    problem: Mapping[str, Any] | None = None
    try:
        ear.listen()
    except _Left:
        pass
    except Trouble as trouble:
        problem = trouble.problem
    except StoreUnavailable:
        return  # the lease runs out and somebody goes on once the store is back
    except Exception:
        _logger.exception("stream_broke", source=row.id)
        problem = {"cause": "down", "say": dict(BROKEN), "detail": None}
    still = partial(holds.let_go, row=row, messages=ear.count, problem=problem)
    write(still, row.organization_id)


class _Ear:
    """One stream under a process's hands."""

    def __init__(self, row: HeldStream) -> None:
        self.row, self.count, self.renewed_at = row, 0, time.monotonic()

    def listen(self) -> None:
        opened, source, stream = self._ground()
        url = _address(opened, stream)
        try:
            found = addresses.open_socket(url.partition("?")[0], time.monotonic() + OPEN_SECONDS)
        except (Invalid, OSError) as lost:
            words = lost.plain() if isinstance(lost, Invalid) else str(lost)
            raise Trouble("down", BROKEN, words) from lost
        try:
            with connect(
                url, sock=found, ssl=wires.CONTEXT(), server_hostname=urlsplit(url).hostname,
                open_timeout=OPEN_SECONDS, ping_interval=PING_SECONDS, ping_timeout=PING_SECONDS,
                max_size=frames.MAX_FRAME, compression=None, proxy=None,
            ) as line:  # fmt: skip
                self._renew(is_new=True)
                self._take(line, source, stream.prefix)
        except (ConnectionClosed, WebSocketException, OSError, EOFError) as lost:
            raise Trouble("down", BROKEN, f"{type(lost).__name__}: {lost}") from lost

    def _ground(self) -> tuple[Open, OpenSource, Stream]:
        organization_id = self.row.organization_id
        with reading(organization_id) as session:
            connection = connections.find(session, organization_id, self.row.connection_id)
            opened = connections.open_connection(connection)
            source = sources.get(session, organization_id, self.row.id)
            ready = source_addresses.opened(source)
        if not opened.is_usable or opened.connector.stream is None:
            raise Trouble("auth", UNUSABLE)
        return opened, ready, opened.connector.stream

    def _take(self, line: Any, source: OpenSource, prefix: str) -> None:
        while not drain.is_stopping():
            try:
                raw = line.recv(timeout=LISTEN_SECONDS)
            except TimeoutError:
                self._renew()
                continue
            frame = frames.read(raw)
            if frame is None:
                continue
            is_kept = not frame.is_message or self._keep(source, frame, prefix)
            line.send(frames.answer(frame, is_kept=is_kept))
            if frame.is_disconnect:
                raise _Left
            self._renew()
        raise _Left

    def _keep(self, source: OpenSource, frame: Frame, prefix: str) -> bool:
        """Store what a frame brings; False: not now, it is to be sent again."""
        told = frames.delivery(frame, prefix)
        if told is None:
            _logger.warning("stream_frame_unread", source=source.id, kind=frame.kind)
            return True  # sent again it would be no better
        try:
            fetched.take_in(source, fetched.read(source, *told, clock.now()))
        except (OverQuota, BacklogFull):
            return False
        except StoreUnavailable:
            raise  # unacknowledged it is sent again
        except Problem as unread:
            _logger.warning("stream_frame_unread", source=source.id, why=unread.code)
            return True
        self.count += 1
        return True

    def _renew(self, *, is_new: bool = False) -> None:
        if not is_new and time.monotonic() - self.renewed_at < RENEW_SECONDS and self._is_mine():
            return
        note = partial(holds.renew, row=self.row, messages=self.count, is_new=is_new)
        if not write(note, self.row.organization_id):
            raise _Left
        self.count, self.renewed_at = 0, time.monotonic()

    def _is_mine(self) -> bool:
        with reading(self.row.organization_id) as session:
            now = holds.of_row(session, self.row)
            if now.state == "held" and now.lease_epoch == self.row.lease_epoch:
                return True
        raise _Left


def _address(opened: Open, stream: Stream) -> str:
    """Ask for a ticket and return where it leads; only hosts of the manifest's are called."""
    values = replace(opened.values, token=None)
    request = requests.build_token(opened.connector, values, stream.open)
    assert request is not None
    outcome = http.send(request)
    answer = grants.read(opened.connector, stream.open, outcome)
    if answer.kind != "ok":
        detail = masking.keep(answer.detail, opened.secrets)
        raise Trouble(answer.cause or "down", answer.say or NO_TICKET, str(detail or ""))
    texts = answer.output.texts
    url, ticket = str(texts.get("endpoint", "")), str(texts.get("ticket", ""))
    host = urlsplit(url).hostname or ""
    if not url.startswith("wss://") or not _is_own(host, stream.hosts):
        raise Trouble("config", NO_TICKET, f"the stream leads to {host or url}"[:200])
    return f"{url}?ticket={quote(ticket, safe='')}"


def _is_own(host: str, hosts: Sequence[str]) -> bool:
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts)


def sweep() -> int:
    """Take streams that nobody holds, each in a thread of its own; returns how many."""
    if not queue.is_consuming():
        return 0
    with reading(EVERY) as session:
        waiting = session.execute(HELD_STREAM.select().where(*holds.due(session)).limit(1)).first()
    if waiting is None:
        return 0
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    taken = 0
    while len(_threads) < MOST:
        row = write(partial(holds.claim, worker_id=workers.name()))
        if row is None:
            break
        thread = threading.Thread(target=hold, args=(row,), name="stream", daemon=True)
        thread.start()
        _threads.append(thread)
        taken += 1
    return taken
