"""What the tests of the demo's page share."""

from browsing import address, chromium, contexts, run, visit, visitor

__all__ = ["address", "chromium", "contexts", "run", "visit", "visitor"]
