"""Tryton: the firm's books. Customers and sales are made by the hub and counted here."""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from bench.real.rooms import SETUPS, PythonRoom

DATABASE = "yangfan"
MODULES = ("sale", "stock", "purchase", "production")
PACKAGES = ("party", "product", "account", *MODULES)


class Tryton(PythonRoom):
    """trytond and its modules from their package registry, on SQLite."""

    key = "tryton"
    package = "trytond"
    wants = " ".join(
        f"{name}~=8.2.0" for name in ("trytond", *(f"trytond-{part}" for part in PACKAGES))
    )

    def environment(self, state: Path) -> dict[str, str]:  # noqa: ARG002 - a room's shape
        """Return nothing: trytond reads a file."""
        return {}

    def make_base(self) -> dict[str, Any]:
        """Make the database with the modules, a firm with a product, and the hub's key."""
        (self.base / f"{DATABASE}.sqlite").touch()
        file = self._configuration(self.base)
        secret = self.base / "password"
        secret.write_text(secrets.token_urlsafe(16))
        admin = (self.python.with_name("trytond-admin"), "-c", file, "-d", DATABASE)
        more = {"TRYTONPASSFILE": str(secret)}
        self.tool(*admin, "--all", "-m", "--email", "admin@localhost", more=more)
        self.tool(*admin, "-m", "-u", *MODULES, "--activate-dependencies", more=more, seconds=600)
        said = self.tool(self.python, SETUPS / "tryton_setup.py", file, DATABASE)
        facts: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return facts

    def command(self) -> Sequence[str]:
        """Return trytond's command; the database is opened before the first request."""
        file = self._configuration(self.state)
        return (str(self.python.with_name("trytond")), "-c", str(file), "-d", DATABASE)

    def _configuration(self, state: Path) -> Path:
        file = state / "trytond.conf"
        file.write_text(
            f"[database]\nuri = sqlite://\npath = {state}\n[web]\nlisten = 127.0.0.1:{self.port}\n"
        )
        return file

    def is_ready(self) -> bool:
        """Tell whether the key is taken."""
        address = self._address(f"company.company/{self.facts['company']}?f=rec_name")
        return requests.get(address, headers=self._headers, timeout=5).status_code == 200

    def connection(self) -> dict[str, Any]:
        """Return what the hub's connection is made of."""
        return {
            "connector": "tryton",
            "auth": "key",
            "fields": {"key": self.facts["key"]},
            "settings": {
                "base_url": self.url,
                "database": DATABASE,
                "company": self.facts["company"],
            },
        }

    def sales(self) -> list[dict[str, Any]]:
        """Return every sale: {reference, state, total}."""
        found = self._search("sale.sale", ["reference", "state", "total_amount"])
        return [
            {
                "reference": one["reference"],
                "state": one["state"],
                "total": one["total_amount"]["decimal"],
            }
            for one in found
        ]

    def customers(self) -> list[str]:
        """Return the codes of all parties that have one of an e-mail address's shape."""
        codes = [str(one["code"]) for one in self._search("party.party", ["code"])]
        return [code for code in codes if "@" in code]

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.facts['key']}"}

    def _address(self, path: str) -> str:
        return f"{self.url}/{DATABASE}/rest/model/{path}"

    def _search(self, model: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        body = {"domain": [], "limit": 10_000, "fields_names": [*fields]}
        address = self._address(f"{model}/search_read")
        answer = requests.post(address, json=body, headers=self._headers, timeout=60)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found
