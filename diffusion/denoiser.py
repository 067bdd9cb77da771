"""A backbone that knows its forward process."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..guidance.tree import Tree
from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import Row, check_pairing
from ..schedules.scalar import sqrt
from ..schedules.schedule import Schedule
from .clocks import Clock

__all__ = ["Answer", "Denoiser"]


class Answer(NamedTuple):
    """What a backbone says: out, (B, C, ...), in the meaning of its row; variance, likewise, of a backbone with twice the data's
    channels, else None: how much noise a step draws (see Prediction)."""

    out: Tensor
    variance: Tensor | None = None


class Denoiser(nn.Module):
    """Backbone + schedule + row + clock: (x, level, condition) -> Prediction.

    The only place that knows how a network wants its input scaled and its noise level told. Training reads the raw output,
    sampling the prediction; both through the same row.

    Args:
        backbone: called as backbone(x, time, **condition) with x (B, ...) and float32 time (B,); returns x's shape, or twice its
            channels, the second half a learned variance.
        schedule: the path that it was, or will be, trained on.
        row: what its output means.
        clock: what number tells it the level.
        input_std: standard deviation of the data; the input is x / sqrt(alpha^2 input_std^2 + sigma^2). None: as the row says
            (EDM scales by its data_std, the others feed x itself).

    Raises:
        PairingError: where the schedule starts at a level that the row says nothing about (eps at zero SNR).
    """

    def __init__(
        self, backbone: nn.Module, schedule: Schedule, row: Row, clock: Clock, input_std: float | None = None
    ) -> None:
        super().__init__()
        check_pairing(row, schedule(1.0))
        self.backbone, self.schedule, self.row, self.clock = backbone, schedule, row, clock
        self.input_std = row.input_std if input_std is None else input_std
        self._takes, self._needs = _arguments(backbone)

    def check(self, levels: Sequence[Level]) -> None:
        """Refuse levels that the row says nothing about, before the network is asked.

        Raises:
            PairingError: naming the level and the fix.
        """
        for level in levels:
            check_pairing(self.row, level)

    def answer(self, x: Tensor, level: Level, condition: Tree = None) -> Answer:
        """The backbone's raw output, in x's dtype, and its variance where it learns one.

        Args:
            x: (B, ...).
            level: numbers, (B,) tensors, or element-wise tensors.
            condition: keyword arguments of the backbone, tensors with the batch first, or None.

        Raises:
            ValueError: for a condition that is not a dict, lacks what the backbone needs or has what it does not take, and a backbone
                that returns another shape.
        """
        self._check_condition(condition)
        time = self.clock(level)
        if isinstance(time, Tensor):
            time = time.to(x.device, torch.float32)
            # one number, of whatever rank, is that of all: a batch of one that guidance asks twice has a level (1, 1, 1, 1) for two rows
            time = time.flatten().expand(len(x)) if time.numel() in (1, len(x)) else time
        else:
            time = torch.full((len(x),), time, device=x.device, dtype=torch.float32)
        if self.input_std is not None:
            at = level.like(x)
            x_in = x / sqrt((self.input_std * at.alpha) ** 2 + at.sigma**2)
        else:
            x_in = x
        out: Tensor = self.backbone(x_in, time, **(condition or {})).to(x.dtype)
        if out.shape == x.shape:
            return Answer(out)
        if out.shape != (len(x), 2 * x.shape[1], *x.shape[2:]):
            raise ValueError(
                f"the backbone returned {tuple(out.shape)} for x {tuple(x.shape)}; allowed: the same shape, or twice the channels for a "
                "learned variance"
            )
        return Answer(*out.chunk(2, dim=1))

    def _check_condition(self, condition: Tree) -> None:
        if condition is not None and not isinstance(condition, dict):
            raise ValueError(
                f"condition is a {type(condition).__name__}; allowed: a dict of the backbone's keyword arguments, such as "
                '{"labels": tensor}, or None'
            )
        given, name = condition or {}, type(self.backbone).__name__
        unknown = [key for key in given if self._takes is not None and key not in self._takes]
        missing = [key for key in self._needs if key not in given]
        if not unknown and not missing:
            return
        says = f"condition has {', '.join(map(str, given))}" if given else f"condition is {condition!r}"
        takes = ", ".join(self._takes or []) or "nothing"
        lacks = f"lacks {', '.join(missing)}, which {name} needs" if missing else f"{name} does not take that"
        fix = ""
        if "labels" in missing:
            classes = int(getattr(self.backbone, "num_classes", 0))
            fix = '; give {"labels": int64 (B,)}' + (
                f", 0 to {classes - 1}, {classes} for the null class" * (classes > 0)
            )
        elif "text" in missing:
            fix = (
                f'; give {{"text": (B, M, {getattr(self.backbone, "text_width", "width")}), "text_mask": bool (B, M)}}'
            )
        elif not self._takes:
            fix = "; give None"
        raise ValueError(f"{says}, and {lacks}; it takes {takes}{fix}")

    def forward(self, x: Tensor, level: Level, condition: Tree = None) -> Prediction:
        """What the network believes at (x, level); see `answer` for the arguments."""
        answer = self.answer(x, level, condition)
        return Prediction(x, level, answer.out, self.row, answer.variance)


def _arguments(backbone: nn.Module) -> tuple[list[str] | None, list[str]]:
    """The keyword arguments that a backbone takes as a condition (None: any), and those that it must have."""
    parameters = list(inspect.signature(backbone.forward).parameters.values())
    kinds = inspect.Parameter
    named = [p for p in parameters if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)][2:]
    needs = [p.name for p in named if p.default is kinds.empty]
    classes = getattr(backbone, "num_classes", None)
    if classes and "labels" not in needs and any(p.name == "labels" for p in named):
        needs.append("labels")  # without them it would answer for the null class, unasked
    words = getattr(backbone, "text_width", None)
    if words and "text" not in needs and any(p.name == "text" for p in named):
        needs.append("text")
    if any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        return None, needs
    # what a network was built without is not offered: labels of no classes, an augmentation's numbers where it takes none
    without = {"labels": classes == 0, "augment": getattr(backbone, "augment_features", None) == 0}
    without |= dict.fromkeys(("text", "text_mask"), words == 0)
    return [p.name for p in named if p.name in needs or not without.get(p.name, False)], needs
