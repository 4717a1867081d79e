"""A wire that can be harmed: a TCP proxy between the hub and what it talks to.

Between two ports of loopback bytes go through as they are, until told otherwise:

- `cut`: every connection is reset, and so is every new one;
- `hole`: new connections are taken and never answered, bytes on old ones vanish; who lived through
  it is reset when it heals, as by a firewall that forgot its connections;
- `late`: every piece waits for a while in each direction;
- `trickle`: a few bytes at a time.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
KINDS = ("cut", "hole", "late", "trickle")
LATE_SECONDS = 0.15
TRICKLE_BYTES, TRICKLE_SECONDS = 64, 0.02
_RESET = struct.pack("ii", 1, 0)


class _Wire:
    """A connection: the near and, once there is one, the far end."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.ends = [near]
        self.is_harmed = False

    def reset(self) -> None:
        for end in self.ends:
            found: socket.socket | None = end.get_extra_info("socket")
            with contextlib.suppress(OSError):
                if found is not None:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class Proxy:
    """Listens on a port of its own, in a thread of its own."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.fault: str | None = None
        self.harmed = 0  # connections that noticed
        self._wires: set[_Wire] = set()
        self._loop = asyncio.new_event_loop()
        self._healed = asyncio.Event()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server = self._do(asyncio.start_server(self._meet, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def harm(self, kind: str) -> None:
        """Begin a fault."""
        if kind not in KINDS:
            raise ValueError(kind)
        self._do(self._harm(kind))

    def heal(self) -> None:
        """Let everything through again."""
        self._do(self._heal())

    def stop(self) -> None:
        """Close everything."""
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _harm(self, kind: str) -> None:
        self.fault = kind
        self._healed.clear()
        if kind == "cut":
            self.harmed += len(self._wires)
            self._reset(self._wires)

    async def _heal(self) -> None:
        self.fault = None
        self._healed.set()
        self._reset({wire for wire in self._wires if wire.is_harmed})

    async def _stop(self) -> None:
        self._server.close()
        self._reset(self._wires)
        self._healed.set()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @staticmethod
    def _reset(wires: set[_Wire]) -> None:
        for wire in list(wires):
            wire.reset()

    async def _meet(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        wire = _Wire(near)
        self._wires.add(wire)
        try:
            if self.fault == "cut":
                self.harmed += 1
                wire.reset()
            elif self.fault == "hole":
                self._note(wire)
                await self._healed.wait()
            else:
                await self._join(wire, reader)
        except OSError:
            wire.reset()
        finally:
            self._wires.discard(wire)
            for end in wire.ends:
                end.close()

    async def _join(self, wire: _Wire, reader: asyncio.StreamReader) -> None:
        answers, far = await asyncio.open_connection("127.0.0.1", self.to_port)
        wire.ends.append(far)
        pumps = [
            asyncio.ensure_future(self._pump(wire, reader, far)),
            asyncio.ensure_future(self._pump(wire, answers, wire.ends[0])),
        ]
        # one end that is done ends both, as with everything that speaks here
        _, left = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in left:
            pump.cancel()
        for pump in pumps:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await pump

    async def _pump(
        self, wire: _Wire, source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65536):
            if self.fault == "hole" or wire.is_harmed:
                self._note(wire)
            elif self.fault == "trickle":
                await self._trickle(data, wire, to)
            else:
                if self.fault == "late":
                    await asyncio.sleep(LATE_SECONDS)
                to.write(data)
                await to.drain()

    async def _trickle(self, data: bytes, wire: _Wire, to: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(data):
            size = TRICKLE_BYTES if self.fault == "trickle" else len(data)
            if self.fault == "hole":
                self._note(wire)
                return
            to.write(data[at : at + size])
            await to.drain()
            at += size
            await asyncio.sleep(TRICKLE_SECONDS)

    def _note(self, wire: _Wire) -> None:
        self.harmed += not wire.is_harmed
        wire.is_harmed = True
