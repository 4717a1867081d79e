"""An examination of the hub: what would keep it from working, and how to mend it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel import queue, vault
from kernel.database import EVERY, StoreUnavailable, reading
from kernel.settings import settings
from kernel.tenancy import role_problems
from marketplace import assets
from marketplace.desk import door, health, needs
from marketplace.desk.needs import Need


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    is_good: bool
    says: str


def examine() -> tuple[list[Finding], list[Need]]:
    """Look at how the hub was set up, and at what it needs, as the health page shows it.

    A check that itself fails is a bad finding, never a crash.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("row security", _row_security),
        ("secret keys", _secret_keys),
        ("front-end files", _assets),
        ("translations", _translations),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, True, check()))
        except Exception as error:  # noqa: BLE001 - shown to the operator
            findings.append(Finding(name, False, str(error) or type(error).__name__))
    queue.configure()
    try:
        with door.counting() as session:
            found = health.examine(session)
    except StoreUnavailable:
        found = health.without_store()
    except Exception as error:  # noqa: BLE001 - a store without our tables has no figures
        findings.append(Finding("database", False, str(error).splitlines()[0][:200]))
        return findings, []
    return [*findings, *_machines(found)], needs.of(found)


def _machines(found: health.Health) -> list[Finding]:
    """Say what is well; what is not stands among the needs."""
    said = []
    if found.store is not None:
        store = found.store
        said.append(Finding("database", True, f"{store.kind}, {store.bytes >> 20:,} MB"))
        said.append(
            Finding("latency", True, f"read {store.read_ms} ms, commit {store.commit_ms} ms")
        )
        if store.is_current:
            said.append(Finding("revision", True, store.revision))
    if found.broker.is_reachable:
        said.append(Finding("broker", True, f"{found.broker.kind}, reachable"))
    alive = sum(not one.is_silent for one in found.processes)
    said.append(Finding("processes", True, f"{alive} alive"))
    said.append(Finding("disk", True, f"{found.disk.free_bytes >> 20:,} MB free"))
    return said


def _row_security() -> str:
    with reading(EVERY) as session:
        problems = role_problems(session)
    if problems:
        raise RuntimeError("; ".join(problems) + ": give the hub a plain role, see docs/operate.md")
    return "the role cannot step over it" if settings().mode == "scaled" else "not needed on SQLite"


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
