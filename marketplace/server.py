"""Running the hub: the web server, the worker, and what starts with them."""

import signal
import sys
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from catalog import event_types
from connectors.engine import flow_templates
from kernel import database, log, queue
from kernel.settings import settings
from marketplace import assets, hooks
from marketplace.app import create_app
from webhooks import workers

_logger = log.get_logger(__name__)


class WebServer(BaseApplication):
    """gunicorn with threads; every web process sweeps, the embedded one also works."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load_app = load
        super().__init__()

    def load_config(self) -> None:
        """Translate our settings into gunicorn's."""
        chosen = settings()
        for name, value in {
            "bind": chosen.bind,
            "workers": 1 if chosen.mode == "embedded" else chosen.web_processes,
            "worker_class": "gthread",
            "threads": chosen.web_threads,
            "timeout": 60,
            "graceful_timeout": 20,
            "keepalive": 30,
            "loglevel": "warning",
            "limit_request_line": 8190,
            "limit_request_fields": 100,
            "post_fork": _after_fork,
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


def _start_background(_worker: Any) -> None:
    take_short_turns()
    _show_life()
    queue.start_background()


def _show_life() -> None:
    """Let other machines hear that this process lives; SQLite's users are all on this one."""
    if settings().mode == "scaled":
        workers.keep_beating()


def _announce(_server: Any) -> None:
    _logger.info("hub_ready", address=settings().base_url, mode=settings().mode)


def take_short_turns() -> None:
    """Let threads hand the interpreter on sooner.

    Every database call gives it up and asks for it back; at Python's 5 ms a writer among busy
    request threads spends most of its time waiting for its turn.
    """
    sys.setswitchinterval(0.0005)


def read_ahead() -> None:
    """Read vocabulary and connectors once, before threads or forks would each read them."""
    hooks.install_providers()
    event_types.all_types(None, None)
    flow_templates.all()
    assets.check_installed()


def serve() -> None:
    """Serve until told to stop."""
    read_ahead()
    WebServer(create_app).run()


def work() -> None:
    """Run a worker of the scaled mode: Celery's consumer and the sweep, until told to stop."""
    create_app()
    read_ahead()
    take_short_turns()
    if settings().broker_url.startswith("memory"):
        sys.exit(
            "A worker of its own needs a broker; in embedded mode `yangfan up` works by itself."
        )
    queue.become_consumer()
    _show_life()
    queue.start_sweeping()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
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
