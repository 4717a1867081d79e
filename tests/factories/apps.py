"""Apps that exist for one test: a connector from a manifest's text, a server that answers."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from textwrap import dedent, indent
from urllib.parse import parse_qsl, urlsplit

from connectors.engine import loader
from kernel.settings import settings, settings_override

HEAD = """
hub: 1
connector:
  key: made-up
  version: 1.0.0
  title: {zh: 试用, en: Made up}
  summary: {zh: 只在一个测试里存在的应用。, en: An app that exists for one test.}
  slots: [organization.finance]
  hosts: [api.made-up.example, other.made-up.example]
  settings_hosts: [base_url]
  support: {url: "https://made-up.example"}
settings:
  type: object
  properties: {base_url: {type: string}, code: {type: string}}
"""
READ = """
  look:
    title: {zh: 看, en: Look}
    effect: read
    input: {type: object}
    output: {}
    request: {method: GET, path: /look}
    sample: {input: {}, output: {}}
"""


def connector(folder, parts: str, actions: str = READ):
    """Load a connector whose manifest has these parts besides the usual head."""
    place = folder / "made-up"
    place.mkdir(exist_ok=True)
    actions = indent(dedent(actions).strip("\n"), "  ")
    text = HEAD + dedent(parts) + "\nactions:\n" + actions + "\n"
    (place / "manifest.yaml").write_text(text, encoding="utf-8")
    return loader.load(place)


def in_library(monkeypatch, made):
    """Put a connector into the library for the length of a test."""
    library = {**loader.library(), made.key: made}
    monkeypatch.setattr(loader, "library", lambda: library)
    return made


@dataclass
class Call:
    """One request as a server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    target: str = ""

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.raw.decode(), keep_blank_values=True))

    @property
    def json(self):
        """The body as JSON."""
        return json.loads(self.raw)


@dataclass
class App:
    """A server whose answers are made by a function."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def to(self, part: str) -> list[Call]:
        """The calls whose path has a part."""
        return [call for call in self.calls if part in call.path]


@contextmanager
def serve(answer):
    """Serve `answer(call) -> (status, dict | bytes | None)`; None hangs up without a word."""
    app = App()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self):
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            call = Call(self.command, parts.path, query, headers, raw, self.path)
            app.calls.append(call)
            status, said = answer(call)
            if said is None:
                self.close_connection = True
                return
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _take  # noqa: N815 - the names that http.server calls

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True).start()
    port = server.server_address[1]
    app.url = f"http://127.0.0.1:{port}"
    allowed = (*settings().outbound_allow, f"127.0.0.1:{port}")
    try:
        with settings_override(outbound_allow=allowed):
            yield app
    finally:
        server.shutdown()
        server.server_close()
