"""Which addresses may be called: strict reading, look-ups, the forbidden networks, sockets."""

import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import quote

import idna

from kernel.errors import N_, Invalid
from kernel.settings import settings

PORTS = (80, 443, 8000, 8080, 8443)
# What speaks no HTTP: the ports that each way may be called on, the first when none is said.
WIRES = {
    "smtps": (465, 994),
    "smtp": (587, 2525),
    "imaps": (993,),
    "imap": (143,),
    "sftp": (22, 2022, 2222, 8022),
    "wss": (443,),
}
MAX_URL_LENGTH = 4096


def check_url(url: str) -> None:
    """Raise Invalid, with the reason, for a URL that could never be called; for forms.

    Takes up to 2 seconds: not for transactions. A name that is not found now is let through.
    """
    is_wire = url.partition("://")[0].lower() in WIRES
    allowed = settings().outbound_allow
    target = read_wire(url, allowed)[0] if is_wire else read_url(url, allowed)
    if wait([lookup := target.look_up()], timeout=2).done and not lookup.exception():
        target.vet(lookup.result())


_FORBIDDEN = [ip_network(text) for text in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16",
    "2620:4f:8000::/48", "3ffe::/16", "3fff::/20",
)]  # fmt: skip
# only 2000::/3 is public at all: no ::/8 with its IPv4 inside, no fc00::, fe80::, fec0::, ff00::
_GLOBAL_V6, _NAT64 = ip_network("2000::/3"), ip_network("64:ff9b::/96")


