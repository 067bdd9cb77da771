"""The list of numbers that a network is told, one per evaluation, and which evaluation a number means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Timesteps"]


class Timesteps:
    """Numbers in the order of the evaluations; several evaluations may share one.

    Args:
        told: what the network is told.
        starts: which evaluations begin a step.
    """

    def __init__(self, told: Sequence[float], starts: Sequence[int]) -> None:
        # rounded as the tensor is, so that what comes back from there is found
        self._told: list[float] = torch.tensor(told, dtype=torch.float32).tolist()
        self._starts = frozenset(starts)

    def tensor(self, device: str | torch.device | None) -> Tensor:
        """int64 where all are whole numbers, else float32."""
        whole = all(v.is_integer() for v in self._told)
        return torch.tensor(self._told, dtype=torch.int64 if whole else torch.float32).to(device)

    def find(self, timestep: Any) -> int:
        """Which evaluation a timestep means; where several do, one that begins a step.

        Raises:
            ValueError: for a number that is not in the list.
        """
        try:
            value = float(timestep)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"timestep is {timestep!r}; allowed: one number, an entry of scheduler.timesteps"
            ) from None
        found = [i for i, told in enumerate(self._told) if _near(value, told)]
        if not found:
            raise ValueError(
                f"timestep is {value:.6g}; allowed: one of scheduler.timesteps, {self._told[0]:.6g} to {self._told[-1]:.6g} in "
                f"{len(self._told)} evaluations"
            )
        return next((i for i in found if i in self._starts), found[0])

    def check(self, timestep: Any, index: int) -> None:
        """Refuse a timestep that is not that of an evaluation. One on another device is not looked at: that would wait for it.

        Raises:
            ValueError: naming both.
        """
        if isinstance(timestep, Tensor) and (timestep.numel() != 1 or timestep.device.type != "cpu"):
            return
        if not _near(float(timestep), self._told[index]):
            raise ValueError(
                f"timestep is {float(timestep):.6g}, the next one is {self._told[index]:.6g} (entry {index} of timesteps); a scheduler "
                "takes them in their order, once each"
            )


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * max(1.0, abs(b))
