"""Calls out: what is sent, what a hostile target can do, and what many calls cost each other."""

import datetime as dt
import gzip
import ipaddress
import os
import resource
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pycurl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from factories.kernel import OK, Target, plays, target

from kernel import addresses, http
from kernel.http import Failure, Request, Response, send, send_all
from kernel.settings import settings_override


@contextmanager
def reachable(*targets: Target):
    with settings_override(outbound_allow=tuple(one.authority for one in targets)):
        yield


@contextmanager
def listening(play=None):
    with target(play) as one, reachable(one):
        yield one


def ask(one: Target, path="/", **changes):
    return send(Request("GET", one.url(path), **{"timeout_seconds": 5, **changes}))


# ---- what is sent and what comes back


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("body", [b"", b'{"a":1}', b"\x00\xff" * 700_000])
def test_a_request_is_sent_as_it_is(method, body):
    with listening() as app:
        headers = {
            "Content-Type": "application/json",
            "X-Empty": "",
            "X-Name": "扬帆",
            "X-Tab": "a\tb",
        }
        answer = send(Request(method, app.url("/a/../b%2F?x=1&y=ü"), headers, body))
        assert (answer.status, answer.body, answer.truncated) == (200, b"ok", False)
        head, _, sent = app.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == f"{method} /a/../b%2F?x=1&y=%C3%BC HTTP/1.1"
        assert sent == body
        for line in ("X-Name: 扬帆", "X-Empty:", "X-Tab: a\tb", "User-Agent: Yangfan",
                     f"Host: {app.authority}", "Content-Type: application/json"):  # fmt: skip
            assert line in lines
        names = [line.split(":")[0].lower() for line in lines[1:]]
        assert len(names) == len(set(names))
        assert not {"accept-encoding", "cookie", "authorization", "expect"} & set(names)


def test_a_head_request_has_no_body():
    with listening(plays(b"HTTP/1.1 204 No\r\nContent-Length: 5\r\nETag: x\r\n\r\n")) as app:
        answer = send(Request("HEAD", app.url()))
        assert (answer.status, answer.headers["etag"], answer.body) == (204, "x", b"")


def test_no_content_type_is_made_up_and_the_agent_may_be_chosen():
    with listening() as app:
        send(Request("POST", app.url(), {"user-agent": "Shop/1"}, b"x"))
        text = app.requests[0].lower()
        assert b"content-type" not in text
        assert b"user-agent: shop/1" in text
        assert b"yangfan" not in text


def test_headers_come_back_in_small_letters_joined_and_only_the_final_ones():
    raw = (
        b"HTTP/1.1 103 Early\r\nLink: early\r\nX-Early: 1\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nRetry-After:  7 \r\nLINK: <a>\r\nLink: <b>\r\nX-Text: \xe6\x89\xac\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nRetry-After: 9\r\n\r\n"
    )
    with listening(plays(raw)) as app:
        answer = ask(app)
        assert answer.body == b"ok"
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["link"] == "<a>, <b>"
        assert answer.headers["x-text"] == "扬"
        assert "x-early" not in answer.headers


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"X": "a\r\nY: b"}), ("GET", {"X": "a\nb"}), ("GET", {"X": "a\rb"}),
        ("GET", {"X": "a\x00b"}), ("GET", {"X": "a\x7f"}), ("GET", {"X\r\nY": "a"}),
        ("GET", {"X: a\r\nY": "b"}), ("GET", {"X Y": "a"}), ("GET", {"": "a"}),
        ("GET", {"扬": "a"}),
        ("GET", {"X:": "a"}), ("GET", {"Host": "inner"}), ("GET", {"content-length": "0"}),
        ("GET", {"Transfer-Encoding": "chunked"}), ("GET", {"Connection": "upgrade"}),
        ("GET", {"Expect": "100-continue"}), ("GET", {"Proxy-Authorization": "x"}),
        ("GET", {"TE": "trailers"}), ("GET", {"Upgrade": "h2c"}), ("GET", {"X\n": ""}),
        ("GET / HTTP/1.1\r\nX: y", {}), ("get", {}), ("", {}), ("CONNECT", {}), ("TRACE", {}),
    ],
)  # fmt: skip
def test_a_request_that_could_be_read_as_two_is_not_sent(method, headers):
    with listening() as app:
        answer = send(Request(method, app.url(), headers))
        assert isinstance(answer, Failure)
        assert (answer.kind, answer.is_ours) == ("invalid_request", True)
        assert app.connections == 0


