"""Prediction types as rows: what a network outputs is a * x0 + b * eps, and a row is the pair (a, b).

One row gives the training target, the 2x2 solve back to (x0, eps) and the factor between losses, so that loss and sampling
cannot disagree. Together with x = alpha * x0 + sigma * eps the pair is solvable where det = alpha * b - sigma * a is not 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .level import Level
from .scalar import Number, divide, sqrt

__all__ = [
    "EDM",
    "X0",
    "Eps",
    "Flow",
    "Negative",
    "PairingError",
    "Row",
    "Score",
    "V",
    "check_pairing",
    "determinant",
    "target",
]


class PairingError(ValueError):
    """A network's prediction type says nothing at a noise level that would be asked of it."""


@runtime_checkable
class Row(Protocol):
    """A prediction type: the network's output is a * x0 + b * eps with (a, b) = row(level)."""

    @property
    def input_std(self) -> float | None:
        """Standard deviation of the data that scales the network's input to unit variance; None: the input is x itself."""
        ...

    def __call__(self, level: Level) -> tuple[Number, Number]:
        """The pair (a, b) at a level."""
        ...


@dataclass(frozen=True)
class Eps:
    """The network predicts the noise: (0, 1). Says nothing at zero SNR, where its input is its answer. Source: DDPM (2006.11239)."""

    input_std = None

    def __call__(self, level: Level) -> tuple[Number, Number]:
        return 0.0, 1.0


@dataclass(frozen=True)
class X0:
    """The network predicts the data: (1, 0). Says nothing at sigma = 0, where its input is its answer."""

    input_std = None

    def __call__(self, level: Level) -> tuple[Number, Number]:
        return 1.0, 0.0


@dataclass(frozen=True)
class V:
    """The network predicts v = alpha * eps - sigma * x0: regular at both ends. Source: Salimans & Ho 2022 (2202.00512), app. D."""

    input_std = None

    def __call__(self, level: Level) -> tuple[Number, Number]:
        return -level.sigma, level.alpha


@dataclass(frozen=True)
class Flow:
    """The network predicts the velocity u = eps - x0 of the straight path: regular at both ends. Source: 2209.03003."""

    input_std = None

    def __call__(self, level: Level) -> tuple[Number, Number]:
        return -1.0, 1.0


@dataclass(frozen=True)
class Score:
    """The network predicts the score, -eps / sigma: (0, -1 / sigma). Says nothing at zero SNR, and is infinite at sigma = 0. Source:
    Song et al. 2021 (2011.13456)."""

    input_std = None

    def __call__(self, level: Level) -> tuple[Number, Number]:
        return 0.0, -divide(1.0, level.sigma)


@dataclass(frozen=True)
class EDM:
    """EDM's preconditioning: D = c_skip z + c_out F with z = x / alpha; F is the output. Regular at both ends; F = -v for data_std = 1.

    Args:
        data_std: standard deviation of the data, > 0.

    Raises:
        ValueError: for data_std <= 0.

    Source: Karras et al. 2022 (2206.00364), eq. 7 and table 1.
    """

    data_std: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.data_std < math.inf:
            raise ValueError(
                f"EDM.data_std is {self.data_std}; allowed: > 0 and finite, the standard deviation of the data"
            )

    @property
    def input_std(self) -> float:
        return self.data_std

    def __call__(self, level: Level) -> tuple[Number, Number]:
        # F = (x0 - c_skip z) / c_out, times alpha / alpha so that nothing is divided by alpha
        scale = sqrt(level.sigma**2 + (self.data_std * level.alpha) ** 2)
        return level.sigma / (self.data_std * scale), -self.data_std * level.alpha / scale


@dataclass(frozen=True)
class Negative:
    """The network predicts another row with the opposite sign, such as x0 - eps for Negative(Flow()).

    Args:
        row: whose sign is turned.
    """

    row: Row

    @property
    def input_std(self) -> float | None:
        return self.row.input_std

    def __call__(self, level: Level) -> tuple[Number, Number]:
        a, b = self.row(level)
        return -a, -b


def determinant(row: Row, level: Level) -> Number:
    """alpha * b - sigma * a: zero where the network's output says nothing that x does not say."""
    a, b = row(level)
    return level.alpha * b - level.sigma * a


def target(row: Row, level: Level, x0: Tensor, eps: Tensor) -> Tensor:
    """The training target a * x0 + b * eps.

    level: floats, or tensors that broadcast with x0 (see Level.like). x0, eps: (B, ...). Returns (B, ...).
    """
    a, b = row(level)
    return a * x0 + b * eps


_END = {True: "zero SNR (alpha = 0)", False: "no noise (sigma = 0)"}


def check_pairing(row: Row, level: Level) -> None:
    """Refuse a level at which the row says nothing.

    Raises PairingError at such a level, with the fix. A level of tensors is not looked at: that would wait for the device.
    """
    if not level.is_scalar or (determinant(row, level) != 0 and all(math.isfinite(float(v)) for v in row(level))):
        return
    name, noisy = str(row).removesuffix("()"), bool(level.alpha == 0)
    while isinstance(row, Negative):
        row = row.row
    fix = (
        "train with row: V (v-prediction), X0, Flow or EDM, or end the schedule above zero SNR "
        "(LinearBeta does; Truncated(schedule, log_snr_min=-20) makes any do)"
        if noisy
        else "use row: V, Eps, Flow or EDM, or do not ask the network at t = 0"
    )
    if isinstance(row, Score) and not noisy:
        why = "the score is infinite there"
    else:
        why = f"a network that predicts {'eps' if noisy else 'x0'} sees its answer in its input there and x0 and eps cannot be told apart"
    raise PairingError(f"row {name} at {_END[noisy]}, t = {level.t:g}: {why}; {fix}")
