"""A schedule given as a table: the entries that a discrete model was trained on, and a path through them."""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from .level import Level
from .scalar import Number, angle, cos, exp, log, sigmoid, sin, where

if TYPE_CHECKING:
    from .diffusers_config import Process

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """Entries i = 0 ... T - 1 at t = (i + 1) / T, data at t = 0, and log-SNR linear in t between two entries.

    Where an end is infinite (data at t = 0, zero SNR at t = 1) the angle atan(sigma / alpha) is linear instead, so both ends are
    exact. Grids stand on entries, since the network knows no other times.

    Args:
        log_snr: log-SNR of the entries, falling, least noise first, such as [5, 0, -5]; the last may be -inf.
        path: what alpha and sigma are at a log-SNR: "preserving" (alpha^2 + sigma^2 = 1), "exploding" (alpha = 1), or
            "straight" (alpha + sigma = 1).

    Raises:
        ValueError: for fewer than two entries, entries that do not fall or are not numbers, or another path.
    """

    log_snr: Sequence[float]
    path: Literal["preserving", "exploding", "straight"] = "preserving"

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_snr", tuple(float(v) for v in self.log_snr))
        if self.path not in ("preserving", "exploding", "straight"):
            raise ValueError(f"Table.path is {self.path!r}; allowed: 'preserving', 'exploding', 'straight'")
        if len(self.log_snr) < 2:
            raise ValueError(f"Table.log_snr has {len(self.log_snr)} entries; allowed: at least two")
        if not all(math.isfinite(v) for v in self.log_snr[:-1]) or not self.log_snr[-1] < math.inf:
            raise ValueError(
                "Table.log_snr holds an entry that is not finite; allowed: finite numbers, and -inf as the last"
            )
        for i, (a, b) in enumerate(zip(self.log_snr, self.log_snr[1:], strict=False)):
            if not a > b:
                raise ValueError(
                    f"Table.log_snr does not fall: entry {i} is {a!r}, entry {i + 1} is {b!r}; allowed: falling entries, least noise "
                    "first"
                )
        if self.path == "exploding" and self.log_snr[-1] == -math.inf:
            raise ValueError("Table.log_snr ends at -inf, which an exploding path (alpha = 1) never reaches")

    def __repr__(self) -> str:
        return (
            f"Table({self.steps} entries, log_snr {self.log_snr[0]:.6g} to {self.log_snr[-1]:.6g}, path={self.path!r})"
        )

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Iterable[float]) -> Table:
        """A variance-preserving table from alpha^2, read as exact numbers.

        Args:
            alphas_cumprod: alpha^2 of the entries, falling, in [0, 1); 0 as the last only.

        Raises:
            ValueError: for numbers outside that range, or that do not fall.
        """
        values = [float(v) for v in alphas_cumprod]
        if not all(0.0 <= v < 1.0 for v in values):
            raise ValueError("alphas_cumprod holds a number outside [0, 1)")
        return cls([log(v) - math.log1p(-v) for v in values])

    @classmethod
    def from_betas(cls, betas: Iterable[float]) -> Table:
        """A variance-preserving table from beta: alpha^2 is the running product of 1 - beta, in float64.

        Args:
            betas: in (0, 1]; 1 as the last only.

        Raises:
            ValueError: for numbers outside that range.
        """
        values = [float(v) for v in betas]
        if not values:
            raise ValueError("betas is empty; allowed: at least two numbers in (0, 1)")
        if not all(0.0 < v < 1.0 for v in values[:-1]) or not 0.0 < values[-1] <= 1.0:
            raise ValueError("betas holds a number outside (0, 1); allowed: 0 < beta < 1, and 1 as the last")
        # sums of logarithms, so that 1 - alpha^2 keeps its digits where alpha is nearly 1
        total, entries = 0.0, []
        for beta in values:
            total += math.log1p(-beta) if beta < 1.0 else -math.inf
            entries.append(total - math.log(-math.expm1(total)))
        return cls(entries)

    @classmethod
    def from_diffusers(cls, source: Mapping[str, Any] | str | Path | object, tokens: int | None = None) -> Process:
        """The forward process of a diffusers scheduler: its schedule (a Table, or a path without entries) and its row.

        Levels and what an output means are those of the scheduler. t is ours, entry i at (i + 1) / T: what number a network takes as
        its time is not said by this pair.

        Args:
            source: a scheduler, its config as a mapping with _class_name, or the folder or file of a scheduler_config.json
                (a pipeline's folder will do). diffusers itself is not needed.
            tokens: sequence length, for a flow scheduler that shifts by it (use_dynamic_shifting).

        Raises:
            ValueError: for a scheduler without a Gaussian path, or values that its class does not know.
        """
        from .diffusers_config import read_process

        return read_process(source, tokens)

    @property
    def steps(self) -> int:
        """How many entries there are."""
        return len(self.log_snr)

    @cached_property
    def _knots(self) -> tuple[float, ...]:
        """Log-SNR at t = 0, 1 / T, ..., 1."""
        return (math.inf, *self.log_snr)

    @cached_property
    def _tensors(self) -> dict[torch.device, Tensor]:
        return {}

    def _on(self, device: torch.device) -> Tensor:
        """The knots on a device, copied there once."""
        if device not in self._tensors:
            with torch.inference_mode(False):
                self._tensors[device] = torch.tensor(self._knots, dtype=torch.float64, device=device)
        return self._tensors[device]

    def _interval(self, place: int | Tensor) -> tuple[Number, Number]:
        """The log-SNR at both ends of an interval, 0 ... T - 1."""
        if isinstance(place, Tensor):
            knots = self._on(place.device)
            return knots[place], knots[place + 1]
        return self._knots[place], self._knots[place + 1]

    def _level(self, t: Number, log_snr: Number) -> Level:
        if self.path == "exploding":
            return Level(t, 1.0, exp(-0.5 * log_snr))
        if self.path == "straight":
            return Level(t, sigmoid(0.5 * log_snr), sigmoid(-0.5 * log_snr))
        return Level.from_log_snr(t, log_snr)

    def __call__(self, t: Number) -> Level:
        position = t * self.steps
        if isinstance(position, Tensor):
            place = position.detach().long().clamp(0, self.steps - 1)
        else:
            place = min(max(int(position), 0), self.steps - 1)
        return self._level(t, _between(*self._interval(place), position - place))

    def at_log_snr(self, log_snr: Number) -> Level:
        if isinstance(log_snr, Tensor):
            rising = -self._on(log_snr.device)[1:]
            place = torch.searchsorted(rising, -log_snr.detach().double(), right=True).clamp(max=self.steps - 1)
        else:
            place = min(bisect_right(self.log_snr, -log_snr, key=operator.neg), self.steps - 1)
        return self._level((place + _share(*self._interval(place), log_snr)) / self.steps, log_snr)


