"""Networks: the wires between the hub, its receiver, its database and its broker are harmed."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.faults import outages
from bench.faults.proxy import KINDS, Proxy
from bench.faults.stage import SCALED, Private, Stage

HARMED_SECONDS = 5.0
PAUSE_SECONDS = 1.5


class Wires:
    """A stage whose wires go through proxies: receiver always, database and broker when scaled."""

    def __init__(self, mode: str, private: Private | None, closing: ExitStack) -> None:
        self.proxies: dict[str, Proxy] = {}
        ports: dict[str, int] = {}
        if mode == SCALED and private is not None:
            for name, port in (
                ("database", private.postgres.port),
                ("broker", private.rabbitmq.port),
            ):
                ports[f"{name}_port"] = self._lay(name, port, closing)
        self.stage = Stage(
            mode,
            private,
            receiver_port=lambda port: self._lay("receiver", port, closing),
            **ports,
        )
        self.stage.is_in_a_hurry = True
        closing.callback(self.stage.close)

    def _lay(self, name: str, port: int, closing: ExitStack) -> int:
        proxy = self.proxies[name] = Proxy(port)
        closing.callback(proxy.stop)
        return proxy.port

    def fault(self) -> Callable[[], dict[str, Any]]:
        """Harm each wire in every way, one after the other, and heal it again."""

        def run() -> dict[str, Any]:
            slowest, said = 0.0, set[str]()
            for name, proxy in sorted(self.proxies.items()):
                for kind in KINDS:
                    time.sleep(PAUSE_SECONDS)
                    proxy.harm(kind)
                    said |= self._watch(name, kind)
                    proxy.heal()
                    slowest = max(slowest, outages.until_accepted(self.stage))
            return {
                "harms": sorted(f"{name} {kind}" for name in self.proxies for kind in KINDS),
                "harmed_connections": {n: one.harmed for n, one in sorted(self.proxies.items())},
                "answers_while_away": sorted(said),
                "recovery_s": round(slowest, 2),
            }

        return run

    def _watch(self, name: str, kind: str) -> set[str]:
        """Wait while the wire is harmed; say what senders are told while there is no database."""
        if name != "database" or kind not in ("cut", "hole"):
            time.sleep(HARMED_SECONDS)
            return set()
        said = set[str]()
        until = time.monotonic() + HARMED_SECONDS
        while time.monotonic() < until:
            answer = outages.knock(self.stage)
            said.add("none" if answer is None else str(answer.status_code))
            time.sleep(0.2)
        return said
