"""No URL, name or redirect a stranger chooses leads a call into our own network."""

import contextlib
import ipaddress
import re
import socket
import threading
import time

import pytest
from factories import kernel as outbound

from kernel import addresses, http
from kernel.addresses import check_url, is_forbidden
from kernel.errors import Invalid
from kernel.http import Failure, Request, Response, send
from kernel.settings import settings_override

PUBLIC_V4, PUBLIC_V6 = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"

# addresses as people and attackers write them
LITERALS = """
127.0.0.1 127.1 127.0.1 0 0.0.0.0 0x7f.1 0x7f.0.0.1 0x7f000001 0X7F000001 2130706433 017700000001
0177.0.0.1 0177.0.0.01 127.0.0.01 127.000.000.001 127.0.0.1. 127.0.0.2 127.255.255.254
①②⑦.⓪.⓪.① １２７.０.０.１ 127。0。0。1 127．0．0．1 127｡0｡0｡1 ⑯⑨。②⑤④。⑯⑨｡②⑤④ 00000177.0.0.1
0x00000000000000007f000001 4294967296 999999999999 256.256.256.256 127.0.0.1.1 1.2.3 0x 1e1
[::] [::1] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::ffff:127.0.0.1]
[::ffff:7f00:1] [::FFFF:7F00:0001] [0:0:0:0:0:ffff:169.254.169.254] [::127.0.0.1] [::7f00:1]
[::ffff:0:127.0.0.1] [::ffff:0:7f00:1] [::5efe:7f00:1] [2001:db8::5efe:7f00:1]
[2606:2800::5efe:7f00:1] [2606:2800::200:5efe:a9fe:a9fe] [64:ff9b::7f00:1] [64:ff9b::127.0.0.1]
[64:ff9b::a9fe:a9fe] [64:ff9b::a00:1] [64:ff9b:1::7f00:1] [64:ff9b:1::808:808] [2002:7f00:1::1]
[2002:a9fe:a9fe::1] [2002:808:808::1] [2001:0:4136:e378:8000:63bf:807f:fffe] [2001::1]
[2001:10::1] [2001:20::1] [2001:2::1] [fe80::1] [fe80::1%25lo] [fe80::1%lo] [::1%25lo] [febf::1]
[fec0::1] [feff::1] [fc00::1] [fd00:ec2::254] [fd20:ce::254] [ff02::1] [ff05::2] [100::1]
[2001:db8::1] [3fff::1] [3ffe::1] [5f00::1] [4000::1] [8000::1] [e000::1] [2620:4f:8000::1]
[100:0:0:1::1] [::8.8.8.8]
[::ffff:8.8.8.8] 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255
100.64.0.1 100.127.255.255 100.100.100.200 168.63.129.16 169.254.169.254 169.254.170.2 169.254.0.23
192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
192.31.196.1 192.52.193.1 192.175.48.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 0.1.2.3
"""