def test_nothing_is_remembered_between_requests(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    head = b"HTTP/1.1 401 No\r\nSet-Cookie: a=b\r\nWWW-Authenticate: Basic\r\n"
    answer = head + b"Content-Length: 0\r\n\r\n"
    with listening(lambda connection, _: connection.sendall(answer)) as app:
        send(Request("POST", app.url(), {"Authorization": "Bearer x", "X-Key": "y"}, b"body"))
        ask(app)
        assert app.connections == 1  # the connection alone is kept
        for trace in (b"cookie", b"authorization", b"x-key", b"content-"):
            assert trace not in app.requests[1].lower()


# ---- hostile targets: each ends in time, in bounded memory, and is not our fault


def drip(first: bytes, drop: bytes, pause_seconds: float):
    def play(connection, _request):
        connection.sendall(first)
        for _ in range(int(20 / pause_seconds)):
            time.sleep(pause_seconds)
            connection.sendall(drop)

    return play


def flood(first: bytes, piece: bytes, pieces: int):
    def play(connection, _request):
        connection.sendall(first)
        for _ in range(pieces):
            connection.sendall(piece)
        connection.close()

    return play


def reset_after(raw: bytes):
    def play(connection, _request):
        connection.sendall(raw)
        time.sleep(0.05)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return play


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (drip(HEAD, b"x", 1), "timeout"),
        (drip(HEAD, b"x", 0.01), "timeout"),
        (drip(b"", b"H", 0.5), "timeout"),
        (drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.3), "timeout"),
        (drip(CHUNKED, b"1\r\nx\r\n", 0.2), "timeout"),
        (drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2), "timeout"),
        (lambda *_: time.sleep(20), "timeout"),
        (lambda connection, _: connection.close(), "protocol"),
        (reset_after(b""), "protocol"),
        (reset_after(HEAD), "protocol"),
        (reset_after(HEAD + b"x" * 10), "protocol"),
        (plays(HEAD + b"short"), "protocol"),
        (plays(b"hello, this is HTTP/0.9"), "protocol"),
        (plays(b"\x16\x03\x01\x00\x05hello"), "protocol"),
        (plays(b"HTTP/1.1 abc\r\n\r\n"), "protocol"),
        (plays(b"HTTP/7.7 200 OK\r\n\r\n"), "protocol"),
        (plays(CHUNKED + b"zz\r\nhello\r\n"), "protocol"),
        (plays(CHUNKED + b"fffffffffffffffffff\r\nhello\r\n"), "protocol"),
        (plays(CHUNKED + b"-1\r\nhello\r\n"), "protocol"),
        (plays(CHUNKED + b"5\r\nhel"), "protocol"),
        (plays(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"), "protocol"),
        (plays(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n"), "protocol"),
        (flood(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536, 16), "too_large"),
        (flood(b"HTTP/1.1 200 OK\r\n", b"X: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 40_000), "too_large"),
        (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 40_000), "too_large"),
        (flood(b"", b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n", 40_000), "too_large"),
        (flood(CHUNKED + b"0\r\n", b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 40_000), "too_large"),
    ],
)
def test_a_hostile_target_costs_bounded_time_and_memory(play, kind):
    with listening(play) as app:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        # only who is to run into the deadline gets a short one: the machine may be busy
        answer = ask(app, timeout_seconds=1 if kind == "timeout" else 10)
        took = time.monotonic() - started
        assert isinstance(answer, Failure), answer
        assert (answer.kind, answer.is_ours) == (kind, False), answer
        assert took < 8, "it has a second, or is found out before its ten are over"
        assert 0 <= took * 1000 - answer.elapsed_ms + 1 < 4000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n",
        b"HTTP/1.1 500 Broken\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
    ],
)
def test_a_body_beyond_the_limit_is_cut_and_the_rest_left_unread(first):
    with listening(flood(first, b"x" * 1_048_576, 100)) as app:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = ask(app, max_response_bytes=1000)
        assert (answer.status, answer.body, answer.truncated) == (
            int(first[9:12]),
            b"x" * 1000,
            True,
        )
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
        app.play = None
        assert ask(app).body == b"ok"
        assert app.connections == 2  # what was left unread went with its connection


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_body_within_the_limit_is_whole(size):
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
    with listening(plays(raw)) as app:
        answer = ask(app, max_response_bytes=1000)
        assert (len(answer.body), answer.truncated) == (size, False)


@pytest.mark.parametrize(
    "how",
    ["Content-Encoding: gzip", "Content-Encoding: deflate, br", "Transfer-Encoding: gzip",
     "Transfer-Encoding: gzip, chunked"],
)  # fmt: skip
def test_a_compressed_bomb_stays_compressed(how):
    bomb = gzip.compress(bytes(50_000_000))
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(bomb), bomb) if "chunked" in how else bomb
    with listening(plays(f"HTTP/1.1 200 OK\r\n{how}\r\n\r\n".encode() + body)) as app:
        answer = ask(app, max_response_bytes=1 << 20)
        if isinstance(answer, Response):
            assert answer.body in (bomb, body)
        else:
            assert answer.kind == "protocol"


def test_nobody_listens_is_their_fault_and_no_such_name_too(monkeypatch):
    with socket.socket() as held:  # bound and not listening, so nobody else can be there
        held.bind(("127.0.0.1", 0))
        authority = f"127.0.0.1:{held.getsockname()[1]}"
        with settings_override(outbound_allow=(authority,)):
            answer = send(Request("GET", f"http://{authority}/"))
    assert (answer.kind, answer.is_ours) == ("connect", False)
    missing = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: (_ for _ in ()).throw(missing))
    answer = send(Request("GET", "https://missing.example/"))
    assert (answer.kind, answer.is_ours) == ("dns", False)
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: [])
    assert send(Request("GET", "https://missing.example/")).kind == "dns"


