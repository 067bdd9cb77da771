"""What each step of a sampler costs, with guidance and without."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...guidance import Adaptive, Branch, Field, Guidance, Plain, rules_within
from ...guidance.tree import Tree
from ...samplers import AdaptiveStep, Sampler, on_path, trajectory
from ...schedules import Level, Prediction, Schedule

__all__ = ["step_costs"]

_NAMES = ("cond", "ref", "negative", "weak", "second")


def step_costs(
    rule: Guidance, sampler: Sampler, schedule: Schedule, levels: Sequence[Level]
) -> tuple[list[int], list[int]] | None:
    """Evaluations in each step under a rule, and without one; None where they are as many as a tolerance asks for.

    `Adaptive` counts as the rule within, which is what it costs at most. Networks that answer at once are asked, so that nothing is
    counted by a second description of methods and rules.

    Args:
        rule: without an interval around it.
        sampler, schedule, levels: as they will be sampled with.

    Raises:
        ValueError: what sampler and rule refuse.
    """
    if any(True for _ in rules_within(sampler, AdaptiveStep)):
        return None
    while isinstance(rule, Adaptive):
        rule = rule.rule
    walker = on_path(sampler, schedule)
    return _walked(rule, walker, levels), _walked(Plain(), walker, levels)


def _walked(rule: Guidance, walker: Any, levels: Sequence[Level]) -> list[int]:
    x = torch.ones(1, 1, 2, 2) + torch.arange(4.0).reshape(1, 1, 2, 2)  # rules that compare spreads need some

    def network(x: Tensor, level: Level, condition: Tree) -> Prediction:
        return Prediction.pair(x, x, x)

    branches = {name: Branch(network, {"labels": torch.zeros(1, dtype=torch.int64)}) for name in _NAMES}
    field = Field(branches, rule, 1, torch.zeros(1, dtype=torch.int64), 1)
    spent = [0]
    with torch.no_grad():
        spent += [int(field.spent.sum()) for _ in trajectory(walker, field, levels, x, lambda step, draw: x)]
    return [after - before for before, after in itertools.pairwise(spent)]
