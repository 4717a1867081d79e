"""Calls other people's servers: every address vetted, every request bounded, many at once.

kernel.addresses reads the URL, looks the name up and vets all answers; here they are pinned, and
the socket's address is vetted again. libcurl itself follows, decompresses and looks up nothing.
"""

import errno
import os
import re
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

import certifi
import pycurl

from kernel.addresses import UNSAFE, is_forbidden, read_url, refuse
from kernel.errors import N_, Invalid
from kernel.settings import settings

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_HEADER_BYTES = 64 << 10
_POOLS: "dict[tuple[int, int], _Pool]" = {}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Who we are to a target that asks for it: a certificate, with its chain, and its key."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What to send; `timeout_seconds` spans everything from the name lookup to the last byte.

    Without `may_repeat` it goes over a connection of its own: on a kept one that turns out to be
    dead, libcurl would quietly send it a second time. So does one with a certificate: a kept
    connection speaks for whoever opened it.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_seconds: float = 15
    max_response_bytes: int = 65536
    follow_redirects: int = 0
    may_repeat: bool = True
    certificate: ClientCertificate | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: header names in small letters, the body as sent, never decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no answer came; `is_ours` when the target must not be blamed for it."""

    kind: str  # refused_address invalid_request dns connect tls timeout too_large protocol
    detail: str
    is_ours: bool = False
    elapsed_ms: int = 0


# Told of one of several requests, by its place, what became of it.
Tell = Callable[[int, Response | Failure], None]


def send(request: Request) -> Response | Failure:
    """Send one request and wait for its answer; never raises for anything the target does."""
    return send_all([request])[0]


def send_all(
    requests: Sequence[Request], limit: int = 16, tell: Tell | None = None
) -> list[Response | Failure]:
    """Send requests, `limit` at a time, and return their answers in the same order.

    A request's clock starts when its turn comes, so a batch may take `timeout_seconds` times the
    number of rounds. While others wait, one host and port gets no more than half of the places.
    `tell` is given each request's place and answer as soon as it is there.
    """
    # a forked child finds no pool of its own; the parent's stay open there, unused and unclosed
    key = (os.getpid(), threading.get_ident())
    pool = _POOLS.pop(key, None) or _Pool()
    answers = pool.run(requests, max(1, limit), tell or (lambda _place, _answer: None))
    _POOLS[key] = pool  # but not after an exception, which may leave requests in it
    return answers


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:;|: [^\x00-\x08\x0a-\x1f\x7f]+)")
# written by libcurl alone: a second opinion on where a request ends is how one is smuggled
_OWN_HEADER = re.compile(
    r"connection|content-length|expect|host|keep-alive|proxy-.+|te|trailer|transfer-encoding|upgrade"
)
_FOR_ANYBODY = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_EVENTS = (0, select.POLLIN, select.POLLOUT, select.POLLIN | select.POLLOUT)  # by POLL_…
_KINDS = dict.fromkeys((35, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91), "tls")
_KINDS |= {6: "dns", 7: "connect", 28: "timeout", 100: "too_large"}
_OUR_CODES = frozenset({2, 4, 27, 41, 43, 48, 58, 66, 77})
_OUR_ERRNOS = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EMFILE, errno.ENFILE})
_FIXED_OPTIONS = (
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS), (pycurl.FOLLOWLOCATION, 0),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1), (pycurl.HTTP09_ALLOWED, 0),
    (pycurl.HTTP_CONTENT_DECODING, 0), (pycurl.PATH_AS_IS, 1), (pycurl.NOSIGNAL, 1),
    (pycurl.PROXY, ""), (pycurl.NOPROXY, "*"), (pycurl.NETRC, pycurl.NETRC_IGNORED),
    (pycurl.SSL_VERIFYPEER, 1), (pycurl.SSL_VERIFYHOST, 2), (pycurl.MAXAGE_CONN, 60),
    (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2), (pycurl.MAXLIFETIME_CONN, 600),
    (pycurl.CAINFO, ssl.get_default_verify_paths().cafile or certifi.where()),
)  # fmt: skip


class _Transfer:
    """One request under way, over all its hops."""

    def __init__(self, place: int, request: Request) -> None:
        self.place, self.request = place, request
        self.target = read_url(request.url, settings().outbound_allow)
        self.headers: dict[str, str] = {}
        self.body, self.header_bytes, self.stopped = bytearray(), 0, ""
        if request.method not in METHODS:
            raise refuse(N_("this method is not supported"), "invalid_request")
        # without libcurl's own: no waiting for 100-continue, no made-up content type
        lines = {"expect": "Expect:", "content-type": "Content-Type:"}
        lines["user-agent"] = "User-Agent: Yangfan"
        for name, value in request.headers.items():
            lines[name.lower()] = line = f"{name}: {value}" if value else f"{name};"
            if _OWN_HEADER.fullmatch(name.lower()) or not _HEADER.fullmatch(line):
                raise refuse(N_("header %(name)s is refused"), "invalid_request", name=repr(name))
        self.lines = [line.encode() for line in lines.values()]

    def start(self, started: float) -> None:
        self.started, self.lookup = started, self.target.look_up()
        self.deadline = started + self.request.timeout_seconds

    def fail(self, kind: str, detail: object, *, is_ours: bool = False) -> Failure:
        words = str(detail).encode("utf-8", "replace").decode()  # it may quote the target
        return Failure(kind, words, is_ours, round((time.monotonic() - self.started) * 1000))

    def open_socket(self, _purpose: int, address: Any) -> Any:
        """Vet the address really connected to, whatever the lookup said."""
        if not self.target.is_allowed and is_forbidden(address.addr[0]):
            self.stopped = "refused"
            return pycurl.SOCKET_BAD
        return socket.socket(address.family, address.socktype, address.protocol)

    def on_header(self, line: bytes) -> int | None:
        self.header_bytes += len(line)
        self.stopped = "headers" if self.header_bytes > MAX_HEADER_BYTES else ""
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if line.startswith(b"HTTP/"):  # again after every 1xx
            self.headers = {}
        elif colon and not self.body:
            name, value = name.strip().lower(), value.strip()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        return 0 if self.stopped else None

    def on_body(self, chunk: bytes) -> int | None:
        room = self.request.max_response_bytes - len(self.body)
        self.body += chunk[:room]
        self.stopped = "body" if len(chunk) > room else ""
        return 0 if self.stopped else None

    def handle(self) -> Any:
        curl, request, target = pycurl.Curl(), self.request, self.target
        pins = ",".join(f"[{one}]" if ":" in one else one for one in self.lookup.result()[:8])
        resolve = [] if target.is_literal else [f"+{target.authority}:{pins}"]
        for option, value in (
            *_FIXED_OPTIONS, (pycurl.URL, target.url), (pycurl.HTTPHEADER, self.lines),
            (pycurl.RESOLVE, resolve), (pycurl.CUSTOMREQUEST, request.method),
            (pycurl.TIMEOUT_MS, max(1, int((self.deadline - time.monotonic()) * 1000))),
            (pycurl.HEADERFUNCTION, self.on_header), (pycurl.WRITEFUNCTION, self.on_body),
            (pycurl.NOBODY, request.method == "HEAD"),
            (pycurl.FRESH_CONNECT, not request.may_repeat or request.certificate is not None),
            (pycurl.OPENSOCKETFUNCTION, self.open_socket),
        ):  # fmt: skip
            curl.setopt(option, value)
        if one := request.certificate:
            for option, value in (
                (pycurl.SSLCERT_BLOB, one.chain_pem), (pycurl.SSLKEY_BLOB, one.key_pem),
                (pycurl.FORBID_REUSE, 1), (pycurl.SSL_SESSIONID_CACHE, 0),
            ):  # fmt: skip
                curl.setopt(option, value)
        if request.body or request.method in {"POST", "PUT", "PATCH"}:
            curl.setopt(pycurl.POSTFIELDS, request.body)
        return curl

    def finish(self, curl: Any, code: int, message: str) -> "Response | Failure | _Transfer":
        """Turn what libcurl says into an answer, or into the next hop."""
        if self.stopped == "refused":
            return self.fail("refused_address", "the address connected to is not a public one")
        if self.stopped == "headers":
            return self.fail("too_large", f"more than {MAX_HEADER_BYTES} bytes of headers")
        if code and not self.stopped:
            ours = code in _OUR_CODES or curl.getinfo(pycurl.OS_ERRNO) in _OUR_ERRNOS
            return self.fail(_KINDS.get(code, "protocol"), message, is_ours=ours)
        status, location = curl.getinfo(pycurl.RESPONSE_CODE), self.headers.get("location")
        if self.request.follow_redirects > 0 and location and status in {301, 302, 303, 307, 308}:
            return self.follow(status, location)
        ms = round((time.monotonic() - self.started) * 1000)
        return Response(status, self.headers, bytes(self.body), bool(self.stopped), ms)

    def follow(self, status: int, location: str) -> "Failure | _Transfer":
        old, before = self.request, self.target
        becomes_get = status in {301, 302, 303} and old.method != "HEAD"
        method, body = ("GET", b"") if becomes_get else (old.method, old.body)
        try:
            url = urljoin(old.url, location)
            if UNSAFE.search(location) or (before.url[:6] == "https:" != url[:6].lower()):
                raise refuse(N_("the redirect is not written correctly or leaves https"))
            stays = before.authority == read_url(url, settings().outbound_allow).authority
            # whatever proves who we are was meant for the first host alone
            headers = {k: v for k, v in old.headers.items() if stays or k.lower() in _FOR_ANYBODY}
            shown = old.certificate if stays else None
            new = replace(
                old, method=method, url=url, headers=headers, body=body, certificate=shown
            )
            hop = _Transfer(self.place, replace(new, follow_redirects=old.follow_redirects - 1))
        except (ValueError, Invalid) as problem:
            return self.fail("refused_address", problem)
        hop.start(self.started)
        return hop


class _Answers(dict[int, Response | Failure]):
    """Answers by their requests' places, told as they are put in."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def __setitem__(self, place: int, answer: Response | Failure) -> None:
        super().__setitem__(place, answer)
        self._tell(place, answer)


