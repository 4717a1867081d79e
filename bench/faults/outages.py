"""Outages: the database and the broker go away while events come in, and come back."""

import time
from collections.abc import Callable
from typing import Any

import requests

from bench.faults.private_servers import wait_until
from bench.faults.stage import Private, Stage

AWAY_SECONDS = 4.0
RECOVER_SECONDS = 10.0


def database_crashes(stage: Stage, private: Private, count: int) -> Callable[[], dict[str, Any]]:
    """PostgreSQL goes without a checkpoint, stays away, comes back: 503 meanwhile, nothing else."""

    def fault() -> dict[str, Any]:
        slowest, said, waits = 0.0, set[str](), set[bool]()
        for _ in range(count):
            time.sleep(1)
            private.postgres.crash()
            until = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < until:
                answer = knock(stage)
                said.add("none" if answer is None else str(answer.status_code))
                if answer is not None and answer.status_code == 503:
                    waits.add("Retry-After" in answer.headers)
                time.sleep(0.2)
            private.postgres.start()
            slowest = max(slowest, until_accepted(stage))
        return {
            "crashes": count,
            "answers_while_away": sorted(said),
            "retry_after": waits == {True},
            "recovery_s": round(slowest, 2),
        }

    return fault


def knock(stage: Stage) -> requests.Response | None:
    """Send a message of its own and return the answer; a late 2xx is accepted as usual."""
    numbers = stage.senders.take_numbers(1)
    answer = stage.senders.knock(numbers)
    if answer is not None and answer.status_code == 202:
        stage.ledger.note_accepted(numbers.start, answer.json()["accepted"][0]["id"])
    return answer


def until_accepted(stage: Stage) -> float:
    """Return how long it takes until something is accepted again."""
    started = time.monotonic()
    wait_until(lambda: stage.senders.answers.last_accepted_at > started, 60)
    return time.monotonic() - started


def broker_crashes(stage: Stage, private: Private, count: int) -> Callable[[], dict[str, Any]]:
    """RabbitMQ is killed, stays away, comes back: events are taken in and go on throughout."""

    def fault() -> dict[str, Any]:
        slowest, taken = 0.0, 0
        for _ in range(count):
            time.sleep(1)
            private.rabbitmq.crash()
            before = len(stage.ledger.accepted)
            time.sleep(AWAY_SECONDS)
            slowest = max(slowest, stage.senders.answers.slowest_s)
            taken += len(stage.ledger.accepted) - before
            private.rabbitmq.start()
        return {
            "crashes": count,
            "accepted_while_away": taken,
            "slowest_answer_s": round(slowest, 2),
        }

    return fault


def broker_alarm(stage: Stage, private: Private) -> Callable[[], dict[str, Any]]:
    """RabbitMQ has no memory left and blocks whoever publishes."""

    def fault() -> dict[str, Any]:
        time.sleep(1)
        is_blocked = private.rabbitmq.control("set_vm_memory_high_watermark", "0")
        before = len(stage.ledger.accepted)
        time.sleep(AWAY_SECONDS)
        taken = len(stage.ledger.accepted) - before
        private.rabbitmq.control("set_vm_memory_high_watermark", "0.4")
        return {
            "was_blocked": is_blocked,
            "accepted_meanwhile": taken,
            "slowest_answer_s": round(stage.senders.answers.slowest_s, 2),
        }

    return fault
