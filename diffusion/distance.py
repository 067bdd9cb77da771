"""How far a changed network is from what it was: level by level, and in finished pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .evaluated import Evaluation, evaluated
from .inner_tensors import inner_tensors
from .model import Model
from .own_inputs import drawn
from .samples import Samples

__all__ = ["Distance", "Draw", "LevelDistance", "bytes_of", "measured_distance"]

Draw: TypeAlias = Callable[[Model, Sequence[int]], Samples]
"""Pictures of some seeds, as they are to be compared: lambda model, seeds: model.sample(seeds, steps=8)."""


@dataclass(frozen=True)
class LevelDistance:
    """alpha, sigma: the level. distance: |other - own| / |own| of the networks' raw outputs there, over all pictures."""

    alpha: float
    sigma: float
    distance: float


@dataclass(frozen=True)
class Distance:
    """What a change of a network changes.

    levels: from noise to data. output: |other - own| / |own| of raw outputs, over all levels together. rms, most: root mean square and
    maximum of the difference of finished pictures, in units of their range [-1, 1]. seeds: of these pictures. bytes_before, bytes_after:
    of the network's weights and buffers.
    """

    levels: tuple[LevelDistance, ...]
    output: float
    rms: float
    most: float
    seeds: tuple[int, ...]
    bytes_before: int
    bytes_after: int

    def settings(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        worst = max(self.levels, key=lambda v: v.distance)
        at = 2 * math.log(worst.alpha / worst.sigma) if worst.alpha > 0 and worst.sigma > 0 else -math.inf
        return (
            f"network's output off by {self.output:.2%} (at most {worst.distance:.2%}, at log-SNR {at:.1f}), {len(self.seeds)} pictures by "
            f"{self.rms:.4f} RMS and {self.most:.3f} at most, of a range of 2; weights {self.bytes_before / 1e6:.1f} MB, now "
            f"{self.bytes_after / 1e6:.1f} MB"
        )


@torch.no_grad()
def measured_distance(model: Model, other: Model, seeds: Sequence[int] = range(8), draw: Draw = drawn) -> Distance:
    """How far another version of a model's network is from it.

    Both networks are asked wherever the first one's own trajectories lead, so that what is compared at a level is one evaluation, and
    not what came before; the pictures, of the same seeds, have all of it.

    Args:
        model: as it was.
        other: with the changed network.
        seeds: of the pictures.
        draw: how they are made.

    Raises:
        ValueError: for no seeds, and what `draw` refuses.
    """
    if not len(seeds):
        raise ValueError("seeds is empty; give one seed per picture that is compared")
    sums: dict[tuple[float, float], list[Tensor]] = {}

    def compare(e: Evaluation) -> None:
        out = network(e.x, e.time, **e.condition)
        both = torch.stack([(out - e.out).double().square().sum(), e.out.double().square().sum()]).cpu()
        sums.setdefault((_mean(e.level.alpha), _mean(e.level.sigma)), []).append(both)

    network, training = other.denoiser.backbone, other.denoiser.training
    other.denoiser.eval()
    try:
        with evaluated(model, compare) as heard:
            own = draw(heard, seeds).images
        theirs = draw(other, seeds).images
    finally:
        other.denoiser.train(training)
    totals = {level: torch.stack(found).sum(0) for level, found in sums.items()}
    levels = [LevelDistance(*level, _ratio(total)) for level, total in totals.items()]
    difference = (theirs - own).double()
    return Distance(
        tuple(levels), _ratio(torch.stack(list(totals.values())).sum(0)), float(difference.square().mean().sqrt()),
        float(difference.abs().max()), tuple(int(s) for s in seeds), bytes_of(model.denoiser), bytes_of(other.denoiser),
    )  # fmt: skip


def _mean(value: float | Tensor) -> float:
    return float(value.double().mean()) if isinstance(value, Tensor) else float(value)


def _ratio(pair: Tensor) -> float:
    """Root of the ratio of two sums of squares; 0 where nothing differs."""
    changed, whole = pair.tolist()
    return math.sqrt(changed / whole) if whole > 0 else (0.0 if changed == 0 else math.inf)


def bytes_of(network: nn.Module) -> int:
    """Bytes of all parameters and buffers; of quantised ones, of their whole numbers and scales."""
    tensors = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return sum(inner.nbytes for t in tensors.values() for _, inner in inner_tensors(t)[0])
