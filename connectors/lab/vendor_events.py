"""The sending side of a lab vendor: signed events to its subscribers, tried again until taken."""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from connectors.engine.connector import Connector
from connectors.lab import vendor_answers, vendor_looks, vendor_signing
from connectors.lab.vendor_ledger import Ledger
from kernel import clock, documents

SENDERS = 4
BATCH = 50
MAX_TRIES = 200  # well over an hour: a hub that is killed every second is not up often
MAX_WAIT_SECONDS = 30.0
TIMEOUT_SECONDS = 10


class Emitter:
    """Writes emissions to the ledger and sends them from threads of its own."""

    def __init__(self, connector: Connector, ledger: Ledger) -> None:
        """Prepare; nothing is sent before start."""
        self.connector, self.ledger = connector, ledger
        self.bell = threading.Event()
        self.is_stopping = False
        self.threads: list[threading.Thread] = []
        self.claimed: set[int] = set()
        # Order numbers go on where an earlier process stopped, so that none is given twice.
        self.sequence = ledger.switch("sequence") or int(time.time()) % 1_000_000

    def start(self) -> None:
        """Send in the background, first of all what an earlier process left behind."""
        if not self.connector.triggers:
            return
        for number in range(SENDERS):
            thread = threading.Thread(target=self._run, name=f"emit-{number}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def stop(self) -> None:
        """Stop sending; what waits stays in the ledger."""
        self.is_stopping = True
        self.bell.set()
        for thread in self.threads:
            thread.join(5)

    def emit(self, trigger_key: str, count: int, data: Any) -> dict[str, Any]:
        """Put `count` new events in the queue of every subscriber; returns their ids."""
        trigger = self.connector.triggers[trigger_key]
        wanted = [
            row
            for row in self.ledger.run("SELECT * FROM subscription")
            if any(one in ("*", trigger.event) for one in json.loads(row["types"]))
        ]
        ids: list[str] = []
        now, lost = time.time(), 0
        mode, share = self._fault()
        copies = 2 if mode == "doubled" else 1
        with self.ledger.lock:
            self.ledger.run("BEGIN")
            for _ in range(count):
                self.sequence += 1
                event_id = f"msg_{self.connector.key}_{self.sequence}_{random.getrandbits(32):08x}"
                ids.append(event_id)
                body = documents.dump(self._body(trigger_key, data)).decode()
                for row in [one for one in wanted for _ in range(copies)]:
                    # out of order: each at a moment of its own, within a second
                    at = now + random.random() if mode == "shuffled" else now  # noqa: S311
                    state = "lost" if random.random() < share else "waiting"  # noqa: S311
                    lost += state == "lost"
                    self.ledger.run(
                        "INSERT INTO emission (event, trigger, subscription, body, state,"
                        " next_at, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                        event_id, trigger_key, row["id"], body, state, at, now,
                    )  # fmt: skip
            self.ledger.set_switch("sequence", self.sequence)
            self.ledger.run("COMMIT")
        self.bell.set()
        return {"events": ids, "subscriptions": len(wanted), "lost": lost}

    def _fault(self) -> tuple[str, float]:
        """Return (the fault switched on, the part of the events that the network loses)."""
        stated = self.ledger.switch("behaviour") or {}
        mode = str(stated.get("mode", "ok"))
        return mode, float(stated.get("share", 0.3)) if mode == "lossy" else 0.0

    def _body(self, trigger_key: str, data: Any) -> Any:
        sample = vendor_answers.sample_data(self.connector, trigger_key)
        now = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = _renewed(sample, self.sequence, now)
        if isinstance(data, Mapping):
            place = body["data"] if isinstance(body.get("data"), dict) else body
            place.update(data)
        return body

    def _run(self) -> None:
        connections: dict[str, http.client.HTTPConnection] = {}
        while not self.is_stopping:
            batch = self._claim()
            if not batch:
                self.bell.wait(0.2)
                self.bell.clear()
                continue
            for row in batch:
                self._send(row, connections)

    def _claim(self) -> list[Any]:
        with self.ledger.lock:
            rows = self.ledger.run(
                "SELECT e.*, s.url, s.secret FROM emission e LEFT JOIN subscription s"
                " ON s.id = e.subscription WHERE e.state = 'waiting' AND e.next_at <= ?"
                " ORDER BY e.next_at, e.id LIMIT ?",
                time.time(), BATCH + len(self.claimed),
            )  # fmt: skip
            free = [row for row in rows if row["id"] not in self.claimed][:BATCH]
            self.claimed.update(row["id"] for row in free)
            return free

    def _send(self, row: Any, connections: dict[str, http.client.HTTPConnection]) -> None:
        if self.is_stopping:
            return
        status: int | None = None
        if row["url"] is None:
            self._record(row, "dropped", None)
            return
        try:
            status = post(row["url"], self._signed(row), row["body"].encode(), connections)
        except (OSError, http.client.HTTPException):
            connections.pop(urlsplit(row["url"]).netloc, None)
        if status is not None and 200 <= status < 300:
            self._record(row, "taken", status)
        elif row["tries"] + 1 >= MAX_TRIES or (status is not None and _is_final(status)):
            self._record(row, "refused", status)
        else:
            self._record(row, "waiting", status)

    def _signed(self, row: Any) -> dict[str, str]:
        trigger, raw = self.connector.triggers[row["trigger"]], row["body"].encode()
        own = vendor_looks.own_id(trigger, row["event"])
        named = {**trigger.sample.get("headers", {}), "webhook-id": row["event"], **own}
        signed = {**own, **vendor_signing.seal(trigger, named, raw, row["secret"], clock.now())}
        taken = {name.lower() for name in signed}
        return {
            "Content-Type": "application/json",
            **{name: value for name, value in trigger.sample.get("headers", {}).items()
               if name.lower() not in taken},
            **signed,
        }  # fmt: skip

    def _record(self, row: Any, state: str, status: int | None) -> None:
        wait = min(0.2 * 2 ** min(row["tries"], 10), MAX_WAIT_SECONDS)
        with self.ledger.lock:
            self.ledger.run(
                "UPDATE emission SET state = ?, status = ?, tries = tries + 1, next_at = ?"
                " WHERE id = ?",
                state, status, time.time() + wait, row["id"],
            )  # fmt: skip
            self.claimed.discard(row["id"])


def _is_final(status: int) -> bool:
    """Tell whether sending again cannot help: a client error other than “later”."""
    return 400 <= status < 500 and status not in (408, 409, 425, 429)


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    connections: dict[str, http.client.HTTPConnection],
) -> int:
    """POST over a kept connection and return the status; raises OSError or HTTPException."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = connections.get(parts.netloc)
    if kept is not None:
        try:
            return _exchange(kept, path, headers, body)
        except ConnectionError:
            # it was closed while nobody used it, which is no try of the event
            kept.close()
    fresh = _connect(parts.scheme, parts.netloc)
    connections[parts.netloc] = fresh
    return _exchange(fresh, path, headers, body)


def _connect(scheme: str, place: str) -> http.client.HTTPConnection:
    maker = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return maker(place, timeout=TIMEOUT_SECONDS)


def _exchange(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str], body: bytes
) -> int:
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _renewed(sample: Any, number: int, now: str, name: str = "") -> Any:
    if isinstance(sample, dict):
        return {key: _renewed(one, number, now, key) for key, one in sample.items()}
    if isinstance(sample, list):
        return [_renewed(one, number, now, name) for one in sample]
    if name in ("timestamp", "time", "at") or name.endswith("_at"):
        return now
    if name in ("order_no", "payment_no", "number"):
        return vendor_answers.numbered(sample, number)
    return sample
