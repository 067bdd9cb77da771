"""The grid of diffusers' FlowMatchEulerDiscreteScheduler."""

from __future__ import annotations

from dataclasses import dataclass

from ...schedules import Level, Schedule
from ...schedules.grid import check_steps, to_data

__all__ = ["FlowLinspace"]


@dataclass(frozen=True)
class FlowLinspace:
    """Uniform in t from 1 to `end`, both included, then data.

    For a fixed shift s, diffusers ends at t = s / (1000 + s - 1): the clean end is shifted here, and the path shifts it again.

    Args:
        end: the last t before data, above 0 and below 1.

    Raises:
        ValueError: for another end.

    Source: diffusers 0.42.1, FlowMatchEulerDiscreteScheduler.set_timesteps.
    """

    end: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.end < 1:
            raise ValueError(f"FlowLinspace.end is {self.end}; allowed: above 0 and below 1")

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        parts = max(check_steps(steps) - 1, 1)
        return to_data(schedule, [schedule(((parts - i) + i * self.end) / parts) for i in range(steps)])
