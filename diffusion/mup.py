"""Learning rates that are right at every width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from .optimizers import AdamW, Group, Optimizer

__all__ = ["MuP", "check_base_width"]


@dataclass(frozen=True)
class MuP:
    """Another optimizer, with muP's rates: what was the best learning rate at base_width is so at every width.

    Adam moves every number of a matrix by about the rate, whatever its gradient; so what a matrix adds to its output grows with the
    number of its inputs. Matrices that read `width` numbers (hidden ones and the head) therefore move by base_width / width of the
    rate, and all else (those that read the image, the time's sinusoid or a text, embeddings, biases, norms) by the rate itself. A
    weight decay is multiplied by the inverse, so that what it takes away in a step stays.

    It needs the initial weights of DiT's `base_width`, and that wider networks have more heads, not wider ones: attention's
    1 / sqrt(head width) is then the same number everywhere, which is muP's 1 / (head width) up to a constant.

    Args:
        base_width: where the rate was found, >= 1; DiT's argument of the same name has the same number.
        optimizer: what moves the weights; one whose steps don't grow with the gradient, as Adam's.
        inputs: words of which one is in the dotted name of a matrix that does not read `width` numbers.
        head: the last linear layer's name; what it reads is the width.

    Raises:
        ValueError: for values out of range; in a call, for a network without such a head, and for an optimizer that does not keep
            the groups it is given apart.

    Source: Yang et al. 2022 (2203.03466), table 3, Adam; Zheng et al. 2025 (2505.15270), section 3, for DiT.
    """

    base_width: int = 256
    optimizer: Optimizer = field(default_factory=AdamW)
    inputs: Sequence[str] = ("embed", "time_in", "told", "proj_in", "text_pool")
    head: str = "head"

    def __post_init__(self) -> None:
        if not isinstance(self.base_width, int) or self.base_width < 1:
            raise ValueError(f"MuP.base_width is {self.base_width!r}; allowed: a whole number >= 1")
        if isinstance(self.inputs, str):
            raise ValueError(f"MuP.inputs is {self.inputs!r}; allowed: a list of words, such as [embed]")
        object.__setattr__(self, "inputs", tuple(self.inputs))

    def scaled(self, group: Group) -> list[str]:
        """The names of the matrices that move by base_width / width of the rate."""
        return [n for n in group.parameters if n in group.matrices and not set(n.split(".")) & set(self.inputs)]

    def _width(self, groups: Sequence[Group]) -> int:
        name = f"{self.head}.weight"
        for group in groups:
            if name in group.matrices:
                return group.parameters[name].shape[1]
        raise ValueError(
            f"MuP reads the width from the linear layer {self.head!r}, which this network does not have; set optimizer.head to the name of "
            "its last linear layer, or another optimizer"
        )

    def __call__(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        ratio = self.base_width / self._width(groups)
        # what an objective trains beside the network has no width of the network's
        names = [self.scaled(g) if g.decay else [] for g in groups]
        inner = [g.only(own) for g, own in zip(groups, names, strict=True) if own]
        outer = [g.only([n for n in g.parameters if n not in own]) for g, own in zip(groups, names, strict=True)]
        optimizer = self.optimizer([*inner, *(g for g in outer if g.parameters)])
        moved = {id(p) for g in inner for p in g.parameters.values()}
        for group in optimizer.param_groups:
            among = [id(p) in moved for p in group["params"]]
            if all(among):
                group["lr_scale"] = ratio * group.get("lr_scale", 1.0)
                if "weight_decay" in group:
                    group["weight_decay"] /= ratio
            elif any(among):
                raise ValueError(
                    f"optimizer.optimizer is {type(self.optimizer).__name__}, which moves in one group what muP moves at different rates; "
                    "set one that keeps groups apart, such as AdamW"
                )
        return optimizer


def check_base_width(optimizer: Optimizer, backbone: nn.Module) -> None:
    """Refuse rates of one base width with initial weights of another, or only one of the two.

    A network without `base_width` begins as its author chose, so nothing is asked of it.

    Args:
        optimizer: of a recipe.
        backbone: of the same.

    Raises:
        ValueError: naming both keys and the fix.
    """
    starts = getattr(backbone, "base_width", None)
    if starts is None:
        return
    if isinstance(optimizer, MuP):
        if optimizer.base_width != starts:
            either = f", or optimizer.base_width: {starts}" if starts else ", or another optimizer than MuP"
            raise ValueError(
                f"optimizer.base_width is {optimizer.base_width} and backbone.base_width {starts}, but MuP's rates are right for initial "
                f"weights of the same base width only; set backbone.base_width: {optimizer.base_width}{either}"
            )
    elif starts:
        raise ValueError(
            f"backbone.base_width is {starts}, and optimizer is {type(optimizer).__name__}, which has no base_width and moves all widths "
            f"at one rate; set optimizer: MuP with optimizer.base_width: {starts}, or backbone.base_width: 0"
        )
