"""What the tests of the demo's page share."""

from pathlib import Path

import pytest
from browsing import address, chromium, contexts, run, visit, visitor

__all__ = ["address", "chromium", "contexts", "run", "visit", "visitor"]


def pytest_addoption(parser):
    parser.addoption("--screenshots", metavar="FOLDER", help="with -m browser: write pictures of every tab there")


@pytest.fixture(scope="session")
def screenshots(pytestconfig):
    """The folder for pictures of the page; None where nobody asked for them."""
    folder = pytestconfig.getoption("--screenshots", default=None)
    return None if folder is None else Path(folder).absolute()
