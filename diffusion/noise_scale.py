"""The gradient noise scale: at which batch size more samples stop to save steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["NoiseScale", "Scale"]


class Scale(NamedTuple):
    """What is known of the gradient's noise; None where it can't be told.

    gradient_square: squared norm of the true gradient, |G|^2, which an estimate may put below 0.
    noise_trace: variance of one sample's gradient, tr(Sigma); likewise.
    scale: tr(Sigma) / |G|^2, the critical batch size in samples; None where either is not above 0.
    error: one standard error of the scale, from the scatter of the steps, to first order, so too small where it is large;
        None before there are two steps.
    """

    gradient_square: float | None
    noise_trace: float | None
    scale: float | None
    error: float | None

    def words(self, batch: int) -> str:
        """What it means for a run, in one line.

        Args:
            batch: of the run, samples per optimizer step.
        """
        if self.scale is None or self.error is None:
            return (
                f"the batch is {batch}; the gradient's noise scale can't be told yet: its estimate is not positive, which is usual while "
                "the noise is much larger than the gradient, or after few steps"
            )
        about = f"the batch is {batch}, the noise scale suggests about {_round(self.scale)}"
        if self.error > 0.5 * self.scale:
            return f"{about}, but one standard error is {_round(self.error)}: too uncertain to act on"
        if batch < 0.5 * self.scale:
            means = "a larger batch, up to about that, would need fewer steps for about the same number of samples"
        elif batch > 2.0 * self.scale:
            means = "a smaller one would learn about as much per step from fewer samples"
        else:
            means = "they agree within a factor of two, which is as much as it says"
        return (
            f"{about} (one standard error {_round(self.error)}): {means}. An order of magnitude, for plain gradient descent at this point "
            "of the run: it grows as the loss falls, and Adam and the learning rate move it"
        )


def _round(value: float) -> str:
    """Two digits are more than the number holds."""
    if value == 0.0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


class NoiseScale:
    """Running estimate of the gradient noise scale from squared gradient norms at two batch sizes.

    With E|g_B|^2 = |G|^2 + tr(Sigma) / B, two sizes give unbiased estimates of |G|^2 and tr(Sigma); each is averaged by itself, since
    the ratio of one step's would be biased and often negative. The average forgets, because both change during training.

    In the trainer the levels of noise are stratified over the global batch, so what is estimated is the noise of such batches, which is
    a little less than that of independent samples, and it is their noise that counts here. The small batch should be every k-th place
    of the big one, which is then stratified too, and distributed almost as the others are (its levels sit up to k / B quantiles off);
    a small batch that is a contiguous stretch of places has levels of its own, and the estimate is wrong.

    Nothing waits for the device before `read`. A step whose norms are not finite is left out.

    Args:
        decay: of the averages per step, 0 <= decay < 1; the last 1 / (1 - decay) steps count.
        device: where the norms are.

    Raises:
        ValueError: for a decay outside [0, 1).

    Source: McCandlish et al. 2018 (1812.06162), appendix A.1.
    """

    def __init__(self, decay: float = 0.99, device: torch.device | str = "cpu") -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"NoiseScale.decay is {decay}; allowed: 0 <= decay < 1, such as 0.99")
        self.decay = decay
        # averages of |G|^2, tr(Sigma), their squares and product, and of 1, which corrects the bias towards the start
        self._known = torch.zeros(6, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, small_square: Tensor, small: float, big_square: Tensor, big: float) -> None:
        """Take in one step.

        Args:
            small_square: squared norm of the mean gradient over the small batch, a scalar; a mean over several such batches is as good.
            small: its samples, > 0.
            big_square: squared norm of the mean gradient over the big batch, a scalar.
            big: its samples, > small.

        Raises:
            ValueError: when big is not larger than small.
        """
        if not 0 < small < big:
            raise ValueError(f"the batches have {small} and {big} samples; allowed: 0 < small < big")
        g_small, g_big = (v.detach().to(self._known) for v in (small_square, big_square))
        gradient = (big * g_big - small * g_small) / (big - small)
        noise = (g_small - g_big) / (1.0 / small - 1.0 / big)
        now = torch.stack([gradient, noise, gradient**2, noise**2, gradient * noise, torch.ones_like(noise)])
        self._known = torch.where(now.isfinite().all(), torch.lerp(now, self._known, self.decay), self._known)

    def read(self) -> Scale:
        """The estimate so far; waits for the device."""
        *sums, weight = self._known.tolist()
        if weight == 0.0:
            return Scale(None, None, None, None)
        gradient, noise, gradient_2, noise_2, product = (v / weight for v in sums)
        if gradient <= 0.0 or noise <= 0.0:
            return Scale(gradient, noise, None, None)
        scale = noise / gradient
        # how many equally weighted steps have the scatter of this average
        count = (1.0 + self.decay) * weight / ((1.0 - self.decay) * (2.0 - weight))
        if count < 1.5:
            return Scale(gradient, noise, scale, None)
        # the scatter of noise - scale * gradient is that of the ratio, to first order
        scatter = noise_2 - 2.0 * scale * product + scale**2 * gradient_2 - (noise - scale * gradient) ** 2
        return Scale(gradient, noise, scale, math.sqrt(max(scatter, 0.0) / (count - 1.0)) / gradient)

    def state(self) -> dict[str, Tensor]:
        """What it knows, for a checkpoint: float64 (6,)."""
        return {"known": self._known}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, to the bit.

        Raises:
            ValueError: for a state that is not a noise scale's.
        """
        known = state.get("known")
        if known is None or known.shape != self._known.shape:
            raise ValueError(
                f"the state of a noise scale holds {sorted(state)}; allowed: what NoiseScale.state() gave, known of 6 numbers"
            )
        self._known = known.to(self._known).clone()
