"""The instruments of `make faults`: what is lost, doubled, changed or called is seen as such."""

import socket
import threading
import time

import pytest

from bench import orders
from bench.faults.__main__ import report
from bench.faults.canaries import Names
from bench.faults.judging import judge
from bench.faults.ledger import Ledger
from bench.faults.stage import Verdict


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path)
    yield made
    made.close()


def arrive(ledger, number, key, body=b"x", door="endpoint"):
    ledger.note_arrival(getattr(ledger, door), key, number, body)


def test_what_was_accepted_and_did_not_come_out_is_missing(ledger, tmp_path):
    ledger.note_accepted(1, "evt_1")
    ledger.note_accepted(2, "evt_2")
    arrive(ledger, 1, "evt_1")
    arrive(ledger, 1, "eff_1", door="flow")
    assert ledger.missing() == {"endpoint": [2], "flow": [2]}
    # another order under its number is no arrival of it
    arrive(ledger, 2, "evt_3")
    assert ledger.missing()["endpoint"] == [2]
    assert (tmp_path / "accepted.txt").read_text() == "evt_1 1\nevt_2 2\n"
    assert len((tmp_path / "arrived.txt").read_text().splitlines()) == 3


def test_copies_are_counted_and_compared(ledger):
    arrive(ledger, 1, "evt_1")
    arrive(ledger, 1, "evt_1")
    assert (ledger.endpoint.copies, ledger.endpoint.changed, ledger.endpoint.twice) == (1, 0, 0)
    arrive(ledger, 1, "evt_1", b"y")
    assert (ledger.endpoint.copies, ledger.endpoint.changed) == (2, 1)


def test_one_order_under_two_ids_is_processed_twice(ledger):
    arrive(ledger, 1, "eff_1", door="flow")
    arrive(ledger, 1, "eff_2", door="flow")
    assert ledger.flow.twice == 1
    ledger.note_accepted(1, "evt_1")
    ledger.note_accepted(1, "evt_2")
    assert ledger.renamed == [(1, "evt_1", "evt_2")]


@pytest.mark.parametrize(
    "found",
    [
        Verdict(accepted=1, changed=1),
        Verdict(accepted=1, twice=1),
        Verdict(),
        Verdict(accepted=1, trouble=["lost"]),
        Verdict(accepted=1, more={"answers_while_away": ["503", "202"]}),
        Verdict(accepted=1, more={"answers_while_away": ["400"]}),
        Verdict(accepted=1, more={"retry_after": False}),
        Verdict(accepted=1, more={"recovery_s": 11}),
    ],
)
def test_what_must_not_happen_is_trouble(found):
    assert report({"embedded database": found}, {}, [])["trouble"]


def test_a_good_run_is_no_trouble():
    good = Verdict(accepted=9, delivered=20, duplicate_sends=1, more={"kills": 3})
    told = report({"embedded kills": good}, {"ssrf_cases": 400, "ssrf_connections": 0}, [])
    assert told["trouble"] == []
    assert list(told)[:8] == [
        "kills", "accepted", "delivered", "lost", "duplicate_sends", "duplicates_changed",
        "ssrf_cases", "ssrf_connections",
    ]  # fmt: skip
    assert told["duplicate_share_of_kills"] == 0.05
    assert report({}, {"ssrf_connections": 1}, [])["trouble"]


def test_a_deploy_sends_nothing_twice():
    calm = {"slowest_exit_s": {"up": 3.0}}
    assert not list(judge("scaled deploys", Verdict(accepted=1, more=calm)))
    assert list(judge("scaled deploys", Verdict(accepted=1, duplicate_sends=1, more=calm)))
    assert list(
        judge("scaled deploys", Verdict(accepted=1, more={"slowest_exit_s": {"worker": 31.0}}))
    )


def test_the_name_server_leads_inside_whom_it_does_not_know():
    names = Names()
    asked = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    for name, kind, place in (
        (b"\x06public\x07example\x00", b"\x00\x01", "93.184.216.34"),
        (b"\x06strang\x02er\x00", b"\x00\x01", "127.0.0.1"),
    ):
        answer = names.answer(asked + name + kind + b"\x00\x01")
        assert answer[-4:] == socket.inet_aton(place)
    six = names.answer(asked + b"\x03six\x07example\x00" + b"\x00\x1c\x00\x01")
    assert six[-16:] == socket.inet_pton(socket.AF_INET6, "::1")
    none = names.answer(asked + b"\x03six\x07example\x00" + b"\x00\x01\x00\x01")
    assert none[6:8] == b"\x00\x00"


def test_orders_carry_their_number_through_the_hub():
    body = orders.body(range(7, 8), 1, as_array=False)
    assert orders.number_in(body) == 7


def test_counting_does_not_mind_what_comes_in_meanwhile(ledger):
    stop = threading.Event()

    def send() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            arrive(ledger, number % 5000, f"evt_{number}")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert ledger.endpoint.copies == 0
            assert ledger.endpoint.changed == 0
            assert ledger.endpoint.twice >= 0
    finally:
        stop.set()
        sender.join()


def test_what_came_out_is_counted_once(ledger):
    arrive(ledger, 1, "evt_1")
    arrive(ledger, 1, "evt_1")
    arrive(ledger, 1, "eff_1", door="flow")
    assert ledger.arrived == 2
