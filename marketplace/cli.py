"""The `yangfan` command: finds who does what is asked, and reads only that in.

A hub that is one process, or a worker, runs under the eye of this one, which stays small for it.
"""

import gc
import importlib
import sys

import click

from kernel.settings import settings
from marketplace import watching

COMMANDS = {
    "up": "marketplace.commands:up",
    "worker": "marketplace.commands:worker",
    "migrate": "marketplace.commands:migrate",
    "new-key": "marketplace.commands:new_key",
    "doctor": "marketplace.commands:doctor",
    "org": "identity.cli:org",
    "connector": "connectors.cli:group",
    "flow": "connectors.flow_cli:group",
    "vocabulary": "catalog.cli:group",
}


class Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Name them all."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import one."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=Commands)
def main() -> None:
    """Run and look after a Yangfan hub."""
    from kernel import log  # noqa: PLC0415 - the watcher has no need of it

    log.configure(settings().log_format, settings().log_level)


def run() -> None:
    """Run the command; a hub of one process and a worker are started again when they break."""
    if sys.argv[1:] == ["worker"] or (sys.argv[1:] == ["up"] and settings().mode == "embedded"):
        sys.exit(watching.keep_alive(_run))
    _run()


def _run() -> None:
    """Run the command and say an outage of the store in plain words."""
    # a start brings in much that stays, and each early search for garbage goes through all of it
    gc.set_threshold(20_000, 20, 50)
    from kernel.database import StoreUnavailable  # noqa: PLC0415 - nor of this

    try:
        main()
    except StoreUnavailable as problem:
        sys.exit(f"The database cannot be reached: {problem.__cause__}")
