"""Published checkpoints in their authors' own form: DiT, ADM, EDM."""

from .loading import load_published
from .parts import Published

__all__ = ["Published", "load_published"]
