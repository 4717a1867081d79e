"""Calling: who calls in this request, and threads for what takes time."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from weakref import WeakValueDictionary

from identity.principals import Principal

THREADS = 8
THREADS_EACH = 5  # for one organization, whose slow app must not hold up the others

caller: ContextVar[tuple[Principal, str]] = ContextVar("assistant_caller")  # and its language
_threads: ThreadPoolExecutor | None = None
_turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()


def _forget() -> None:
    """Start without the parent's threads after a fork."""
    global _threads
    _threads = None


os.register_at_fork(after_in_child=_forget)


async def in_thread(work: Callable[[], Any]) -> Any:
    """Do something that waits for a store or an app; no event waits for these threads."""
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(THREADS, thread_name_prefix="assistant")
    loop, who = asyncio.get_running_loop(), caller.get(None)
    if who is None:
        return await loop.run_in_executor(_threads, work)
    key = f"{id(loop)}:{who[0].organization_id}"
    turn = _turns.get(key)
    if turn is None:
        turn = _turns[key] = asyncio.Semaphore(THREADS_EACH)
    async with turn:
        return await loop.run_in_executor(_threads, work)
