"""The door of assistants: /mcp, the Model Context Protocol over HTTP, one request at a time.

It stands on the event loop in front of the web framework. Who calls is told by an API key; the
protocol is the official package's, which is loaded when the first assistant calls. Everything that
takes time happens in threads of its own, so that no event has to wait for an assistant.
"""

import asyncio
import importlib
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from connectors.assistants.calling import caller, in_thread
from identity import keyholders
from identity.keyholders import Holder
from kernel.settings import settings
from webhooks.gate import Asgi, Receive, Scope, Send, headers

PATH = "/mcp"
WAITING = 64  # requests that may be under way in one process
WAITING_EACH = 24  # of one organization, so that it leaves room for the others


_BUSY = (503, "busy", "Too many requests are under way; try again in a moment")


class Door:
    """ASGI middleware that serves assistants and passes everything else on."""

    def __init__(self, behind: Asgi) -> None:
        """Stand in front of `behind`."""
        self._behind = behind
        self._manager: Any = None
        self._runs: asyncio.Task[None] | None = None
        self._starts = asyncio.Lock()
        self._under_way = 0
        self._of_each: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what comes to /mcp."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await self._behind(scope, receive, send)
            return
        refused = await self._refusal(scope)
        if refused is not None:
            await _answer(send, *refused)
            return
        mine = caller.get()[0].organization_id
        if self._of_each[mine] >= WAITING_EACH:
            await _answer(send, *_BUSY)
            return
        self._under_way += 1
        self._of_each[mine] += 1
        try:
            manager = await self._started()
            await manager.handle_request(scope, receive, send)
        finally:
            self._under_way -= 1
            self._of_each[mine] -= 1
            if not self._of_each[mine]:
                del self._of_each[mine]

    async def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """Return why this request is not served; when it is, its caller is known."""
        found = headers(scope)
        if not _is_our_page(found.get("origin", "")):
            return 403, "origin", "Pages of other sites may not call this address"
        if self._under_way >= WAITING:
            return _BUSY
        if scope["method"] != "POST":
            # a GET asks for a stream: nothing is ever said in one, and it would stay for good
            return 405, "method_not_allowed", "Send requests by POST; there is no stream to read"
        language = _language(scope, found)
        secret = keyholders.of_header(found.get("authorization", ""))
        held = Holder()
        if secret is not None:
            address = (scope.get("client") or (None,))[0]
            held = await in_thread(
                lambda: keyholders.of_secret(secret, language=language, address=address)
            )
        if held.suspended is not None:
            return 403, "suspended", "This organization is suspended"
        if held.principal is None:
            return 401, "unauthenticated", "Send an API key: Authorization: Bearer yfk_…"
        caller.set((held.principal, language))
        return None

    async def _started(self) -> Any:
        """Return the protocol's manager, started with the first request of this event loop."""
        async with self._starts:
            if self._runs is None or self._runs.done():
                # the package takes 60 MB of memory, which hubs without assistants do not spend
                protocol = importlib.import_module("connectors.assistants.protocol")
                self._manager, is_up = protocol.manager(), asyncio.Event()
                self._runs = asyncio.create_task(_run(self._manager, is_up))
                await is_up.wait()
        return self._manager


async def _run(manager: Any, is_up: asyncio.Event) -> None:
    async with manager.run():
        is_up.set()
        await asyncio.Event().wait()


def _is_our_page(origin: str) -> bool:
    """Tell whether a browser's page may ask; programs send no origin."""
    return not origin or urlsplit(origin)[:2] == urlsplit(settings().base_url)[:2]


def _language(scope: Scope, found: Any) -> str:
    wished = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("lang", [""])[-1]
    wished = wished or found.get("accept-language", "")
    return "en" if wished.lower().startswith("en") else "zh"


async def _answer(send: Send, status: int, code: str, words: str) -> None:
    body = orjson.dumps({"code": code, "title": words})
    told = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 405:
        told.append((b"allow", b"POST"))
    if status == 401:
        told.append((b"www-authenticate", b'Bearer realm="yangfan"'))
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
