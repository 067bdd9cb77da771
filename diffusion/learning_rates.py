"""How the learning rate goes over a run, as a part.

A rate is the whole number rather than a factor of lr: (lr * 3) / 50 and lr * (3 / 50) differ in the last bit, and a run that is
gone on with must be the same run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Constant", "InverseSqrt", "Linear", "Rate", "Stable", "WarmupCosine"]


class Rate(Protocol):
    """The learning rate of optimizer step `step`, 0 to `steps` - 1, of a run whose peak rate is `lr`."""

    def __call__(self, lr: float, step: int, steps: int) -> float: ...


def _check(part: object, ranges: Mapping[str, tuple[str, bool]]) -> None:
    for name, (allowed, fits) in ranges.items():
        if not fits:
            raise ValueError(f"{type(part).__name__}.{name} is {getattr(part, name)!r}; allowed: {allowed}")


def _whole(value: float, least: int) -> tuple[str, bool]:
    return f"a whole number >= {least}", isinstance(value, int) and not isinstance(value, bool) and value >= least


def _share(value: float) -> tuple[str, bool]:
    return "0 to 1", 0 <= value <= 1


def _rise(lr: float, step: int, warmup: int) -> float:
    """A line to lr, that is there at the last step of the warm-up and begins above 0."""
    return lr * (step + 1) / warmup if step < warmup else lr


def _done(step: int, steps: int, first: int) -> float:
    """The share of the fall that is behind: 0 at step `first`, 1 at the last."""
    return min(max((step - first) / max(steps - 1 - first, 1), 0.0), 1.0)


@dataclass(frozen=True)
class WarmupCosine:
    """A linear warm-up to lr, then half a cosine to lr * end at the last step.

    Args:
        warmup: optimizer steps in which the rate rises, >= 0.
        end: share of lr at the last step, 0 to 1.

    Raises:
        ValueError: for values out of range.

    Source: Loshchilov & Hutter 2017 (1608.03983), eq. 5, without restarts.
    """

    warmup: int = 500
    end: float = 0.01

    def __post_init__(self) -> None:
        _check(self, {"warmup": _whole(self.warmup, 0), "end": _share(self.end)})

    def __call__(self, lr: float, step: int, steps: int) -> float:
        if step < self.warmup:
            return _rise(lr, step, self.warmup)
        done = _done(step, steps, self.warmup)
        return lr * (self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Constant:
    """A linear warm-up to lr, which stays; so a run can be made longer without another past.

    Args:
        warmup: optimizer steps in which the rate rises, >= 0.

    Raises:
        ValueError: for values out of range.
    """

    warmup: int = 500

    def __post_init__(self) -> None:
        _check(self, {"warmup": _whole(self.warmup, 0)})

    def __call__(self, lr: float, step: int, steps: int) -> float:
        return _rise(lr, step, self.warmup)


@dataclass(frozen=True)
class Linear:
    """A linear warm-up to lr, then a line to lr * end at the last step.

    Args:
        warmup: optimizer steps in which the rate rises, >= 0.
        end: share of lr at the last step, 0 to 1.

    Raises:
        ValueError: for values out of range.
    """

    warmup: int = 500
    end: float = 0.01

    def __post_init__(self) -> None:
        _check(self, {"warmup": _whole(self.warmup, 0), "end": _share(self.end)})

    def __call__(self, lr: float, step: int, steps: int) -> float:
        if step < self.warmup:
            return _rise(lr, step, self.warmup)
        return lr * (1 - (1 - self.end) * _done(step, steps, self.warmup))


@dataclass(frozen=True)
class InverseSqrt:
    """A linear warm-up to lr, which falls as 1 / sqrt(step) after `reference` steps; it does not know how long the run is.

    Args:
        warmup: optimizer steps in which the rate rises, >= 0.
        reference: the step at which the fall begins, >= 1; where the warm-up is longer, the two overlap.

    Raises:
        ValueError: for values out of range.

    Source: Karras et al. 2024 (2312.02696), appendix B: lr / sqrt(max(t / t_ref, 1)), times the rise as in their code.
    """

    warmup: int = 500
    reference: int = 70_000

    def __post_init__(self) -> None:
        _check(self, {"warmup": _whole(self.warmup, 0), "reference": _whole(self.reference, 1)})

    def __call__(self, lr: float, step: int, steps: int) -> float:
        return _rise(lr, step, self.warmup) / math.sqrt(max(step / self.reference, 1.0))


@dataclass(frozen=True)
class Stable:
    """A linear warm-up to lr, which stays, and a line to lr * end over the last share of the run.

    Any checkpoint before the fall serves runs of any length.

    Args:
        warmup: optimizer steps in which the rate rises, >= 0.
        decay_share: share of all steps over which it falls, 0 to 1.
        end: share of lr at the last step, 0 to 1.

    Raises:
        ValueError: for values out of range.

    Source: Hu et al. 2024 (2404.06395), section 4 (warm-up, stable, decay); the line of Hägele et al. 2024 (2405.18392), section 3.
    """

    warmup: int = 500
    decay_share: float = 0.2
    end: float = 0.01

    def __post_init__(self) -> None:
        _check(
            self,
            {"warmup": _whole(self.warmup, 0), "decay_share": _share(self.decay_share), "end": _share(self.end)},
        )

    def __call__(self, lr: float, step: int, steps: int) -> float:
        if step < self.warmup:
            return _rise(lr, step, self.warmup)
        first = max(steps - 1 - round(self.decay_share * steps), self.warmup)  # the last step at the full rate
        return lr if step <= first else lr * (1 - (1 - self.end) * _done(step, steps, first))
