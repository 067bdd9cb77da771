"""A judge of sampled digits: a small classifier, whose features and opinion measure samples in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...schedules.noise import Stream, check_seeds, gaussian, permutation, uniform
from ..data import Digits
from .frechet import frechet, moments

__all__ = ["Judge", "measure", "references", "train_judge"]

_EPOCHS, _BATCH, _RATE = 20, 64, 3e-3


class _Network(nn.Module):
    """Two convolutions and two linear layers, 8x8 pixels to 64 features to 10 scores; 85 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 16, 64),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.body(x)))


@dataclass(frozen=True)
class Judge:
    """A trained classifier of 8x8 digits.

    Args:
        network: the classifier, as `train_judge` gives it.
        test_accuracy: share of the held-out quarter that it names correctly, 0 to 1.
    """

    network: _Network
    test_accuracy: float

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the classifier sees in pictures: the input of its last layer, before the ReLU.

        Args:
            x: (N, 1, 8, 8) in [-1, 1].

        Returns:
            float32 (N, 64).

        Raises:
            ValueError: for another shape.
        """
        return self.network.body(_check(x))

    @torch.no_grad()
    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Share of pictures that the classifier names as labelled, 0 to 1.

        Args:
            x: (N, 1, 8, 8) in [-1, 1].
            labels: int64 (N,), 0 to 9.

        Raises:
            ValueError: for other shapes.
        """
        if labels.shape != x.shape[:1]:
            raise ValueError(f"labels have shape {tuple(labels.shape)}; allowed: ({len(x)},), one label per picture")
        return float((self.network(_check(x)).argmax(1) == labels.to("cpu")).float().mean())


def _check(x: Tensor) -> Tensor:
    if x.shape[1:] != (1, 8, 8) or len(x) < 1:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; allowed: (N, 1, 8, 8), N >= 1, grey digits as Digits gives them"
        )
    return x.detach().to("cpu", torch.float32)


def train_judge(source: Digits, seed: int = 0) -> Judge:
    """A judge trained on three quarters of the digits and tested on the rest; takes about two seconds of one CPU core.

    A function of (source, seed): it runs on one thread, draws by address, and leaves torch's generators as they were.

    Args:
        source: the digits.
        seed: of the weights, the split, the order and the augmentation; in [0, 2^63).

    Raises:
        ValueError: for a seed out of range.
    """
    check_seeds([seed])
    x, labels, _ = source.batch(torch.arange(len(source)))
    assert labels is not None
    order = permutation(seed, 0, len(source))
    test, training = order[: len(source) // 4], order[len(source) // 4 :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _fit(network, x[training], labels[training], seed)
    finally:
        torch.set_num_threads(before)
    network.eval().requires_grad_(False)
    return Judge(network, Judge(network, math.nan).accuracy(x[test], labels[test]))


def _fit(network: _Network, x: Tensor, labels: Tensor, seed: int) -> None:
    """Adam with a rate that falls to zero, on pictures shifted by up to half a pixel."""
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE, fused=True)
    batches = len(x) // _BATCH
    network.train()
    for epoch in range(_EPOCHS):
        indices = permutation(seed, epoch + 1, len(x))
        moved = _shifted(x, seed, epoch)
        for i in range(batches):
            pick = indices[i * _BATCH : (i + 1) * _BATCH]
            progress = (epoch * batches + i) / (_EPOCHS * batches)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * progress))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(moved[pick]), labels[pick]).backward()
            optimizer.step()


def _shifted(x: Tensor, seed: int, epoch: int) -> Tensor:
    """Each picture moved by its own fraction of a pixel, within half a pixel, in both directions."""
    count = len(x)
    u = uniform(torch.full((count,), seed), torch.arange(count), epoch, 2, Stream.AUGMENT).float()
    # affine_grid counts from -1 to 1, so half of eight pixels is an eighth
    theta = torch.eye(2, 3).repeat(count, 1, 1)
    theta[:, :, 2] = (2 * u - 1) / 8
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def measure(judge: Judge, real: Tensor, fake: Tensor, labels: Tensor) -> dict[str, float]:
    """How good samples are: near the real digits as a set, and each the digit that it should be.

    Args:
        judge: from `train_judge`.
        real: (M, 1, 8, 8) in [-1, 1], M >= 2.
        fake: (N, 1, 8, 8) in [-1, 1], N >= 2. Compare distances at equal N only: few make them larger.
        labels: int64 (N,), what each of `fake` should be.

    Returns:
        frechet: squared Frechet distance of the features, >= 0.
        accuracy: share that the judge names as labelled, 0 to 1.
        n: N.

    Raises:
        ValueError: for other shapes, or pictures that are not finite.
    """
    distance = frechet(moments(judge.features(fake)), moments(judge.features(real)))
    return {"frechet": distance, "accuracy": judge.accuracy(fake, labels), "n": len(fake)}


def references(judge: Judge, source: Digits) -> dict[str, float]:
    """What to compare `measure` with.

    Args:
        judge: from `train_judge`.
        source: the real digits.

    Returns:
        real_vs_real: distance of the even from the odd half of the real digits, about 900 each.
        noise_vs_real: distance of Gaussian noise, cut to [-1, 1], from `source`, at equal counts.
        test_accuracy: the judge's own, on the digits that it was not trained on, 0 to 1.
    """
    even, odd, real = (judge.features(s.batch(torch.arange(len(s))).x) for s in (Digits("even"), Digits("odd"), source))
    noise = gaussian(torch.arange(len(source)), 0, 0, 0, source.shape).clamp(-1, 1)
    return {
        "real_vs_real": frechet(moments(even), moments(odd)),
        "noise_vs_real": frechet(moments(judge.features(noise)), moments(real)),
        "test_accuracy": judge.test_accuracy,
    }
