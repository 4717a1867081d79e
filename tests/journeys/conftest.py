"""A hub of one's own for each file of journeys, and a town that the page tests share."""

from pathlib import Path

import pytest
from _pytest.nodeid import NodeId
from journeys.browser import browsing, chromium
from journeys.town import Town

from bench.hub import Hub


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keep a town's tests on one worker, so that it is built once.

    pytest-xdist 3.8 puts the group's name where pytest 9.2 no longer looks for it.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        group = item.get_closest_marker("xdist_group")
        if group and item.path.parent == Path(__file__).parent and "@" not in item.nodeid:
            item._id = NodeId.parse(f"{item.nodeid}@{group.args[0]}")


@pytest.fixture(scope="module")
def hub():
    """A running hub with demo data."""
    made = Hub()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def browser():
    """A headless browser."""
    if chromium() is None:
        pytest.skip("Chromium is not installed")
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def town(hub) -> Town:
    """A hub with people in it who have one of everything that has a page."""
    return Town(hub)
