"""A hub with its catalogue, firms that use it, and the mock vendors behind the demo bundle."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, inspect, select
from sqlmodel import Session

from catalog.tables import App, Bundle, Listing, Release, Vendor
from connectors.lab import mock_vendor
from connectors.lab.mock_vendor import Vendors
from identity.principals import Principal
from identity.roles import permissions_of
from kernel.database import EVERY, transaction
from kernel.ids import new_id
from marketplace import seed
from marketplace.tables import Installation

BUNDLE = "order-to-chat"
APPS = ("demo-shop", "demo-erp", "demo-chat")


SHELVES = [inspect(one).local_table for one in (Vendor, App, Release, Listing, Bundle)]
_kept: dict[str, dict[Table, list[dict[str, Any]]]] = {}


def _stock(name: str, seeding: Callable[[Session], Any]) -> None:
    """Fill empty shelves: seeded once, and afterwards with the same rows, which is far quicker."""
    with transaction(EVERY) as session:
        is_empty = not any(session.execute(select(one).limit(1)).first() for one in SHELVES)
        if is_empty and name in _kept:
            for table, rows in _kept[name].items():
                session.execute(insert(table), rows)
            return
        seeding(session)
        session.flush()
        if is_empty:
            found = {table: session.execute(select(table)).mappings().all() for table in SHELVES}
            _kept[name] = {table: [dict(row) for row in rows] for table, rows in found.items()}


def stock_the_shop() -> None:
    """Put the whole catalogue in, the demo bundle too."""
    _stock("shop", lambda session: seed.catalogue.seed(session, include_demo=True))


def stock_the_demo() -> None:
    """Put in the bundles and the demo's three apps alone."""
    _stock("demo", _seed_demo)


def _seed_demo(session: Session) -> None:
    seed.catalogue.seed_bundles(session, include_demo=True)
    seed.catalogue.seed_demo(session)


def acting(member, role: str | None = None, **over) -> Principal:
    """The principal that a member is at a browser."""
    chosen = role or member.role
    return Principal(
        **{
            "organization_id": member.organization_id,
            "user_id": member.user_id,
            "member_id": member.id,
            "role": chosen,
            "kind": "member",
            "permissions": permissions_of(chosen),
            "name": "李明",
            **over,
        }
    )


def make_installation(session, organization_id: str, **over) -> Installation:
    """An active app that the customer runs; `over` replaces columns."""
    row = Installation(
        **{
            "organization_id": organization_id,
            "id": new_id("ins"),
            "kind": "external",
            "title": {"zh": "自建进销存", "en": "Our own ERP"},
            "slot": "logistics",
            "state": "active",
            "open_url": "https://erp.example.com/",
            **over,
        }
    )
    session.add(row)
    session.flush()
    return row


@cache
def page_headers() -> dict[str, str]:
    """What a browser sends."""
    return {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class DemoVendors:
    """The three mock vendors, running in threads of this process."""

    running: Vendors
    base_port: int

    def behave(self, mode: str, *keys: str, **more) -> None:
        """Switch a fault on at some vendors (all of them when none is named)."""
        for key in keys or APPS:
            self.running[key].app.behave({"mode": mode, **more})

    def accounts(self, organization_id: str) -> list[str]:
        """The accounts a firm has, as `vendor:installation`."""
        statement = "SELECT id FROM installation WHERE organization = ?"
        return [
            f"{key}:{row['id']}"
            for key in APPS
            for row in self.running[key].app.ledger.run(statement, organization_id)
        ]

    def all_accounts(self) -> list[str]:
        """Every account there is."""
        return [
            row["id"]
            for key in APPS
            for row in self.running[key].app.ledger.run("SELECT id FROM installation")
        ]

    def subscriptions(self, organization_id: str) -> int:
        """How many addresses the vendors would send a firm's news to."""
        statement = (
            "SELECT count(*) AS n FROM subscription JOIN installation"
            " ON installation.id = subscription.installation WHERE installation.organization = ?"
        )
        return sum(
            self.running[key].app.ledger.run(statement, organization_id)[0]["n"] for key in APPS
        )

    def calls(self, action: str) -> dict[str, int]:
        """How often each vendor did a lifecycle step."""
        counted = {key: self.running[key].app.ledger.counts()["actions"] for key in APPS}
        return {key: one.get(action, {}).get("requests", 0) for key, one in counted.items()}

    def reset(self) -> None:
        """Forget faults, calls and accounts."""
        for key in APPS:
            ledger = self.running[key].app.ledger
            ledger.reset()
            ledger.run("DELETE FROM subscription")
            ledger.run("DELETE FROM installation")


def start_vendors(folder: Path) -> DemoVendors:
    """Start the mock vendors on three free ports in a row."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            return DemoVendors(mock_vendor.serve(APPS, base_port=port, state_dir=folder), port)
        except OSError:
            continue
    raise RuntimeError("no three free ports in a row")
