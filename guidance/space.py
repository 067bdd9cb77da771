"""The space of a rule that is not linear: any row, so that x0, eps, v or a network's own output can be chosen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import PairingError, Row, check_pairing, target
from .ask import Ask

__all__ = ["check_levels", "check_space", "read", "write"]


def read(ask: Ask, p: Prediction, space: Row) -> Tensor:
    """What a prediction says, as the output of a row, (B, ...); a raw output of that row as it is.

    Args:
        ask: where it was asked.
        p: what is believed there.
        space: the row.
    """
    if p.raw and p.row == space and p.x is ask.x and p.level is ask.level:
        assert p.out is not None
        return p.out
    level = ask.level.like(ask.x)
    weights = space(level)
    if not any(isinstance(w, Tensor) for w in weights) and weights in ((1.0, 0.0), (0.0, 1.0)):
        return p.x0 if weights[0] else p.eps
    return target(space, level, p.x0, p.eps)


def write(ask: Ask, p: Prediction, space: Row, value: Tensor) -> Prediction:
    """The prediction that says `value` in a space, with the learned variance of p.

    Where p is to be moved to another prediction at the end of the step (CFG++), that is the one that is replaced.
    """
    new = Prediction(ask.x, ask.level, value, space, p.variance)
    return new if p.toward is None else p.steered(new)


def check_levels(part: object, levels: Sequence[Level]) -> None:
    """Let a part refuse levels at which it says nothing, where it has something to refuse.

    Raises:
        PairingError: naming the level and the fix.
    """
    check = getattr(part, "check", None)
    if check is not None:
        check(levels)


def check_space(rule: object, space: Row, levels: Sequence[Level]) -> None:
    """Refuse levels at which a rule's space says nothing.

    Raises:
        PairingError: naming the rule, the level and the fix.
    """
    for level in levels:
        try:
            check_pairing(space, level)
        except PairingError:
            raise PairingError(
                f"{type(rule).__name__}.space is {space}, and at t = {level.t:g} ({'no data' if level.alpha == 0 else 'no noise'}) all "
                "networks say the same there; take space V, which differs at both ends, or leave that level out by an Interval"
            ) from None
