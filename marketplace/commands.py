"""What `yangfan` does: starting the hub and looking after it."""

import base64
import secrets
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import click

from kernel import clock
from kernel.database import StoreUnavailable
from kernel.settings import settings
from marketplace import demo_vendors, migrating, seed, server
from marketplace import doctor as examination


@click.command()
def up() -> None:
    """Start the hub: in embedded mode this is all there is to start."""
    # they take their time, so they start first and are waited for last
    vendors = demo_vendors.start() if settings().demo else None
    # in a process of its own, as it needs much memory once that a hub would keep for good
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as apart:
        logins = apart.submit(_prepare).result()
    if vendors:
        demo_vendors.wait(vendors)
    if settings().demo:
        _print_logins(logins)
    server.serve()


def _prepare() -> list[str]:
    """Bring the store up to date; return the demo log-ins."""
    try:
        if settings().mode == "embedded":
            migrating.upgrade()
        else:
            migrating.wait_until_current()
        return seed.seed()
    except StoreUnavailable as problem:
        sys.exit(f"The database cannot be reached: {problem.__cause__}")


def _print_logins(logins: list[str]) -> None:
    click.echo(f"\n  扬帆 Yangfan  {settings().base_url}\n")
    for login in logins:
        click.echo(f"    {login}")
    click.echo("")


@click.command()
def worker() -> None:
    """Start a worker (scaled mode); start as many as you like."""
    migrating.wait_until_current()
    server.work()


@click.command()
def migrate() -> None:
    """Bring the database to the newest shape."""
    click.echo(f"database at revision {migrating.upgrade()}")


@click.command("new-key")
def new_key() -> None:
    """Print a fresh sealing key for YANGFAN_SECRET_KEYS (put it first, keep the old ones)."""
    kid = clock.now().strftime("k%Y%m%d%H%M")
    click.echo(f"{kid}:{base64.b64encode(secrets.token_bytes(32)).decode()}")


@click.command()
def doctor() -> None:
    """Look for what would keep the hub from working, and say how to mend it."""
    findings, needs = examination.examine()
    for finding in findings:
        click.echo(f"{'ok  ' if finding.is_good else 'BAD '} {finding.name}: {finding.says}")
    for need in needs:
        click.echo(f"{'BAD ' if need.tone == 'bad' else 'warn'} {need.code}: {need.plain()}")
    is_well = all(one.is_good for one in findings) and all(one.tone != "bad" for one in needs)
    if not is_well:
        sys.exit(1)