class _Pool:
    """The connections and the event loop of one thread."""

    def __init__(self) -> None:
        self.multi, self.poll = pycurl.CurlMulti(), select.poll()
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self.watch)
        self.active: dict[Any, _Transfer] = {}

    def watch(self, what: int, fd: int, *_: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self.poll.unregister(fd)
        else:
            self.poll.register(fd, _EVENTS[what])

    def run(self, requests: Sequence[Request], limit: int, tell: Tell) -> list[Response | Failure]:
        answers = _Answers(tell)
        waiting, asking = list[_Transfer](), list[_Transfer]()
        for place, request in enumerate(requests):
            try:
                waiting.append(_Transfer(place, request))
            except Invalid as problem:
                code, detail = problem.code, problem.plain()
                answers[place] = Failure(code, detail, is_ours=code == "invalid_request")
        while len(answers) < len(requests):
            busy = Counter(one.target.authority for one in (*asking, *self.active.values()))
            while waiting and busy.total() < limit:
                waiting.sort(key=lambda one: busy[one.target.authority] >= limit // 2)
                one = waiting.pop(0)
                one.start(time.monotonic())
                busy[one.target.authority] += 1
                asking.append(one)
            for one in asking[:]:
                if one.lookup.done() or time.monotonic() > one.deadline:
                    asking.remove(one)
                    if failure := self.begin(one):
                        answers[one.place] = failure
            timer_ms, longest_ms = self.multi.timeout(), 5 if asking else 1000 * bool(self.active)
            for fd, _ in self.poll.poll(min(longest_ms, timer_ms) if timer_ms >= 0 else longest_ms):
                self.multi.socket_action(fd, 0)
            self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            _, good, bad = self.multi.info_read()
            for curl, error, message in (*((curl, 0, "") for curl in good), *bad):
                one = self.active.pop(curl)
                answer = one.finish(curl, error, message)
                self.multi.remove_handle(curl)
                if isinstance(answer, _Transfer):
                    asking.append(answer)
                else:
                    answers[one.place] = answer
        return [answers[place] for place in range(len(requests))]

    def begin(self, one: _Transfer) -> Failure | None:
        if not one.lookup.done():
            return one.fail("timeout", "the name lookup did not end in time")
        error = one.lookup.exception()
        if error or not one.lookup.result():
            is_ours = getattr(error, "errno", 0) == socket.EAI_AGAIN
            return one.fail("dns", error or "the name has no address", is_ours=is_ours)
        try:
            one.target.vet(one.lookup.result())
        except Invalid as problem:
            return one.fail("refused_address", problem.plain())
        curl = one.handle()
        self.multi.add_handle(curl)
        self.active[curl] = one
        return None
