"""A weaker network beside a model, asked on the path that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..guidance import Branch, Network
from ..guidance.tree import Tree, take
from ..schedules import Level, PairingError, Prediction, Schedule
from ..schedules.parts import describe
from .chunked import Chunked
from .denoiser import Denoiser

__all__ = ["OnItsPath", "Weak", "branches_of", "on_its_path"]


@dataclass(frozen=True)
class Weak:
    """A network that a model is steered away from, and what is known of it.

    denoiser: the network. shape: (C, H, W) of its samples, None where nobody says. num_classes: likewise. null_class: whether it
    knows one. source: which run and step it is.
    """

    denoiser: Denoiser
    shape: tuple[int, ...] | None
    num_classes: int | None
    null_class: bool
    source: Mapping[str, Any]

    def fits(self, shape: Sequence[int], num_classes: int, device: torch.device, unlabelled: bool) -> None:
        """Refuse a network of other samples, other classes or another device than the model's.

        Args:
            shape, num_classes, device: the model's.
            unlabelled: whether some slot has no label.

        Raises:
            ValueError: naming both.
        """
        if self.shape is not None and tuple(self.shape) != tuple(shape):
            raise ValueError(
                f"weak makes samples of {_by(self.shape)}, the model of {_by(shape)}; allowed: a network of the same size"
            )
        if self.num_classes is not None and self.num_classes != num_classes:
            raise ValueError(
                f"weak has {self.num_classes} classes, the model {num_classes}; allowed: a network trained with the same classes"
            )
        if unlabelled and num_classes and not self.null_class:
            raise ValueError(
                "weak was trained with label_dropout 0, so it knows no null class; give every seed a label"
            )
        own = next((p.device for p in self.denoiser.parameters()), device)
        if own != device:
            raise ValueError(f"weak is on {own}, the model on {device}; load both with the same device=")

    def settings(self) -> dict[str, Any]:
        """What pictures say of it."""
        return {**self.source, "schedule": describe(self.denoiser.schedule), "row": describe(self.denoiser.row)}


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@dataclass(frozen=True)
class OnItsPath:
    """A network asked at levels of another path: at its own level of the same log-SNR, with x brought to that level's scale.

    Its answer is a prediction at (x', level'), which x0 and eps are read from there.
    """

    denoiser: Denoiser | Chunked

    def own(self, level: Level) -> Level:
        """The level of the network's own path."""
        return self.denoiser.schedule.at_log_snr(level.log_snr)

    def check(self, levels: Sequence[Level]) -> None:
        """Refuse levels that its path does not reach, or that its row says nothing about.

        Raises:
            PairingError: naming the level and the fix.
        """
        own = [self.own(level) for level in levels]
        for level, its in zip(levels, own, strict=True):
            if level.is_scalar and float(its.alpha + its.sigma) == float("inf"):
                raise PairingError(
                    f"weak was trained on {self.denoiser.schedule}, which has no level of pure noise, and sampling asks it at "
                    f"t = {level.t:g}, where there is no data; take a grid that begins later (Karras), or a weak network of the same path"
                )
        self.denoiser.check(own)

    def __call__(self, x: Tensor, level: Level, condition: Tree) -> Prediction:
        own = self.own(level)
        there, here = own.like(x), level.like(x)
        # both are of one direction (alpha, sigma), so this is alpha' / alpha, and sigma' / sigma too
        return self.denoiser((there.alpha + there.sigma) / (here.alpha + here.sigma) * x, own, condition)


def on_its_path(denoiser: Denoiser | Chunked, schedule: Schedule) -> Network:
    """The network as a model of `schedule` asks it: itself where that is its own path."""
    same = denoiser.schedule is schedule or describe(denoiser.schedule) == describe(schedule)
    return denoiser if same else OnItsPath(denoiser)


def branches_of(
    denoiser: Network, weak: Network | None, conditions: Mapping[str, Tree], slots: Tensor
) -> dict[str, Branch]:
    """The branches of some slots: one network under each condition, and the weak one under that of "cond".

    Args:
        denoiser: the model.
        weak: the weaker network, or None.
        conditions: of all slots, by branch.
        slots: int64 (B,).
    """
    taken = {id(c): take(c, slots) for c in conditions.values()}  # what was one condition stays one
    found = {name: Branch(denoiser, taken[id(c)]) for name, c in conditions.items()}
    if weak is not None:
        found["weak"] = Branch(weak, found["cond"].condition)
    return found
