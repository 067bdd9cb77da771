"""The order of convergence of every sampler, round trips and stability, measured beside the theory; numbers lie here as JSON."""

from .main import Orders, run

__all__ = ["Orders", "run"]