def test_our_own_name_server_is_our_fault(monkeypatch):
    away = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: (_ for _ in ()).throw(away))
    answer = send(Request("GET", "https://shop.example/"))
    assert (answer.kind, answer.is_ours) == ("dns", True)


def test_a_slow_name_ends_in_time_and_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: time.sleep(30))
    with listening() as app:
        started = time.monotonic()
        slow, fast = send_all(
            [Request("GET", "https://slow.example/", timeout_seconds=2), Request("GET", app.url())]
        )
        assert time.monotonic() - started < 10, "the name server takes thirty"
        assert (slow.kind, fast.status) == ("timeout", 200)
        assert fast.elapsed_ms < 1900, "before the other gave up"


def test_no_socket_is_left_behind():
    plays_ = [plays(b"junk"), reset_after(HEAD), lambda *_: time.sleep(1.5), plays(HEAD + b"x")]
    for play in plays_:
        with listening(play) as app:
            send_all([Request("GET", app.url(), timeout_seconds=0.5)] * 8)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for play in plays_ * 5:
        with listening(play) as app:
            send_all([Request("GET", app.url(), timeout_seconds=0.3)] * 8)
    time.sleep(1.6)
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 20


# ---- TLS


@contextmanager
def over_tls(folder, name="127.0.0.1", days=1, play=None, newest=ssl.TLSVersion.TLSv1_3):
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    with_name = (
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    )
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=3))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([with_name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}{days}.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    if newest < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(pem)
    with target(play, tls=context) as one, reachable(one):
        yield one, pem


def trusting(monkeypatch, pem):
    monkeypatch.setattr(http, "_FIXED_OPTIONS", (*http._FIXED_OPTIONS, (pycurl.CAINFO, str(pem))))


def over(app: Target) -> str:
    return app.url().replace("http:", "https:")


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path):
    with over_tls(tmp_path) as (app, _):
        answer = send(Request("POST", over(app), body=b"secret", timeout_seconds=3))
        assert (answer.kind, answer.is_ours, app.requests) == ("tls", False, [])


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "changes", [{"days": -1}, {"name": "shop.example"}, {"newest": ssl.TLSVersion.TLSv1_1}]
)
def test_a_certificate_too_old_of_another_name_or_weak_is_refused(changes, tmp_path, monkeypatch):
    with over_tls(tmp_path, **changes) as (app, pem):
        trusting(monkeypatch, pem)
        answer = send(Request("POST", over(app), body=b"secret", timeout_seconds=3))
        assert (answer.kind, app.requests) == ("tls", [])


