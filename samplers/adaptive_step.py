"""Steps as long as a tolerance allows, for each picture its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import angle
from ..schedules.schedule import Schedule
from .jump import refuse_jump
from .path import known, plain
from .state import Denoise, State, Vector

__all__ = ["AdaptiveStep"]

# exponents of the controller, by the error of this try and the last accepted one, for an estimate of local order 3
_NOW, _BEFORE, _SAFETY = 0.7 / 3, 0.4 / 3, 0.9
_FIRST, _SHRINK, _GROW = 0.02, 0.2, 5.0


class _Stage(NamedTuple):
    level: Level
    answer: Prediction
    slope: Tensor


@dataclass(frozen=True)
class AdaptiveStep:
    """The grid's step in as many steps as the tolerance asks for: an embedded pair of orders 3 and 2 under PI control.

    The ODE is integrated in the angle phi = atan(sigma / alpha), where it is regular at pure noise and at data: y = x / sqrt(alpha^2 +
    sigma^2) has the slope cos(phi) eps - sin(phi) x0. An error of y is one of the picture. Every sample has steps of its own, so the
    network is asked at levels of tensors, alpha and sigma (B, 1, ...), and a picture does not depend on its neighbours. It is asked for
    all samples until the last one is there, three evaluations a try. A grid of one step leaves everything to the tolerance; further
    levels are stops on the way, whose length of step carries on. An Interval of guidance decides by these levels, too, its
    ends found to within a step.

    Args:
        tolerance: the error that a step may make, root mean square over a sample, in units of the picture (data in [-1, 1]), > 0.
        limit: tries per step of the grid, >= 1.
        path: the schedule of the levels; None: the model's.

    Raises:
        ValueError: for values out of range; in a step, without a path, and where `limit` does not suffice.
        FloatingPointError: in a step, when the network returns numbers that are not finite.

    Source: Bogacki & Shampine 1989 (the stages at 0, 1/2, 3/4 and the weights of order 3; the midpoint rule is the embedded one);
        Hairer & Wanner, Solving ODEs II, IV.2 for the controller; Jolicoeur-Martineau et al. 2021 (2105.14080) for adaptive steps
        in units of the picture.
    """

    tolerance: float = 0.005
    limit: int = 1000
    path: Schedule | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.tolerance < math.inf:
            raise ValueError(f"AdaptiveStep.tolerance is {self.tolerance}; allowed: above 0, in units of the picture")
        if not isinstance(self.limit, int) or self.limit < 1:
            raise ValueError(f"AdaptiveStep.limit is {self.limit}; allowed: whole numbers >= 1")

    @property
    def draws(self) -> int:
        return 0

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        plain(self, now, nxt)
        path = known(self.path, self, now, nxt)
        x: Tensor = state.x
        view = (-1, *[1] * (x.ndim - 1))
        end = float(angle(nxt.sigma, nxt.alpha))
        begin = float(angle(now.sigma, now.alpha))
        phi = torch.full((len(x),), begin, dtype=torch.float64, device=x.device)
        sign = 1.0 if end > begin else -1.0
        if state.memory:
            h, before = state.memory
        else:
            h, before = torch.full_like(phi, _FIRST), torch.ones_like(phi)
        # its steps are shorter than half precision can tell apart
        y = x.to(torch.promote_types(x.dtype, torch.float32)) / math.hypot(now.alpha, now.sigma)
        # the very level that the step began with, at first
        first = self._slope(denoise, now, y, phi, view, x.dtype)
        stage, rest = first, phi
        for _ in range(self.limit):
            left = (end - phi).abs()
            cut = left < h
            tried = torch.where(cut, left, h)
            d = (sign * tried).view(view).to(y)
            # who has arrived is asked where it last was: at the end itself a network may have nothing to say
            at = torch.where(left > 0, phi, rest)
            second = self._stage(denoise, path, y + d / 2 * stage.slope, at + sign * tried / 2, view, x.dtype)
            third = self._stage(denoise, path, y + 3 * d / 4 * second.slope, at + 3 * sign * tried / 4, view, x.dtype)
            new = y + d / 9 * (2 * stage.slope + 3 * second.slope + 4 * third.slope)
            # how long steps are is no part of a gradient, and the root of no error has none
            apart = (new - y - d * second.slope).detach().double().reshape(len(x), max(1, math.prod(x.shape[1:])))
            error = apart.square().mean(1).sqrt() / self.tolerance
            if not bool(torch.isfinite(error).all()):
                raise FloatingPointError(
                    f"the network returned numbers that are not finite near t = {float(torch.as_tensor(stage.level.t).max()):.4g}"
                )
            good, safe = error <= 1.0, error.clamp_min(1e-4)
            factor = torch.where(good, _SAFETY * safe**-_NOW * before**_BEFORE, _SAFETY * safe ** (-1 / 3))
            # a step that the end cut short says nothing about longer ones
            free = ~good | ~cut | (factor < 1)
            h = torch.where(free & (left > 0), tried * factor.clamp(_SHRINK, _GROW), h)
            before = torch.where(good & ~cut, safe, before)
            y = torch.where(good.view(view), new, y)
            arrives = good & (tried >= left)
            phi = torch.where(arrives, end, torch.where(good, phi + sign * tried, phi))
            rest = torch.where(arrives, rest, phi)
            if bool((phi == end).all()):
                return State((y * math.hypot(nxt.alpha, nxt.sigma)).to(x.dtype), (h, before)), first.answer
            if bool(good.any()):
                stage = self._stage(denoise, path, y, rest, view, x.dtype)
        raise ValueError(
            f"AdaptiveStep.limit is {self.limit}, and {int((phi != end).sum())} of {len(x)} samples are not at the end of the step; "
            f"raise it, or the tolerance ({self.tolerance})"
        )

    def _stage(
        self, denoise: Denoise, path: Schedule, y: Tensor, phi: Tensor, view: tuple[int, ...], dtype: torch.dtype
    ) -> _Stage:
        """Ask at each sample's own angle."""
        level = path.at_log_snr(2.0 * (torch.cos(phi).log() - torch.sin(phi).log()))
        return self._slope(denoise, level, y, phi, view, dtype)

    def _slope(
        self, denoise: Denoise, level: Level, y: Tensor, phi: Tensor, view: tuple[int, ...], dtype: torch.dtype
    ) -> _Stage:
        at = level.like(y)  # (B, 1, ...), so that whoever multiplies x with alpha may do so
        answer = denoise(((at.alpha**2 + at.sigma**2) ** 0.5 * y).to(dtype), at)
        refuse_jump(self, answer, "its steps are of no fixed number; take CFG")
        cosine, sine = (f(phi).view(view).to(y) for f in (torch.cos, torch.sin))
        return _Stage(at, answer, cosine * answer.eps.to(y) - sine * answer.x0.to(y))
