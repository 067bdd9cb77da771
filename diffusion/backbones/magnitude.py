"""Layers and sums that keep the magnitude (root mean square) of what flows through a network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MPLayer", "MPWaves", "force_weights", "mp_cat", "mp_silu", "mp_sum", "normalised"]

TINY = 1e-4  # added to a magnitude before it divides
SILU = 0.596  # root mean square of silu(z) for a standard normal z
CLOSE = 1e-5  # relative; a weight that is as near as this to its magnitude stays what it is


def magnitude(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Root mean square over some dimensions, which stay as 1, in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).square().mean(dims, keepdim=True).sqrt()


def normalised(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x with a magnitude of 1 over some dimensions (a little less, where it is hardly anything).

    Source: Karras et al. 2024 (2312.02696), eq. 66 (weights) and section 2.3 (pixels).
    """
    return x / (TINY + magnitude(x, dims)).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the magnitude of a standard normal. Source: 2312.02696, eq. 81."""
    return F.silu(x) / SILU


def mp_sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    """(1 - share) a + share b, scaled so that uncorrelated a and b of magnitude 1 give magnitude 1. Source: 2312.02696, eq. 88."""
    return torch.lerp(a, b, share) / math.hypot(1 - share, share)


def mp_cat(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Channels of a, then of b, of magnitude 1 together, b with `share` of the weight whatever the numbers of channels.

    Source: 2312.02696, eq. 103.
    """
    of_a, of_b = a.shape[1], b.shape[1]
    scale = math.sqrt((of_a + of_b) / ((1 - share) ** 2 + share**2))
    return torch.cat([a * (scale * (1 - share) / math.sqrt(of_a)), b * (scale * share / math.sqrt(of_b))], dim=1)


class MPWaves(nn.Module):
    """Cosines of the time at random frequencies and phases, which are kept, of magnitude 1. Source: 2312.02696, eq. 75.

    Args:
        features: how many.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))

    def forward(self, time: Tensor) -> Tensor:
        """float32 (B,) to float32 (B, features)."""
        frequencies, phases = self.get_buffer("frequencies").float(), self.get_buffer("phases").float()
        return math.sqrt(2) * torch.cos(time[:, None] * frequencies + phases)


class MPLayer(nn.Module):
    """A convolution or linear layer without bias whose output does not depend on the scale of its weights.

    The weights of each output are divided by their norm, so that uncorrelated inputs of magnitude 1 give outputs of magnitude 1.
    What is stored has magnitude 1 per weight rather than norm 1, which is what the learning rate is relative to.

    Args:
        before: channels in.
        after: channels out.
        kernel: height and width of the convolution, odd; 0: a linear layer.

    Source: Karras et al. 2024 (2312.02696), section 2.3 and appendix B.4.
    """

    def __init__(self, before: int, after: int, kernel: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, *([kernel, kernel] if kernel else [])))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """(B, before, ...) to (B, after, ...), times gain."""
        weight = normalised(self.weight, tuple(range(1, self.weight.ndim))) * (gain / math.sqrt(self.weight[0].numel()))
        return F.linear(x, weight) if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


@torch.no_grad()
def force_weights(module: nn.Module) -> None:
    """Give the stored weights of all MPLayers magnitude 1 again, or they would grow, since what moves them stands at right angles to them.

    A second time changes no bit: how often a network is asked within a step (micro-batches, objectives that ask twice) leaves no trace.

    Source: Karras et al. 2024 (2312.02696), section 2.3, forced weight normalisation.
    """
    for layer in module.modules():
        if isinstance(layer, MPLayer):
            # not through `detach`, whose version counter is the parameter's: the values that a backward pass needs are there
            weight = layer.weight.data
            # of weights split by outputs, those that are here
            weight = weight.to_local() if hasattr(weight, "to_local") else weight  # pyright: ignore[reportAttributeAccessIssue]
            size = magnitude(weight, tuple(range(1, weight.ndim)))
            stays = (size - 1).abs() <= CLOSE
            weight.div_(torch.where(stays, torch.ones_like(size), size).to(weight.dtype))
