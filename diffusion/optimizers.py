"""Optimizers as parts of a recipe: what moves the weights, made when there are weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from ..schedules.library import Library
from .together import Together

__all__ = ["AdamW", "Group", "Library", "Muon", "Optimizer"]


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike; see `Group.of`.

    Args:
        parameters: by their names in the network.
        decay: whether weight decay applies. What is trained beside the network (an objective's head) has none, and no hidden
            matrices either.
        matrices: the names of those that are the weight of a linear layer and of nothing else, shape (out, in).
    """

    parameters: Mapping[str, nn.Parameter]
    decay: bool = True
    matrices: frozenset[str] = frozenset()

    @classmethod
    def of(cls, module: nn.Module, decay: bool = True) -> Group:
        """The parameters of a module, in its order; one that is shared has its first name."""
        parameters = dict(module.named_parameters())
        owners: dict[int, list[bool]] = {}
        for layer in module.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                owners.setdefault(id(parameter), []).append(isinstance(layer, nn.Linear) and name == "weight")
        return cls(parameters, decay, frozenset(n for n, p in parameters.items() if all(owners[id(p)])))

    def only(self, names: Sequence[str]) -> Group:
        """The group of some of its parameters."""
        return Group({n: self.parameters[n] for n in names}, self.decay, self.matrices & set(names))


class Optimizer(Protocol):
    """A part that makes the optimizer of a run.

    The trainer sets the rate of every group before each step, to that of the step times the group's `lr_scale`, 1 where it has
    none. What is moved before the first step is nothing, so the rate with which a group is made does not matter.
    """

    def __call__(self, groups: Sequence[Group]) -> torch.optim.Optimizer: ...


def _groups(groups: Sequence[Group], **more: float) -> list[dict[str, Any]]:
    return [
        {"params": list(g.parameters.values()), **more, **({} if g.decay else {"weight_decay": 0.0})} for g in groups
    ]


def _check(part: object, ranges: Mapping[str, tuple[str, bool]]) -> None:
    for name, (allowed, fits) in ranges.items():
        if not fits:
            raise ValueError(f"{type(part).__name__}.{name} is {getattr(part, name)!r}; allowed: {allowed}")


@dataclass(frozen=True)
class AdamW:
    """Adam with weight decay beside the gradient, in one fused kernel.

    Args:
        beta1: decay of the mean of the gradient, 0 <= beta1 < 1.
        beta2: decay of the mean of its square, 0 <= beta2 < 1.
        weight_decay: share of a weight that lr 1 would take away in a step, >= 0.
        eps: added to the root of the mean square, > 0.

    Raises:
        ValueError: for values out of range.

    Source: Loshchilov & Hutter 2019 (1711.05101), algorithm 2.
    """

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "beta1": ("0 <= beta1 < 1", 0 <= self.beta1 < 1),
                "beta2": ("0 <= beta2 < 1", 0 <= self.beta2 < 1),
                "weight_decay": (">= 0 and finite", 0 <= self.weight_decay < float("inf")),
                "eps": ("> 0 and finite", 0 < self.eps < float("inf")),
            },
        )

    def __call__(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            _groups(groups), betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, eps=self.eps, fused=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Muon:
    """Momentum made orthogonal for the matrices of hidden linear layers, and another optimizer for everything else.

    Everything else is embeddings, heads, biases, norms, parameters of one's own, and convolutions: torch's Muon takes matrices
    only, and which flattening of a kernel is right is open. So a transformer is mostly Muon's, and a UNet of convolutions hardly.

    Args:
        momentum: decay of the mean of the gradient, 0 <= momentum < 1.
        nesterov: whether a step looks ahead along the mean.
        weight_decay: of the hidden matrices, share of a weight that lr 1 would take away in a step, >= 0.
        iterations: Newton-Schulz iterations towards orthogonality, 1 to 99.
        adjust_lr: how a matrix's shape scales its rate. match_rms_adamw: 0.2 sqrt(larger side), steps as large as AdamW's, so that
            one lr serves both; original: sqrt(max(1, out / in)), which wants a rate of its own, about 0.02.
        lr_scale: the rate of the hidden matrices as a multiple of the recipe's lr, > 0.
        rest: the optimizer of everything else.
        skip: words of which none may be in the dotted name of a hidden matrix; what is at the ends of a network.

    Raises:
        ValueError: for values out of range; in a call, for a network without a hidden matrix.

    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); Liu et al. 2025 (2502.16982), eq. 4, for match_rms_adamw.
    """

    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.0
    iterations: int = 5
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    lr_scale: float = 1.0
    rest: Optimizer = AdamW()
    skip: Sequence[str] = ("condition", "embed", "head")

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "momentum": ("0 <= momentum < 1", 0 <= self.momentum < 1),
                "weight_decay": (">= 0 and finite", 0 <= self.weight_decay < float("inf")),
                "iterations": (
                    "a whole number, 1 to 99",
                    isinstance(self.iterations, int) and 1 <= self.iterations < 100,
                ),
                "adjust_lr": ("match_rms_adamw, original", self.adjust_lr in ("match_rms_adamw", "original")),
                "lr_scale": ("> 0 and finite", 0 < self.lr_scale < float("inf")),
                "skip": ("a list of words, such as [head]", not isinstance(self.skip, str)),
            },
        )

        object.__setattr__(self, "skip", tuple(self.skip))

    def hidden(self, group: Group) -> list[str]:
        """The names of the parameters that Muon moves."""
        if not group.decay:
            return []
        return [n for n in group.parameters if n in group.matrices and not set(n.split(".")) & set(self.skip)]

    def __call__(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        names = [self.hidden(g) for g in groups]
        inner = [g.only(own) for g, own in zip(groups, names, strict=True) if own]
        outer = [g.only([n for n in g.parameters if n not in own]) for g, own in zip(groups, names, strict=True)]
        outer = [g for g in outer if g.parameters]
        if not inner:
            raise ValueError(
                f"Muon moves the matrices of hidden linear layers, and this network has none besides {', '.join(self.skip) or 'those'}; "
                "set optimizer: AdamW, or another optimizer.skip"
            )
        muon = torch.optim.Muon(
            _groups(inner, lr_scale=self.lr_scale), momentum=self.momentum, nesterov=self.nesterov, ns_steps=self.iterations,
            weight_decay=self.weight_decay, adjust_lr_fn=self.adjust_lr,
        )  # fmt: skip
        return Together([muon, self.rest(outer)]) if outer else muon
