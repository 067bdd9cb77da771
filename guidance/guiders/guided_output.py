"""The guided output of a network, from outputs that are there already."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...schedules.level import Level
from ...schedules.prediction import Prediction, lerp
from ...schedules.rows import Row
from ..ask import Ask, Branch
from ..cfg_plus_plus import length
from ..field import Field
from ..space import read
from ..tree import Tree
from .course import Place
from .probe import offer

__all__ = ["answer", "fed", "nobody"]


class _Said:
    """A network that has answered: the branch's condition is (its output, its learned variance or None)."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def __call__(self, x: Tensor, level: Level, condition: Tree) -> Prediction:
        out, variance = condition
        return Prediction(x, level, out, self._row, variance)


def nobody(x: Tensor, level: Level, condition: Tree) -> NoReturn:
    """A branch that did not run."""
    raise ValueError(
        "the rule asked for a branch that it had not asked for when it was tried before the networks ran: which ones it asks depends on "
        "what they say. A guider of diffusers must know before; decide by the level, the step, or the memory of past steps"
    )


class _WrittenOut(TorchFunctionMode):
    """torch.lerp as a + w (b - a), the order in which diffusers computes guidance: torch's own differs in the last bit."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.lerp, torch.Tensor.lerp) and len(args) == 3:
            a, b, weight = args
            return a + weight * (b - a)
        return func(*args, **(kwargs or {}))


def fed(x: Tensor, out: Tensor) -> Tensor:
    """The noisy sample in a network's input, for an output of shape (B, C, ...) or, with a learned variance, (B, 2 C, ...).

    Inpainting and editing networks are fed more, in further channels or tokens; the noisy sample comes first.

    Raises:
        ValueError: for an input that holds no such sample.
    """
    shape = list(out.shape)
    if _learned(x, out):
        shape[1] = x.shape[1]
    if x.ndim != out.ndim or any(have < need for have, need in zip(x.shape, shape, strict=True)):
        raise ValueError(
            f"the network was fed {tuple(x.shape)} and answered {tuple(out.shape)}; allowed: an answer like its input, or with twice the "
            "channels (a learned variance)"
        )
    return x[tuple(slice(size) for size in shape)]


def _learned(x: Tensor, out: Tensor) -> bool:
    return out.ndim == x.ndim > 1 and out.shape[1] == 2 * x.shape[1]


def _branch(x: Tensor, out: Tensor | None, row: Row) -> Branch:
    if out is None:
        return Branch(nobody)
    out = out.to(x.dtype)
    return Branch(_Said(row), tuple(out.chunk(2, 1)) if _learned(x, out) else (out, None))


def answer(field: Field, place: Place, row: Row, x: Tensor, cond: Tensor | None, ref: Tensor | None) -> Tensor:
    """What a rule makes of outputs of a network, as an output of that network; the learned variance stays the conditional one's.

    Where the rule moves x after a step (CFG++), the answer is the one from which DDIM and Euler come to the same place: further by
    1 / (1 - g' / g), see `equivalent_scale`.

    Args:
        field: the rule, in the step that it is in.
        place: the evaluation.
        row: what the outputs mean.
        x: (B, C, ...), what the network was fed, in float32 or float64.
        cond, ref: the outputs, (B, C, ...) or (B, 2 C, ...), or None where a branch did not run.

    Raises:
        ValueError: for a rule that asks a branch that did not run, or moves x after a step that leads nowhere; and what the rule refuses.
    """
    said = cond if cond is not None else ref
    assert said is not None
    field.branches = offer(_branch(x, cond, row), _branch(x, ref, row))
    with _WrittenOut():
        p = field(x, place.level)
        if p.toward is not None:
            share = length(place.now, place.nxt)
            if not share:
                raise ValueError(f"{field.rule} guides steps, and step {place.step} leads to the level where it began")
            p = lerp(p.steered(None), p.toward.steered(None, p.variance), 1.0 / share)
        out = read(Ask(field.branches, x, place.level, place.now, field.spent), p, row)
    if _learned(x, said):
        variance = said.chunk(2, 1)[1] if p.variance is None else p.variance
        out = torch.cat([out, variance.to(out)], 1)
    return out.to(said.dtype)
