"""The gate: the short way in for POST /in/<token>, on the event loop, in front of the framework.

What is simply accepted is answered here. Whatever needs words (a refusal, a rejected event, a
store that is away) is left to the route in routes/door.py, with what was found out, so that nothing
is verified and read twice; until then nothing of it is stored. No thread is held while a sender or
the store takes its time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import orjson

from kernel import log
from kernel.errors import Problem
from webhooks import inbox, intake, quotas
from webhooks.events import Arrival
from webhooks.intake import Judged, Received
from webhooks.letters import Answer, Letter
from webhooks.memory import NotInMemory
from webhooks.openings import Asked
from webhooks.recipes.reading import ALONE

_logger = log.get_logger(__name__)
BODY = "yangfan.body"  # where in the scope the whole body is, if whoever stands in front read it
EXAMINED = "yangfan.examined"  # where in the scope the route finds what came of the look here
# Judging a larger body would hold the loop up; a thread does that.
SMALL_BYTES = 64 * 1024
_PATH = "/in/"
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", ALONE.encode()),
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """ASGI middleware that takes events in before the application behind it is asked."""

    def __init__(self, behind: Asgi) -> None:
        """Stand in front of `behind`."""
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an accepted delivery; pass everything else on."""
        token = _token(scope)
        received = None if token is None else await _take_in(token, scope)
        if received is None:
            await self._behind(scope, receive, send)
            return
        status, kind, body = told(received)
        headers = [
            (b"content-type", kind.encode()),
            *_HEADERS,
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _token(scope: Scope) -> str | None:
    """Return the address's token when this request may take the short way."""
    if scope["type"] != "http" or scope["method"] != "POST" or BODY not in scope:
        return None
    path: str = scope["path"]
    token = path[len(_PATH) :] if path.startswith(_PATH) else ""
    return token if token and "/" not in token else None


async def _take_in(token: str, scope: Scope) -> Received | None:
    """Store what is good throughout; None when the route has to look at it."""
    started = time.perf_counter()
    raw: bytes = scope[BODY]
    try:
        judged = await _judge(token, headers(scope), raw, asked(scope))
        if not judged.events:
            return intake.tell(judged, [], started)
        if any(event.problem for event in judged.events):
            scope[EXAMINED] = judged
            return None
        with quotas.admit(judged.organization_id, judged.source_id, len(judged.events)):
            stored = await _stored(Arrival(judged.organization_id, judged.source_id, judged.events))
    except Problem as problem:
        scope[EXAMINED] = problem
        return None
    except Exception:
        _logger.exception("intake_crashed")
        return None
    return intake.tell(judged, stored, started)


async def _judge(token: str, found: Mapping[str, str], raw: bytes, beside: Asked) -> Judged:
    if len(raw) <= SMALL_BYTES:
        try:
            return intake.examine(token, found, raw, asked=beside, from_memory=True)
        except NotInMemory:
            pass
    examine = partial(intake.examine, token, found, raw, asked=beside)
    return await asyncio.get_running_loop().run_in_executor(None, examine)


async def _stored(arrival: Arrival) -> Any:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def tell(told: Answer) -> None:
        loop.call_soon_threadsafe(_resolve, future, told)

    inbox.post(Letter(arrival, tell))
    return await future


def _resolve(future: "asyncio.Future[Any]", told: Answer) -> None:
    if future.done():
        return  # the sender has hung up; it will send again and be told of a duplicate
    if isinstance(told, Exception):
        future.set_exception(told)
    else:
        future.set_result(told)


def headers(scope: Scope) -> dict[str, str]:
    """Return a request's headers, names in small letters."""
    found = {"content-type": "", "content-length": ""}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if found.get(key) else text
    return found


def asked(scope: Scope) -> Asked:
    """Return what a request is beside its headers and body."""
    return Asked(scope["method"], scope["path"], scope.get("query_string", b""))


def told(received: Received) -> tuple[int, str, bytes]:
    """Return status, content type and body for a sender whose events were all accepted."""
    reply = received.reply
    if reply is None:
        return 202, "application/json", answer(received)
    return reply.status, reply.content_type, reply.body


def answer(received: Received) -> bytes:
    """Say what became of events that were all accepted."""
    if not received.is_list:
        accepted = [{"id": one.id, "duplicate": one.is_duplicate} for _, one in received.accepted]
        return orjson.dumps({"accepted": accepted})
    accepted = [
        {"id": one.id, "duplicate": one.is_duplicate, "index": index}
        for index, one in received.accepted
    ]
    return orjson.dumps({"accepted": accepted, "rejected": []})
