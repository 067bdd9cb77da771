"""Guidance that stops when the branches agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import X0, Row
from .ask import Ask, Guidance
from .checks import check_branch, check_number, check_rule, check_space_is_row
from .rules import CFG
from .space import check_levels, check_space, read
from .tree import Tree

__all__ = ["Adaptive", "cosine"]


@dataclass(frozen=True)
class Adaptive:
    """A rule until cond and ref point the same way, the conditional model from the next step on: each sample on its own, for good.

    With k guided steps of N it costs 2 k + (N - k) evaluations. The cosine is measured in every step that asked both branches; the host
    waits for it once per step while a sample of the batch is guided, and not at all afterwards. Steps are those of the grid: within one, as
    AdaptiveStep makes many, nothing stops.

    The threshold belongs to a model, a space and a scale: in eps the branches of a large model agree to 0.9999 at once, since eps is
    nearly x itself at high noise. Measure the cosines first (`sfumato guidance RUN`), and give the first steps in `least`.

    Args:
        rule: what guides until then.
        threshold: of the cosine, per sample; above 1 it never stops. Paper: 0.991 in eps, for its own models.
        space: in which the cosine is taken, any row.
        least: guided steps at the least, >= 1.
        against: the branch that cond is compared with; None: the one that the rule asks beside it.

    Raises:
        ValueError: for a threshold that is not a number or is below -1, and for `least` below 1; when asked, without `against`, for a rule
            that asks several branches beside cond.
        PairingError: for a space that says nothing at a level that is asked.

    Source: Castillo et al. 2023 (2312.12487).
    """

    rule: Guidance = field(default_factory=CFG)
    threshold: float = 0.99
    space: Row = field(default_factory=X0)
    least: int = 1
    against: str | None = None

    def __post_init__(self) -> None:
        check_rule(self, self.rule)
        check_space_is_row(self, self.space)
        if self.against is not None:
            check_branch(self, self.against)
        check_number(self, "threshold", self.threshold, "a number from -1 on, a cosine: 1 is the same direction", -1.0)
        if not isinstance(self.least, int) or isinstance(self.least, bool) or self.least < 1:
            raise ValueError(f"Adaptive.least is {self.least}; allowed: whole numbers >= 1, guided steps at the least")

    def init(self, x: Tensor) -> Tree:
        # on the host, since it decides which rows run
        on, guided = torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.int64)
        return on, guided, self.rule.init(x)

    def check(self, levels: Sequence[Level]) -> None:
        check_space(self, self.space, levels)
        check_levels(self.rule, levels)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        on, guided, inner = memory
        if not bool(on.any()):
            (cond,) = ask("cond")
            return cond, memory
        part = ask.only(on)
        p, after = self.rule(part, inner)
        # a rule that leaves this step or a sample out says nothing about when to stop; and of a step only the first memory is kept
        against = self.against or self._beside(ask)
        compared = on & ask.asked(against)
        if not bool(on.all()):
            (cond,) = part("cond")
            index = on.nonzero().squeeze(1)
            p = cond.put(index, p.rows(index))  # what the rule remembers of the others is never read again
        if ask.first and bool(compared.any()):
            guided = guided + compared
            cond, ref = part.only(compared)("cond", against)
            alike = cosine(read(part, cond, self.space), read(part, ref, self.space)) >= self.threshold
            on = on & ~(compared & alike.cpu() & (guided >= self.least))
        return p, (on, guided, after)

    def _beside(self, ask: Ask) -> str:
        """The branch that the rule asked beside cond; "ref" where it asked none."""
        others: list[str] = []
        for name in ask.branches:
            if bool(ask.asked(name).any()) and not any(ask.same(name, other) for other in ("cond", *others)):
                others.append(name)
        if len(others) > 1:
            raise ValueError(
                f"Adaptive compares cond with one branch, and {self.rule} asks {' and '.join(map(repr, others))}; say which: against"
            )
        return others[0] if others else "ref"


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """The cosine between two tensors (B, ...), per sample over all elements, (B,); 0 where one of them is zero."""
    a, b = (v.flatten(1).to(torch.promote_types(v.dtype, torch.float32)) for v in (a, b))
    tiny = torch.finfo(a.dtype).tiny
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp_min(tiny)
