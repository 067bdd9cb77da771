"""The grids of diffusers that are none of ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .grid import check_steps, to_data
from .level import Level
from .ratio_grids import Exponential, Karras
from .schedule import Schedule, entries

__all__ = ["Spaced"]

# diffusers puts alpha^2 = 2^-24 for zero SNR, so that its sigma / alpha ends here
_TOP = math.sqrt(2.0**24 - 1)


@dataclass(frozen=True)
class Spaced:
    """The levels at which a scheduler of diffusers asks, on a table; `from_diffusers` makes it where none of our own grids is the same.

    Args:
        spacing: "leading", "linspace" or "trailing" (timestep_spacing).
        offset: added to the indices of "leading", >= 0 (steps_offset).
        multistep: as DPM-Solver++ and UniPC count: steps + 1 points, of which the cleanest is left out.
        whole: whether "linspace" is rounded to entries; False as Euler, Heun and LMS: sigma / alpha linear between two entries.
        between: "karras" or "exponential" between the ends of that grid, as Euler, Heun and LMS have it.
        low, high: instead of these ends, sigma / alpha (sigma_min, sigma_max).
        noisy: whether it ends at the first entry, with its noise, instead of at data (set_alpha_to_one false, final_sigmas_type
            "sigma_min"). A last step of no length is left out, so that there may be one level less.

    A single step of "linspace" starts at the noisiest entry, where diffusers' Euler starts at the cleanest.

    Raises:
        ValueError: for another spacing; when called, for a path that is no table, or steps that do not fit in it.

    Source: diffusers 0.42.1, set_timesteps of its schedulers.
    """

    spacing: Literal["leading", "linspace", "trailing"] = "leading"
    offset: int = 0
    multistep: bool = False
    whole: bool = True
    between: Literal["karras", "exponential"] | None = None
    low: float | None = None
    high: float | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        if self.spacing not in ("leading", "linspace", "trailing"):
            raise ValueError(f"Spaced.spacing is {self.spacing!r}; allowed: 'leading', 'linspace', 'trailing'")
        if self.between not in (None, "karras", "exponential"):
            raise ValueError(f"Spaced.between is {self.between!r}; allowed: 'karras', 'exponential', null")

    def _indices(self, count: int, steps: int) -> list[float]:
        """From the noisiest; indices of entries."""
        if self.spacing == "trailing":
            return [round(count * (steps - i) / steps) - 1 for i in range(steps)]
        if self.spacing == "leading":
            parts = steps + 1 if self.multistep else steps
            return [(parts - 1 - i) * (count // parts) + self.offset for i in range(steps)]
        parts = max(steps if self.multistep else steps - 1, 1)
        indices = [(count - 1) * (parts - i) / parts for i in range(steps)]
        return [round(i) for i in indices] if self.whole else indices

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        count = entries(schedule)
        if count is None:
            raise ValueError(f"Spaced counts the entries of a table, and {schedule} has none; take Trailing, or Karras")
        if check_steps(steps) >= count:
            raise ValueError(f"steps is {steps}; allowed: fewer than the {count} entries of the table")
        indices = self._indices(count, steps)
        if indices[0] > count - 1:
            raise ValueError(
                f"Spaced(offset={self.offset}) starts at entry {indices[0]:g} for {steps} steps, the table ends at {count - 1}; choose a "
                "smaller offset"
            )
        levels = to_data(schedule, [_entry(schedule, count, i) for i in indices])
        if self.between is not None and (steps > 1 or None not in (self.low, self.high)):
            high = min(float(levels[0].ratio), _TOP) if self.high is None else self.high
            low = float(levels[-2].ratio) if self.low is None else self.low
            levels = (Karras if self.between == "karras" else Exponential)(low, high)(schedule, steps)
        if self.noisy:
            first = schedule(1.0 / count)
            levels = [level for level in levels[:-1] if level.ratio > first.ratio * (1 + 1e-6)] + [first]
        return levels


def _entry(schedule: Schedule, count: int, index: float) -> Level:
    below = math.floor(index)
    share = index - below
    if not share:
        return schedule((below + 1) / count)
    low, high = (float(schedule((i + 1) / count).ratio) for i in (below, below + 1))
    return schedule.at_log_snr(-2.0 * math.log((1.0 - share) * low + share * min(high, _TOP)))
