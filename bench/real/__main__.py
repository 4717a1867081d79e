"""`make real`: install real apps, join them through the hub, and see that nothing is lost.

The last line is one JSON line of figures. The exit code is not 0 when an order that was paid did
not arrive once in every app that could be installed.
"""

import fcntl
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.demo import say
from bench.hub import ROOT, Client, Hub
from bench.real import job
from bench.real.pretix import Pretix
from bench.real.redmine import Redmine
from bench.real.rooms import Deadline, NotInstalledError, Room
from bench.real.tryton import Tryton

FOLDER = ROOT / "var" / "real"
ROOMS: tuple[type[Room], ...] = (Pretix, Tryton, Redmine)
ORDERS = 50
WHOLE_SECONDS = 900
STILL_SECONDS = 3  # a second copy of anything would be under way by then


def main(rooms: Sequence[type[Room]] = ROOMS, folder: Path = FOLDER, orders: int = ORDERS) -> int:
    """Do everything and return the exit code."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is under way in {folder}; please wait for its end")
            return 1
        return _alone(rooms, folder, orders, started)


def _alone(rooms: Sequence[type[Room]], folder: Path, orders: int, started: float) -> int:
    deadline = Deadline(WHOLE_SECONDS)
    here, missing = prepare([room(folder, deadline) for room in rooms])
    prepared = time.monotonic()
    figures: dict[str, Any] = dict.fromkeys(("orders_sent", "arrived", "duplicates"), 0)
    if "pretix" in here:
        figures = run(here, deadline, orders)
    else:
        say("without the ticket shop there is nothing to begin with")
    figures = {
        "apps": list(here),
        "not_installed": [{"app": key, "why": why} for key, why in missing.items()],
        **figures,
        "versions": {key: room.facts["of"]["version"] for key, room in here.items()},
        "install_seconds": round(prepared - started, 1),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(figures, ensure_ascii=False))
    return 0 if is_good(figures) else 1


def is_good(figures: Mapping[str, Any]) -> bool:
    """Tell whether all that was sent is in every app once, with the right amounts."""
    books = figures.get("amount_booked")
    return (
        figures["orders_sent"] > 0
        and figures["arrived"] == figures["orders_sent"]
        and figures["duplicates"] == 0
        and figures["strangers"] == 0
        and books in (None, figures.get("amount_sent"))
    )


def prepare(rooms: Sequence[Room]) -> tuple[dict[str, Room], dict[str, str]]:
    """Install all apps at once; return those that are here, and why the others are not."""

    def one(room: Room) -> str | None:
        try:
            room.prepare()
        except (NotInstalledError, OSError) as no:
            return str(no)
        return None

    with ThreadPoolExecutor(len(rooms)) as pool:
        outcomes = list(pool.map(one, rooms))
    missing = {room.key: why for room, why in zip(rooms, outcomes, strict=True) if why}
    for key, why in missing.items():
        say(f"not installed: {key}: {why}; the flow goes without it")
    return {room.key: room for room in rooms if room.key not in missing}, missing


def run(rooms: dict[str, Room], deadline: Deadline, orders: int) -> dict[str, Any]:
    """Start the apps and a fresh hub, do the job, end everything, return the figures."""
    allowed = [f"127.0.0.1:{room.port}" for room in rooms.values()]
    hub = Hub({"YANGFAN_OUTBOUND_ALLOW": ",".join(allowed)})
    try:
        with ThreadPoolExecutor(len(rooms)) as pool:
            list(pool.map(lambda room: room.start(), rooms.values()))
        hub.start()
        say(f"started: {', '.join(rooms)} and the hub")
        return work(hub, rooms, deadline, orders)
    except Exception:
        say(hub.tail())
        raise
    finally:
        for room in rooms.values():
            room.stop()
        hub.stop()


def work(hub: Hub, rooms: Mapping[str, Room], deadline: Deadline, orders: int) -> dict[str, Any]:
    """Sell, take the books away, sell more, bring them back; return what arrived."""
    shop, books = rooms["pretix"], rooms.get("tryton")
    assert isinstance(shop, Pretix)
    client, sent = Client(hub.url), job.Sent()
    client.sign_up()
    flow_id = job.publish(client, job.connect(client, hub, rooms.values()), shop)

    began = time.monotonic()
    job.sell_one(shop, sent)
    first = job.wait(lambda: job.look(hub, rooms), sent, deadline, 60)
    first_s = time.monotonic() - began
    told = job.runs(client, flow_id)
    say(f"first order: in {_places(first, sent)} after {first_s:.1f} s; runs: {told}")
    if not first.arrived(sent.references):
        raise RuntimeError("the first order did not arrive")

    began = time.monotonic()
    early = orders // 10
    job.sell_many(shop, sent, range(early))
    if books is not None:
        books.kill()
        say(f"Tryton is killed while the first {early} of {orders} orders are on their way")
    job.sell_many(shop, sent, range(early, orders))
    selling_s = time.monotonic() - began
    say(f"{orders} orders paid in {selling_s:.1f} s; runs: {job.runs(client, flow_id)}")
    began = time.monotonic()
    if books is not None:
        books.start()
        say("Tryton is back")
    found = job.wait(lambda: job.look(hub, rooms), sent, deadline)
    catching_s = time.monotonic() - began
    time.sleep(STILL_SECONDS)
    found = job.look(hub, rooms)
    say(f"all orders: {_places(found, sent)}; runs: {job.runs(client, flow_id)}")
    return {
        **figures_of(found, sent, books),
        "first_order_seconds": round(first_s, 1),
        "selling_seconds": round(selling_s, 1),
        "catching_up_seconds": round(catching_s, 1),
    }


def figures_of(found: job.Found, sent: job.Sent, books: Room | None) -> dict[str, Any]:
    """Put what was sent and what is there side by side."""
    figures: dict[str, Any] = {
        "orders_sent": len(sent.orders),
        "arrived": found.arrived(sent.references),
        "duplicates": found.duplicates,
        "strangers": found.strangers(sent.references),
    }
    if isinstance(books, Tryton):
        customers = books.customers()
        wanted = {email for email, _ in sent.orders.values()}
        figures["duplicates"] += len(customers) - len(set(customers))
        figures["strangers"] += len(set(customers) - wanted)
        figures["customers"] = len(customers)
        figures["amount_sent"] = str(sent.amount)
        figures["amount_booked"] = str(job.booked(books))
    return figures


def _places(found: job.Found, sent: job.Sent) -> str:
    wanted = sent.references
    counts = {key: sum(one in place for one in wanted) for key, place in found.places.items()}
    return ", ".join(f"{key} {n} of {len(wanted)}" for key, n in counts.items())


def _end(number: int, _: object) -> None:
    """Leave by way of every `finally`, so that no app stays behind."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