def test_a_good_certificate_is_accepted_and_the_name_is_asked_for(tmp_path, monkeypatch):
    with over_tls(tmp_path) as (app, pem):
        trusting(monkeypatch, pem)
        assert send(Request("GET", over(app))).status == 200
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: ["127.0.0.1"])
    with over_tls(tmp_path, "app.example") as (app, pem):
        trusting(monkeypatch, pem)
        app.authority = f"app.example:{app.port}"
        with reachable(app):
            assert send(Request("GET", over(app))).status == 200
        assert f"Host: {app.authority}".encode() in app.requests[0]


def test_a_target_that_never_finishes_the_handshake_ends_in_time():
    with listening(lambda *_: time.sleep(20)) as app:
        started = time.monotonic()
        assert send(Request("GET", over(app), timeout_seconds=1)).kind == "timeout"
        assert time.monotonic() - started < 10, "the target takes twenty"


# ---- redirects


def moved(status: int, location: str, body=b""):
    head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"

    def play(connection, request):
        connection.sendall(OK if b"/there" in request.split(b"\r\n")[0] else head.encode() + body)

    return play


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [(301, "POST", "GET"), (302, "POST", "GET"), (303, "PUT", "GET"), (303, "HEAD", "HEAD"),
     (307, "POST", "POST"), (308, "PUT", "PUT"), (301, "GET", "GET"), (302, "HEAD", "HEAD")],
)  # fmt: skip
def test_a_redirect_is_followed_only_when_asked(status, method, then):
    body = b"" if method in {"GET", "HEAD"} else b"body"
    with listening(moved(status, "/there?a=1#x")) as app:
        asked = Request(method, app.url("/here"), {"Authorization": "x"}, body, 5)
        assert send(asked).status == status
        assert send(http.replace(asked, follow_redirects=1)).status == 200
        last = app.requests[-1]
        assert last.startswith(f"{then} /there?a=1 HTTP/1.1".encode())
        assert last.endswith(b"body") == (then == method and bool(body))
        assert b"Authorization: x" in last  # still the same host and port


def test_another_host_does_not_learn_our_secrets():
    with target() as other, target(moved(307, other.url("/there"))) as app, reachable(app, other):
        headers = {"Authorization": "x", "X-Api-Key": "y", "Cookie": "z", "Webhook-Signature": "s",
                   "Content-Type": "text/plain", "Accept": "a/b"}  # fmt: skip
        assert send(Request("POST", app.url(), headers, b"b", follow_redirects=2)).status == 200
        received = other.requests[0].lower()
        for secret in (b"authorization", b"api-key", b"cookie", b"signature"):
            assert secret not in received
        assert b"content-type: text/plain" in received


def test_a_loop_of_redirects_ends_with_the_last_redirect():
    with listening(moved(302, "/again")) as app:
        answer = ask(app, follow_redirects=3)
        assert (answer.status, len(app.requests)) == (302, 4)


