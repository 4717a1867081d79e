"""The receiver: two doors that note every arrival, one for an endpoint, one for a flow's requests.

It answers 2xx to copies too, as receivers that know ids do.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from bench.faults.ledger import Ledger
from bench.orders import number_in
from bench.sink import QuietServer, is_genuine

# Looks at the door, the order's number and the body before they are noted; may take its time.
Hook = Callable[[str, int | None, bytes], None]


class Receiver:
    """An HTTP server on threads; set `secret` once the endpoint is registered."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.ledger, self.port = ledger, port
        self.url = f"http://127.0.0.1:{port}"
        self.secret: str | None = None
        self.hook: Hook | None = None
        self._server = QuietServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Note a request and return the status of the answer."""
        number = number_in(body)
        if path.startswith("/endpoint"):
            if not is_genuine(self.secret, headers, body):
                self.ledger.forged += 1
                return 401
            door, key = self.ledger.endpoint, headers["webhook-id"]
        else:
            door, key = self.ledger.flow, headers.get("idempotency-key", "")
        if self.hook:
            self.hook(path, number, body)
        self.ledger.note_arrival(door, key, number, body)
        return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) < int(self.headers["Content-Length"]):
                    return  # cut off in the middle: nothing has arrived
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.take(self.path, headers, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Stay quiet."""

        return Handler