# whole URLs that must not even be read
SHAPES = [
    "file:///etc/passwd", "gopher://{c}/", "ftp://{c}/", "dict://{c}/", "unix:///var/run/x.sock",
    "javascript:alert(1)", "data:text/plain,x", "ldap://{c}/", "tftp://{c}/", "ws://{c}/",
    "//{c}/", "/{c}/", "{c}", "", "http:", "http:/", "http://", "http:///", "https:///{c}/",
    "http:{c}/", "http:/{c}/", "http:\\\\{c}\\", "http://user:pass@{c}/", "http://user@{c}/",
    "http://@{c}/", "http://:@{c}/", "http://example.com@{c}/", "http://{c}@example.com:8080/",
    "http://example.com%40{c}/", "http://example.com%2f@{c}/", "http://example.com\\@{c}/",
    "http://{c}\\@example.com/", "http://{c}#@example.com/", "http://{c}?@example.com/",
    "http://example.com:80@{c}/", "http://example.com:80:{p}/", "http://{c}:80/", "http://[{c}]/",
    "http://127.0.0.1\t:{p}/", "http://127.0.\n0.1:{p}/", "http://{c}\r\n/", "\thttp://{c}/",
    " http://{c}/", "http://{c}/ ", "http://{c} /", "http:// {c}/", "http://{c}/a b",
    "http://{c}/\x00", "http://\x00{c}/", "http://{c}/\x7f", "http://{c}/\u00a0", "http://{c}/\u2028",
    "http://{c}/\x85", "http://exam\u200bple.com\t@{c}/", "ht\ttp://{c}/", "http\n://{c}/",
    "http://[::1/", "http://::1]:{p}/", "http://::1:{p}/", "http://[::1]x:{p}/", "http://[]:{p}/",
    "http://[::1]@example.com/", "http://[v1.x]:{p}/", "http://[127.0.0.1]:{p}/", "http://:{p}/",
    "http://.:{p}/", "http://..:{p}/", "http://a..b:{p}/", "http://.localhost:{p}/",
    "http://localhost..:{p}/", "http://-a.example:{p}/", "http://a-.example:{p}/",
    "http://%31%32%37.0.0.1:{p}/", "http://127.0.0.1%2f:{p}/", "http://local%68ost:{p}/",
    "http://" + "a" * 64 + ".example:{p}/", "http://" + "a." * 127 + "aa:{p}/",
    "http://" + "ü" * 60 + ".example:{p}/", "http://xn--a:{p}/{c}" + "x" * 5000,
    "http://exa$mple.com:{p}/", "http://exa,mple.com:{p}/", "http://exa;mple.com:{p}/",
    "http://{c}:/", "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/", "http://127.0.0.1:{p}.0/", "http://127.0.0.1:0x50/",
    "http://127.0.0.1:８０/", "http://127.0.0.1:+{p}/", "http://a\u2024b\u2044{c}/",
    "http://a／{c}/", "http://a？{c}/", "http://a＃{c}/", "http://a＠{c}/", "http://a：{p}/",
]  # fmt: skip
NAMES = ["localhost", "localhost.", "LOCALHOST", "ip6-localhost", "inner.example", "LoCaLhOsT.",
         "metadata.google.internal", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost.localdomain", "postgres",
         "bücher.example", "扬帆.example", "_dmarc.inner.example",
         "a." * 100 + "example"]  # fmt: skip
PORTS = [1, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 587, 993, 1433, 1521, 2049,
         2375, 2379, 3306, 3389, 4369, 5432, 5672, 5984, 6379, 6443, 8001, 8081, 9000, 9090, 9200,
         10250, 11211, 15672, 25672, 27017, 50070, 65535]  # fmt: skip


@pytest.fixture(scope="module")
def canaries():
    """Listeners on both loopbacks, on the same port; whoever connects is counted."""
    with outbound.target() as v4, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            v6 = outbound.Target("::1", None)
            v6.socket.close()
            v6.socket = socket.create_server(("::1", v4.port), family=socket.AF_INET6)
            v6.port = v4.port
            threading.Thread(target=v6.accept, daemon=True).start()
            stack.callback(v6.socket.close)
        yield v4, v6


@pytest.fixture
def canary(canaries, monkeypatch):
    """The canary's port counts as an open one, so that only the address can be refused."""
    v4, v6 = canaries
    monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, v4.port))
    before = v4.connections + v6.connections
    yield v4
    time.sleep(0.01)
    assert v4.connections + v6.connections == before, "a forbidden address was connected to"


def refused(url: str, resolver=None) -> Failure:
    answer = send(Request("POST", url, body=b"x", timeout_seconds=3))
    assert isinstance(answer, Failure), answer
    assert answer.kind == "refused_address", answer
    assert not answer.is_ours
    with pytest.raises(Invalid) as caught:
        check_url(url)
    assert caught.value.code == "refused_address"
    assert answer.detail.startswith("This address cannot be called: ")
    return answer


def answering(monkeypatch, *answers):
    """Let every name have these addresses, one answer after the other."""
    left = list(answers)

    def resolver(_host):
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(addresses, "RESOLVER", resolver)


@pytest.mark.parametrize("form", LITERALS.split())
def test_an_address_is_judged_however_it_is_written(canary, form, monkeypatch):
    # a resolver as forgiving as the operating system's, so only the guard stands in the way
    answering(monkeypatch, ["127.0.0.1"])
    refused(f"http://{form}:{canary.port}/")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_url_that_two_readers_may_read_differently_is_refused(canary, shape, monkeypatch):
    answering(monkeypatch, ["127.0.0.1", "::1"])
    refused(shape.format(c=f"127.0.0.1:{canary.port}", p=canary.port))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"])
