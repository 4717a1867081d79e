"""Running the hub: the web server, the worker, and what starts with them."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from celery.signals import worker_shutting_down
from gunicorn.app.base import BaseApplication
from gunicorn.util import parse_address
from uvicorn_worker import UvicornWorker

from catalog import event_types
from connectors.engine import flow_templates
from kernel import database, log, queue
from kernel.settings import settings
from marketplace import assets, balance, hearing, hooks
from marketplace.app import create_app
from marketplace.front import Front, Protocol
from marketplace.watching import HUNG
from webhooks import drain, inbox, ledger, workers, youth

_logger = log.get_logger(__name__)
GRACE_SECONDS = 20  # for requests, when a process is asked to end
KEEP_SECONDS = 30  # a connection on which nothing is asked
QUEUE = 2048  # connections that may wait to be accepted
PULSE_SECONDS, STILL_LOOKS = 5, 12
FINISH_SECONDS = 8  # and then for what is being sent


SPEAKING: dict[str, Any] = {
    "loop": "asyncio",
    "http": Protocol,
    "ws": "none",
    "lifespan": "off",
    "interface": "asgi3",
    "access_log": False,
    "server_header": False,
    # ProxyFix judges forwarding fields, by the number of proxies the operator has set
    "proxy_headers": False,
    "timeout_graceful_shutdown": GRACE_SECONDS,
}


class WebWorker(UvicornWorker):
    """A web process: an event loop that speaks HTTP, and threads for what asks the framework."""

    # connections are accepted one at a time, or the first process awake would take them all
    CONFIG_KWARGS = {**SPEAKING, "backlog": 1}

    def init_signals(self) -> None:
        """Live on when uvicorn, done with its requests, raises the signal that ended it again."""
        super().init_signals()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, *_: Any) -> None:
        if not self.config.loaded:
            sys.exit(0)  # nothing was served yet

    async def callback_notify(self) -> None:
        """Tell the watcher that this process lives, and let connections queue up all the same."""
        for listener in self.sockets:
            listener.sock.listen(QUEUE)
        await super().callback_notify()

    def run(self) -> None:
        """Serve; then let what is being sent be written down, or it would go out twice."""
        seat = balance.sit_down(self.app.board, self.age)
        self.sockets: Any = [balance.Listener(one, seat) for one in self.sockets]
        super().run()
        drain.stop(FINISH_SECONDS)


class WebServer(BaseApplication):
    """gunicorn with event loops in several processes, each of which sweeps."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load_app, self.board = load, balance.Board()
        super().__init__()

    def load_config(self) -> None:
        """Translate our settings into gunicorn's."""
        chosen = settings()
        for name, value in {
            "bind": chosen.bind,
            "workers": chosen.web_processes,
            "worker_class": WebWorker,
            "timeout": 60,
            "graceful_timeout": GRACE_SECONDS + FINISH_SECONDS,
            "keepalive": KEEP_SECONDS,
            "loglevel": "warning",
            "post_fork": _after_fork,
            "child_exit": _after_exit,
            "post_worker_init": _start_background,
            "when_ready": _announce,
            "control_socket_disable": True,
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the application in the worker."""
        return self._load_app()


def _after_fork(_server: Any, _worker: Any) -> None:
    # a connection must not be shared between two processes
    database.dispose()


def _after_exit(server: Any, worker: Any) -> None:
    server.app.board.write(worker.age, 0, 0)


def _start_background(_worker: Any) -> None:
    keep_for_good()
    _show_life()
    ledger.keep_turning()
    _begin_life()
    inbox.carry_on()
    queue.start_background()


def _show_life() -> None:
    """Let other machines hear that this process lives; SQLite's users are all on this one."""
    if settings().mode == "scaled":
        workers.keep_beating()
    else:
        workers.name()


def _begin_life() -> None:
    """Be careful for a while where another process is gone without a word; else be grown up."""
    workers.name()
    if workers.is_wary():
        youth.begin()


def _announce(_server: Any) -> None:
    _logger.info("hub_ready", address=settings().base_url, mode=settings().mode)


def keep_for_good() -> None:
    """Leave what was built at the start out of every later search for garbage, and search less.

    There is a lot of it, and none of it ever goes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def read_ahead() -> None:
    """Read vocabulary and connectors once, before threads or forks would each read them."""
    hooks.install_providers()
    event_types.all_types(None, None)
    flow_templates.all()
    assets.check_installed()


def serve() -> None:
    """Serve until told to stop."""
    read_ahead()
    if settings().mode == "embedded":
        serve_alone(Front(create_app()))
    else:
        WebServer(lambda: Front(create_app())).run()


def serve_alone(application: Any) -> None:
    """Serve in this very process, which also works."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    pulse = _Pulse()
    config = uvicorn.Config(
        application,
        log_config=None,
        backlog=QUEUE,
        timeout_keep_alive=KEEP_SECONDS,
        callback_notify=pulse.beat,
        timeout_notify=PULSE_SECONDS,
        **_address(settings().bind),
        **SPEAKING,
    )
    _start_background(None)
    pulse.watch()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn, done with its requests, raises the signal that ended it again
        signal.signal(number, lambda *_: None)
    _announce(None)
    uvicorn.Server(config).run()
    drain.stop(FINISH_SECONDS)


def _address(bind: str) -> dict[str, Any]:
    """Say where to listen in uvicorn's words."""
    found = parse_address(bind)
    return {"uds": found} if isinstance(found, str) else {"host": found[0], "port": found[1]}


class _Pulse:
    """Ends this process when its event loop has stood still; who watches it starts anew."""

    def __init__(self) -> None:
        self._beats = 0

    async def beat(self) -> None:
        self._beats += 1

    def watch(self) -> None:
        threading.Thread(target=self._watch, name="pulse", daemon=True).start()

    def _watch(self) -> None:
        # counted in looks, not by the clock: a process that was stopped as a whole did not hang
        missed, seen = 0, self._beats
        while missed < STILL_LOOKS:
            time.sleep(PULSE_SECONDS)
            missed = missed + 1 if self._beats == seen else 0
            seen = self._beats
        _logger.critical("hub_stands_still", seconds=STILL_LOOKS * PULSE_SECONDS)
        os._exit(HUNG)


def work() -> None:
    """Run a worker of the scaled mode: Celery's consumer and the sweep, until told to stop."""
    create_app()
    read_ahead()
    keep_for_good()
    if settings().broker_url.startswith("memory"):
        sys.exit(
            "A worker of its own needs a broker; in embedded mode `yangfan up` works by itself."
        )
    queue.become_consumer()
    _show_life()
    ledger.keep_turning()
    _begin_life()
    queue.start_sweeping()
    hearing.listen()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # a drain goes on as long as events come, and Celery waits for it: tell it first
    worker_shutting_down.connect(_stop_draining)
    try:
        queue.celery.worker_main(
            [
                "worker",
                "--pool=threads",
                f"--concurrency={settings().worker_threads}",
                "--without-mingle",
                "--without-gossip",
                f"--loglevel={settings().log_level}",
            ]
        )
    finally:
        drain.stop(FINISH_SECONDS)


def _stop_draining(**_: Any) -> None:
    drain.stop()
