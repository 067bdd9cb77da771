"""How much one visitor may ask for at once."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds that are checked on the server.

    Args:
        pictures: at once.
        steps: of a sampler.
        cells: of a comparison.
        evaluations: of the network in one comparison.
        retries: of a picture that a filter rejects.
        text: characters of a prompt.
        upload: bytes of a file.
        train: folder in which a visitor may train the one small model of `quick_panel` while there is none; None: nobody trains anything.

    Raises:
        ValueError: for numbers below 1.
    """

    pictures: int = 64
    steps: int = 250
    cells: int = 64
    evaluations: int = 1_000_000
    retries: int = 8
    text: int = 1000
    upload: int = 10 * 2**20
    train: str | None = None

    def __post_init__(self) -> None:
        for name in ("pictures", "steps", "cells", "evaluations", "text", "upload"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: >= 1")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; allowed: >= 0")
