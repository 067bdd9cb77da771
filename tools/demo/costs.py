"""What each step of a sampler costs, with guidance and without."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
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
    rule: Guidance, sampler: Sampler, schedule: Schedule, levels: Sequence[Level], alike: bool = False
) -> tuple[list[int], list[int]] | None:
    """Evaluations in each step under a rule, and without one; None where they are as many as a tolerance asks for.

    `Adaptive` counts as if it never stopped, which is what it costs at most. Networks that answer at once are asked, so that nothing is
    counted by a second description of methods and rules.

    Args:
        rule: without an interval around it.
        sampler, schedule, levels: as they will be sampled with.
        alike: whether what is steered from is what is asked for (no class from no class), so that it is asked once.

    Raises:
        ValueError: what sampler and rule refuse.
    """
    if any(True for _ in rules_within(sampler, AdaptiveStep)):
        return None
    rule = _lasting(rule)
    walker = on_path(sampler, schedule)
    return _walked(rule, walker, levels, alike), _walked(Plain(), walker, levels, alike)


def _lasting(rule: Guidance) -> Guidance:
    """A rule that does not stop by itself, nor does any within it."""
    changed: dict[str, Any] = {}
    for each in fields(rule) if is_dataclass(rule) else ():
        within = getattr(rule, each.name)
        if is_dataclass(within) and isinstance(within, Guidance):
            changed[each.name] = _lasting(within)
    if isinstance(rule, Adaptive):
        changed["threshold"] = 2.0  # no cosine is
    return replace(rule, **changed) if changed else rule  # pyright: ignore[reportArgumentType, reportCallIssue]


def _walked(rule: Guidance, walker: Any, levels: Sequence[Level], alike: bool) -> list[int]:
    x = torch.ones(1, 1, 2, 2) + torch.arange(4.0).reshape(1, 1, 2, 2)  # rules that compare spreads need some

    def network(x: Tensor, level: Level, condition: Tree) -> Prediction:
        return Prediction.pair(x, x, x)

    told = {name: {"labels": torch.zeros(1, dtype=torch.int64)} for name in _NAMES}
    if alike:  # branches of one network that share this very object are asked once
        told["ref"] = told["negative"] = told["cond"]
    branches = {name: Branch(network, told[name]) for name in _NAMES}
    field = Field(branches, rule, 1, torch.zeros(1, dtype=torch.int64), 1)
    spent = [0]
    with torch.no_grad():
        spent += [int(field.spent.sum()) for _ in trajectory(walker, field, levels, x, lambda step, draw: x)]
    return [after - before for before, after in itertools.pairwise(spent)]
