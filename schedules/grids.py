"""Grids in t: a schedule's own time, or the index of its table."""

from __future__ import annotations

from dataclasses import dataclass

from .grid import at_entries, count_entries, to_data
from .level import Level
from .schedule import Schedule, entries

__all__ = ["Leading", "Linspace", "Trailing", "leading", "linspace", "trailing"]


@dataclass(frozen=True)
class Trailing:
    """Uniform in t from t = 1: levels at 1 - i / steps, then data.

    It starts at the top whatever the number of steps, so it is the default. Source: Lin et al. 2024 (2305.08891), section 3.3.
    """

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        count = count_entries(schedule, steps)
        if entries(schedule) is None:
            return to_data(schedule, [schedule((steps - i) / steps) for i in range(steps)])
        return at_entries(schedule, [round(count * (steps - i) / steps) - 1 for i in range(steps)])


@dataclass(frozen=True)
class Leading:
    """Entries 0, k, 2k, ... of the table for k = T // steps, from the noisiest: it starts below the top, as Stable Diffusion 1 does.

    A path that is no table is counted in 1000 entries.

    Args:
        offset: added to every index, >= 0; "steps_offset" of diffusers, 1 for Stable Diffusion.

    Raises:
        ValueError: for offset < 0, and, when called, where the offset leads beyond the table.

    Source: Ho et al. 2020 (2006.11239) as in DDIM's code; its flaw: Lin et al. 2024 (2305.08891), table 2.
    """

    offset: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.offset, int) or isinstance(self.offset, bool) or self.offset < 0:
            raise ValueError(f"Leading.offset is {self.offset!r}; allowed: a whole number >= 0")

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        count = count_entries(schedule, steps)
        if steps > count:
            raise ValueError(
                f"steps is {steps}; Leading counts a path without entries in {count}; allowed: at most that"
            )
        indices = [i * (count // steps) + self.offset for i in reversed(range(steps))]
        if indices[0] > count - 1:
            raise ValueError(
                f"Leading(offset={self.offset}) starts at entry {indices[0]} for {steps} steps, the table ends at {count - 1}; choose a "
                "smaller offset"
            )
        return at_entries(schedule, indices)


@dataclass(frozen=True)
class Linspace:
    """Uniform in the index from the noisiest entry to the cleanest, both included, then data.

    A path that is no table is counted in 1000 entries.

    Args:
        clean: whether the cleanest entry is one of them. False takes the first `steps` of steps + 1 such points, so that the
            last step is a long one: "linspace" of DPM-Solver++ and UniPC in diffusers, where True is that of Euler and DDIM.

    Raises:
        ValueError: when called, for more steps than entries.

    Source: Lin et al. 2024 (2305.08891), table 2.
    """

    clean: bool = True

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        count = count_entries(schedule, steps)
        if not self.clean and entries(schedule) == steps:
            raise ValueError(
                f"steps is {steps}, which leaves no entry out; allowed: at most {count - 1}, or Linspace(clean=True)"
            )
        parts = max(steps - 1 if self.clean else steps, 1)
        indices = [(count - 1) * (parts - i) / parts for i in range(steps)]
        return at_entries(schedule, [round(i) for i in indices] if entries(schedule) else indices)


trailing = Trailing()
leading = Leading()
linspace = Linspace()
