"""Many ways to sample one model, side by side: pictures of the same seeds, and what was measured of each way."""

from .main import Compare, run

__all__ = ["Compare", "run"]
