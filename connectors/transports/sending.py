"""Sending: a request goes to HTTP or to the transport that its address names.

Takes the place of kernel.http.send and send_all wherever a connector's request goes out.
"""

import base64
import contextvars
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

from connectors.transports import imap, sftp, smtp
from connectors.transports.wires import as_failure
from kernel import documents, http, log
from kernel.errors import Problem
from kernel.http import Failure, Request, Response, Tell

# An operation: given the address, who calls, what is asked and for how long; gives status and body.
Login = tuple[str, str] | None
Work = Callable[[str, Login, Mapping[str, Any], float], tuple[int, Any] | Failure]
WORKS: dict[str, Mapping[str, Work]] = {
    "smtp": smtp.WORKS,
    "smtps": smtp.WORKS,
    "imap": imap.WORKS,
    "imaps": imap.WORKS,
    "sftp": sftp.WORKS,
}
_logger = log.get_logger(__name__)


def send(request: Request) -> Response | Failure:
    """Send one request and wait for its answer; never raises for anything the target does."""
    return carry(request) if _scheme(request) in WORKS else http.send(request)


def send_all(
    requests: Sequence[Request], limit: int = 16, tell: Tell | None = None
) -> list[Response | Failure]:
    """Send requests, `limit` at a time, and return their answers in the same order.

    `tell` is given each request's place and answer as soon as it is there.
    """
    others = [place for place, one in enumerate(requests) if _scheme(one) in WORKS]
    if not others:
        return http.send_all(requests, limit=limit, tell=tell)
    answers: dict[int, Response | Failure] = {}

    def note(place: int, answer: Response | Failure) -> None:
        answers[place] = answer
        if tell is not None:
            tell(place, answer)

    with ThreadPoolExecutor(
        max_workers=max(1, min(limit, len(others))), thread_name_prefix="wire"
    ) as pool:
        started = {pool.submit(_in_context(), requests[place]): place for place in others}
        plain = [place for place in range(len(requests)) if place not in set(others)]
        if plain:
            http.send_all(
                [requests[place] for place in plain],
                limit=limit,
                tell=lambda at, answer: note(plain[at], answer),
            )
        for done in as_completed(started):
            note(started[done], done.result())
    return [answers[place] for place in range(len(requests))]


def _in_context() -> Callable[[Request], Response | Failure]:
    context = contextvars.copy_context()
    return lambda request: context.run(carry, request)


def carry(request: Request) -> Response | Failure:
    """Carry one request out over its own protocol."""
    started = time.monotonic()
    path = urlsplit(request.url).path
    work = WORKS[_scheme(request)].get(path)
    if work is None or request.method != "POST":
        return Failure("invalid_request", f"there is no operation {path[:80]}", is_ours=True)
    try:
        asked = documents.parse(request.body) if request.body else {}
        found = work(request.url, _login(request), asked, request.timeout_seconds)
    except Problem as problem:
        return as_failure(problem, started)
    except Exception as error:  # our bug must not take the lane along
        _logger.exception("transport_broke", scheme=_scheme(request))
        return Failure("protocol", f"{type(error).__name__}: {error}"[:300], is_ours=True)
    if isinstance(found, Failure):
        return found
    status, told = found
    body = documents.dump(told)
    if len(body) > request.max_response_bytes:
        return Failure("too_large", f"more than {request.max_response_bytes} bytes")
    ms = round((time.monotonic() - started) * 1000)
    headers = {"content-type": "application/json"}
    return Response(status, headers, body, truncated=False, elapsed_ms=ms)


def _scheme(request: Request) -> str:
    return request.url.partition(":")[0]


def _login(request: Request) -> Login:
    """Read who calls out of HTTP Basic, which is how the engine writes it."""
    stated = {name.lower(): value for name, value in request.headers.items()}.get(
        "authorization", ""
    )
    kind, _, text = stated.partition(" ")
    if kind != "Basic":
        return None
    try:
        name, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return None
    return name, secret
