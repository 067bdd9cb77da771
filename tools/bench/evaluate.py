"""What numbers of evaluation cost beside features: Frechet distances and moments, ours and those of other libraries."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.measuring.frechet import Moments, frechet, moments
from ...diffusion.measuring.inception_blocks import InceptionNetwork
from .peers import installed
from .timing import times

__all__ = ["EVALUATE_PEERS", "ROWS", "measure_evaluation"]

EVALUATE_PEERS = ("torchmetrics", "scipy")

ROWS = {
    "frechet-64": (64, 21), "frechet-512": (512, 7), "frechet-1024": (1024, 3), "frechet-2048": (2048, 3),
    "singular-512": (512, 7), "accumulate-2048": (2048, 9), "share-2048": (2048, 3),
}  # fmt: skip
"""By name: features, rounds."""
SLOW = ("frechet-2048",)
"""Those that take minutes: only by name."""
_BATCH, _PICTURES = 64, 1024

Runs = dict[str, Callable[[], Any]]


def measure_evaluation(
    only: str | None, against: Sequence[str], quick: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Time every row, all sides interleaved, and print it.

    Args:
        only: one of ROWS, or None: all that take seconds.
        against: of EVALUATE_PEERS.
        quick: few features and one round, to see whether it runs.
        say: takes a line.

    Returns:
        rows: by name and side, median CPU seconds, ratio to ours (of the medians; least and most in a round) and, of a distance, how far
        it is from ours, relative; absent: peers that are not installed.
    """
    found: dict[str, Any] = {"rows": {}, "absent": [peer for peer in against if not installed(peer)]}
    for peer in found["absent"]:
        say(f"{peer}: absent")
    there = [peer for peer in against if peer not in found["absent"]]
    for name in [only] if only else [name for name in ROWS if name not in SLOW]:
        features, rounds = (24, 1) if quick else ROWS[name]
        say(f"{name}, {rounds} rounds")
        if name.startswith("share"):
            found["rows"][name] = _share(features, rounds, 1 if quick else 8, say)
            continue
        runs = (_accumulating if name.startswith("accumulate") else _distances)(name, features, there)
        found["rows"][name] = row = _timed(runs, rounds)
        for side, cells in row.items():
            said = f"  {side}: {cells['seconds']:.3g} CPU seconds"
            if side != "ours":
                said += f", {cells['ratio']:.2f} times ours ({cells['least']:.2f} to {cells['most']:.2f})"
                said += f", {cells['off']:.1e} from ours" if "off" in cells else ""
            say(said)
    if only is None and not quick:
        say(f"2048 features take a minute or two: --only {SLOW[0]}")
    return found


def _timed(runs: Runs, rounds: int) -> dict[str, dict[str, float]]:
    """Every side's time and, of a distance, how far it is from ours."""
    values: dict[str, float] = {}

    def kept(side: str) -> Callable[[], object]:
        def run() -> None:
            if (value := runs[side]()) is not None:
                values[side] = value

        return run

    with _one_thread():
        taken = times({side: kept(side) for side in runs}, rounds, cuda=False)
    found: dict[str, dict[str, float]] = {}
    for side, seconds in taken.items():
        by_round = [t / ours for t, ours in zip(seconds, taken["ours"], strict=True)]
        middle = statistics.median(seconds)
        found[side] = {"seconds": middle, "ratio": middle / statistics.median(taken["ours"])}
        found[side] |= {"least": min(by_round), "most": max(by_round)}
        if side in values:
            found[side] |= {"value": values[side], "off": abs(values[side] / values["ours"] - 1)}
    return found


def _one_thread() -> Any:
    """The linear algebra of scipy in one thread, too: CPU time of waiting threads is nobody's work."""
    return importlib.import_module("threadpoolctl").threadpool_limits(1)


def _features(n: int, d: int, seed: int) -> Tensor:
    """Vectors whose variances fall by three powers of ten, in a basis of their own."""
    draw = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q
    return (
        torch.randn(n, d, generator=draw, dtype=torch.float64) * torch.logspace(0, -1.5, d, dtype=torch.float64) @ turn
    )


def _distances(name: str, d: int, against: Sequence[str]) -> Runs:
    """Twice as many vectors as features, or half as many: then with their factors, and as a file would hold them."""
    singular = name.startswith("singular")
    first, second = (moments(_features(d // 2 if singular else 2 * d, d, seed)) for seed in (1, 2))
    runs = _sides(first, second, against)
    if singular:
        bare = [Moments(m.mean, m.covariance, m.count) for m in (first, second)]
        runs = {"ours": runs.pop("ours"), "ours, of covariances alone": lambda: frechet(*bare), **runs}
    return runs


def _sides(a: Moments, b: Moments, against: Sequence[str]) -> Runs:
    runs: Runs = {"ours": lambda: frechet(a, b)}
    if "torchmetrics" in against:
        theirs = importlib.import_module("torchmetrics.image.fid")._compute_fid
        runs["torchmetrics"] = lambda: float(theirs(a.mean, a.covariance, b.mean, b.covariance))
    if "scipy" in against:
        runs["scipy"] = _by_scipy(a, b)
    return runs


def _by_scipy(a: Moments, b: Moments) -> Callable[[], float]:
    """As `calculate_frechet_distance` of pytorch-fid 0.3.0, with the root that was asked for without its printed estimate of the error."""
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


class _Given(nn.Module):
    """An extractor that costs nothing: pictures are their features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


def _accumulating(name: str, d: int, against: Sequence[str]) -> Runs:
    """1,024 pictures in batches of 64."""
    from ...diffusion.measuring.accumulate import FeatureMoments

    batches = torch.randn(_PICTURES, d, generator=torch.Generator().manual_seed(1)).split(_BATCH)
    ours = FeatureMoments(d, rows=_PICTURES)

    def add(update: Callable[[Tensor], object]) -> None:
        for batch in batches:
            update(batch)

    runs: Runs = {"ours": lambda: add(ours.update)}
    if "torchmetrics" in against:
        theirs = importlib.import_module("torchmetrics.image.fid").FrechetInceptionDistance(_Given(d))
        runs["torchmetrics"] = lambda: add(lambda batch: theirs.update(batch, real=False))
    return runs


def _share(d: int, rounds: int, pictures: int, say: Callable[[str], None]) -> dict[str, float]:
    """What accumulating costs a picture, as a share of Inception's look at it, weights or not."""
    network = InceptionNetwork().eval()
    x = torch.randn(pictures, 3, 299, 299, generator=torch.Generator().manual_seed(1))
    runs: dict[str, Callable[[], object]] = {
        "statistics": _accumulating("", d, ())["ours"],
        "look": lambda: network.features(x),
    }
    taken = {side: statistics.median(seconds) for side, seconds in times(runs, rounds, cuda=False).items()}
    statistic, look = taken["statistics"] / _PICTURES, taken["look"] / pictures
    say(f"  statistics: {statistic:.3g} CPU seconds per picture; Inception {look:.3g}; share {statistic / look:.3%}")
    return {"statistics": statistic, "look": look, "share": statistic / look}
