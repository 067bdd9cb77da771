"""What a network is fed on its model's own trajectories, across the noise levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..guidance.tree import cat, take
from ..schedules.noise import Stream, gaussian, integers
from .evaluated import Evaluation, evaluated
from .model import Model
from .samples import Samples

__all__ = ["TOGETHER", "Fed", "RangeSearch", "drawn", "own_inputs"]

TOGETHER = 32  # samples at a time
_DRAW = 7 << 20  # of the stream of calibrations; those of filters are below 2 << 20


@dataclass(frozen=True)
class RangeSearch:
    """How int8_static finds the range of each layer's inputs.

    The network is fed what it is fed in sampling: x on the model's own trajectories, each with the time that was told with it. Of every
    trajectory one evaluation is taken, at a place drawn from a normal distribution that leans towards the data.

    Args:
        count: trajectories, >= 1; the model samples as it does by default, under each of its classes in turn.
        mean: of the place of an evaluation, in [0, 1]: 0 the one nearest to the data, 1 the noisiest.
        std: of the place, >= 0; 0: one level only. Places beyond the ends are those of the ends.
        clip: "mse": the range in which rounding to int8 has the least squared error; "minmax": all that was seen.
        seed: of the trajectories and places, in [0, 2^63).

    Raises:
        ValueError: for values out of range.

    Source: Shang et al. 2023 (2211.15736), normally distributed time-step calibration; mean and std as in its published script. Its
    code pairs x with another time than that of its level, see `own_inputs`.
    """

    count: int = 64
    mean: float = 0.4
    std: float = 0.4
    clip: Literal["mse", "minmax"] = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1:
            raise ValueError(f"count is {self.count!r}; allowed: a whole number >= 1")
        if not 0.0 <= self.mean <= 1.0:
            raise ValueError(f"mean is {self.mean}; allowed: 0 (data) to 1 (noise)")
        if not 0.0 <= self.std < float("inf"):
            raise ValueError(f"std is {self.std}; allowed: >= 0, in units of the whole trajectory")
        if self.clip not in ("mse", "minmax"):
            raise ValueError(f"clip is {self.clip!r}; allowed: mse, minmax")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")


class Fed(NamedTuple):
    """What a backbone was fed and told, a row for each evaluation: x (N, ...), time float32 (N,), condition likewise.

    log_snr: float64 (N,), of the levels at which it was.
    """

    x: Tensor
    time: Tensor
    condition: dict[str, Any]
    log_snr: Tensor


def drawn(model: Model, seeds: Sequence[int], prompts: Sequence[str] | None = None) -> Samples:
    """Samples of a model as it samples by default, under each of its classes, or of some texts, in turn.

    Args:
        model: the model.
        seeds: one per sample.
        prompts: of a model that knows texts; None: the empty one.
    """
    count = len(seeds)
    labels = [i % model.num_classes for i in range(count)] if model.num_classes else None
    return model.sample(seeds, labels, prompts=[prompts[i % len(prompts)] for i in range(count)] if prompts else None)


@torch.no_grad()
def own_inputs(model: Model, how: RangeSearch, prompts: Sequence[str] | None = None) -> Fed:
    """Inputs of the network on the model's own trajectories, each taken at an evaluation of its own; under guidance of every branch.

    The published code of the method counts the steps of its loop from 0, takes x after the step that equals the drawn t, and tells the
    network t. But that x stands at T - 2 - t: the time is mirrored, and one step off. Here both are what the network was called with.

    Args:
        model: the model; it is sampled from as it is by default.
        how: how many, and where.
        prompts: of a model that knows texts: those of the trajectories, in turn.
    """
    counted: list[Evaluation] = []
    _sampled(model, [0], prompts, counted.append)
    calls = len(counted)
    parts: list[Fed] = []
    for begin in range(0, how.count, TOGETHER):
        count = min(TOGETHER, how.count - begin)
        key = torch.full((count,), how.seed)
        own = integers(key, torch.arange(begin, begin + count), 0, 1, Stream.CALIBRATION)[:, 0].tolist()
        _sampled(model, own, prompts, _Taking(how, begin, calls, parts))
    return Fed(
        torch.cat([p.x for p in parts]), torch.cat([p.time for p in parts]), cat(*(p.condition for p in parts)),
        torch.cat([p.log_snr for p in parts]),
    )  # fmt: skip


class _Taking:
    """Takes row i of the call that was drawn for row i."""

    def __init__(self, how: RangeSearch, begin: int, calls: int, parts: list[Fed]) -> None:
        self.how, self.begin, self.calls, self.parts, self.call = how, begin, calls, parts, 0

    def __call__(self, e: Evaluation) -> None:
        rows = torch.arange(len(e.x))
        normal = gaussian(
            torch.full_like(rows, self.how.seed), rows, self.begin, _DRAW, (), torch.float64, Stream.CALIBRATION
        )
        place = (self.how.mean + self.how.std * normal).clamp(0, 1)
        chosen = ((1 - place) * (self.calls - 1)).round() == self.call
        self.call += 1
        index = chosen.nonzero().squeeze(1)
        if not len(index):
            return
        log_snr = torch.as_tensor(e.level.log_snr, dtype=torch.float64).cpu().flatten()
        log_snr = log_snr[index] if len(log_snr) == len(e.x) else log_snr.expand(len(index))
        index = index.to(e.x.device)
        self.parts.append(Fed(e.x[index], e.time[index], take(e.condition, index), log_snr))


def _sampled(
    model: Model, seeds: Sequence[int], prompts: Sequence[str] | None, note: Callable[[Evaluation], None]
) -> None:
    with evaluated(model, note) as heard:
        drawn(heard, seeds, prompts)
