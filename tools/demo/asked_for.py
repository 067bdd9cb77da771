"""What a form means for a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...diffusion import Model
from ...guidance import Guidance
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid

__all__ = ["LOG_SNR", "STRICT_BATCH", "Asked", "Beside"]

LOG_SNR = 40.0
"""Ends of the log-SNR axis; an interval that ends there has no end."""

STRICT_BATCH = 8
"""Rows that a network always sees where pictures must be the same to the last bit."""


@dataclass(frozen=True)
class Beside:
    """What belongs to a model and is not within it.

    calibrations: its calibrated filters, by name. weak: loads a model of the shelf by name.
    """

    calibrations: Mapping[str, Filter] = field(default_factory=dict)
    weak: Callable[[str], Model] | None = None


@dataclass(frozen=True)
class Asked:
    """What a form means for a model: the arguments of `Model.sample`, checked."""

    seeds: tuple[int, ...]
    labels: list[int | None] | None
    prompts: list[str] | None
    also: dict[str, Any] | None
    steps: int
    sampler: Sampler
    grid: Grid
    guidance: Guidance
    filters: list[Filter]
    retries: int
    mark: bool
    weak: Model | None = None
    brownian: bool = False
    strict: bool = False

    def arguments(self) -> dict[str, Any]:
        """For `model.sample(**arguments)`, seeds included."""
        return {
            "seeds": list(self.seeds), "labels": self.labels, "prompts": self.prompts, "also": self.also, "weak": self.weak,
            "steps": self.steps, "sampler": self.sampler, "grid": self.grid, "guidance": self.guidance, "filters": self.filters,
            "retries": self.retries, "mark": self.mark, "brownian": self.brownian, "strict": self.strict,
            **({"batch": STRICT_BATCH} if self.strict else {}),
        }  # fmt: skip
