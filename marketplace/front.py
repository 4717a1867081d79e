"""The front: what stands between the event loop and the application.

It waits for a request's last byte before anybody looks at it, so that a slow sender holds nothing
but its own connection; then the gate takes events in, and everything else gets a thread.
"""

import asyncio
from typing import Any

from a2wsgi import WSGIMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connectors.assistants.door import Door
from kernel.settings import settings
from marketplace import balance
from webhooks.gate import BODY, Asgi, Gate, Receive, Scope, Send

# Flask refuses what is larger than it may be, in its own words, by the length alone.
MAX_BODY_BYTES = (2 << 20) + 1
BODY_SECONDS = 30.0
HEAD_SECONDS = 20.0
MAX_HEAD_BYTES = 64 * 1024
# An answer's pieces that may wait for a slow reader, so that its thread is free again.
PIECES = 4096


class Front:
    """ASGI application: reads requests whole and passes them on."""

    def __init__(self, application: Any) -> None:
        """Stand in front of a WSGI application."""
        threads = settings().web_threads
        framework: Any = WSGIMiddleware(application, workers=threads, send_queue_size=PIECES)
        self._behind: Asgi = Gate(Door(framework))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the whole body, then hand the request on with it."""
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            await _give_up(send)
            return
        if body is None:
            return  # the sender hung up half-way
        scope[BODY] = body
        scope["headers"] = _with_length(_unambiguous(scope["headers"]), len(body))
        await self._behind(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if part and size < MAX_BODY_BYTES:
            parts.append(part[: MAX_BODY_BYTES - size])
        size += len(part)
        # what is too large is not read to its end: it may have none
        if not message.get("more_body") or size >= MAX_BODY_BYTES:
            return parts[0] if len(parts) == 1 else b"".join(parts)


Headers = list[tuple[bytes, bytes]]


def _unambiguous(headers: Headers) -> Headers:
    """Leave out names with an underscore: WSGI could not tell X_Real_IP from X-Real-IP."""
    return [(name, value) for name, value in headers if b"_" not in name]


def _with_length(headers: Headers, length: int) -> Headers:
    """Announce the length of a body that came in chunks."""
    if not length or any(name == b"content-length" for name, _ in headers):
        return headers
    kept = [(name, value) for name, value in headers if name != b"transfer-encoding"]
    return [*kept, (b"content-length", str(length).encode())]


def _replay(body: bytes, receive: Receive) -> Receive:
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return left.pop() if left else await receive()

    return again


async def _give_up(send: Send) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 408, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 that hangs up on who sends no whole request head in time, or an endless one."""

    _head_bytes = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request."""
        super().connection_made(transport)
        balance.opened()
        self._patience = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that has not ended yet."""
        if self._patience is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES + len(data):
                self._hang_up()
                return
        elif self.cycle is None or self.cycle.response_complete:
            self._head_bytes = len(data)
            self._patience = self.loop.call_later(HEAD_SECONDS, self._hang_up)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        balance.closed()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._head_bytes = 0

    def _hang_up(self) -> None:
        self._stop_clock()
        if not self.transport.is_closing():
            self.transport.close()
