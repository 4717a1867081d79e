"""Memory: what many ask for at once is looked up once, and what is forgotten stays forgotten."""

import threading

import pytest

from webhooks.memory import Memory, NotInMemory


class Store:
    """Somewhere slow to look things up."""

    def __init__(self, answer="value") -> None:
        self.answer, self.count = answer, 0
        self.asked, self.go_on = threading.Event(), threading.Event()

    def look_up(self):
        self.count += 1
        self.asked.set()
        assert self.go_on.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ask_at_once(memory, store, number=20):
    """So many threads ask; gives them and what each of them gets."""
    got = []

    def ask():
        try:
            got.append(memory.get("key", store.look_up))
        except ValueError as error:
            got.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    assert store.asked.wait(30)
    return threads, got


def end(store, threads):
    store.go_on.set()
    for thread in threads:
        thread.join(30)


def test_many_at_once_are_one_look_up():
    memory, store = Memory(60, 10), Store()
    threads, got = ask_at_once(memory, store)
    end(store, threads)
    assert (got, store.count) == (["value"] * 20, 1)
    assert memory.get("key", store.look_up, from_memory=True) == "value"


def test_who_waits_is_told_of_the_failure_too_and_the_next_one_tries_again():
    memory, store = Memory(60, 10), Store(ValueError("away"))
    threads, got = ask_at_once(memory, store)
    end(store, threads)
    assert len(got) == 20
    assert all(isinstance(one, ValueError) for one in got)
    store.answer = "back"
    assert memory.get("key", store.look_up) == "back"


def test_what_was_looked_up_before_a_change_is_not_kept_and_not_given_to_who_asks_after_it():
    memory, old, new = Memory(60, 10), Store("old"), Store("new")
    threads, got = ask_at_once(memory, old, 1)
    memory.clear()
    new.go_on.set()
    assert memory.get("key", new.look_up) == "new"
    end(old, threads)
    assert got == ["old"]
    assert memory.get("key", new.look_up) == "new"


def test_none_is_never_kept():
    memory, store = Memory(60, 10), Store(None)
    store.go_on.set()
    assert [memory.get("key", store.look_up) for _ in range(3)] == [None] * 3
    assert store.count == 3
    with pytest.raises(NotInMemory):
        memory.get("key", store.look_up, from_memory=True)