def test_the_deadline_spans_all_hops():
    def play(connection, _request):
        time.sleep(0.4)
        connection.sendall(b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")

    with listening(play) as app:
        started = time.monotonic()
        assert ask(app, follow_redirects=20, timeout_seconds=1).kind == "timeout"
        assert time.monotonic() - started < 6, "all hops together take eight"


def test_https_is_never_left(tmp_path, monkeypatch):
    with target() as plain, over_tls(tmp_path, play=moved(302, plain.url("/there"))) as (app, pem):
        trusting(monkeypatch, pem)
        with reachable(app, plain):
            answer = send(Request("GET", over(app), follow_redirects=1))
        assert (answer.kind, plain.connections) == ("refused_address", 0)


# ---- many at once


def test_answers_keep_the_order_of_the_requests():
    def play(connection, request):
        path = request.split(b" ")[1]
        time.sleep(0.02 * (hash(path) % 4))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    with listening(play) as app:
        requests = [Request("GET", app.url(f"/{n}")) for n in range(60)]
        requests[7] = Request("GET", "http://10.0.0.1/")
        requests[9] = Request("BREW", app.url("/9"))
        answers = send_all(requests)
        assert [a.kind for a in answers if isinstance(a, Failure)] == [
            "refused_address",
            "invalid_request",
        ]
        assert all(a.body == f"/{n}".encode() for n, a in enumerate(answers) if n not in (7, 9))
        assert app.connections <= 16
    assert send_all([]) == []


def test_one_slow_target_does_not_stop_the_others():
    with target(lambda *_: time.sleep(9)) as slow, target() as fast, reachable(slow, fast):
        requests = [Request("POST", slow.url(), timeout_seconds=3) for _ in range(24)]
        requests += [Request("POST", fast.url(), timeout_seconds=3) for _ in range(40)]
        finished: list[float] = []
        fast.play = lambda connection, _: (
            finished.append(time.monotonic()),
            connection.sendall(OK),
        )
        started = time.monotonic()
        answers = send_all(requests)
        assert {a.kind for a in answers[:24]} == {"timeout"}
        assert {a.status for a in answers[24:]} == {200}
        assert max(finished) - started < 2.9  # before the first of the slow ones gave up
        assert time.monotonic() - started < 12


def test_no_more_than_the_limit_at_once():
    now, most, lock = [0], [0], threading.Lock()

    def play(connection, _request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        connection.sendall(OK)

    with listening(play) as app:
        for limit in (1, 3, 16):
            most[0] = 0
            send_all([Request("GET", app.url())] * (limit * 3), limit=limit)
            assert most[0] == limit


def test_connections_are_kept_within_a_thread_and_never_shared():
    with listening() as app:
        for _ in range(5):
            assert ask(app).status == 200
        assert app.connections == 1
        threads = [
            threading.Thread(
                target=lambda: [send_all([Request("GET", app.url())] * 20) for _ in range(5)]
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(app.requests) == 5 + 4 * 100
        assert app.connections <= 1 + 4 * 16


def test_a_kept_connection_the_target_closed_is_replaced():
    with listening(plays(OK)) as app:
        for _ in range(3):
            assert ask(app).status == 200
            time.sleep(0.02)
        assert app.connections == 3


def test_a_forked_child_makes_connections_of_its_own(tmp_path, monkeypatch):
    with over_tls(tmp_path) as (app, pem):
        trusting(monkeypatch, pem)
        assert send(Request("GET", over(app))).status == 200
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if send(Request("GET", over(app))).status == 200 else 1
            finally:
                os._exit(status)
        for _ in range(500):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.02)
        assert (ended, status) == (child, 0)
        assert app.connections == 2
        # the parent's own connection is still whole
        assert send(Request("GET", over(app))).status == 200
        assert app.connections == 2


def test_an_interrupted_batch_leaves_nothing_in_the_next_one():
    with listening() as app:
        assert ask(app).status == 200
        with pytest.raises(TypeError):  # a caller's mistake, halfway through
            send_all([Request("GET", app.url()), Request("POST", app.url(), body=123)])
        assert [a.status for a in send_all([Request("GET", app.url())] * 3)] == [200] * 3


# ---- never twice


def drops_the_second(connection, request):
    """Answer a GET and keep the connection; take a POST in and drop the connection unanswered."""
    if request.startswith(b"POST"):
        connection.close()
    else:
        connection.sendall(OK)


@pytest.mark.parametrize(("may_repeat", "arrived"), [(True, 2), (False, 1)])
def test_what_must_not_be_repeated_goes_over_a_connection_of_its_own(may_repeat, arrived):
    """On a kept connection that drops, libcurl sends again by itself: an effect done twice."""
    with listening(drops_the_second) as one:
        assert ask(one).status == 200
        order = Request("POST", one.url(), body=b"{}", timeout_seconds=5, may_repeat=may_repeat)
        assert isinstance(send(order), Failure)
        assert sum(r.startswith(b"POST") for r in one.requests) == arrived
