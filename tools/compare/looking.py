"""What looks at the pictures of a comparison, and the data that they are compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...diffusion.measuring import Extractor, Moments, Pictures, batches, frechet, identity, look, moments
from .store import Store, Stored, address

__all__ = ["Looking"]


@dataclass(frozen=True, eq=False)
class Looking:
    """An extractor, and what it saw in the data.

    Args:
        extractor: of features; None: nothing looks.
        data: real pictures; None: there are none.
        batch: at a time.
        says: the data in words.
    """

    extractor: Extractor | None = None
    data: Pictures | None = None
    batch: int = 256
    says: str = ""

    def about(self) -> dict[str, Any]:
        """What every number that comes of it must carry."""
        return {
            "extractor": None if self.extractor is None else identity(self.extractor),
            "data": None
            if self.data is None
            else {"says": self.says, "n": len(self.data), "fingerprint": self.data.fingerprint},
        }

    def real(self, store: Store) -> Moments | None:
        """Moments of the data's features."""
        if self.extractor is None or self.data is None:
            return None
        key = address({"real": self.about()})
        stored = store.get(key)
        if stored is None:
            seen = torch.cat([look(self.extractor, pixels).features for _, pixels in batches(self.data, self.batch)])
            found = moments(seen)
            arrays = {"mean": found.mean.numpy(), "covariance": found.covariance.numpy()}
            stored = Stored({"count": found.count}, arrays)
            store.put(key, stored)
        mean, covariance = (torch.from_numpy(stored.arrays[name]) for name in ("mean", "covariance"))
        return Moments(mean, covariance, int(stored.about["count"]))

    def measure(self, pictures: Tensor, labels: Tensor | None, real: Moments | None, classes: int) -> dict[str, float]:
        """What is seen in pictures: frechet to the data, and accuracy where the extractor names the model's classes.

        Args:
            pictures: uint8 (N, C, H, W).
            labels: int64 (N,), what each should be.
            real: of the data.
            classes: of the model.
        """
        found: dict[str, float] = {}
        if self.extractor is None or len(pictures) < 2:
            return found
        seen = [look(self.extractor, part) for part in pictures.split(self.batch)]
        features = torch.cat([s.features for s in seen])
        if real is not None:
            found["frechet"] = frechet(moments(features), real)
        if labels is not None and len(labels) == len(pictures) and all(s.logits is not None for s in seen):
            logits = torch.cat([s.logits for s in seen if s.logits is not None])
            known = labels < classes
            if logits.shape[1] == classes and bool(known.any()):
                found["accuracy"] = float((logits.argmax(1) == labels)[known].float().mean())
        return {name: value for name, value in found.items() if not math.isnan(value)}