def _tilt(log_snr: Number) -> Number:
    """atan(sigma / alpha): 0 for data, pi / 2 for noise."""
    return angle(exp(-0.25 * log_snr), exp(0.25 * log_snr))


def _between(high: Number, low: Number, share: Number) -> Number:
    """The log-SNR at a share, 0 to 1, of the way from one entry to the next."""
    clean, noisy = high == math.inf, low == -math.inf
    high_, low_ = _bounded(high, low)
    linear = high_ + share * (low_ - high_)
    near_data = -2.0 * log(_tan(where(clean, share, 0.5) * _tilt(low_)))
    near_noise = 2.0 * log(_tan(where(noisy, 1.0 - share, 0.5) * _tilt(-high_)))
    return where(clean, near_data, where(noisy, near_noise, linear))


def _bounded(high: Number, low: Number) -> tuple[Number, Number]:
    """An interval without infinity, for the forms that are not chosen there: they must be finite, or their gradient is nan."""
    return where(high == math.inf, low + 1.0, high), where(low == -math.inf, high - 1.0, low)


def _share(high: Number, low: Number, log_snr: Number) -> Number:
    """The inverse of `_between`."""
    clean, noisy = high == math.inf, low == -math.inf
    high_, low_ = _bounded(high, low)
    linear = (high_ - log_snr) / (high_ - low_)
    near_data, near_noise = _tilt(log_snr) / _tilt(low_), 1.0 - _tilt(-log_snr) / _tilt(-high_)
    return where(clean, near_data, where(noisy, near_noise, linear))


def _tan(value: Number) -> Number:
    return sin(value) / cos(value)
