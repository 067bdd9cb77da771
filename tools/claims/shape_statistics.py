"""Every statistic that was tried on finished pictures of Simple Shapes, from the same few evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import Denoiser
from ...schedules.noise import Stream, gaussian

__all__ = ["CHOSEN", "CHOSEN_LEVELS", "LEVELS", "Probed", "features", "grey", "ink", "probe", "statistics_of", "stored"]

LEVELS, K = (-3.0, -2.0, -1.0, 0.0, 1.0), 8
CHOSEN_LEVELS = LEVELS[:4]
CHOSEN = "excess error, stored (chosen)"
# addresses of the noise: those of pictures at other levels never meet
_STEP = 1 << 20


class Probed(NamedTuple):
    """What K noisings of pictures gave at one level, each float (N,).

    error: mean squared round-trip error. excess: as in ExcessError. norm: mean square of the predicted noise. bias: squared distance of
    the mean answer. spread: variance of the answers. patch: the largest error of a 6x6 patch.
    """

    error: Tensor
    excess: Tensor
    norm: Tensor
    bias: Tensor
    spread: Tensor
    patch: Tensor


@torch.no_grad()
def probe(
    denoiser: Denoiser, x: Tensor, seeds: Tensor, levels: Sequence[float] = LEVELS, batch: int = 250
) -> dict[float, Probed]:
    """Noise pictures again, K times at each level, and look at the answers.

    Args:
        denoiser: the model.
        x: (N, C, H, W) in [-1, 1].
        seeds: of the noise, int64 (N,).
        levels: log-SNRs.
        batch: pictures at a time.
    """  # fmt: skip
    found: dict[float, Probed] = {}
    for place, log_snr in enumerate(levels):
        level, rows = denoiser.schedule.at_log_snr(log_snr), []
        alpha, sigma = float(level.alpha), float(level.sigma)
        for i in range(0, len(x), batch):
            real, answers, sums = x[i : i + batch], [], torch.zeros(3, len(x[i : i + batch]))
            where = torch.zeros_like(real)
            for k in range(K):
                eps = gaussian(seeds[i : i + batch], 0, _STEP + place, k, x.shape[1:], stream=Stream.SAMPLE)
                back = denoiser(alpha * real + sigma * eps, level).x0
                off = real - back
                believed = eps + alpha / sigma * off
                sums += torch.stack(
                    [v.flatten(1).mean(1) for v in (off.square(), believed * (believed - eps), believed.square())]
                )
                where += off.square() / K
                answers.append(back)
            stack = torch.stack(answers)
            rows.append(
                Probed(
                    sums[0] / K, sums[1] / K, sums[2] / K, (real - stack.mean(0)).square().flatten(1).mean(1),
                    stack.var(0).flatten(1).mean(1),
                    F.avg_pool2d(where.mean(1, keepdim=True), 6, 1).flatten(1).amax(1),
                )
            )  # fmt: skip
        found[log_snr] = Probed._make(torch.cat(part) for part in zip(*rows, strict=True))
    return found


@torch.no_grad()
def features(denoiser: Denoiser, x: Tensor, log_snr: float = 4.0, batch: int = 250) -> Tensor:
    """What the last block of the network says of pictures without noise, averaged over the picture, (N, channels)."""
    seen: list[Tensor] = []
    level = denoiser.schedule.at_log_snr(log_snr)
    block = denoiser.backbone.unet.up[-1]  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
    hook = block.register_forward_hook(lambda _module, _args, out: seen.append(out.mean((2, 3))))  # pyright: ignore
    try:
        for i in range(0, len(x), batch):
            denoiser(float(level.alpha) * x[i : i + batch], level)
    finally:
        hook.remove()
    return torch.cat(seen)


def ink(x: Tensor) -> Tensor:
    """How much of a picture is white, in pixels, float (N,): the control, since it knows nothing but how much there is."""
    return ((x + 1) / 2).flatten(1).sum(1)


def grey(x: Tensor) -> Tensor:
    """How much of a picture is neither black nor white, in pixels, float (N,): a control that knows only how well it is drawn."""
    return (1 - x.square()).flatten(1).sum(1)


def stored(x: Tensor) -> Tensor:
    """Pictures as they would be stored: black and white."""
    return torch.where(x > 0, 1.0, -1.0)


def _mahalanobis(x: Tensor, real: Tensor) -> Tensor:
    """Squared distances (N,) of x (N, D) from the mean of real (M, D), by its covariance with a thousandth of its mean variance added."""
    x, real = x.double(), real.double()
    cov = torch.cov((real - real.mean(0)).T)
    cov = cov + 1e-3 * cov.diagonal().mean() * torch.eye(len(cov), dtype=cov.dtype)
    away = x - real.mean(0)
    return (away @ torch.linalg.inv(cov) * away).sum(1)


def statistics_of(
    x: Tensor, found: Mapping[float, Probed], sharp: Mapping[float, Probed], seen: Tensor, real: Mapping[float, Probed], real_seen: Tensor
) -> dict[str, Tensor]:  # fmt: skip
    """By name, a score per picture, larger is worse; none of them was told what is on a picture.

    Args:
        x: pictures (N, C, H, W).
        found, sharp, seen: of `probe`, of it on the pictures as they would be stored, and of `features`.
        real, real_seen: of `probe` and `features`, of real pictures that the others are compared with.
    """
    scores = {"ink": ink(x), "grey": grey(x)}
    for at, p in found.items():
        scores |= {
            f"re-noise probe, {at:g}": p.error, f"two-sided probe, {at:g}": (p.error - real[at].error.median()).abs(),
            f"largest patch, {at:g}": p.patch, f"disagreement, {at:g}": p.spread, f"bias, {at:g}": p.bias,
            f"bias over disagreement, {at:g}": p.bias / p.spread, f"score norm, {at:g}": p.norm,
            f"excess error, {at:g}": p.excess, f"re-noise probe, stored, {at:g}": sharp[at].error,
            f"excess error, stored, {at:g}": sharp[at].excess,
        }  # fmt: skip
    scores["likelihood bound"] = torch.stack([math.exp(at) * p.error for at, p in found.items()]).sum(0)
    scores["likelihood bound, stored"] = torch.stack([math.exp(at) * p.error for at, p in sharp.items()]).sum(0)
    vectors, known = (torch.stack([p.error.log() for p in q.values()], 1) for q in (found, real))
    scores["vector of errors"] = _mahalanobis(vectors, known)
    scores["features"] = _mahalanobis(seen, real_seen)
    scores["excess error"] = torch.stack([found[at].excess for at in CHOSEN_LEVELS]).mean(0)
    scores[CHOSEN] = torch.stack([sharp[at].excess for at in CHOSEN_LEVELS]).mean(0)
    return scores
