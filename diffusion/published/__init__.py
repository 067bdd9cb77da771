"""Published checkpoints in their authors' own form: DiT, ADM, EDM."""

from .parts import Published

__all__ = ["Published"]
