"""The stage: a hub in one of its two modes, a firm on it, senders in front, a receiver behind."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from bench import firms, orders, servers
from bench.faults.hurry import hurry
from bench.faults.ledger import Ledger
from bench.faults.private_servers import Postgres, RabbitMQ, wait_until
from bench.faults.receiver import Receiver
from bench.faults.senders import Senders
from bench.hub import STARTER, Client, Hub, free_ports

SETTLE_SECONDS = 120
# What still comes in is late, not lost: hundreds of kills leave a backlog of many minutes.
LONGEST_SETTLE_SECONDS = 1800
HURRY_SECONDS = 3.0
VENDOR_TRIES = 3  # a minute each, on a machine that may be very busy
EMBEDDED, SCALED = "embedded", "scaled"


@dataclass
class Private:
    """The servers that a scaled stage has to itself."""

    postgres: Postgres
    rabbitmq: RabbitMQ


@dataclass
class Verdict:
    """What one chapter of a stage came to, by both sides' books."""

    accepted: int = 0
    delivered: int = 0  # first arrivals: endpoint, flow, ERP, chat
    lost: int = 0
    duplicate_sends: int = 0
    changed: int = 0
    twice: int = 0  # processed twice by a receiver that knows ids
    refused: int = 0  # 4xx
    settle_s: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


@dataclass
class _Books:
    accepted: int
    delivered: int
    copies: int
    changed: int
    twice: int
    refused: int
    lost: int


