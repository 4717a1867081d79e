"""Calling: who calls in this request, and threads for what takes time."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from identity.principals import Principal

THREADS = 8

caller: ContextVar[tuple[Principal, str]] = ContextVar("assistant_caller")  # and its language
_threads: ThreadPoolExecutor | None = None


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
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
