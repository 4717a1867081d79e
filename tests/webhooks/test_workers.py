"""Workers: a dead process is noticed, and what it held goes to somebody else at once."""

import os
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import insert, select, update

from kernel import clock, queue
from kernel.database import EVERY, reading, write
from webhooks import workers
from webhooks.tables import WORKER


@pytest.fixture(autouse=True)
def _fresh_name(database):
    workers._forget()
    yield
    workers._forget()


def register(worker_id, place, pid, born, beats=0):
    row = {"id": worker_id, "place": place, "pid": pid, "born": born, "beats": beats}
    row["drains"] = True
    write(lambda session: session.execute(insert(WORKER).values(created_at=clock.now(), **row)))


def registered():
    with reading(EVERY) as session:
        return set(session.execute(select(WORKER.c.id)).scalars())


def test_a_process_signs_on_once_and_is_alive_to_others():
    mine = workers.name()
    assert workers.name() == mine
    assert registered() == {mine}
    workers._name = "wrk_other"  # look with another's eyes
    assert workers.gone() == []


def test_a_process_that_ended_on_this_machine_is_gone_at_once():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    register("wrk_child", workers._place(), child.pid, workers._born(child.pid))
    assert workers.gone() == []
    child.kill()
    deadline = time.monotonic() + 5
    while workers.gone() != ["wrk_child"]:  # also while nobody has waited for it: a zombie
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.wait()
    assert workers.gone() == ["wrk_child"]


def test_a_later_process_with_the_same_number_is_somebody_else():
    register("wrk_earlier", workers._place(), os.getpid(), "12345")
    assert workers.gone() == ["wrk_earlier"]


def test_one_elsewhere_is_gone_when_it_was_not_heard_for_a_while(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    register("wrk_far", "another machine", 1, "1", beats=5)
    assert workers.gone() == []
    now[0] += workers.SILENT_SECONDS - 1
    write(lambda session: session.execute(update(WORKER).values(beats=6)))
    assert workers.gone() == []
    now[0] += workers.SILENT_SECONDS - 1
    assert workers.gone() == []
    now[0] += 2
    assert workers.gone() == ["wrk_far"]


def test_what_a_dead_worker_held_is_given_back_and_its_name_forgotten(monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "HOLDERS", [lambda _, name: asked.append(name) or 3])
    register("wrk_dead", workers._place(), os.getpid(), "12345")
    mine = workers.name()
    assert workers.release(workers.gone()) == 3
    assert asked == ["wrk_dead"]
    assert registered() == {mine}
    assert workers.release([]) == 0


def test_who_was_given_up_by_mistake_signs_on_again():
    mine = workers.name()
    workers.release([mine])
    assert registered() == set()
    workers.beat()
    workers.beat()
    assert registered() == {mine}


def test_it_is_known_whether_anybody_drains(monkeypatch):
    monkeypatch.setattr(queue, "_consuming", threading.Event())
    workers.name()
    assert not workers.is_any_draining()
    register("wrk_worker", "elsewhere", 1, "1")
    assert workers.is_any_draining()
