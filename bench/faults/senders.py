"""Senders that behave like providers: what gets no 2xx is sent again under the same id.

A refusal (4xx) is none of the answers that a hub in trouble may give; it fails the run.
"""

import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import requests

from bench import orders
from bench.faults.ledger import Ledger
from bench.hub import Client
from bench.load import Door

ARRAY = 10
SINGLES_PER_SECOND, ARRAYS_PER_SECOND, SHOP_PER_SECOND = 30.0, 2.5, 10.0
TIMEOUT_SECONDS = 10
AGAIN_SECONDS = 0.05
COPY_SHARE = 0.15  # so many messages are sent again on purpose, although they were accepted
_numbers = itertools.count(1)


@dataclass
class Answers:
    """What senders were told."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # no answer at all
    refused: list[tuple[int, str]] = field(default_factory=list)
    messages: int = 0
    copies: int = 0  # sent on purpose
    slowest_s: float = 0.0  # the longest wait for an answer of any kind
    last_accepted_at: float = 0.0
    unaccepted: int = 0  # given up at the end of a run


class Senders:
    """A load of about 55 events a second in single messages and arrays, and orders of the shop."""

    def __init__(self, door: Door, ledger: Ledger, shop: Client | None, seed: int = 1) -> None:
        self.door, self.ledger, self.shop, self.seed = door, ledger, shop, seed
        self.answers = Answers()
        self.clock_off = 0  # seconds that the senders' clock is wrong by
        self.rests_shop = False  # it signs by the right time, and gives up what is refused for it
        self.tries_stale_again = False  # while a clock is being set, a refusal for it is no end
        self._url = f"http://127.0.0.1:{door.port}{door.path}"
        self._done, self._given_up = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._run = f"{random.getrandbits(32):08x}"
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Send until told to stop."""
        self._done.clear()
        lines = 4
        for _ in range(lines):
            self._spawn(self._keep_sending, 1, SINGLES_PER_SECOND / lines)
        self._spawn(self._keep_sending, ARRAY, ARRAYS_PER_SECOND)
        if self.shop is not None:
            self._spawn(self._keep_ordering)

    def _spawn(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, patience_seconds: float = 60) -> None:
        """Begin nothing new, and wait until everything begun is accepted."""
        self._done.set()
        deadline = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        self._given_up.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS + 5)
        self._threads.clear()
        self._given_up.clear()

    def knock(self, numbers: range, clock_off: int | None = None) -> requests.Response | None:
        """Send one message once and return the answer, None when there was none."""
        body = orders.body(numbers, self.seed, as_array=False)
        return self.post_once(f"msg_{self._run}_{numbers.start}", body, clock_off)

    def post_once(
        self, message_id: str, body: bytes, clock_off: int | None = None
    ) -> requests.Response | None:
        """Send a body once and return the answer, None when there was none."""
        with requests.Session() as http:
            return self._post(http, message_id, body, clock_off)

    def take_numbers(self, count: int) -> range:
        """Return numbers for new orders."""
        with self._lock:
            first = next(_numbers)
            for _ in range(count - 1):
                next(_numbers)
            return range(first, first + count)

    def _keep_sending(self, size: int, per_second: float) -> None:
        choose = random.Random(f"{self.seed} {size} {threading.get_ident()}")
        due = time.monotonic()
        with requests.Session() as http:
            while not self._done.is_set():
                # after an outage what was due meanwhile follows at once
                due += choose.expovariate(per_second)
                if self._done.wait(max(0.0, due - time.monotonic())):
                    return
                numbers = self.take_numbers(size)
                self._deliver(http, numbers)
                if choose.random() < COPY_SHARE and not self._given_up.is_set():
                    self.answers.copies += 1
                    self._deliver(http, numbers)

    def _deliver(self, http: requests.Session, numbers: range) -> None:
        body = orders.body(numbers, self.seed, as_array=len(numbers) > 1)
        message_id = f"msg_{self._run}_{numbers.start}"
        self.answers.messages += 1
        while not self._given_up.is_set():
            answer = self._post(http, message_id, body)
            if answer is not None and answer.status_code == 202:
                self.answers.last_accepted_at = time.monotonic()
                for place, one in enumerate(answer.json()["accepted"]):
                    number = numbers[one.get("index", place)]
                    self.ledger.note_accepted(number, one["id"])
                return
            is_stale = answer is not None and answer.status_code == 401
            if is_stale and self.tries_stale_again:
                time.sleep(AGAIN_SECONDS)
                continue
            if answer is not None and answer.status_code < 500:
                self.answers.refused.append((answer.status_code, answer.text[:300]))
                return
            time.sleep(AGAIN_SECONDS)
        self.answers.unaccepted += 1

    def _post(
        self, http: requests.Session, message_id: str, body: bytes, clock_off: int | None = None
    ) -> requests.Response | None:
        assert self.door.secret is not None
        at = int(time.time()) + (self.clock_off if clock_off is None else clock_off)
        headers = orders.signature_headers(self.door.secret, message_id, body, at)
        headers["Content-Type"] = "application/json"
        started = time.monotonic()
        try:
            answer = http.post(self._url, data=body, headers=headers, timeout=TIMEOUT_SECONDS)
        except requests.RequestException:
            answer = None
        with self._lock:
            if answer is None:
                self.answers.broken += 1
            else:
                self.answers.statuses[answer.status_code] += 1
            waited = time.monotonic() - started
            self.answers.slowest_s = max(self.answers.slowest_s, waited)
        return answer

    def _keep_ordering(self) -> None:
        """Let the demo shop send orders; it keeps each until the hub has taken it."""
        assert self.shop is not None
        while not self._done.wait(0.5):
            count = int(SHOP_PER_SECOND / 2)
            if self.rests_shop:
                continue
            self.shop.call("POST", "/_mock/emit", {"trigger": "order_paid", "count": count})
