"""Poison: marked events end whichever process meets them; they are set aside, others go on."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import orders
from bench.faults.private_servers import wait_until
from bench.faults.stage import Stage
from bench.faults.starter import MARKS
from bench.hub import Client

PATIENCE_SECONDS = 360
_STARTER = ("-m", "bench.faults.starter")
_TOLD = {"FAULTS_AT": json.dumps({"poison": True})}


def poison(stage: Stage) -> Callable[[], dict[str, Any]]:
    """Send one event of each kind of poison among the others, and wait until all are set aside."""

    def fault() -> dict[str, Any]:
        for number in range(len(stage.victims)):
            stage.restart(number, _TOLD, _STARTER)
        stage.hub.wait_ready(stage.victims[0])
        began, before = time.monotonic(), len(stage.ledger.accepted)
        with ThreadPoolExecutor(len(MARKS)) as pool:
            found = dict(zip(MARKS, pool.map(lambda place: _one(stage, place), MARKS), strict=True))
        taken = len(stage.ledger.accepted) - before
        for number in range(len(stage.victims)):
            stage.restart(number)
        stage.hub.wait_ready(stage.victims[0])
        per_second = round(taken / (time.monotonic() - began), 1)
        return {"poison": found, "accepted_per_second_meanwhile": per_second}

    return fault


def _one(stage: Stage, place: str) -> dict[str, Any]:
    """Send one event and follow it until it is set aside."""
    began = time.monotonic()
    event_id = _send(stage, place)
    said: dict[str, Any] = {}

    def is_aside() -> bool:
        nonlocal said
        try:
            said = _SAYS[place](stage, event_id) if event_id else {}
        except (OSError, RuntimeError):
            return False  # the web server is just dying
        return bool(said)

    is_found = event_id is not None and wait_until(is_aside, PATIENCE_SECONDS)
    return {
        "set_aside": is_found,
        "after_s": round(time.monotonic() - began, 1),
        "says": said,
    }


def _send(stage: Stage, place: str) -> str | None:
    """Send the event until it is accepted, as a provider would; return its id."""
    number = stage.senders.take_numbers(1)
    body = orders.body(number, 1, as_array=False)
    body = body.replace(b'"web-shop"', f'"{MARKS[place]}"'.encode())
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        answer = stage.senders.post_once(f"msg_poison_{place}_{number.start}", body)
        if answer is not None and answer.status_code == 202:
            return str(answer.json()["accepted"][0]["id"])
        time.sleep(0.5)
    return None


def _get(stage: Stage, path: str) -> Any:
    """Ask over a connection of this thread's own."""
    time.sleep(0.5)
    client = Client(stage.client.url)
    client.http.headers.update(stage.client.http.headers)
    return client.call("GET", path)


def _of_event(stage: Stage, event_id: str) -> dict[str, Any]:
    event = _get(stage, f"/api/v1/events/{event_id}")
    if event["state"] != "quarantined":
        return {}
    return {"state": event["state"], "problem": event["problem"]}


def _of_run(stage: Stage, event_id: str) -> dict[str, Any]:
    found = _get(stage, f"/api/v1/runs?event={event_id}&state=parked")
    for run in found["items"]:
        if run["cause"] == "quarantined":
            return {"state": run["state"], "cause": run["cause"], "say": run["say"]}
    return {}


def _of_delivery(stage: Stage, event_id: str) -> dict[str, Any]:
    found = _get(stage, f"/api/v1/events/{event_id}/deliveries")
    for one in found["items"]:
        if one["state"] == "parked" and one["last_problem"] == "interrupted":
            return {"state": one["state"], "problem": one["last_problem"]}
    return {}


_SAYS: dict[str, Callable[[Stage, str], dict[str, Any]]] = {
    "routing": _of_event,
    "mapping": _of_run,
    "send": _of_delivery,
}
