"""Fixtures every test may use; what is about one package lives in tests/factories/."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.nodeid import NodeId
from argon2 import PasswordHasher

# in memory where there is such a folder: these databases need not survive a power cut
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_SCRATCH = Path(tempfile.mkdtemp(prefix="yangfan-tests-", dir=_MEMORY))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
os.environ.update(
    YANGFAN_DATA_DIR=str(_SCRATCH),
    YANGFAN_DATABASE_URL=f"sqlite:///{_SCRATCH}/default.db",
    YANGFAN_LOG_LEVEL="error",
)
sys.path.insert(0, str(Path(__file__).parent))  # tests/factories

from stores import Store, open_stores  # noqa: E402

from identity import passwords  # noqa: E402
from kernel import log, queue  # noqa: E402
from kernel.database import EVERY, transaction  # noqa: E402
from kernel.settings import settings, settings_override  # noqa: E402
from marketplace.server import keep_for_good  # noqa: E402
from webhooks import pressure  # noqa: E402


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with what takes minutes, so that the other worker does the many small ones meanwhile.

    Tests that kill hubs share a worker: two storms at once would only slow each other down.
    """
    for item in items:
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.xdist_group("faults"))
    items.sort(
        key=lambda item: (not item.get_closest_marker("faults"), "journeys" not in str(item.path))
    )
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _keep_in_group(item)


def _keep_in_group(item: pytest.Item) -> None:
    """Name the group where pytest 9.2 looks for it; pytest-xdist 3.8 names it elsewhere."""
    group = item.get_closest_marker("xdist_group")
    if group and "@" not in item.nodeid:
        item._id = NodeId.parse(f"{item.nodeid}@{group.args[0]}")


def pytest_collection_finish() -> None:
    """Search for garbage as the hub's processes do: seldom, and not among what stays."""
    keep_for_good()


@pytest.fixture(scope="session", autouse=True)
def _logs() -> None:
    """Write logs as the hub's processes do.

    By itself structlog draws each exception with every local variable, which takes minutes on a
    busy machine, in the very thread that a test waits for.
    """
    log.configure(settings().log_format, settings().log_level)


@pytest.fixture(scope="session")
def stores() -> Iterator[dict[str, Store]]:
    """Both databases with every table, made once."""
    yield from open_stores(_SCRATCH)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, stores) -> Iterator[Store]:
    """Run the test on an emptied SQLite, then on an emptied PostgreSQL as a plain role."""
    store = stores[request.param]
    if store.missing:
        pytest.skip(store.missing)
    pressure.forget()  # what an earlier test took in is no pressure here
    with settings_override(database_url=store.url):
        store.empty()
        yield store


@pytest.fixture(autouse=True)
def hashing(request, monkeypatch):
    """Passwords hashed at little cost, but for tests marked `costly`, which look at the real one.

    A little dearer than the factories' digests, so that these still are renewed at a sign-in.
    """
    passwords._decoy.cache_clear()
    if not request.node.get_closest_marker("costly"):
        cheap = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1)
        monkeypatch.setattr(passwords, "_hasher", cheap)
    yield
    passwords._decoy.cache_clear()


@pytest.fixture
def session(database):
    """A session inside transaction(EVERY)."""
    with transaction(EVERY) as opened:
        yield opened


def _build_app():
    from marketplace.app import create_app

    built = create_app()
    built.testing = True
    built.config["PROPAGATE_EXCEPTIONS"] = False
    return built


@pytest.fixture(scope="session")
def _shared_app():
    """Built once, because compiling its addresses takes longer than most tests.

    It has answered a request, so that Flask refuses whatever a test would add to it.
    """
    built = _build_app()
    built.test_client().get("/healthz")
    return built


@pytest.fixture
def app(database, _shared_app):
    """The whole application on the test's database, the same one for all who change nothing."""
    # what building an application sets for the whole process
    log.configure(settings().log_format, settings().log_level)
    queue.configure()
    return _shared_app


@pytest.fixture
def own_app(database):
    """An application of the test's own, to which it may add."""
    return _build_app()


@pytest.fixture
def client(app):
    """A browser without cookies."""
    return app.test_client()


@pytest.fixture(autouse=True)
def nudges() -> Iterator[list[str]]:
    """The nudges a test caused, instead of messages on a broker."""
    rung: list[str] = []
    queue.LISTENERS.append(rung.append)
    yield rung
    queue.LISTENERS.remove(rung.append)
