"""Wires: one connection to a server that speaks no HTTP, guarded, encrypted and with an end."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import certifi

from kernel import addresses
from kernel.errors import Invalid
from kernel.http import Failure


def CONTEXT() -> ssl.SSLContext:  # noqa: N802 - a hook: tests trust an authority of their own
    """Return how servers are proved: by a public authority, under the name that was asked for."""
    context = ssl.create_default_context(
        cafile=ssl.get_default_verify_paths().cafile or certifi.where()
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Unsafe(Exception):  # noqa: N818 - it says what the wire is
    """What would go over the wire could be read by others."""


class TooMuch(Exception):  # noqa: N818 - it says what came
    """A server says more than is taken from it."""


@dataclass
class Wire:
    """A connected socket; it is cut when its time is over, whatever waits for it."""

    url: str
    until: float
    socket: Any
    host: str
    is_late: bool = False
    _timer: threading.Timer | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Let the clock run."""
        self._timer = threading.Timer(max(0.0, self.until - time.monotonic()), self._cut)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the clock and hang up."""
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError):
            self.socket.close()

    def _cut(self) -> None:
        """Shut the socket: a server that sends a byte now and then cannot hold anybody longer."""
        self.is_late = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(2)

    def secure(self) -> Any:
        """Encrypt the wire from here on, and return the socket; raises ssl.SSLError."""
        self.socket = CONTEXT().wrap_socket(self.socket, server_hostname=self.host)
        return self.socket


@contextlib.contextmanager
def opened(url: str, seconds: float) -> Iterator[Wire]:
    """Connect to where a URL says, for so long; raises Invalid, OSError."""
    until = time.monotonic() + seconds
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}"
    found = addresses.open_socket(place, until)
    with Wire(url, until, found, parts.hostname or "") as wire:
        yield wire


def as_failure(error: BaseException, started: float, *, is_late: bool = False) -> Failure:
    """Return why no answer came, in the words of kernel.http."""
    ms = round((time.monotonic() - started) * 1000)
    if isinstance(error, Invalid):
        return Failure(error.code or "refused_address", error.plain(), elapsed_ms=ms)
    if isinstance(error, Unsafe):
        return Failure("tls", str(error), elapsed_ms=ms)
    if isinstance(error, TooMuch):
        return Failure("too_large", str(error), elapsed_ms=ms)
    if is_late or isinstance(error, TimeoutError):
        return Failure("timeout", "the server did not answer in time", elapsed_ms=ms)
    if isinstance(error, ssl.SSLError):
        return Failure("tls", str(error), elapsed_ms=ms)
    kind = "dns" if type(error).__name__ == "gaierror" else "connect"
    return Failure(kind, str(error) or type(error).__name__, elapsed_ms=ms)