def test_a_name_is_judged_by_its_addresses(canary, name, address, monkeypatch):
    answering(monkeypatch, [address])
    answer = refused(f"http://{name}:{canary.port}/")
    assert "private or reserved network" in answer.detail


@pytest.mark.parametrize("port", PORTS)
def test_only_web_ports_are_open(port, monkeypatch):
    answering(monkeypatch, [PUBLIC_V4])
    answer = refused(f"https://shop.example:{port}/")
    assert f"port {port} is not open" in answer.detail


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1", PUBLIC_V4],
        [PUBLIC_V4, "127.0.0.1"],
        [PUBLIC_V6, "127.0.0.1"],
        [PUBLIC_V4, "::1"],
        [PUBLIC_V4, PUBLIC_V6, "10.0.0.1"],
        [PUBLIC_V4, "169.254.169.254"],
        [PUBLIC_V4, "fe80::1%eth0"],
        [PUBLIC_V4] * 999 + ["127.0.0.1"],
        [PUBLIC_V4, "64:ff9b::7f00:1"],
        ["fd00::1"],
        ["fe80::1"],
    ],
)
def test_one_forbidden_answer_spoils_the_set(canary, answers, monkeypatch):
    answering(monkeypatch, answers)
    refused(f"http://mixed.example:{canary.port}/")


def test_a_name_that_becomes_private_after_it_was_saved_is_refused(canary, monkeypatch):
    url = f"http://rebinding.example:{canary.port}/"
    answering(monkeypatch, [PUBLIC_V4])
    check_url(url)
    answering(monkeypatch, ["127.0.0.1"])
    refused(url)
    # first not there at all, private later
    url = f"http://late.example:{canary.port}/"
    answering(monkeypatch, socket.gaierror(socket.EAI_NONAME, "not known"))
    check_url(url)
    assert send(Request("GET", url)).kind == "dns"
    answering(monkeypatch, ["127.0.0.1"])
    refused(url)


class Rebound(list):
    """Shows public addresses to the check and private ones to the connection."""

    def __getitem__(self, _):
        return ["127.0.0.1", "::1"]


def test_the_socket_itself_is_the_second_wall(canary, monkeypatch):
    answering(monkeypatch, Rebound([PUBLIC_V4]))
    answer = send(Request("GET", f"http://rebound.example:{canary.port}/", timeout_seconds=3))
    assert (answer.kind, answer.is_ours) == ("refused_address", False)
    assert "connected to" in answer.detail


def test_the_answers_vetted_are_the_answers_used(canaries, monkeypatch):
    v4, _ = canaries
    calls = []

    def resolver(host):
        calls.append(host)
        return ["127.0.0.1"] if len(calls) == 1 else [PUBLIC_V4]

    monkeypatch.setattr(addresses, "RESOLVER", resolver)
    before = v4.connections
    with settings_override(outbound_allow=(f"app.example:{v4.port}",)):
        for _ in range(5):
            # libcurl could not know this name: it is pinned to what we looked up
            assert send(Request("GET", f"http://app.example:{v4.port}/")).status == 200
    assert v4.connections == before + 1
    assert calls.count("app.example") <= 2  # answers are shared for ten seconds


