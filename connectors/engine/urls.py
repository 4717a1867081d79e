"""URLs: strict parsing, encoded path parts, and the list of hosts a connector may call."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from connectors.engine import templates
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import Connector
from connectors.engine.findings import say
from connectors.engine.functions import EvaluationError, to_text
from kernel.addresses import WIRES

_PLAIN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_HOST = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:.]+\])")
MAX_URL = 4_000
HTTP = "http"
# The transports of the manifest's language, and the schemes of the addresses that each takes.
SCHEMES = {
    HTTP: ("https", "http"),
    "smtp": ("smtps", "smtp"),
    "imap": ("imaps", "imap"),
    "sftp": ("sftp",),
}


@dataclass(frozen=True, slots=True)
class Base:
    """A base address, taken apart: where a connector's paths hang below."""

    scheme: str
    host: str
    port: int
    text: str


@lru_cache(maxsize=1024)
def parse_base(text: str, transport: str = HTTP) -> Base:
    """Take an address of a transport apart; raises CannotBuild for anything unusual."""
    if not isinstance(text, str) or not _PLAIN.fullmatch(text) or len(text) > MAX_URL:
        raise _strange(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as broken:
        raise _strange(text) from broken
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.rstrip(":")
    if (
        parts.scheme not in SCHEMES[transport]
        or not _HOST.fullmatch(host)
        or parts.query
        or parts.fragment
        or _climbs(parts.path)
    ):
        raise _strange(text)
    default = {"https": 443, "http": 80}.get(parts.scheme) or WIRES[parts.scheme][0]
    return Base(parts.scheme, host.lower(), port or default, text.rstrip("/"))


def _strange(text: Any) -> CannotBuild:
    shown = str(text)[:80]
    return CannotBuild(
        "config",
        say(f"“{shown}”不是可用的网址", f"“{shown}” is not a usable web address"),
        "/settings",
    )


def base_text(connector: Connector, name: str | None) -> str:
    """Return the text of the connector's address, or of one of its named ones."""
    if name is None:
        return connector.http.base
    text = connector.http.bases.get(name)
    if text is None:
        words = say(f"连接器没有名为 {name} 的地址", f"The connector has no address named {name}")
        raise CannotBuild("config", words)
    return text


def transport_of(connector: Connector, name: str | None) -> str:
    """Return how the connector's address, or one of its named ones, is spoken to."""
    return connector.http.transports.get(name or "", HTTP)


def base_of(
    connector: Connector, text: str, settings: Mapping[str, Any], transport: str = HTTP
) -> Base:
    """Evaluate and check a base address (or a token address) of the connector."""
    try:
        written = templates.parse(text, frozenset({"settings"})).write({"settings": settings}, str)
    except EvaluationError as lost:
        raise CannotBuild("config", lost.say, "/settings") from lost
    base = parse_base(written, transport)
    if not is_allowed(connector, base, settings, transport):
        raise CannotBuild(
            "config",
            say(
                f"连接器不能访问 {base.host}，它不在允许的主机之内",
                f"The connector may not call {base.host}; it is not among its hosts",
            ),
            "/settings",
        )
    return base


def is_allowed(
    connector: Connector, base: Base, settings: Mapping[str, Any], transport: str = HTTP
) -> bool:
    """Tell whether an address is one the manifest fixes (https only) or its settings name."""
    if base.scheme == "https" and base.port == 443:
        for host in connector.hosts:
            if host == base.host:
                return True
            if host.startswith("*.") and base.host.endswith(host[1:]):
                return True
    for name in connector.settings_hosts:
        stated = settings.get(name)
        if isinstance(stated, str) and stated:
            try:
                own = parse_base(stated, transport)
            except CannotBuild:
                continue  # the address of another transport
            if (own.scheme, own.host, own.port) == (base.scheme, base.host, base.port):
                return True
    return False


def path_of(text: str, activation: Mapping[str, Any]) -> str:
    """Return the encoded path; each `${…}` is one part, unless the whole text is one `${…}`."""
    template = templates.parse(text)
    try:
        if template.is_typed:
            return _whole(to_text(template.evaluate(activation)))
        return template.write(activation, _part)
    except EvaluationError as lost:
        raise CannotBuild("data", lost.say, "/path") from lost


def _part(value: str) -> str:
    if value in ("", ".", ".."):
        raise CannotBuild(
            "data",
            say("路径中的编号不能为空", "An id in the path cannot be empty, “.” or “..”"),
            "/path",
        )
    return quote(value, safe="")


def _whole(path: str) -> str:
    if not path.startswith("/") or path.startswith("//") or "\\" in path or _climbs(path):
        raise CannotBuild(
            "data",
            say("路径须以一个 / 开头，且不能含 ..", "A path starts with one / and has no .. in it"),
            "/path",
        )
    return quote(path, safe="/:@!$&'()*+,;=-._~")


def _climbs(path: str) -> bool:
    return any(part.replace("%2e", ".").replace("%2E", ".") in (".", "..")
               for part in path.split("/"))  # fmt: skip


def join(base: Base, path: str, query: list[tuple[str, str]]) -> str:
    """Return the whole address; raises CannotBuild when it is over 4,000 characters."""
    url = base.text + path
    if query:
        url += "?" + urlencode(query, quote_via=quote, safe="")
    if len(url) > MAX_URL:
        raise CannotBuild("data", say("网址太长", "The web address is too long"), "/path")
    return url
