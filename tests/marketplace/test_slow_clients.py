"""Clients that are slow, silent, lost or never hang up: the web server goes on answering others."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

THREADS = 4
CROWD = 12
# a server that lingers on each for two seconds needs this long crowd to be held up beyond doubt
LONG_CROWD = 60
PROGRAM = """
import sys
from marketplace import front, server

server._start_background = lambda worker: None
front.HEAD_SECONDS = front.BODY_SECONDS = float(sys.argv[2])
is_plain = sys.argv[1] == "plain"
if is_plain:
    server.WebWorker = "gthread"
kind = sys.argv[1]
del sys.argv[1:]


def app(environ, start_response):
    if environ["PATH_INFO"] == "/huge":
        start_response("200 OK", [("Content-Length", str(16_000_000))])
        return [b"x" * 16_000_000]
    body = environ["wsgi.input"].read() if environ["PATH_INFO"] != "/unread" else b""
    said = f"{len(body)} {environ['SCRIPT_NAME']} {environ['wsgi.url_scheme']} ".encode()
    start_response("200 OK", [("Content-Length", str(len(said) + len(body)))])
    return [said + body]


if kind == "alone":
    server.serve_alone(front.Front(app))
else:
    server.WebServer(lambda: app if is_plain else front.Front(app)).run()
"""


@contextmanager
def serving(tmp_path, kind="alone", patience=20.0):
    """Serve alone, as the hub of one process does, or as one of many under gunicorn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path.cwd()),
        "YANGFAN_BIND": f"127.0.0.1:{port}",
        "YANGFAN_WEB_THREADS": str(THREADS),
        "YANGFAN_WEB_PROCESSES": "1",
        "YANGFAN_DATA_DIR": str(tmp_path),
    }
    arguments = [sys.executable, "-c", PROGRAM, kind, str(patience)]
    started = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("hub")) as number:
        yield number


def post(length, rest=b"", path=b"/"):
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, length) + rest


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "says nothing": b"",
    "stops in the first line": b"GET / HT",
    "stops in the head": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n",
    "stops in a short body": post(100, b"a" * 99),
    "stops in a long body": post(1_000_000, b"a" * 5000),
    "stops in a chunk": CHUNKED + b"5\r\nab",
    "stops between chunks": CHUNKED + b"2\r\nab\r\n",
    "stops in a body nobody reads": post(1_000_000, b"a", b"/unread"),
    "waits to be asked": b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 5\r\n\r\n",
    "reads nothing": b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n",
    "does not hang up": b"GET / HTTP/1.0\r\n\r\n",
    "does not hang up after an error": b"what?\r\n\r\n",
}


def crowd(port, said, many=CROWD):
    """Open more slow connections than there are threads."""
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(many)]
    for one in opened:
        one.sendall(said)
    time.sleep(0.3)
    return opened


def ask(port, body=b"", timeout=5.0) -> float:
    """Ask as an ordinary client does; return how long the answer took."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request("POST", "/", body)
    assert connection.getresponse().read().endswith(body)
    connection.close()
    return time.monotonic() - started


@pytest.mark.parametrize("kind", SLOW)
def test_a_crowd_of_slow_clients_keeps_nobody_waiting(port, kind):
    slow = crowd(port, SLOW[kind])
    try:
        for body in (b"", b"a" * 1000, b"b" * 200_000):
            assert ask(port, body) < 4
    finally:
        for one in slow:
            one.close()


def test_one_of_many_web_processes_keeps_nobody_waiting(tmp_path):
    with serving(tmp_path, "many") as port:
        test_a_crowd_of_slow_clients_keeps_nobody_waiting(port, "stops in the head")
        pieces, expected = WHOLE["two at once"]
        assert answers(talk(port, *pieces)) == expected


@pytest.mark.parametrize("kind", ["stops in the head", "does not hang up"])
def test_the_crowd_would_stop_an_impatient_server(tmp_path, kind):
    """The break that the test above must notice: gunicorn's own worker."""
    with serving(tmp_path, "plain") as port:
        slow = crowd(port, SLOW[kind], LONG_CROWD)
        with pytest.raises(TimeoutError):
            ask(port, timeout=4)
        for one in slow:
            one.close()


