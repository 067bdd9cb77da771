"""What sampling costs beside the network: counted by the profiler, and timed against minimal loops and other libraries."""

from .main import Bench, run

__all__ = ["Bench", "run"]
