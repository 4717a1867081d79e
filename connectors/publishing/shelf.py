"""The shelf: vendors' connectors as the engine reads them, each version under a key of its own.

A version never changes, so it is unpacked once on a machine and read once in a process. Whether it
still works is asked again now and then, because an operator may recall it.
"""

import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.engine import loader
from connectors.engine.connector import Connector
from connectors.errors import NotNow
from connectors.publishing import archives, editions
from connectors.publishing.tables import OFFERED
from kernel import log
from kernel.database import EVERY, reading
from kernel.errors import N_
from kernel.settings import settings

SURE_SECONDS = 30.0  # for so long nobody asks again whether a version works
MOST = 300  # versions in memory
_logger = log.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    connector: Connector | None
    asked_at: float


_known: dict[str, _Known] = {}
_lock = threading.Lock()


def find(key: str) -> Connector | None:
    """Return the version of a vendor's connector that a key names; None when it does not work."""
    now = time.monotonic()
    known = _known.get(key)
    if known is not None and now - known.asked_at < SURE_SECONDS:
        return known.connector
    with reading(EVERY) as session:
        edition = editions.by_key(session, key)
        raw = bytes(edition.archive) if edition is not None else b""
        name = edition.name if edition is not None else ""
        digest = edition.digest if edition is not None else ""
    connector = known.connector if known is not None and raw else None
    if raw and connector is None:
        connector = _load(key, name, digest, raw)
    with _lock:
        if len(_known) >= MOST:
            _known.clear()
        _known[key] = _Known(connector, now)
    return connector


def _load(key: str, name: str, digest: str, raw: bytes) -> Connector | None:
    """Unpack a version, once on a machine, and read it."""
    around = Path(settings().data_dir).resolve() / "connectors" / digest.removeprefix("sha256:")
    folder = around / name
    if not folder.exists():
        draft = around / f"draft-{os.getpid()}-{threading.get_ident()}"
        archives.unpack(archives.read(raw), draft)
        try:
            draft.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    try:
        return replace(loader.load(folder), key=key)
    except loader.Unfit as unfit:  # the manifest's contract has become stricter since
        _logger.warning("edition_unfit", key=key, why=str(unfit)[:300])
        return None


def forget() -> None:
    """Ask anew about every version, as after a decision in this process."""
    with _lock:
        _known.clear()


def offered(key: str) -> Connector:
    """Return a connector that may be connected; NotNow when its vendor has withdrawn the version.

    Raises NotFound for one that nobody knows.
    """
    connector = loader.find(key)
    if loader.ELSEWHERE not in key:
        return connector
    with reading(EVERY) as session:
        edition = editions.by_key(session, key)
    if edition is not None and edition.state not in OFFERED:
        raise NotNow(
            N_("Its vendor has withdrawn this version"),
            N_("What is connected goes on. Look in the library for a newer version."),
        )
    return connector


def offered_ones() -> list[Connector]:
    """Return the newest version of every connector that vendors offer and this hub can read."""
    with reading(EVERY) as session:
        keys = [editions.key_of(edition) for edition, _ in editions.offered(session)]
    return [one for key in keys if (one := find(key)) is not None]
