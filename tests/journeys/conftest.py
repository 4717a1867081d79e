"""A hub of one's own for each file of journeys, and a town that the page tests share."""

import pytest
from journeys.browser import browsing, chromium
from journeys.town import Town

from bench.hub import Hub


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
