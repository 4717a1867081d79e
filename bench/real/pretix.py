"""pretix: the ticket shop. Orders are placed and paid over its API, its webhooks go to the hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from bench.real.rooms import SETUPS, PythonRoom

ORGANIZER, EVENT = "yangfan", "expo-2026"
PRICE = "88.00"


class Pretix(PythonRoom):
    """pretix from its package registry, on SQLite."""

    key = "pretix"
    package = "pretix"
    wants = "pretix>=2026.8,<2027 gunicorn"

    def environment(self, state: Path) -> dict[str, str]:
        """Return pretix's own settings; without a broker its tasks run where they arise."""
        return {
            "PRETIX_CONFIG_FILE": "/dev/null",
            "PRETIX_PRETIX_DATADIR": str(state),
            "PRETIX_PRETIX_URL": self.url,
            "PRETIX_PRETIX_CURRENCY": "CNY",
            "PRETIX_PRETIX_ALLOW_HTTP_TO_PRIVATE_NETWORKS": "true",
            "PRETIX_DJANGO_DEBUG": "false",
            "DJANGO_SETTINGS_MODULE": "pretix.settings",
        }

    def make_base(self) -> dict[str, Any]:
        """Make the database, an organizer with an event that sells tickets, and an API token."""
        self.tool(self.python, "-m", "pretix", "migrate", seconds=600)
        script = (SETUPS / "pretix_setup.py").read_text()
        said = self.tool(self.python, "-m", "pretix", "shell", text=script)
        line = next(one for one in said.splitlines() if '"token"' in one)
        facts: dict[str, Any] = json.loads(line[line.index("{") :])
        return facts

    def command(self) -> Sequence[str]:
        """Return gunicorn's command: one request at a time, as SQLite has one writer."""
        address = f"127.0.0.1:{self.port}"
        options = ("--workers", "1", "--timeout", "120", "--bind", address)
        return (str(self.python), "-m", "gunicorn", "pretix.wsgi", *options)

    def is_ready(self) -> bool:
        """Tell whether the API takes the token."""
        return self._call("GET", f"/organizers/{ORGANIZER}/", timeout=5).status_code == 200

    def connection(self) -> dict[str, Any]:
        """Return what the hub's connection is made of."""
        return {
            "connector": "pretix",
            "auth": "token",
            "fields": {"key": self.facts["token"]},
            "settings": {"base_url": self.url},
        }

    def send_to(self, address: str) -> None:
        """Let pretix tell an address about paid orders."""
        answer = self._call(
            "POST",
            f"/organizers/{ORGANIZER}/webhooks/",
            {
                "target_url": address,
                "enabled": True,
                "all_events": True,
                "limit_events": [],
                "action_types": ["pretix.event.order.paid"],
            },
        )
        answer.raise_for_status()

    def order(self, email: str, name: str, tickets: int = 1, *, is_paid: bool) -> str:
        """Place an order and return its code."""
        one = {
            "item": self.facts["item"],
            "variation": None,
            "price": PRICE,
            "attendee_name_parts": {"_scheme": "full", "full_name": name},
        }
        body = {
            "email": email,
            "locale": "en",
            "sales_channel": "web",
            "status": "p" if is_paid else "n",
            "payment_provider": "manual",
            "send_email": False,
            "positions": [one] * tickets,
        }
        answer = self._call("POST", f"/organizers/{ORGANIZER}/events/{EVENT}/orders/", body)
        if answer.status_code != 201:
            raise RuntimeError(f"pretix took no order: {answer.status_code} {answer.text[:500]}")
        return str(answer.json()["code"])

    def pay(self, code: str) -> None:
        """Take an order's payment in."""
        at = f"/organizers/{ORGANIZER}/events/{EVENT}/orders/{code}/mark_paid/"
        self._call("POST", at, {"send_email": False}).raise_for_status()

    def _call(
        self, method: str, path: str, body: Any = None, timeout: float = 120
    ) -> requests.Response:
        headers = {"Authorization": f"Token {self.facts['token']}"}
        address = f"{self.url}/api/v1{path}"
        return requests.request(method, address, json=body, headers=headers, timeout=timeout)