@pytest.mark.parametrize(
    "location",
    [
        "http://{c}/", "//{c}/", "http://127.1:{p}/", "http://[::1]:{p}/", "http://localhost:{p}/",
        "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]:{p}/",
        "http://user@{c}/", "http://example.com\\@{c}/", "\\\\{c}\\", "http:\\\\{c}", "http://{c}\t/",
        "file:///etc/passwd", "gopher://{c}/", "dict://{c}/", "http://127.0.0.1:5432/",
        "http://inner.example:{p}/", "http://[::1", "HTTP://{c}/", "http://0x7f.1:{p}/",
        "http://2130706433:{p}/", "ftp://{c}/", "http://[64:ff9b::7f00:1]:{p}/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_judged_like_a_first_address(canary, status, location, monkeypatch):
    answering(monkeypatch, ["127.0.0.1"])
    where = location.format(c=f"127.0.0.1:{canary.port}", p=canary.port)
    play = outbound.plays(
        f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    with outbound.target(play) as door, settings_override(outbound_allow=(door.authority,)):
        asked = Request("POST", door.url(), body=b"x", timeout_seconds=3)
        answer = send(asked)  # not followed unless asked
        assert (answer.status, answer.headers["location"]) == (status, where.strip())
        followed = send(http.replace(asked, follow_redirects=3))
        assert isinstance(followed, Failure)
        assert followed.kind == "refused_address"


# with the guard away these lead to a canary; the others would leave this machine
WITHOUT_A_GUARD = """
127.0.0.1 127.1 127.0.1 0x7f.1 0x7f000001 2130706433 017700000001 0177.0.0.1 ①②⑦.⓪.⓪.① 127。0。0。1
１２７.０.０.１ 127.0.0.1. [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1]
localhost localhost. LOCALHOST inner.example metadata.google.internal bücher.example
"""


@pytest.mark.parametrize("form", WITHOUT_A_GUARD.split())
def test_every_case_could_fail(canaries, form, monkeypatch):
    """The break that all the cases above must notice: nobody judges, and the canary is called."""
    v4, v6 = canaries
    monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, v4.port))
    answering(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(addresses, "is_forbidden", lambda _address: False)
    monkeypatch.setattr(http, "is_forbidden", lambda _address: False)
    monkeypatch.setattr(addresses, "_NUMERIC", re.compile("(?!)"))
    _forget()
    before = v4.connections + v6.connections
    try:
        url = f"http://{form}:{v4.port}/"
        check_url(url)
        assert isinstance(send(Request("GET", url, may_repeat=False)), Response)
        assert v4.connections + v6.connections == before + 1
    finally:
        _forget()


def test_a_redirect_could_fail_too(canaries, monkeypatch):
    v4, _ = canaries
    monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, v4.port))
    monkeypatch.setattr(addresses, "is_forbidden", lambda _address: False)
    monkeypatch.setattr(http, "is_forbidden", lambda _address: False)
    before = v4.connections
    moved = b"HTTP/1.1 302 Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    with outbound.target(outbound.plays(moved % v4.url().encode())) as door:
        monkeypatch.setattr(addresses, "PORTS", (*addresses.PORTS, v4.port, door.port))
        followed = send(Request("GET", door.url(), follow_redirects=3, may_repeat=False))
    _forget()
    assert isinstance(followed, Response)
    assert v4.connections == before + 1


def _forget():
    """Drop what was judged without a guard, and the connections that were made then."""
    addresses.read_url.cache_clear()
    addresses._ask.cache_clear()
    http._POOLS.clear()


@pytest.mark.parametrize("hops", [1, 2, 5])
def test_a_chain_of_redirects_is_judged_at_every_hop(canary, hops):
    """Door after door is allowed; the last one points inside."""
    with contextlib.ExitStack() as stack:
        where, doors = canary.url(), []
        for _ in range(hops):
            moved = f"HTTP/1.1 307 Moved\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n"
            doors.append(stack.enter_context(outbound.target(outbound.plays(moved.encode()))))
            where = doors[-1].url()
        allowed = tuple(door.authority for door in doors)
        stack.enter_context(settings_override(outbound_allow=allowed))
        answer = send(Request("POST", where, body=b"x", timeout_seconds=3, follow_redirects=9))
        assert isinstance(answer, Failure)
        assert answer.kind == "refused_address"
        assert [door.connections for door in doors] == [1] * hops


def test_a_name_that_changes_between_requests_is_judged_each_time(canary, monkeypatch):
    """A name server that answers in turn: public, private, both, nothing, many."""
    turns = [
        ["127.0.0.1"], [PUBLIC_V4, "127.0.0.1"], ["::1"], ["::ffff:7f00:1"], ["10.0.0.1"],
        [PUBLIC_V4] * 500 + ["169.254.169.254"], ["fe80::1%lo"], ["64:ff9b::7f00:1"],
    ]  # fmt: skip
    for number, turn in enumerate(turns * 3):
        answering(monkeypatch, turn)
        refused(f"http://turn-{number % 4}.example:{canary.port}/")


