"""Several optimizers, each of its own parameters, that step as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["Together"]


class Together(torch.optim.Optimizer):
    """Optimizers of disjoint parameters as one: one list of groups, one state, one step.

    The groups and the state are the very objects of the parts, so that whoever sets a rate, moves a state or puts one back, does
    it for them.

    Args:
        optimizers: at least one.

    Raises:
        ValueError: for a parameter that two of them move, and for groups that are added later, which would be nobody's.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self._counts = [len(o.param_groups) for o in self.optimizers]
        super().__init__([group for o in self.optimizers for group in o.param_groups], {})
        for optimizer in self.optimizers:  # some fill in their state when they are made
            self.state.update(optimizer.state)
        self._share()

    def _share(self) -> None:
        first = 0
        for optimizer, count in zip(self.optimizers, self._counts, strict=True):
            # as after its own load_state_dict: it may complete what it is given
            optimizer.__setstate__({"state": self.state, "param_groups": self.param_groups[first : first + count]})
            first += count

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What load_state_dict ends with: new groups and a new state, which are the parts' again."""
        super().__setstate__(state)
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in a group of one of the parts; only while this is made."""
        if len(getattr(self, "param_groups", [])) == sum(self._counts):
            raise ValueError(
                "a group can't be added to optimizers that step together; add it to the groups they are made of"
            )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss
