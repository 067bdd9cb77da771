"""The digits classifier as an extractor: features and scores of 8x8 digits, in seconds and without a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ...schedules.noise import check_seeds
from ..data import Digits
from ..fingerprint import fingerprint
from .extractor import Seen
from .judge import Judge, train_judge

__all__ = ["DigitsFeatures"]


@dataclass(frozen=True)
class DigitsFeatures:
    """What a small classifier sees in 8x8 digits: the input of its last layer, 64 features, and the scores of the ten digits.

    It is trained when it is first asked, on three quarters of scikit-learn's digits, in about two seconds of one CPU core, and kept. On one
    kind of machine it is a function of the seed; elsewhere the weights, and so the fingerprint, may differ by rounding.

    Args:
        seed: of its weights, split, order and augmentation; in [0, 2^63).

    Raises:
        ValueError: for a seed out of range; when asked, for other pictures than (1, 8, 8), and without scikit-learn.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_seeds([self.seed])
        except ValueError as error:
            raise ValueError(f"DigitsFeatures.{error}") from error

    @cached_property
    def _judge(self) -> Judge:
        with torch.inference_mode(False), torch.enable_grad():  # whoever asks may have forbidden what training needs
            return train_judge(Digits(), self.seed)

    @property
    def num_features(self) -> int:
        return 64

    @property
    def short(self) -> str:
        return "FD-digits"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self._judge.network)

    @property
    def resize(self) -> str:
        return "none, pictures must be 8x8 and grey"

    @property
    def test_accuracy(self) -> float:
        """Share of the held-out quarter of the digits that it names correctly, 0 to 1: what samples can hardly exceed."""
        return self._judge.test_accuracy

    def __call__(self, pictures: Tensor) -> Seen:
        if tuple(pictures.shape[1:]) != (1, 8, 8):
            raise ValueError(
                f"pictures are {tuple(pictures.shape[1:])}, and DigitsFeatures judges digits, (1, 8, 8); for others give "
                "Inception(weights=PATH), DINOv2(folder=PATH), CLIP(folder=PATH), or Pixels(shape)"
            )
        features = self._judge.features(pictures.to(torch.float32) / 127.5 - 1)
        logits = self._judge.network.head(F.relu(features))
        return Seen(features.to(pictures.device), logits.to(pictures.device))
