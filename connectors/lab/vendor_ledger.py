"""The ledger of a lab vendor: every call, installation, subscription and emission, in SQLite.

It survives a killed process, so a test may compare what the hub believes with what arrived.
"""

import hashlib
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS call (
  id INTEGER PRIMARY KEY, action TEXT NOT NULL, key TEXT, digest TEXT NOT NULL, body TEXT NOT NULL,
  status INTEGER NOT NULL, answer TEXT NOT NULL, count INTEGER NOT NULL DEFAULT 1,
  installation TEXT, at REAL NOT NULL, UNIQUE (action, key));
CREATE TABLE IF NOT EXISTS refusal (
  id INTEGER PRIMARY KEY, action TEXT NOT NULL, status INTEGER NOT NULL, why TEXT,
  at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS installation (
  id TEXT PRIMARY KEY, organization TEXT, name TEXT, api_key TEXT UNIQUE, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (
  id TEXT PRIMARY KEY, installation TEXT, url TEXT NOT NULL, types TEXT NOT NULL,
  secret TEXT NOT NULL, at REAL NOT NULL, UNIQUE (installation, url));
CREATE TABLE IF NOT EXISTS emission (
  id INTEGER PRIMARY KEY, event TEXT NOT NULL, trigger TEXT NOT NULL, subscription TEXT NOT NULL,
  body TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', tries INTEGER NOT NULL DEFAULT 0,
  status INTEGER, next_at REAL NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS emission_waiting ON emission (next_at) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS switch (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def digest(body: bytes) -> str:
    """Return the digest a ledger row shows instead of comparing whole bodies."""
    return hashlib.sha256(body).hexdigest()


class Ledger:
    """One vendor's memory; every method is one short step under one lock."""

    def __init__(self, path: Path) -> None:
        """Open or create the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.numbers: dict[str, int] = {}  # action → documents so far, so that nothing is counted
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        # OFF survives kill -9: the operating system has the pages. A power cut it would not.
        self.connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA busy_timeout=5000;" + TABLES
        )

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.connection.close()

    def run(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    # calls

    def earlier(self, action: str, key: str | None) -> sqlite3.Row | None:
        """Return the call that used this idempotency key before."""
        if key is None:
            return None
        rows = self.run("SELECT * FROM call WHERE action = ? AND key = ?", action, key)
        return rows[0] if rows else None

    def repeat(self, call_id: int) -> None:
        """Count one more request for a call that is already there."""
        self.run("UPDATE call SET count = count + 1 WHERE id = ?", call_id)

    def next_number(self, action: str) -> int:
        """Return the number the action's next document gets; hold the lock until it is kept."""
        if action not in self.numbers:
            found = self.run("SELECT count(*) FROM call WHERE action = ?", action)
            self.numbers[action] = int(found[0][0])
        self.numbers[action] += 1
        return self.numbers[action]

    def keep(
        self,
        action: str,
        key: str | None,
        body: bytes,
        status: int,
        answer: bytes,
        installation: str | None,
    ) -> None:
        """Write a call that was carried out."""
        self.run(
            "INSERT INTO call (action, key, digest, body, status, answer, installation, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            action, key, digest(body), body.decode("utf-8", "replace"), status,
            answer.decode(), installation, time.time(),
        )  # fmt: skip

    def refuse(self, action: str, status: int, why: str) -> None:
        """Write a request that was not carried out."""
        self.run(
            "INSERT INTO refusal (action, status, why, at) VALUES (?, ?, ?, ?)",
            action, status, why[:300], time.time(),
        )  # fmt: skip

    def calls(self, action: str | None, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return calls in order, `limit` at most, from after a row id."""
        rows = self.run(
            "SELECT id, action, key, digest, body, status, count, installation, at FROM call"
            " WHERE id > ? AND (? IS NULL OR action = ?) ORDER BY id LIMIT ?",
            after, action, action, limit,
        )  # fmt: skip
        return [dict(row) for row in rows]

    def newest(self, limit: int) -> list[sqlite3.Row]:
        """Return the newest calls, with their bodies."""
        return self.run("SELECT * FROM call ORDER BY id DESC LIMIT ?", limit)

    def counts(self) -> dict[str, Any]:
        """Return how much came in: documents, requests and refusals by action."""
        counted = self.run(
            "SELECT action, count(*) AS n, sum(count) AS m FROM call GROUP BY action"
        )
        refused = self.run("SELECT action, count(*) AS n FROM refusal GROUP BY action")
        sent = self.run("SELECT state, count(*) AS n FROM emission GROUP BY state")
        return {
            "actions": {row["action"]: {"documents": row["n"], "requests": row["m"]}
                        for row in counted},
            "refused": {row["action"]: row["n"] for row in refused},
            "emissions": {row["state"]: row["n"] for row in sent},
        }  # fmt: skip

    # installations and subscriptions

    def install(self, key: str, organization: str, name: str, api_key: str) -> sqlite3.Row:
        """Return the installation of that id, made now if it is new."""
        with self.lock:
            self.run(
                "INSERT INTO installation VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                key, organization, name, api_key, time.time(),
            )  # fmt: skip
            return self.run("SELECT * FROM installation WHERE id = ?", key)[0]

    def installation_of(self, api_key: str) -> sqlite3.Row | None:
        """Return the installation an API key belongs to."""
        rows = self.run("SELECT * FROM installation WHERE api_key = ?", api_key)
        return rows[0] if rows else None

    def uninstall(self, key: str) -> bool:
        """Forget an installation and its subscriptions; False when there was none."""
        with self.lock:
            self.run("DELETE FROM subscription WHERE installation = ?", key)
            return bool(self.run("DELETE FROM installation WHERE id = ? RETURNING id", key))

    def subscribe(
        self, key: str, installation: str, url: str, types: list[str], secret: str
    ) -> sqlite3.Row:
        """Return the installation's subscription for a URL, made now if it is new."""
        with self.lock:
            self.run(
                "INSERT INTO subscription VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (installation, url) DO UPDATE SET types = excluded.types",
                key, installation, url, json.dumps(types), secret, time.time(),
            )  # fmt: skip
            return self.run(
                "SELECT * FROM subscription WHERE installation = ? AND url = ?", installation, url
            )[0]

    def unsubscribe(self, key: str) -> bool:
        """Forget a subscription; False when there was none."""
        return bool(self.run("DELETE FROM subscription WHERE id = ? RETURNING id", key))

    # what was sent

    def sent(
        self,
        installation: str | None,
        since: float,
        beside: int | None,
        limit: int,
        *,
        is_newest_first: bool,
    ) -> list[sqlite3.Row]:
        """Return emissions to one installation's subscriptions (to all without one), in order.

        `beside` is the row that the page before ended with.
        """
        sign = -1 if is_newest_first else 1
        beside = sign * (beside or 0) if beside or not is_newest_first else -(2**62)
        return self.run(
            "SELECT e.* FROM emission e LEFT JOIN subscription s ON s.id = e.subscription"
            " WHERE e.at >= ? AND (? IS NULL OR s.installation = ?)"
            " AND ? * e.id > ? ORDER BY ? * e.id LIMIT ?",
            since, installation, installation, sign, beside, sign, limit,
        )  # fmt: skip

    def send_again(self, emission_id: int) -> bool:
        """Put an emission back into the queue; False when there is none."""
        return bool(
            self.run(
                "UPDATE emission SET state = 'waiting', tries = 0, next_at = ? WHERE id = ?"
                " RETURNING id",
                time.time(),
                emission_id,
            )
        )

    # switches

    def switch(self, name: str) -> Any:
        """Return what a switch says, or None."""
        rows = self.run("SELECT value FROM switch WHERE name = ?", name)
        return json.loads(rows[0]["value"]) if rows else None

    def set_switch(self, name: str, value: Any) -> None:
        """Set a switch."""
        self.run(
            "INSERT INTO switch VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name, json.dumps(value),
        )  # fmt: skip

    def reset(self) -> None:
        """Forget calls, refusals, emissions and switches; installations stay."""
        with self.lock:
            self.numbers.clear()
            self.run("DELETE FROM switch WHERE name <> 'sequence'")
            for table in ("call", "refusal", "emission"):
                self.run(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
