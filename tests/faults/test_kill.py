"""kill -9 under load, in both modes: what was accepted arrives; a repeat keeps id and body."""

import contextlib
import os
import random
import threading
import time
import uuid

import pytest
import requests
from stores import make_database

from bench import github_examples
from bench.hub import Client, Hub
from bench.sink import Sink

# eight kills, eight starts and up to two minutes to settle, on a machine that may be busy
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = int(os.environ.get("YANGFAN_TEST_KILLS", "8"))
SETTLE_SECONDS = 120


class Load:
    """Senders that go on through every outage and note what was accepted, after the answer."""

    def __init__(self, hub, source, payloads):
        self.hub, self.source, self.payloads = hub, source, payloads
        self.accepted, self.refused = set(), []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.github, args=(n,)) for n in range(4)]
        self.threads.append(threading.Thread(target=self.shop))

    def github(self, part):
        http = requests.Session()
        number = part
        while not self.done.is_set():
            example = self.payloads[number % len(self.payloads)]
            number += 4
            headers = github_examples.signed_headers(
                example, self.source["secret"], str(uuid.uuid4())
            )
            # a provider that gets no 2xx sends the same delivery again
            while not self.done.is_set():
                try:
                    answer = http.post(
                        self.source["url"], data=example.body, headers=headers, timeout=10
                    )
                except requests.RequestException:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 202:
                    self.accepted.add(answer.json()["accepted"][0]["id"])
                    break
                if answer.status_code < 500:
                    self.refused.append((answer.status_code, answer.text[:300]))
                    break
                time.sleep(0.05)

    def shop(self):
        """Let the demo shop send orders; it keeps each until the hub has taken it."""
        shop = self.hub.vendor("demo-shop")
        while not self.done.wait(0.5):
            # the shop is killed along with the hub, and goes on with what it has written down
            with contextlib.suppress(requests.RequestException):
                shop.call("POST", "/_mock/emit", {"trigger": "order_paid", "count": 5})

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join(150)
            assert not thread.is_alive()


def scaled_environment():
    url, owner_url = make_database("yangfan_test_faults")
    return {
        "YANGFAN_DATABASE_URL": url,
        "YANGFAN_OWNER_DATABASE_URL": owner_url,
        "YANGFAN_BROKER_URL": os.environ["YANGFAN_TEST_BROKER"],
        "YANGFAN_WEB_PROCESSES": "2",
    }


@pytest.fixture(params=["embedded", "scaled"])
def hub(request, stores):
    environment = {}
    if request.param == "scaled":
        if stores["postgresql"].missing:
            pytest.skip(stores["postgresql"].missing)
        if "YANGFAN_TEST_BROKER" not in os.environ:
            pytest.skip("RabbitMQ is not reachable (YANGFAN_TEST_BROKER is not set)")
        environment = scaled_environment()
    made = Hub(environment)
    made.mode = request.param
    yield made
    made.stop()


def start_all(hub):
    """Start the vendors, which nobody kills, and then the hub."""
    hub.run_vendors()
    wait_for(lambda: hub.vendor("demo-chat").call("GET", "/_mock/ledger/count"))
    if hub.mode == "scaled":
        assert hub.run("migrate").wait(60) == 0, hub.tail()
    victims = [hub.run("up")]
    if hub.mode == "scaled":
        victims += [hub.run("worker"), hub.run("worker")]
    hub.wait_ready(victims[0])
    return victims


def wait_for(ask, seconds=20):
    """Ask until an answer comes."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def restart(hub, victims, number):
    command = "up" if number == 0 else "worker"
    hub.kill(victims[number])
    victims[number] = hub.run(command)


def test_nothing_accepted_is_lost(hub):
    victims = start_all(hub)
    client = Client(hub.url)
    client.sign_up()
    rollout, _ = client.install("order-to-chat")
    assert rollout["state"] == "active", rollout
    sink = Sink(hub.sink_port)
    endpoint = client.call(
        "POST", "/api/v1/endpoints", {"url": sink.url, "event_types": ["github.*"]}
    )
    sink.secret = endpoint["secret"]
    source = client.call("POST", "/api/v1/sources", github_examples.SOURCE)
    load = Load(hub, source, github_examples.examples({})[:300])
    load.start()
    try:
        for kill in range(KILLS):
            time.sleep(random.uniform(0.3, 1.2))
            restart(hub, victims, kill % len(victims))
            if kill % len(victims) == 0:
                hub.wait_ready(victims[0])
    finally:
        load.stop()
    began = time.monotonic()
    settle(hub, sink, load)
    print(f"settled after {time.monotonic() - began:.0f} s")
    check(hub, sink, load)
    sink.stop()


def settle(hub, sink, load):
    """Wait until everything accepted has arrived, two minutes at most."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        missing = load.accepted - set(sink.ledger.arrivals)
        if not missing and len(set(documents(hub))) == 1:
            return
        time.sleep(0.5)


def documents(hub):
    """Orders of the shop, orders it handed over, sales orders in the ERP, messages in the chat."""
    shop, erp, chat = (
        hub.vendor(key).call("GET", "/_mock/ledger/count")
        for key in ("demo-shop", "demo-erp", "demo-chat")
    )
    return (
        sum(shop["emissions"].values()),
        shop["emissions"].get("taken", 0),
        erp["actions"].get("create_sales_order", {}).get("documents", 0),
        chat["actions"].get("post_message", {}).get("documents", 0),
    )


def check(hub, sink, load):
    assert load.refused == []
    assert len(load.accepted) > 50
    assert load.accepted - set(sink.ledger.arrivals) == set(), hub.tail()
    # each order once in the shop, the ERP and the chat: nothing lost, nothing doubled
    orders = documents(hub)
    assert len(set(orders)) == 1, (orders, hub.tail())
    assert orders[0] > 20
    assert sink.ledger.forged == 0
    assert not [a for a in sink.ledger.arrivals.values() if a.changed]
    # an upper bound of what a kill may repeat: what was in flight when it struck
    assert sink.ledger.duplicates <= KILLS * 64
    print(
        f"{hub.mode}: kills {KILLS}, accepted {len(load.accepted) + orders[0]}, lost 0, "
        f"duplicate sends {sink.ledger.duplicates}"
    )
