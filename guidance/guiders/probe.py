"""Which branches a rule asks, found by asking it: any rule, before a network has run."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.parts import describe
from ...schedules.prediction import Prediction
from ...schedules.rows import Eps
from ..ask import Branch, Guidance
from ..field import Field
from ..tree import Tree
from .unknown import UnknownLevelError

__all__ = ["may_ask", "offer", "stand_in", "would_ask"]

# a pipeline has two conditions, and its unconditional one is the negative prompt
_NAMES = {"cond": "cond", "ref": "ref", "negative": "ref"}
_BOTH = frozenset({"cond", "ref"})


class _Enough(BaseException):
    """Both have been asked: what the rule makes of the answers is of no interest, and costs nothing."""


class _Offer(dict[str, Branch]):
    """Branches by name, which remember a name that was not there."""

    missing = ""

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name):
            self.missing = str(name)
            return False
        return True


class _Listener:
    """A network that notes who asks it, and says what it was given."""

    def __init__(self, name: str, heard: set[str]) -> None:
        self._name, self._heard = name, heard

    def __call__(self, x: Tensor, level: Level, condition: Tree) -> Prediction:
        self._heard.add(self._name)
        if self._heard >= _BOTH:
            raise _Enough
        return Prediction(x, level, x, Eps())


def offer(cond: Branch, ref: Branch) -> dict[str, Branch]:
    """The branches of a pipeline by all their names."""
    given = {"cond": cond, "ref": ref}
    return _Offer({name: given[same] for name, same in _NAMES.items()})


def stand_in(size: int) -> Tensor:
    """Something like x before there is one, (size, 4, 8, 8)."""
    return torch.linspace(-1.0, 1.0, 256).view(1, 4, 8, 8).repeat(size, 1, 1, 1)


def would_ask(field: Field, x: Tensor, level: Level) -> frozenset[str]:
    """Which of "cond" and "ref" a rule asks at (x, level), with the memory that it has; the field stays as it is.

    Args:
        field: the rule, in the step that it is in. Its branches are not asked.
        x: (B, ...), where its memory is of use: like the x of the last evaluation.
        level: of the evaluation.

    Raises:
        ValueError: for a branch that no pipeline has.
        UnknownLevelError: for a rule that needs the level, where it is not known.
    """
    trial = copy.copy(field)
    trial.spent = field.spent.clone()
    return _hear(trial, x, level)


def _hear(field: Field, x: Tensor, level: Level) -> frozenset[str]:
    heard: set[str] = set()
    branches = offer(Branch(_Listener("cond", heard)), Branch(_Listener("ref", heard)))
    field.branches = branches
    try:
        with torch.no_grad():
            field(x, level)
    except _Enough:
        pass
    except UnknownLevelError:
        raise
    except Exception as error:
        missing = getattr(branches, "missing", "")
        if isinstance(error, ValueError) and missing:
            raise ValueError(
                f"the rule asks for branch {missing!r}, and a pipeline of diffusers has 'cond', its prompt, and 'ref' (or 'negative'), its "
                f"negative prompt; {field.rule} needs our own sampling: Model.sample"
            ) from error
        return _BOTH  # whatever is wrong shows when it is asked in earnest
    return frozenset(heard) or frozenset({"cond"})


def may_ask(rule: Guidance) -> frozenset[str]:
    """Which of "cond" and "ref" a rule ever asks, down a long walk that passes every number that the rule holds.

    In doubt both: a rule that can't be asked without its own levels or batch may ask both.

    Raises:
        ValueError: for a branch that no pipeline has.
    """
    # in log-SNR, from noise to data; a bound of a rule is met from both sides, as sigma / alpha and as log-SNR
    marks = {v / 2 for v in range(-40, 41)}
    for number in _numbers(describe(rule)):
        own = [number] if abs(number) < 40 else []
        own += [-2.0 * math.log(number)] if number > 0 and math.isfinite(number) else []
        marks |= {v + nudge for v in own for nudge in (-1e-6, 0.0, 1e-6)}
    levels = [Level.from_log_snr(0.5 - v / 80, v) for v in sorted(marks)]
    asked: set[str] = set()
    field, x = Field(offer(Branch(_Listener("cond", set())), Branch(_Listener("ref", set()))), rule, 1), stand_in(1)
    for now, nxt in zip(levels, [*levels[1:], levels[-1]], strict=True):
        field.begin(now, nxt)
        asked |= _hear(field, x, now)
        if asked >= _BOTH:
            break
    return frozenset(asked)


def _numbers(description: Any) -> Iterator[float]:
    """Every number in a description, at any depth."""
    if isinstance(description, dict):
        for value in description.values():
            yield from _numbers(value)
    elif isinstance(description, list):
        for value in description:
            yield from _numbers(value)
    elif isinstance(description, int | float) and not isinstance(description, bool):
        yield float(description)
