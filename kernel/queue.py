"""The bell and the muscle: Celery wakes drains up, a sweep finds what a lost bell left behind.

Tasks carry nothing; the rows are the truth. A nudge that is lost costs seconds, never work.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from sqlmodel import Session

from kernel import clock, database, log
from kernel.settings import settings

celery = Celery("yangfan", set_as_current=True)
_logger = log.get_logger(__name__)

# A process rings the same bell at most this often; the first ring of a quiet time goes at once.
# Whoever was rung out of bed looks around for longer than that before it lies down again.
RING_GAP_SECONDS = 0.1
POLL_SECONDS = 0.02
MEMORY = "memory://"


@dataclass(frozen=True)
class Sweep:
    """Work that every process looks for; `work` returns how much it did."""

    name: str
    work: Callable[[], int]


# Filled by the composition root.
SWEEPS: list[Sweep] = []


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Stop Celery from replacing the logging that kernel.log set up."""


def configure() -> None:
    """Give Celery its settings: confirmed publishing, late acknowledgement, no results."""
    chosen = settings()
    transport: dict[str, Any] = {"polling_interval": POLL_SECONDS}
    if chosen.broker_url.startswith("amqp"):
        transport = {
            "confirm_publish": True,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        }
    celery.conf.update(
        # kombu warns about an address without a host
        broker_url=f"{MEMORY}localhost//" if chosen.broker_url == MEMORY else chosen.broker_url,
        broker_transport_options=transport,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=30,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="yangfan",
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_eta_task_limit=100,
    )


class _Bell:
    """A thread that publishes pending task names, so that no request ever waits for the broker."""

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lost = 0
        self.rung = self.lost = 0  # since the process started
        self.lost_since: datetime | None = None

    def ring(self, name: str) -> None:
        with self._changed:
            if name in self._pending:
                return
            self._pending.add(name)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending:
                    self._changed.wait()
                names, self._pending = self._pending, set()
            for name in sorted(names):
                hears = HEARERS.get(name)
                if hears is None or not hears():
                    self._publish(name)
            time.sleep(RING_GAP_SECONDS)

    def _publish(self, name: str) -> None:
        try:
            celery.send_task(name)
            self._lost, self.lost_since = 0, None
            self.rung += 1
        except Exception as error:  # noqa: BLE001 - whatever the broker says, the sweep will find it
            self._lost, self.lost = self._lost + 1, self.lost + 1
            self.lost_since = self.lost_since or clock.now()
            if self._lost in (1, 100):
                _logger.warning("nudge_lost", task=name, error=str(error)[:200])


@dataclass(frozen=True)
class Bells:
    """What became of this process's bells."""

    rung: int
    lost: int
    lost_since: datetime | None  # since when none was taken; None: the last one was


def bells() -> Bells:
    """Tell what became of this process's bells."""
    return Bells(_bell.rung, _bell.lost, _bell.lost_since)


def is_reachable(timeout_seconds: float) -> bool:
    """Tell whether the broker takes a connection within so many seconds."""
    try:
        with celery.connection_for_write(connect_timeout=timeout_seconds) as connection:
            connection.ensure_connection(max_retries=1, timeout=timeout_seconds)
    except Exception:  # noqa: BLE001 - whatever the broker says, it is not there
        return False
    return True


_bell = _Bell()
_consuming = threading.Event()
# Tests put a function here to see the nudges instead of sending them.
LISTENERS: list[Callable[[str], None]] = []


# Asked before the bell is rung: who is at the task in this very process, and hears it, says True.
HEARERS: dict[str, Callable[[], bool]] = {}


def nudge(session: Session | None, task_name: str) -> None:
    """Wake a task up after the session's commit (at once without a session); best effort."""
    if session is None:
        _ring(task_name)
    else:
        database.after_commit(session, lambda: _ring(task_name))


def _ring(task_name: str) -> None:
    if LISTENERS:
        for listener in LISTENERS:
            listener(task_name)
        return
    hears = HEARERS.get(task_name)
    if hears is None or not hears():
        _bell.ring(task_name)


def sweep_once() -> int:
    """Run every sweep once and return how much was done; a failing sweep never stops the others."""
    done = 0
    for sweep in SWEEPS:
        try:
            done += sweep.work()
        except Exception as error:  # noqa: BLE001 - logged; the next round tries again
            _logger.warning("sweep_failed", sweep=sweep.name, error=str(error)[:300])
    return done


def start_sweeping() -> threading.Thread:
    """Start the thread that sweeps every few seconds, with jitter so that processes spread out."""

    def run() -> None:
        while True:
            time.sleep(settings().sweep_seconds * random.uniform(0.8, 1.2))  # noqa: S311
            sweep_once()

    thread = threading.Thread(target=run, name="sweep", daemon=True)
    thread.start()
    return thread


def is_consuming() -> bool:
    """Tell whether this process is one that hears the bells."""
    return _consuming.is_set()


def become_consumer() -> None:
    """Say that this process is going to hear the bells."""
    _consuming.set()


def start_embedded_worker() -> threading.Thread:
    """Start a Celery worker in a thread of this process, on the in-memory broker."""
    become_consumer()

    def run() -> None:
        while True:
            try:
                worker = celery.WorkController(
                    app=celery,
                    pool_cls="threads",
                    concurrency=settings().worker_threads,
                    without_heartbeat=True,
                    without_mingle=True,
                    without_gossip=True,
                    quiet=True,
                )
                worker.start()
            except Exception:
                _logger.warning("embedded_worker_stopped", exc_info=True)
            time.sleep(1)

    thread = threading.Thread(target=run, name="celery-worker", daemon=True)
    thread.start()
    return thread


def start_background() -> None:
    """Start what this process needs beside its requests: the sweep and, embedded, the worker."""
    if settings().broker_url.startswith(MEMORY):
        start_embedded_worker()
    start_sweeping()
