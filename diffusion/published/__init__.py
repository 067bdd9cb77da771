"""Published checkpoints in their authors' own form: DiT, ADM, EDM."""

from .loading import check_published, load_published
from .parts import Published

__all__ = ["Published", "check_published", "load_published"]