def talk(port, *pieces, pause=0.02, hang_up=False, wait=10.0) -> bytes:
    """Say something in pieces; return everything that was answered until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.settimeout(wait)
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause)
        if hang_up:
            line.shutdown(socket.SHUT_WR)
        heard = b""
        while some := line.recv(65536):
            heard += some
        return heard


def answers(heard: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.\d (\d{3})", heard)]


CLOSE = b"Connection: close\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n")


def in_pieces(said: bytes, size: int) -> list[bytes]:
    return [said[start : start + size] for start in range(0, len(said), size)]


WHOLE = {
    "byte by byte": (in_pieces(LAST, 1), [200]),
    "a body after its head": ([post(5), b"abcde", LAST], [200, 200]),
    "a body byte by byte": ([*in_pieces(post(5, b"abcde"), 1), LAST], [200, 200]),
    "two at once": ([GET + LAST], [200, 200]),
    "five at once": ([GET * 4 + LAST], [200] * 5),
    "one and a half": ([GET + LAST[:20], LAST[20:]], [200, 200]),
    "a body and half a head": ([post(5, b"abcde") + LAST[:9], LAST[9:]], [200, 200]),
    "chunks in pieces": ([*in_pieces(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", 7), LAST], [200, 200]),
    "a body nobody reads": ([post(5, b"abcde", b"/unread"), LAST], [200, 200]),
    "a long body in pieces": (
        [post(300_000), *[b"a" * 30_000] * 10, LAST], [200, 200]
    ),
    "just too long to gather": ([post(131_000), b"a" * 131_000, LAST], [200, 200]),
    "asked to go on": ([SLOW["waits to be asked"], b"abcde", LAST], [100, 200, 200]),
    "two lengths": ([post(5).replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n") + b"abcdef"],
                    [400]),
    "a length and chunks": (
        [CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n0\r\n\r\n")], [400]
    ),
    "no request": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"], [400]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_request_is_the_same_however_it_comes(port, kind):
    pieces, expected = WHOLE[kind]
    assert answers(talk(port, *pieces)) == expected


@pytest.mark.parametrize(
    "said", [b"", b"GET / HT", GET[:-2], post(9, b"a"), CHUNKED, CHUNKED + b"5\r\na"]
)
def test_a_client_that_hangs_up_early_leaves_nothing_behind(port, said):
    heard = talk(port, said, hang_up=True)
    assert 200 not in answers(heard) or said.startswith(b"POST")
    assert ask(port) < 4


def test_what_comes_after_the_patience_ended_is_no_request_of_its_own(tmp_path):
    with serving(tmp_path, patience=0.3) as port:
        for said in (
            post(300_000, b"a"),
            CHUNKED + b"5\r\na",
            post(9, b"a"),
            post(9, b"a", b"/unread"),
        ):
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.settimeout(10)
                line.sendall(said)
                time.sleep(1.6)
                heard = b""
                try:
                    line.sendall(b"\r\n\r\n" + GET)
                    while some := line.recv(65536):
                        heard += some
                except (ConnectionResetError, BrokenPipeError):
                    pass
                assert len(answers(heard)) <= 1


def test_a_long_answer_comes_whole_to_a_slow_reader(port):
    heard = 0
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(SLOW["reads nothing"])
        time.sleep(0.5)
        while heard < 16_000_000 and (some := line.recv(1_000_000)):
            heard += len(some)
    assert heard > 16_000_000


def test_many_at_once_are_all_answered(port):
    times = []
    threads = [
        threading.Thread(target=lambda: [times.append(ask(port, b"x" * 2000)) for _ in range(20)])
        for _ in range(10)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(times) == 200


@pytest.mark.parametrize(
    "field",
    [b"SCRIPT_NAME: /evil", b"SCRIPT_NAME: /", b"Script-Name: /evil", b"PATH_INFO: /huge",
     b"X-Forwarded-Proto: https", b"X-Forwarded-Prefix: /evil", b"X-Forwarded-Ssl: on"],
)  # fmt: skip
def test_no_field_moves_the_hub_elsewhere(port, field):
    heard = talk(port, LAST.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n"))
    assert answers(heard) == [200]
    assert heard.endswith(b"0  http ")