class Stage:
    """One hub with its processes; `play` runs a fault under load and judges it."""

    def __init__(
        self,
        mode: str,
        private: Private | None = None,
        *,
        database_port: int | None = None,
        broker_port: int | None = None,
        receiver_port: Callable[[int], int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it all; `receiver_port` gives the port in front of the receiver's."""
        self.mode, self.private = mode, private
        self.database: servers.Database | None = None
        self.is_in_a_hurry = False
        self.closing = ExitStack()
        self.victims: list[subprocess.Popen[bytes]] = []
        self._told_lost = 0
        with ExitStack() as made:
            more = dict(environment or {})
            if mode == SCALED:
                more |= self._scaled(made, database_port, broker_port) | (environment or {})
            self.hub = Hub(more)
            made.callback(self._end)
            self.slow_port = free_ports(1)
            port = receiver_port(self.hub.sink_port) if receiver_port else self.hub.sink_port
            self.hub.environment["YANGFAN_OUTBOUND_ALLOW"] = ",".join(
                f"127.0.0.1:{one}" for one in sorted({self.hub.sink_port, port, self.slow_port})
            )
            self.ledger = Ledger(self.hub.folder / "ledger")
            self.receiver = Receiver(self.hub.sink_port, self.ledger)
            made.callback(self.receiver.stop)
            made.callback(self.ledger.close)
            self._start_all()
            self._found(f"http://127.0.0.1:{port}")
            self.closing = made.pop_all()

    # --- setting up ------------------------------------------------------------------------------

    def _scaled(
        self, made: ExitStack, database_port: int | None, broker_port: int | None
    ) -> dict[str, str]:
        assert self.private is not None
        os.environ["YANGFAN_TEST_POSTGRES"] = self.private.postgres.url
        name = f"yangfan_faults_{random.randrange(10**6)}"
        self.database = database = made.enter_context(servers.database(name))
        url, broker = database.app_url, self.private.rabbitmq.url
        if database_port:
            url = url.replace(f":{self.private.postgres.port}/", f":{database_port}/")
        if broker_port:
            broker = broker.replace(f":{self.private.rabbitmq.port}/", f":{broker_port}/")
        return {
            "YANGFAN_DATABASE_URL": url,
            "YANGFAN_OWNER_DATABASE_URL": database.owner_url,
            "YANGFAN_BROKER_URL": broker,
            "YANGFAN_WEB_PROCESSES": "2",
        }

    def _start_all(self) -> None:
        """Start the vendors, which nobody kills, and then the hub."""
        self.hub.run_vendors()
        chat = self.hub.vendor("demo-chat")
        if not wait_until(lambda: _answers(chat), 30):
            raise RuntimeError(f"the vendors did not start:\n{self.hub.tail()}")
        if self.mode == SCALED:
            migration = self.hub.run("migrate")
            if migration.wait(60):
                raise RuntimeError(f"no migration:\n{self.hub.tail()}")
            self.hub.processes.remove(migration)
        self.victims = [self.hub.run("up")]
        if self.mode == SCALED:
            self.victims += [self.hub.run("worker"), self.hub.run("worker")]
        self.hub.wait_ready(self.victims[0])

    def _found(self, receiver_url: str) -> None:
        """Make the firm: the shop's bundle, a source, an endpoint, a flow."""
        client = Client(self.hub.url)
        client.sign_up()
        rollout, _ = client.install("order-to-chat")
        if rollout["state"] != "active":
            raise RuntimeError(f"the bundle did not install: {rollout}")
        source = client.call("POST", "/api/v1/sources", firms.SOURCE)
        firms.add_flow(client, source["id"], f"{receiver_url}/flow")
        made = client.call(
            "POST",
            "/api/v1/endpoints",
            {"url": f"{receiver_url}/endpoint", "event_types": [orders.TYPE]},
        )
        self.receiver.secret = made["secret"]
        self.client = client
        path = source["url"].removeprefix(self.hub.url)
        self.senders = Senders(
            firms.Door(self.hub.port, path, source["secret"]),
            self.ledger,
            self.hub.vendor("demo-shop"),
        )

    def _end(self) -> None:
        for process in list(self.hub.processes):
            self.hub.kill(process)
        self.hub.stop(keep=bool(os.environ.get("YANGFAN_TEST_KEEP")))

    def close(self) -> None:
        """End everything that was started."""
        if self.private is not None:
            os.environ["YANGFAN_TEST_POSTGRES"] = self.private.postgres.url
        self.closing.close()

    # --- victims ---------------------------------------------------------------------------------

    def restart(
        self,
        number: int,
        environment: Mapping[str, str] | None = None,
        starter: Sequence[str] = STARTER,
    ) -> None:
        """Kill a process and start it again; number 0 is the web server, or all there is."""
        self.hub.kill(self.victims[number])
        self.start(number, environment, starter)

    def start(
        self,
        number: int,
        environment: Mapping[str, str] | None = None,
        starter: Sequence[str] = STARTER,
    ) -> None:
        """Start a process in the place of one that has ended."""
        if self.victims[number] in self.hub.processes:
            self.hub.processes.remove(self.victims[number])
        command = "up" if number == 0 else "worker"
        self.victims[number] = self.hub.run(command, environment=environment, starter=starter)

    def is_ready(self) -> bool:
        """Tell whether the web server answers."""
        try:
            return requests.get(f"{self.hub.url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    # --- a chapter -------------------------------------------------------------------------------

    def play(self, fault: Callable[[], dict[str, Any] | None]) -> Verdict:
        """Run a fault under load, let things settle, and compare the books."""
        before = self._books()
        self.senders.answers.slowest_s = 0.0
        self.senders.start()
        more: dict[str, Any] | None = None
        try:
            more = fault()
        finally:
            self.senders.stop()
        return self.judge(before, more or {})

    def judge(self, before: "_Books", more: dict[str, Any]) -> Verdict:
        """Let things settle and compare the books."""
        seconds = self.settle()
        now = self._books()
        lost = max(0, now.lost - self._told_lost)  # what is lost is told once
        self._told_lost = max(self._told_lost, now.lost)
        found = Verdict(
            accepted=now.accepted - before.accepted,
            delivered=now.delivered - before.delivered,
            lost=lost,
            duplicate_sends=now.copies - before.copies,
            changed=now.changed - before.changed,
            twice=now.twice - before.twice,
            refused=now.refused - before.refused,
            settle_s=round(seconds, 1),
            more={**more, "copies_by_door": self._copies()},
        )
        if lost:
            found.trouble.append(f"lost {self._lost_words()}")
        for status, text in self.senders.answers.refused[before.refused :][:3]:
            found.trouble.append(f"refused with {status}: {text}")
        if self.senders.answers.unaccepted:
            found.trouble.append("messages were not accepted in a minute of trying")
            self.senders.answers.unaccepted = 0
        return found

    def _copies(self) -> dict[str, int]:
        """Count what came more than once by door, since the stage began."""
        _, erp, chat = self._vendors()
        return {
            "endpoint": self.ledger.endpoint.copies,
            "flow": self.ledger.flow.copies,
            "ERP": _count(erp, "create_sales_order", "requests")
            - _count(erp, "create_sales_order", "documents"),
            "chat": _count(chat, "post_message", "requests")
            - _count(chat, "post_message", "documents"),
        }

    def _lost_words(self) -> str:
        missing = {door: numbers[:3] for door, numbers in self.ledger.missing().items() if numbers}
        ids = {n: self.ledger.accepted[n] for numbers in missing.values() for n in numbers}
        return f"{missing} {ids} shop/taken/ERP/chat {self.documents()}"

    def hurry(self) -> None:
        """Cut every wait for a next try short."""
        url = self.database.owner_url if self.database else self.hub.database_url
        hurry(url)

    def settle(self) -> float:
        """Wait until everything accepted has arrived, or nothing new has for two minutes.

        Returns how long. Stages that are in a hurry wait for no ladder of retries.
        """
        started, hurried = time.monotonic(), 0.0
        arrived: tuple[int, ...] = ()
        moved = started

        def is_over() -> bool:
            nonlocal hurried, arrived, moved
            now = time.monotonic()
            if self.is_in_a_hurry and now - hurried > HURRY_SECONDS:
                hurried = now
                self.hurry()
            came = (self.ledger.arrived, *self.documents())
            if came != arrived:
                arrived, moved = came, now
            return self._is_settled() or now - moved > SETTLE_SECONDS

        wait_until(is_over, LONGEST_SETTLE_SECONDS)
        seconds = time.monotonic() - started
        time.sleep(1)  # a second copy of anything would be under way by now
        return seconds

    def _is_settled(self) -> bool:
        return not any(self.ledger.missing().values()) and len(set(self.documents())) == 1

    def documents(self) -> tuple[int, int, int, int]:
        """Count orders of the shop, those handed over, ERP documents, chat messages."""
        shop, erp, chat = self._vendors()
        return (
            sum(shop["emissions"].values()),
            shop["emissions"].get("taken", 0),
            _count(erp, "create_sales_order", "documents"),
            _count(chat, "post_message", "documents"),
        )

    def _vendors(self) -> Iterator[dict[str, Any]]:
        for key in ("demo-shop", "demo-erp", "demo-chat"):
            yield self._ask(self.hub.vendor(key))

    @staticmethod
    def _ask(vendor: Client) -> dict[str, Any]:
        for _ in range(VENDOR_TRIES - 1):
            with contextlib.suppress(requests.RequestException):
                return dict(vendor.call("GET", "/_mock/ledger/count"))
        return dict(vendor.call("GET", "/_mock/ledger/count"))

    def _books(self) -> _Books:
        shop, erp, chat = self._vendors()
        # what the shop was told of its orders is no loss: only a document that is not there is one
        orders_made, _, *documents = self.documents()
        missing = sum(len(numbers) for numbers in self.ledger.missing().values())
        made = _count(erp, "create_sales_order", "documents") + _count(
            chat, "post_message", "documents"
        )
        asked = _count(erp, "create_sales_order", "requests") + _count(
            chat, "post_message", "requests"
        )
        with self.ledger.lock:
            doors = (self.ledger.endpoint, self.ledger.flow)
            return _Books(
                accepted=len(self.ledger.accepted) + shop["emissions"].get("taken", 0),
                delivered=sum(len(door.arrivals) for door in doors) + made,
                copies=sum(door.copies for door in doors) + asked - made,
                changed=sum(door.changed for door in doors),
                twice=sum(door.twice for door in doors)
                + len(self.ledger.renamed)
                + sum(max(0, count - orders_made) for count in documents),
                refused=len(self.senders.answers.refused),
                lost=missing + sum(max(0, orders_made - count) for count in documents),
            )


def _count(vendor: dict[str, Any], action: str, what: str) -> int:
    return int(vendor["actions"].get(action, {}).get(what, 0))


def _answers(client: Client) -> bool:
    with contextlib.suppress(requests.RequestException):
        client.call("GET", "/_mock/ledger/count")
        return True
    return False


def private_servers(folder: Path, closing: ExitStack) -> Private:
    """Start the servers of the scaled mode for this run alone."""
    folder.chmod(0o755)
    postgres, rabbitmq = Postgres(folder / "postgres"), RabbitMQ(folder / "rabbitmq")
    closing.callback(postgres.stop)
    closing.callback(rabbitmq.stop)
    rabbitmq.start()
    postgres.start()
    return Private(postgres, rabbitmq)
