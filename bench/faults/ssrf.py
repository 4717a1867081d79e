"""Strangers' addresses: does any of them lead a call into our own network?

Runs in a network namespace of its own, in which every address there is leads to this machine: a
canary takes whatever is called, whichever address that was. Only one public address is a server
that may be called; without it the silence of the canary would prove nothing.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults import borrowed
from bench.faults.canaries import PUBLIC, Canaries, Names
from bench.hub import ROOT, Client, Hub
from kernel import addresses, http

SECONDS = 240


@dataclass
class Count:
    """What was tried."""

    cases: int = 0
    controls: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    trouble: list[str] = field(default_factory=list)


def run() -> dict[str, Any]:
    """Try everything in a namespace of its own; says why when there can be none."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        return {"ssrf_skipped": "a network namespace needs root, unshare and ip"}
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.faults.ssrf"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"ssrf_trouble": [f"not done after {SECONDS} s"], "ssrf_connections": 0}
    if done.returncode:
        if "Operation not permitted" in done.stderr:
            return {"ssrf_skipped": "this machine allows no network namespace"}
        return {"ssrf_trouble": [done.stderr[-1500:]], "ssrf_connections": 0}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Try everything; this process is already in its namespace."""
    with tempfile.TemporaryDirectory() as folder, Names() as names, Canaries() as canaries:
        _make_network(Path(folder), names, canaries)
        count = Count()
        _addresses(count)
        _doors(count, names, canaries)
        connections = canaries.connections
        visits = canaries.visits
        unguarded = _without_guard(canaries)
    if not unguarded:
        count.trouble.append("with the guard away nobody called the canary: it proves nothing")
    told = {
        "ssrf_cases": count.cases,
        "ssrf_connections": connections,
        "ssrf_controls": count.controls,
        "ssrf_control_connections": visits,
        "ssrf_unguarded_connections": unguarded,
        "ssrf_statuses": count.statuses,
        "ssrf_trouble": count.trouble,
    }
    print(json.dumps(told))
    return 0


def _make_network(folder: Path, names: Names, canaries: Canaries) -> None:
    """Let every address lead here, and every name to our own name server."""
    for words in (
        "link set lo up",
        "addr add 169.254.169.254/32 dev lo",
        "addr add 10.9.9.9/32 dev lo",
        f"addr add {PUBLIC}/32 dev lo",
        "route add local 0.0.0.0/0 dev lo",
        "-6 route add local ::/0 dev lo",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    subprocess.run(["mount", "--bind", resolver, "/etc/resolv.conf"], check=True)
    names.start()
    canaries.start()


# --- the guard itself ----------------------------------------------------------------------------


def _urls() -> Iterator[str]:
    """Give every spelling that the tests of the guard know, on ports that are open and not."""
    lists = borrowed.module("kernel.test_ssrf")
    for form in lists.LITERALS.split():
        yield f"http://{form}:8080/"
    for shape in lists.SHAPES:
        yield shape.format(c="127.0.0.1:8080", p=8080)
    for name in (*lists.NAMES, "inner.example", "meta.example", "ten.example", "six.example"):
        yield f"http://{name}/"
        yield f"https://{name}:8443/"
    yield "http://mixed.example/"
    for port in lists.PORTS:
        yield f"http://{PUBLIC}:{port}/"
        yield f"http://127.0.0.1:{port}/"


def _addresses(count: Count) -> None:
    for url in _urls():
        count.cases += 1
        answer = http.send(http.Request("POST", url, body=b"x", timeout_seconds=5))
        if isinstance(answer, http.Response):
            count.trouble.append(f"{url!r} was answered with {answer.status}")
    for location in ("http://127.0.0.1:8080/", "http://169.254.169.254/", "http://[::1]/"):
        for status in (301, 302, 303, 307, 308):
            count.cases += 1
            url = f"http://{PUBLIC}/to/{status}?{location}"
            asked = http.Request("GET", url, timeout_seconds=5, follow_redirects=3)
            if isinstance(http.send(asked), http.Response):
                count.trouble.append(f"a redirect with {status} led to {location}")
    count.controls += 1
    if not isinstance(http.send(http.Request("GET", f"http://{PUBLIC}/")), http.Response):
        count.trouble.append("the public server could not be called")


# --- the hub's doors -----------------------------------------------------------------------------


def _doors(count: Count, names: Names, canaries: Canaries) -> None:
    hub = Hub({"YANGFAN_DEMO": "0", "YANGFAN_OUTBOUND_ALLOW": ""})
    try:
        hub.start()
        client = Client(hub.url)
        client.sign_up()
        doors = _Doors(client)
        inside = [
            one.format(c="127.0.0.1:8080", p=8080)
            for one in borrowed.module("marketplace.test_ssrf_doors").INSIDE
        ]
        for name, door in doors.table().items():
            if not name.startswith("$"):  # a schema refers to nothing outside, public or not
                count.controls += 1
                if not 200 <= (status := door(f"http://{PUBLIC}/")) < 300:
                    count.trouble.append(f"{name} refused a public address with {status}")
            for url in inside:
                count.cases += 1
                status = door(url)
                count.statuses[name][status] += 1
                if status >= 500:
                    count.trouble.append(f"{name} broke with {status} on {url!r}")
        if missing := set(borrowed.module("marketplace.test_ssrf_doors").FIELDS) - doors.fields:
            count.trouble.append(f"fields that nobody tried: {sorted(missing)}")
        _rebinding(count, names, client)
        _redirects(count, client)
        _controls(count, client, canaries)
    finally:
        hub.stop()


class _Doors:
    """One function for each field that takes an address; gives the status of the answer."""

    fields = {
        "EndpointIn.url", "EndpointPatch.url", "ExternalInstallationIn.open_url",
        "ExternalInstallationPatch.open_url", "VendorIn.homepage", "ConnectionIn.settings",
        "ConnectionPatch.settings",
    }  # fmt: skip

    def __init__(self, client: Client) -> None:
        self.client = client
        self.endpoint = make_endpoint(client, f"http://{PUBLIC}/")["id"]
        self.connection = self._connect(f"http://{PUBLIC}")["id"]
        self.link = client.call(
            "POST", "/api/v1/installations", {"name": "x", "open_url": "https://example.com/"}
        )["id"]

    def _connect(self, url: str) -> Any:
        return self.client.call("POST", "/api/v1/connections", _connection(url))

    def _ask(self, method: str, path: str, body: Any) -> int:
        answer = self.client.http.request(method, self.client.url + path, json=body, timeout=30)
        return int(answer.status_code)

    def table(self) -> dict[str, Callable[[str], int]]:
        """Name the doors."""
        about = {"name": {"zh": "名", "en": "N"}, "contact_email": "a@example.com"}
        title = {"zh": "t", "en": "t"}
        ask = self._ask
        return {
            "EndpointIn.url": lambda url: ask(
                "POST", "/api/v1/endpoints", {"url": url, "event_types": ["*"]}
            ),
            "EndpointPatch.url": lambda url: ask(
                "PATCH", f"/api/v1/endpoints/{self.endpoint}", {"url": url}
            ),
            "ConnectionIn.settings": lambda url: ask(
                "POST", "/api/v1/connections", _connection(url)
            ),
            "ConnectionPatch.settings": lambda url: ask(
                "PATCH",
                f"/api/v1/connections/{self.connection}",
                {"settings": {"base_url": url}},
            ),
            "token address": lambda url: ask(
                "POST",
                "/api/v1/connections",
                {
                    "connector": "generic-http",
                    "auth": "client",
                    "fields": {"client_id": "id-012345", "client_secret": "secret-012345"},
                    "settings": {"base_url": url},
                },
            ),
            "ExternalInstallationIn.open_url": lambda url: ask(
                "POST", "/api/v1/installations", {"name": "x", "open_url": url}
            ),
            "ExternalInstallationPatch.open_url": lambda url: ask(
                "PATCH", f"/api/v1/installations/{self.link}", {"open_url": url}
            ),
            "VendorIn.homepage": lambda url: ask(
                "POST", "/api/v1/vendor", {**about, "homepage": url}
            ),
            "$ref": lambda url: ask(
                "POST",
                "/api/v1/custom-event-types",
                {"name": "my.own", "title": title, "schema": {"$ref": url}},
            ),
            "$id and $schema": lambda url: ask(
                "POST",
                "/api/v1/custom-event-types",
                {"name": "my.own", "title": title, "schema": {"$id": url, "$schema": url}},
            ),
        }


def _connection(url: str) -> dict[str, Any]:
    return {
        "connector": "generic-http",
        "auth": "key",
        "fields": {"key": "key-0123456789"},
        "settings": {"base_url": url},
    }


def make_endpoint(client: Client, url: str) -> Any:
    """Register an endpoint."""
    return client.call("POST", "/api/v1/endpoints", {"url": url, "event_types": ["*"]})


def _rebinding(count: Count, names: Names, client: Client) -> None:
    """Names that are public when they are saved, and lead inside when they are called."""
    for number, place in enumerate(["127.0.0.1", "10.9.9.9", "169.254.169.254", "127.0.0.2"] * 3):
        name = f"turn-{number}.example"
        names.places[name] = PUBLIC
        made = make_endpoint(client, f"http://{name}/")
        names.places[name] = place
        # answers are shared for up to ten seconds: what is called is what was vetted, or refused
        for _ in range(2):
            count.cases += 1
            client.call("POST", f"/api/v1/endpoints/{made['id']}/test")


def _redirects(count: Count, client: Client) -> None:
    """A public server that sends callers inside."""
    for status in (301, 302, 303, 307, 308):
        for location in ("http://127.0.0.1:8080/", "http://10.9.9.9/", "http://[::1]:8080/"):
            count.cases += 1
            made = make_endpoint(client, f"http://{PUBLIC}/to/{status}?{location}")
            client.call("POST", f"/api/v1/endpoints/{made['id']}/test")


def _controls(count: Count, client: Client, canaries: Canaries) -> None:
    """What may be called is called."""
    for url in (f"http://{PUBLIC}/", "http://public.example/", "http://public.example:8080/x"):
        count.controls += 1
        before = canaries.visits
        made = make_endpoint(client, url)
        tried = client.call("POST", f"/api/v1/endpoints/{made['id']}/test")
        if tried["status"] != 200 or canaries.visits == before:
            count.trouble.append(f"{url} could not be called: {tried}")


def _without_guard(canaries: Canaries) -> int:
    """Take the guard away and count how many of the same addresses reach the canary."""
    addresses.is_forbidden = http.is_forbidden = lambda _address: False  # type: ignore[assignment]
    addresses._NUMERIC = re.compile("(?!)")  # noqa: SLF001
    addresses.read_url.cache_clear()
    addresses._ask.cache_clear()  # noqa: SLF001
    before = canaries.connections
    for form in borrowed.module("kernel.test_ssrf").WITHOUT_A_GUARD.split():
        with contextlib.suppress(Exception):
            http.send(http.Request("GET", f"http://{form}:8080/", may_repeat=False))
    return canaries.connections - before


if __name__ == "__main__":
    sys.exit(main())