@lru_cache(maxsize=4096)
def is_forbidden(address: str | IPv4Address | IPv6Address) -> bool:
    """Tell whether an IP address leads anywhere but to the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return is_forbidden(IPv4Address(int(ip) & 0xFFFFFFFF))
        is_isatap = (int(ip) >> 32) & 0xFDFFFFFF == 0x5EFE
        if is_isatap or ip not in _GLOBAL_V6 or ip.scope_id is not None:
            return True
    return any(ip in network for network in _FORBIDDEN)


class Target(NamedTuple):
    """Where a URL leads, in its only spelling."""

    url: str
    host: str
    authority: str
    is_literal: bool
    is_allowed: bool

    def look_up(self) -> Future[list[str]]:
        """Promise the addresses of the host."""
        # everybody shares an answer for up to ten seconds
        resolver, moment = None if self.is_literal else RESOLVER, time.monotonic() // 10
        return _ask(self.host, resolver, os.getpid(), moment)

    def vet(self, addresses: Sequence[str]) -> None:
        """Refuse the whole set when one address is forbidden: a mixed answer is an attack."""
        if not self.is_allowed and any(map(is_forbidden, addresses)):
            raise refuse(N_("it leads into a private or reserved network, not to the internet"))


UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\s]")
_URL = re.compile(
    r"(?i)(https?)://(?:\[([0-9a-f:.]+)\]|([^:\[\]@%/?#]+))(?::([0-9]{1,5}))?([/?][^#]*)?(?:#.*)?"
)
_HOST = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?=.)|\Z))+")
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def refuse(reason: str, code: str = "refused_address", **params: Any) -> Invalid:
    """Make the problem that says why an address is not called."""
    return Invalid(N_("This address cannot be called"), reason, code=code, **params)


@lru_cache(maxsize=2048)
def read_url(url: str, allowed: tuple[str, ...]) -> Target:
    """Read a URL strictly; `allowed` names the host:port that may be private. Raises Invalid."""
    if len(url) > MAX_URL_LENGTH or UNSAFE.search(url):
        raise refuse(N_("it is too long, or contains a space, a backslash or a control character"))
    found = _URL.fullmatch(url)
    if not found:
        raise refuse(N_("it must look like https://name/path, without a user name or password"))
    scheme, path = found[1].lower(), found[5] or "/"
    host, is_literal = _read_host(found[2], found[3])
    port = int(found[4] or (443 if scheme == "https" else 80))
    if not host or not 0 < port < 65536:
        raise refuse(N_("the host name or port is not written correctly"))
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if port not in PORTS and authority not in allowed:
        ports = ", ".join(map(str, PORTS))
        raise refuse(N_("port %(port)s is not open; use one of %(ports)s"), port=port, ports=ports)
    path = quote(path if path[0] == "/" else "/" + path, safe=bytes(range(33, 127)))
    url = f"{scheme}://{authority}{path}"
    return Target(url, host, authority, is_literal, authority in allowed)


_WIRE = re.compile(
    r"([a-z]{3,5})://(?:\[([0-9a-f:.]+)\]|([^:\[\]@%/?#]+))(?::([0-9]{1,5}))?(?:/[^?#]*)?(?:\?[^#]*)?"
)


def read_wire(url: str, allowed: tuple[str, ...]) -> tuple[Target, int]:
    """Read an address that is not called by HTTP, and its port. Raises Invalid."""
    found = None if len(url) > MAX_URL_LENGTH or UNSAFE.search(url) else _WIRE.fullmatch(url)
    if not found or found[1] not in WIRES:
        raise refuse(N_("it is not written correctly"))
    host, is_literal = _read_host(found[2], found[3])
    ports = WIRES[found[1]]
    port = int(found[4] or ports[0])
    if not host or not 0 < port < 65536:
        raise refuse(N_("the host name or port is not written correctly"))
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if port not in ports and authority not in allowed:
        listed = ", ".join(map(str, ports))
        raise refuse(N_("port %(port)s is not open; use one of %(ports)s"), port=port, ports=listed)
    return Target(url, host, authority, is_literal, authority in allowed), port


def open_socket(url: str, until: float) -> socket.socket:
    """Connect to what speaks no HTTP, at an address that was vetted, before a monotonic moment.

    The name is looked up once and the socket connects to that number, so that a name that leads
    elsewhere a moment later changes nothing. Raises Invalid for what may not be called, OSError for
    what cannot be reached; takes long: not for transactions.
    """
    target, port = read_wire(url, settings().outbound_allow)
    lookup = target.look_up()
    if not wait([lookup], timeout=max(0.0, until - time.monotonic())).done:
        raise TimeoutError("the name lookup did not end in time")
    addresses = lookup.result()
    if not addresses:
        raise socket.gaierror("the name has no address")
    target.vet(addresses)
    lost: OSError = TimeoutError("no time was left to connect")
    for address in addresses[:8]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.settimeout(max(0.01, until - time.monotonic()))
            one.connect((address, port))
            # the address really connected to, whatever the lookup said
            target.vet([str(one.getpeername()[0])])
        except BaseException as error:
            one.close()
            if not isinstance(error, OSError):
                raise
            lost = error
        else:
            return one
    raise lost


def _read_host(literal: str | None, name: str) -> tuple[str, bool]:
    """Return an IP address in its only spelling, or a name in small ASCII letters, or nothing."""
    try:
        if literal:
            return str(IPv6Address(literal)), True
        name = name if name.isascii() else idna.encode(name, uts46=True).decode()
        name = name.lower().removesuffix(".")
        # 127.1, 0x7f.1 and 2130706433 are addresses to some and names to others
        if _NUMERIC.fullmatch(name):
            return str(IPv4Address(name)), True
    except ValueError:  # idna raises it too
        return "", False
    return name if _HOST.fullmatch(name) else "", False


def RESOLVER(host: str) -> list[str]:  # noqa: N802 - a hook: tests give answers of their own
    """Return the addresses of a name; takes as long as the system takes."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@lru_cache(maxsize=2000)
def _ask(host: str, resolver: Any, _process: int, _moment: float) -> Future[list[str]]:
    """Promise the addresses of a name, from a thread: the system call knows no time limit."""
    future = Future[list[str]]()

    def work() -> None:
        try:
            future.set_result(resolver(host) if resolver else [host])
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="lookup").start()
    return future
