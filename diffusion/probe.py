"""A rule put to networks that answer at once: what it asks for is found out before any network runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..guidance import Branch, Field, Guidance
from ..guidance.tree import Tree
from ..samplers import Sampler, trajectory
from ..samplers.walk import Table
from ..schedules import Level, Prediction

__all__ = ["probe"]


def probe(
    guidance: Guidance, names: Sequence[str], sampler: Sampler, levels: Sequence[Level], shape: Sequence[int], count: int,
    learns: bool, table: Table | None = None,
) -> dict[str, int]:  # fmt: skip
    """Walk one sample under a rule, with networks that answer at once: the branches that the rule (or a corrector's) asks for must be
    there, and a variance where the sampler wants one that is learned.

    Args:
        guidance: the rule.
        names: of the branches.
        sampler, levels: as they will be sampled with.
        shape: of a sample.
        count: of pictures, for rules with a number per picture.
        learns: whether the network learns a variance.
        table: of `tabulate(sampler, levels)`, where there is one.

    Returns:
        How often each branch was asked.

    Raises:
        ValueError: what the rule refuses; MissingBranch and WrongCount are some.
    """
    x = torch.zeros(1, *shape)

    def network(x: Tensor, level: Level, condition: Tree) -> Prediction:
        return Prediction.pair(x, x, x if learns else None)

    # a condition for each, so that no branch is another's twin
    branches = {name: Branch(network, {"labels": torch.zeros(1, dtype=torch.int64)}) for name in names}
    field = Field(branches, guidance, 1, torch.zeros(1, dtype=torch.int64), count)
    with torch.no_grad():
        for _ in trajectory(sampler, field, levels, x, lambda step, draw: x, table=table):
            pass
    return dict(zip(names, field.spent[0].tolist(), strict=True))