def test_the_operators_choice_lets_exactly_one_port_through(canaries):
    v4, v6 = canaries
    before = v4.connections, v6.connections
    urls = [f"http://127.0.0.1:{v4.port}/", f"http://[::1]:{v4.port}/"]
    with settings_override(outbound_allow=(f"127.0.0.1:{v4.port}", f"[::1]:{v4.port}")):
        for url in urls:
            check_url(url)
            assert isinstance(send(Request("GET", url)), Response)
        refused("http://127.0.0.1:8080/")
        refused(f"http://127.0.0.2:{v4.port}/")
        refused(f"http://localhost.example:{v4.port + 1}/")
    with settings_override(outbound_allow=("127.0.0.1:1",)):
        for url in urls:
            refused(url)
    # the canaries do sing: without this the other tests would prove nothing
    assert (v4.connections, v6.connections) == (before[0] + 1, before[1] + 1)


def test_a_proxy_in_the_environment_is_not_asked(canary, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    with outbound.target() as app, settings_override(outbound_allow=(app.authority,)):
        assert send(Request("GET", app.url())).status == 200
        assert app.requests[0].startswith(b"GET / HTTP/1.1")


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255",
     "172.32.0.1", "192.0.1.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "168.63.129.15",
     "168.63.129.17", "169.253.255.255", "11.0.0.1", "2606:4700::1111", "2400:3200::1",
     "240e::1", "2a00:1450::1", "64:ff9b::808:808", "2001:4860:4860::8888", "2003::1"],
)  # fmt: skip
def test_public_addresses_are_public(address):
    assert not is_forbidden(address)
    assert not is_forbidden(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    ["https://shop.example/hooks?x=1#top", "HTTPS://Shop.Example", "http://shop.example:8080",
     "https://shop.example?x=1", "https://商店.example/钩子", "https://a_b.example:443/", "https://x",
     f"https://{PUBLIC_V4}/", f"https://[{PUBLIC_V6}]:8443/", "https://shop.example./a@b:c"],
)  # fmt: skip
def test_ordinary_addresses_are_fine(url, monkeypatch):
    answering(monkeypatch, [PUBLIC_V4, PUBLIC_V6])
    check_url(url)


@pytest.mark.parametrize(
    "url",
    ["https://shop.example/a b", "https://shop.example/\r\nX: y", "https://shop.example/\t",
     "https://shop.example/\x00", "https://shop.example/\x7f", "https://shop.example/\xa0",
     "https://shop.example/\u3000", "https://shop.example/a\\b", "https://shop.example\\/",
     "https://user:pass@shop.example/", "https://user@shop.example/", "https://@shop.example/",
     "https://:@shop.example/", "https://shop.example%2f/", "https://shop.example/" + "a" * 5000],
)  # fmt: skip
def test_a_public_address_written_oddly_is_refused_for_its_writing(url, monkeypatch):
    answering(monkeypatch, [PUBLIC_V4])
    with pytest.raises(Invalid) as caught:
        check_url(url)
    assert "private" not in caught.value.plain()


@pytest.mark.parametrize("oddity", ["\t", "\\", "\x0b", "\x85", "\u3000"])
def test_a_redirect_that_two_readers_may_read_differently_is_not_followed(oddity):
    with outbound.target() as other:
        where = f"http://127.0.0.1:{other.port}/{oddity}there".encode()
        play = outbound.plays(b"HTTP/1.1 302 Moved\r\nLocation: %s\r\n\r\n" % where)
        with (
            outbound.target(play) as door,
            settings_override(outbound_allow=(door.authority, other.authority)),
        ):
            answer = send(Request("GET", door.url(), timeout_seconds=3, follow_redirects=1))
        assert isinstance(answer, Failure)
        assert other.connections == 0


def test_a_form_does_not_wait_for_a_slow_name_server(monkeypatch):
    monkeypatch.setattr(addresses, "RESOLVER", lambda _: time.sleep(30))
    started = time.monotonic()
    check_url("https://slow.example/")
    assert 1.5 < time.monotonic() - started < 10, "it takes thirty"
