"""What the tests of the demo's page share."""

from browsing import address, chromium, run, visit, visitor

__all__ = ["address", "chromium", "run", "visit", "visitor"]
