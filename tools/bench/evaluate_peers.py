"""The Frechet distance and its moments elsewhere, each as its library writes it, from the same numbers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...diffusion.measuring.frechet import Moments
from .stand_in import import_peer

__all__ = ["DISTANCES", "Given", "accumulating"]


def _by_torchmetrics(a: Moments, b: Moments) -> Callable[[], float]:
    theirs: Any = import_peer("torchmetrics.image.fid")
    return lambda: float(theirs._compute_fid(a.mean, a.covariance, b.mean, b.covariance))


def _by_torch_fidelity(a: Moments, b: Moments) -> Callable[[], float]:
    fid: Any = import_peer("torch_fidelity.metric_fid")
    first, second = ({"mu": m.mean.numpy(), "sigma": m.covariance.numpy()} for m in (a, b))
    return lambda: fid.fid_statistics_to_metric(first, second, False)[fid.KEY_METRIC_FID]


def _by_scipy(a: Moments, b: Moments) -> Callable[[], float]:
    """As `calculate_frechet_distance` of pytorch-fid 0.3.0, without the estimate of the root's error that it asks for and drops.

    That library itself can't be imported without torchvision, whose classes it inherits from.
    """
    import numpy as np

    sqrtm = importlib.import_module("scipy.linalg").sqrtm
    (m, s), (n, t) = ((x.mean.numpy(), x.covariance.numpy()) for x in (a, b))

    def run() -> float:
        with np.errstate(all="ignore"):
            root = np.asarray(sqrtm(s.dot(t)))
        if not np.isfinite(root).all():
            offset = np.eye(len(s)) * 1e-6
            root = np.asarray(sqrtm((s + offset).dot(t + offset)))
        return float((m - n).dot(m - n) + np.trace(s) + np.trace(t) - 2 * np.trace(np.real(root)))

    return run


DISTANCES: Mapping[str, Callable[[Moments, Moments], Callable[[], float]]] = {
    "torchmetrics": _by_torchmetrics, "torch-fidelity": _by_torch_fidelity, "scipy": _by_scipy,
}  # fmt: skip
"""By the name of the library: makes a call of two sets of moments."""


class Given(nn.Module):
    """An extractor that costs nothing: pictures are their features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


def accumulating(d: int, batches: Sequence[Tensor]) -> dict[str, Callable[[], None]]:
    """Adding batches of features to moments: ours, and torchmetrics'.

    Args:
        d: features.
        batches: (B, d) each.
    """
    # first: whoever imports torchmetrics imports torch-fidelity where it is, and that what may not be
    fid: Any = import_peer("torchmetrics.image.fid")
    from ...diffusion.measuring.accumulate import FeatureMoments

    ours, theirs = FeatureMoments(d, rows=sum(len(batch) for batch in batches)), fid.FrechetInceptionDistance(Given(d))
    updates: dict[str, Callable[[Tensor], object]] = {
        "ours": ours.update, "torchmetrics": lambda batch: theirs.update(batch, real=False),
    }  # fmt: skip

    def add(update: Callable[[Tensor], object]) -> None:
        for batch in batches:
            update(batch)

    return {side: lambda update=update: add(update) for side, update in updates.items()}
