"""The variational bound on the negative log-likelihood, term by term, in bits per number of the data."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules.level import Level

__all__ = ["Posterior", "as_pair", "end_term", "posterior", "step_term"]

_NATS = math.log(2)


class Posterior(NamedTuple):
    """q(x' | x, x0) of a step from `now` to less noise, and the range in which a learned variance lies; tensors (B,).

    of_x0, of_x: its mean is of_x0 * x0 + of_x * x. small: its own log-variance, -inf where the step ends at data. large: the
    log-variance of x given x', right for data of unit variance.
    """

    of_x0: Tensor
    of_x: Tensor
    small: Tensor
    large: Tensor


def posterior(now: Level, nxt: Level) -> Posterior:
    """The posterior of a step between two levels of float64 tensors (B,), nxt with less noise.

    Source: Ho et al. 2020 (2006.11239), eq. 6-7.
    """
    (alpha, sigma), (next_alpha, next_sigma) = as_pair(now), as_pair(nxt)
    ratio, share = alpha / next_alpha, (next_sigma / sigma) ** 2
    # nxt == now may fall below zero by round-off
    beta = (sigma**2 - ratio**2 * next_sigma**2).clamp_min(0.0)
    return Posterior(next_alpha * beta / sigma**2, ratio * share, torch.log(share * beta), torch.log(beta))


def as_pair(level: Level) -> tuple[Tensor, Tensor]:
    """alpha and sigma as tensors of one shape."""
    both = [v for v in level[1:] if isinstance(v, Tensor)]
    device = both[0].device if both else None
    alpha, sigma = (torch.as_tensor(v, dtype=torch.float64, device=device) for v in level[1:])
    alpha, sigma = torch.broadcast_tensors(alpha, sigma)
    return alpha, sigma


def _view(value: Tensor, x: Tensor) -> Tensor:
    """(B,) as numbers that multiply x, of its dtype."""
    return value.view(-1, *[1] * (x.ndim - 1)).to(x)


def step_term(
    x0: Tensor, believed: Tensor, variance: Tensor | None, before: Level, now: Level, nxt: Level, bins: int | None
) -> Tensor:
    """One term of the bound: KL(q(x' | x, x0) || p(x' | x)), or, in the step that ends at data, -log p(x0 | x).

    p is normal with the posterior's mean at the believed x0. Its variance is the posterior's, or the learned one.

    Args:
        x0: (B, ...), the data.
        believed: (B, ...), the network's x0 at `now`.
        variance: the network's second answer o, (B, ...): log-variance (1 + o) / 2 of the way from the posterior's to the largest;
            None: the posterior's.
        before, now, nxt: levels of float64 tensors (B,): the step goes from now to nxt, and the step from `before` to `now` lends
            its variance to the one that ends at data, where the posterior has none.
        bins: values that a number of the data can take, evenly spaced over [-1, 1], such as 256; None: the data are continuous, and
            that last term is a density.

    Returns:
        (B,), bits per number.

    Source: Ho et al. 2020 (2006.11239), eq. 5 and 13; Nichol & Dhariwal 2021 (2102.09672), eq. 15 and its code.
    """
    q, lent, last = posterior(now, nxt), posterior(before, now), _view(as_pair(nxt)[1] == 0, x0).bool()
    # finite also where it is not used, or the gradient would be nan
    small = torch.where(last, _view(lent.small, x0), _view(q.small, x0))
    if variance is None:
        spread = small.expand_as(x0)
    else:
        share = (variance + 1.0) / 2.0
        spread = share * _view(q.large, x0) + (1.0 - share) * small
    error = x0 - believed
    kl = 0.5 * (
        spread - small + torch.exp(small - spread) - 1.0 + (_view(q.of_x0, x0) * error).square() * torch.exp(-spread)
    )
    # x' is compared with alpha' x0, the decoder with x0 itself. In float64, and harmless where it is not used: the slope of a
    # normal's tail cancels, and would be nan far out
    std = torch.exp(0.5 * spread) / _view(as_pair(nxt)[0], x0)
    decoder = _decode(x0.double(), torch.where(last, believed, x0).double(), torch.where(last, std, 1.0).double(), bins)
    return torch.where(last, decoder.to(x0), kl).flatten(1).mean(1) / _NATS


def _decode(x0: Tensor, mean: Tensor, std: Tensor, bins: int | None) -> Tensor:
    """-log of the probability of a bin of x0 (or its density) under a normal; the outer bins are open."""
    z = (x0 - mean) / std
    if bins is None:
        return 0.5 * z.square() + torch.log(std) + 0.5 * math.log(2 * math.pi)
    half = 1.0 / (bins - 1)
    above = torch.where(x0 > 1 - half, math.inf, z + half / std)
    below = torch.where(x0 < -1 + half, -math.inf, z - half / std)
    # from the tail that is near zero: the difference of two numbers near 1 has no digits
    flip = z > 0
    upper = torch.special.log_ndtr(torch.where(flip, -below, above))
    lower = torch.special.log_ndtr(torch.where(flip, -above, below))
    return -upper - torch.log1p(-torch.exp((lower - upper).clamp_max(-1e-7)))


def end_term(x0: Tensor, top: Level) -> Tensor:
    """The bound's first term, KL(q(x | x0) || p(x)) at the noisiest level, p normal with variance alpha^2 + sigma^2.

    Args:
        x0: (B, ...), the data.
        top: the level, of numbers.

    Returns:
        (B,), bits per number; 0 at zero SNR.
    """
    power, noise = float(top.alpha) ** 2 + float(top.sigma) ** 2, float(top.sigma) ** 2
    nats = 0.5 * (math.log(power / noise) + (noise + float(top.alpha) ** 2 * x0.square()) / power - 1.0)
    return nats.flatten(1).mean(1) / _NATS
