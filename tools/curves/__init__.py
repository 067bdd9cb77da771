"""Quality against evaluations: every sampler of the house on one model, and who may be called the best."""

from .main import Curves, run

__all__ = ["Curves", "run"]
