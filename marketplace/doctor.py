"""An examination of the hub: what would keep it from working, and how to mend it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel import queue, vault
from kernel.database import EVERY, reading
from kernel.settings import settings
from kernel.tenancy import role_problems
from marketplace import assets, migrating


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    is_good: bool
    says: str


def examine() -> list[Finding]:
    """Look at everything; a check that itself fails is a bad finding, never a crash."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("database", _database),
        ("revision", _revision),
        ("row security", _row_security),
        ("broker", _broker),
        ("secret keys", _secret_keys),
        ("front-end files", _assets),
        ("translations", _translations),
        ("disk", _disk),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, True, check()))
        except Exception as error:  # noqa: BLE001 - shown to the operator
            findings.append(Finding(name, False, str(error) or type(error).__name__))
    return findings


def _database() -> str:
    with reading(EVERY):
        return f"{settings().mode} mode, reachable"


def _revision() -> str:
    found, wanted = migrating.current(), migrating.newest()
    if found != wanted:
        raise RuntimeError(
            f"at {found or 'nothing'}, the code wants {wanted}: run `yangfan migrate`"
        )
    return found


def _row_security() -> str:
    with reading(EVERY) as session:
        problems = role_problems(session)
    if problems:
        raise RuntimeError("; ".join(problems) + ": give the hub a plain role, see docs/operate.md")
    return "the role cannot step over it" if settings().mode == "scaled" else "not needed on SQLite"


def _broker() -> str:
    if settings().broker_url.startswith("memory"):
        return "inside the process"
    queue.configure()
    with queue.celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
    return "reachable"


def _secret_keys() -> str:
    token = vault.seal("canary", "doctor")
    vault.open_sealed(token, "doctor")
    return f"{len(settings().keys)} key(s), newest {next(iter(settings().keys))}"


def _assets() -> str:
    assets.check_installed()
    return "all there"


def _translations() -> str:
    root = Path(__file__).resolve().parent.parent
    catalogues = list(root.glob("*/translations/*/LC_MESSAGES/messages.po"))
    missing = [p.parts[-5] for p in catalogues if not p.with_suffix(".mo").exists()]
    if missing:
        raise RuntimeError(f"not compiled for {', '.join(missing)}: run `make setup`")
    return f"{len(catalogues)} catalogues compiled"


def _disk() -> str:
    free_mb = shutil.disk_usage(Path(settings().data_dir).resolve().parent).free // (1 << 20)
    if free_mb < 500:
        raise RuntimeError(f"only {free_mb} MB free; free some space before the store stops")
    return f"{free_mb} MB free"
