"""A text encoder that nothing has to be downloaded or trained for."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..schedules import Stream, gaussian

__all__ = ["HashedWords"]

_KEPT = 2**16
"""Words that are remembered at most."""


@dataclass(frozen=True)
class HashedWords:
    """A fixed random vector for every word there can be: the same bits on every machine, and no weights.

    A word is a run of letters and digits; capitals count as small letters, and other signs only part words. Its vector is drawn from its
    hash, so no list of words is needed; what words have in common, a network has to learn. Words beyond the length are cut off. No
    words at all are the empty text: zeros, and a mask of false.

    Args:
        length: words of a text, >= 1.
        width: numbers per word, the network's text_width; >= 1.
        position: how much of the place of a word is told, as the standard deviation of a second vector, >= 0; 0: a text is a bag of words.
        seed: of the vectors; in [0, 2^63).

    Raises:
        ValueError: for values out of range.
    """

    length: int = 16
    width: int = 64
    position: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("length", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"HashedWords.{name} is {getattr(self, name)}; allowed: >= 1")
        if not 0.0 <= self.position < float("inf"):
            raise ValueError(f"HashedWords.position is {self.position}; allowed: >= 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"HashedWords.seed is {self.seed}; allowed: 0 to 2^63 - 1")

    @cached_property
    def _known(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def _places(self) -> Tensor:
        """What is added to the words for where they stand, (length, width)."""
        return self.position * self._draw([f"{self.seed} place {i}" for i in range(self.length)])

    def _draw(self, names: Sequence[str]) -> Tensor:
        """Standard normals (len(names), width), each row a function of its name alone."""
        hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1 for name in names]
        return gaussian(torch.tensor(hashes, dtype=torch.int64), 0, 0, 0, (self.width,), stream=Stream.TEXT)

    def words(self, prompt: str) -> list[str]:
        """The words that are told of a text, in order."""
        plain = unicodedata.normalize("NFKC", prompt).casefold()
        return re.findall(r"\w+", plain)[: self.length]

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """text, float32 (B, length, width), and text_mask, bool (B, length), on the host."""
        split = [self.words(prompt) for prompt in prompts]
        known = self._known
        if len(known) > _KEPT:
            known.clear()
        new = [word for word in dict.fromkeys(word for words in split for word in words) if word not in known]
        if new:
            known.update(zip(new, self._draw([f"{self.seed} word {word}" for word in new]), strict=True))
        text = torch.zeros(len(split), self.length, self.width)
        mask = torch.zeros(len(split), self.length, dtype=torch.bool)
        for row, words in enumerate(split):
            if words:
                text[row, : len(words)] = torch.stack([known[word] for word in words]) + self._places[: len(words)]
                mask[row, : len(words)] = True
        return {"text": text, "text_mask": mask}
