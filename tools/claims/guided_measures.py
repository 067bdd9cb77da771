"""What the claims on guidance measure of samples: quality, class accuracy and diversity, on the digits and on the known mixture."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ...diffusion import Digits
from ...diffusion.measuring.frechet import frechet, moments
from ...diffusion.measuring.judge import Judge, train_judge
from .mixture2d import ARMS, COMPONENTS, drawn, nearest, squared_lengths

__all__ = ["BEYOND", "apart", "energy", "measured", "recall", "spread"]

BEYOND = (
    4.0  # standard deviations from every Gaussian of its class: an outlier; of exact samples at most exp(-8) = 0.03 %
)
EXACT = 1 << 41  # seeds of the exact samples that the mixture's are compared with


@cache
def _digits() -> tuple[Judge, Tensor]:
    """The judge, and its features of all real digits."""
    source = Digits()
    judge = train_judge(source)
    return judge, judge.features(source.batch(torch.arange(len(source))).x)


def energy(x: Tensor, y: Tensor) -> float:
    """The energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of two sets of points (N, d), >= 0, 0 for equal sets."""
    a, b = x.flatten(1).double(), y.flatten(1).double()
    return max(float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()), 0.0)


def recall(real: Tensor, fake: Tensor, k: int = 3) -> float:
    """Share of real features that lie nearer to some fake one than that one's k-th fake neighbour, 0 to 1.

    Args:
        real, fake: (M, d) and (N, d), N > k. Compare at equal N only.
        k: which neighbour.

    Source: Kynkaanniemi et al. 2019 (1904.06991), eq. 2.
    """
    radius = torch.cdist(fake, fake).kthvalue(k + 1, 1).values  # the nearest is the point itself
    return float((torch.cdist(real, fake) <= radius).any(1).double().mean())


def spread(x: Tensor, labels: Tensor) -> tuple[float, float]:
    """How evenly points lie over the Gaussians of their classes, means over the classes.

    Args:
        x: (N, 2, 1, 1).
        labels: int64 (N,).

    Returns:
        The effective share of the Gaussians, exp(entropy) / COMPONENTS, of all points by the nearest one; and the share of those that
        have at least half of their due among the points within BEYOND. Both are 1 for exact samples, up to the counts' noise.
    """
    effective, found = 0.0, 0.0
    for c in range(ARMS):
        where, far = nearest(x[labels == c], labels[labels == c])
        share = torch.bincount(where, minlength=COMPONENTS).double() / len(where)
        effective += float(torch.exp(torch.special.entr(share).sum())) / COMPONENTS / ARMS
        close = torch.bincount(where[far <= BEYOND], minlength=COMPONENTS).double() / len(where)
        found += float((close >= 0.5 / COMPONENTS).double().mean()) / ARMS
    return effective, found


def apart(x: Tensor, labels: Tensor) -> float:
    """Total variation between where points lie and where they should: in equal shares within BEYOND of their class's Gaussians.

    0 to 1, the mean over the classes. Of exact samples about 0.4 sqrt((COMPONENTS - 1) / n) with n per class, from counting alone.
    """
    total = 0.0
    for c in range(ARMS):
        where, far = nearest(x[labels == c], labels[labels == c])
        close = torch.bincount(where[far <= BEYOND], minlength=COMPONENTS).double() / len(where)
        total += float((close - 1 / COMPONENTS).abs().sum() + (far > BEYOND).double().mean()) / 2 / ARMS
    return total


def _class_scores(x: Tensor, labels: Tensor) -> Tensor:
    """The true log-density of every class at each point, up to what they share, (N, ARMS)."""
    return torch.stack(
        [torch.logsumexp(-squared_lengths(x, torch.full_like(labels, c)) / 2, 1) for c in range(ARMS)], 1
    )


def _opinion(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Of scores (N, classes): the share of those named right, and the median log-odds of the wanted class."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = torch.logsumexp(scores.scatter(1, labels[:, None], -torch.inf), 1)
    return {"right": float((scores.argmax(1) == labels).double().mean()), "odds": float((own - others).median())}


def measured(x: Tensor, labels: Tensor) -> dict[str, float]:
    """How good samples are, of digits or points.

    Args:
        x: (N, 1, 8, 8) digits, which are cut to [-1, 1], or (N, 2, 1, 1) points.
        labels: int64 (N,), what each should be.

    Returns:
        distance: from the data, the smaller the better: of digits Frechet's in the judge's features, of points that of `apart`. right:
        share of the wanted class, by the judge or by the true density. odds: median log-odds of it, which goes on where `right` is 1.
        diverse: of digits recall in the judge's features, of points the effective share of the class's Gaussians. Of points also
        energy, outliers (share) and found (share of the Gaussians).
    """
    if x.shape[1:] == (1, 8, 8):
        judge, real = _digits()
        features = judge.features(x.clamp(-1, 1))
        with torch.no_grad():
            scores = judge.network.head(features.relu())
        found = {
            "distance": frechet(moments(features), moments(real)),
            "diverse": recall(real, features),
            **_opinion(scores, labels),
        }
    else:
        exact = drawn(torch.arange(len(x)) + EXACT, labels)
        effective, share = spread(x, labels)
        found = {
            "distance": apart(x, labels), "diverse": effective, **_opinion(_class_scores(x, labels), labels), "found": share,
            "outliers": float((nearest(x, labels)[1] > BEYOND).double().mean()),
            "energy": sum(energy(x[labels == c], exact[labels == c]) for c in range(ARMS)) / ARMS,
        }  # fmt: skip
    return {k: round(v, 6) for k, v in found.items()}
