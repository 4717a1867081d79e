"""A worker that hears no bell any more notices it, and ends to be started anew."""

import os
import subprocess
import sys
import time

import pytest

from bench import servers
from marketplace import hearing, watching
from marketplace.hearing import DEAF_LOOKS, Ear


class Broker:
    """Takes every word, or none."""

    def __init__(self):
        self.words, self.is_away = 0, False

    def send(self):
        if self.is_away:
            raise ConnectionRefusedError
        self.words += 1


def looks(ear, count):
    return [ear.is_deaf() for _ in range(count)]


def test_who_hears_is_not_deaf():
    broker = Broker()
    ear = Ear(broker.send, lambda: False)
    for _ in range(50):
        assert not ear.is_deaf()
        ear.hear()
    assert broker.words == 50


def test_who_hears_nothing_several_times_is_deaf():
    ear = Ear(Broker().send, lambda: False)
    assert looks(ear, DEAF_LOOKS + 1) == [False] * DEAF_LOOKS + [True]


def test_one_word_heard_begins_the_count_anew():
    ear = Ear(Broker().send, lambda: False)
    looks(ear, DEAF_LOOKS)
    ear.hear()
    assert looks(ear, DEAF_LOOKS) == [False] * DEAF_LOOKS


def test_a_busy_worker_need_not_hear():
    busy = [True]
    ear = Ear(Broker().send, lambda: busy[0])
    assert not any(looks(ear, 50))
    busy[0] = False
    assert looks(ear, DEAF_LOOKS)[-1]


def test_without_a_broker_nobody_is_to_blame():
    broker = Broker()
    ear = Ear(broker.send, lambda: False)
    broker.is_away = True
    assert not any(looks(ear, 50))
    broker.is_away = False
    assert looks(ear, DEAF_LOOKS + 1) == [False] * DEAF_LOOKS + [True]


PROGRAM = """
import threading, time
from celery.signals import worker_ready
from kernel import queue
from marketplace import hearing

hearing.WORD_SECONDS = 0.4
queue.configure()


@worker_ready.connect
def _ready(sender, **_):
    print("ready", flush=True)

    def stop_hearing():
        time.sleep(4)
        print("deaf", flush=True)
        sender.call_soon(sender.task_consumer.cancel)

    threading.Thread(target=stop_hearing, daemon=True).start()


hearing.listen()
queue.celery.worker_main(
    ["worker", "--pool=threads", "--concurrency=1", "--without-mingle", "--without-gossip"]
)
"""


def test_a_real_worker_that_lost_its_subscription_ends(tmp_path):
    if missing := servers.missing():
        pytest.skip(missing)
    with servers.virtual_host(f"yangfan_hearing_{os.getpid()}") as broker:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "YANGFAN_BROKER_URL": broker, "YANGFAN_DATA_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert "ready\n" in process.stdout  # reads up to there, past Celery's banner
            began = time.monotonic()
            assert "deaf\n" in process.stdout, "it ended although it heard"
            assert time.monotonic() - began > 0.4 * (DEAF_LOOKS + 2), "long enough to be judged"
            assert process.wait(15) == watching.HUNG
        finally:
            process.kill()
            process.wait()
    assert hearing.WORD_SECONDS * hearing.DEAF_LOOKS <= 60, "it is noticed within a minute"
