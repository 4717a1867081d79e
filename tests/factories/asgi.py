"""Ask an ASGI application as a server would, without one."""

import asyncio
import json
from dataclasses import dataclass


@dataclass
class Answer:
    """What an application answered."""

    status_code: int
    headers: dict
    data: bytes

    def get_json(self):
        return json.loads(self.data)


def ask(app, path, chunks=(), *, method="POST", headers=(), hangs_up=False):
    """Send a request whose body comes in chunks; None when nothing was answered."""
    parts = list(chunks) or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": hangs_up or n + 1 < len(parts)}
        for n, part in enumerate(parts)
    ]
    scope = {
        "type": "http", "method": method, "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(), "http_version": "1.1",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5), "scheme": "http", "root_path": "",
    }  # fmt: skip
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    if not sent:
        return None
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))
