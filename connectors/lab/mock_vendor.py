"""Lab vendors: apps made from connector manifests, one port each, in one process.

Any manifest will do: of the library by its key, or a folder of one's own. What a vendor answers are
the folder's fixtures; its faults are switched on over /_mock/behaviour.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.engine import loader
from connectors.engine.connector import Connector
from connectors.lab import vendor_faults
from connectors.lab.vendor_app import VendorApp
from connectors.lab.vendor_ledger import Ledger
from connectors.lab.vendor_server import Server

DEMO = ("demo-shop", "demo-erp", "demo-chat")
BASE_PORT = 9801


@dataclass(frozen=True, slots=True)
class Vendor:
    """One running vendor."""

    key: str
    url: str
    app: VendorApp
    server: Server


class Vendors:
    """The running vendors of a process; close() ends them."""

    def __init__(self, running: list[Vendor]) -> None:
        """Keep them."""
        self.running = running

    def __getitem__(self, key: str) -> Vendor:
        """Return one vendor by its connector's key."""
        return next(one for one in self.running if one.key == key)

    def close(self) -> None:
        """Stop serving and sending; the ledgers stay on disk."""
        for one in self.running:
            one.app.emitter.stop()
            one.server.stop()
            one.app.ledger.close()


def serve(
    keys: Sequence[str] = DEMO,
    host: str = "127.0.0.1",
    base_port: int = BASE_PORT,
    state_dir: Path = Path("var/vendors"),
    *,
    is_loopback_only: bool = True,
) -> Vendors:
    """Start vendors in threads on ports counted up from `base_port` (0: any free ports)."""
    running: list[Vendor] = []
    for position, key in enumerate(keys):
        connector = connector_of(key)
        ledger = Ledger(state_dir / f"{connector.key}.db")
        app = VendorApp(connector, ledger, is_loopback_only=is_loopback_only)
        server = Server(host, base_port + position if base_port else 0, app)
        app.url = f"http://{host}:{server.port}"
        server.start()
        app.emitter.start()
        running.append(Vendor(connector.key, app.url, app, server))
    return Vendors(running)


def connector_of(name: str) -> Connector:
    """Return the connector of a folder, else of the library; raises loader.Unfit and NotFound."""
    folder = Path(name)
    if (folder / "manifest.yaml").is_file():
        return loader.load(folder.resolve())
    return loader.find(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run vendors until the process is told to stop."""
    parser = argparse.ArgumentParser(prog="mock_vendor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--base-port", type=int, default=BASE_PORT)
    parser.add_argument("--state-dir", type=Path, default=Path("var/vendors"))
    parser.add_argument("--any-address", action="store_true", help="send events beyond loopback")
    parser.add_argument("--mode", choices=vendor_faults.MODES, help="a fault to begin with")
    parser.add_argument("--seconds", type=float, default=5, help="how long the fault makes wait")
    parser.add_argument("keys", nargs="*", default=list(DEMO), help="folders or library keys")
    options = parser.parse_args(argv)
    vendors = serve(
        options.keys,
        options.host,
        options.base_port,
        options.state_dir,
        is_loopback_only=not options.any_address,
    )
    for one in vendors.running:
        if options.mode:
            one.app.behave({"mode": options.mode, "seconds": options.seconds})
        sys.stdout.write(f"{one.key} {one.url}\n")
    sys.stdout.flush()
    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    stopped.wait()
    vendors.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
