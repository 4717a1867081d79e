"""Hearing: a worker makes sure that bells reach it, and ends when none does, to be started anew.

A consumer can lose its subscription and live on, say after its broker was started again. So every
worker has a queue of its own and sends itself a word from time to time. When several words in a row
were taken by the broker and none arrived, while the worker had nothing else to do, it is deaf.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from celery import shared_task
from celery.signals import task_received
from kombu.entity import Exchange, Queue

from kernel import log, queue
from marketplace import watching
from webhooks import drain

WORD = "marketplace.word"
WORD_SECONDS = 15.0
DEAF_LOOKS = 4
_logger = log.get_logger(__name__)


class Ear:
    """Counts the words that were sent and not heard."""

    def __init__(self, send: Callable[[], Any], is_busy: Callable[[], bool]) -> None:
        """Send words with `send`, which raises when the broker is away."""
        self._send, self._is_busy = send, is_busy
        self._is_heard, self._missed = True, 0

    def hear(self) -> None:
        """Note that something arrived."""
        self._is_heard = True

    def is_deaf(self) -> bool:
        """Judge the last word and send the next one; tells whether too many were not heard."""
        self._missed = 0 if self._is_heard or self._is_busy() else self._missed + 1
        self._is_heard = False
        try:
            self._send()
        except Exception:  # noqa: BLE001 - whatever the broker says: without it nobody hears
            self._is_heard = True
        return self._missed >= DEAF_LOOKS


@shared_task(name=WORD)
def _word() -> None:
    """Do nothing: that it arrived is all."""


def listen() -> None:
    """Listen to a queue of our own from now on; call it before the consumer starts."""
    # gone with its last consumer, and by itself when its broker had forgotten to tell
    name, bells = f"yangfan.word.{uuid.uuid4().hex}", queue.celery.conf.task_default_queue
    queue.celery.conf.task_queues = [
        _queue(bells, bells),
        _queue(WORD, name, auto_delete=True, expires=600.0),
    ]
    ear = Ear(
        lambda: queue.celery.send_task(WORD, queue=name, expires=60, retry=False),
        drain.is_under_way,
    )
    task_received.connect(lambda **_: ear.hear(), weak=False)
    threading.Thread(target=_watch, args=(ear,), name="ear", daemon=True).start()


def _queue(exchange: str, name: str, **more: Any) -> Any:
    return Queue(name, Exchange(exchange), routing_key=name, **more)  # type: ignore[no-untyped-call]


def _watch(ear: Ear) -> None:
    while True:
        time.sleep(WORD_SECONDS)
        if ear.is_deaf():
            _logger.critical("worker_hears_nothing", seconds=WORD_SECONDS * DEAF_LOOKS)
            os._exit(watching.HUNG)
