"""The gate: the short way in for POST /in/<token>, in front of the web framework.

What is simply accepted is answered here, at a third of the framework's cost. Whatever needs words
(a refusal, a rejected event) goes on to the route in routes/door.py with its outcome.
"""

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from kernel import log
from kernel.errors import Problem
from webhooks import intake
from webhooks.intake import Received

_logger = log.get_logger(__name__)
OUTCOME = "yangfan.taken_in"
_CHUNK = 64 * 1024
_PATH = "/in/"
_HEADERS = [
    ("Content-Type", "application/json"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Gate:
    """WSGI middleware that takes events in before the application behind it is asked."""

    def __init__(self, behind: Wsgi) -> None:
        """Stand in front of `behind`."""
        self._behind = behind

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer an accepted delivery; pass everything else on."""
        token = _token(environ)
        if token is None:
            return self._behind(environ, start_response)
        try:
            outcome: Received | Problem = intake.take_in(token, headers(environ), _reader(environ))
        except Problem as problem:
            outcome = problem
        except Exception:
            _logger.exception("intake_crashed")
            outcome = Problem()
        if isinstance(outcome, Problem) or outcome.rejected or not outcome.accepted:
            environ[OUTCOME] = outcome
            return self._behind(environ, start_response)
        body = answer(outcome)
        start_response("202 ACCEPTED", [*_HEADERS, ("Content-Length", str(len(body)))])
        return [body]


def _token(environ: dict[str, Any]) -> str | None:
    """Return the address's token when this request may take the short way."""
    path: str = environ.get("PATH_INFO", "")
    if environ["REQUEST_METHOD"] != "POST" or not path.startswith(_PATH):
        return None
    # a body without an announced or marked end can only be read by who knows the connection
    if not environ.get("CONTENT_LENGTH", "").isdigit() and not environ.get("wsgi.input_terminated"):
        return None
    token = path[len(_PATH) :]
    return token if token and "/" not in token else None


def headers(environ: dict[str, Any]) -> dict[str, str]:
    """Return a request's headers, names in small letters."""
    found = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    found["content-type"] = environ.get("CONTENT_TYPE") or ""
    found["content-length"] = environ.get("CONTENT_LENGTH") or ""
    return found


def _reader(environ: dict[str, Any]) -> Callable[[int], bytes]:
    stream = environ["wsgi.input"]
    announced = environ.get("CONTENT_LENGTH", "")

    def read(most: int) -> bytes:
        """Read at most so many bytes, however the sender cuts them up."""
        left = min(most, int(announced)) if announced.isdigit() else most
        parts: list[bytes] = []
        while left > 0:
            part = stream.read(min(left, _CHUNK))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return read


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
