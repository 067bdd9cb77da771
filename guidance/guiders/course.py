"""Where a scheduler of diffusers asks its network: the noise level of each of its timesteps, read without importing diffusers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ...schedules.diffusers_config import read_process
from ...schedules.level import Level
from ...schedules.rows import Row
from ...schedules.scalar import sqrt
from ...schedules.schedule import Schedule

__all__ = ["Course", "Place", "read_course", "read_row"]

_FIX = "use a scheduler of ours, as_diffusers(DPMSolverPP(), like=pipe.scheduler)"


class Place(NamedTuple):
    """One evaluation: the level at which the network is asked, where its step begins and leads, and the step's number."""

    level: Level
    now: Level
    nxt: Level
    step: int


class Course(NamedTuple):
    """The evaluations of a scheduler.

    row: what the network's output means. times: what it is told. places: one per time, at levels of the network's own input.
    """

    row: Row
    times: list[float]
    places: list[Place]

    def find(self, timestep: Any, begin: int | None = None) -> int:
        """Which evaluation a timestep means; where several do, the one at `begin`, else the first.

        Raises:
            ValueError: for a number that is not in the list.
        """
        found = [i for i, told in enumerate(self.times) if _near(float(timestep), told)]
        if not found:
            raise _stranger(timestep, self.times)
        return begin if begin in found else found[0]

    def check(self, timestep: Any, index: int) -> None:
        """Refuse a timestep that is not that of an evaluation. One on another device is not looked at: that would wait for it.

        Raises:
            ValueError: naming it.
        """
        if isinstance(timestep, Tensor) and timestep.device.type != "cpu":
            return
        if not index < len(self.times) or not _near(float(timestep), self.times[index]):
            raise _stranger(timestep, self.times)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * max(1.0, abs(b))


def _stranger(timestep: Any, times: Sequence[float]) -> ValueError:
    return ValueError(
        f"the pipeline asks at timestep {float(timestep):.6g}, and the guider's scheduler goes from {times[0]:.6g} to {times[-1]:.6g} in "
        f"{len(times)} evaluations and is elsewhere; is it another scheduler? Set guider.scheduler = pipe.scheduler"
    )


def read_row(scheduler: object) -> Row:
    """What the output of the scheduler's network means.

    Args:
        scheduler: ours, which says `row`, or one of diffusers, by its config.

    Raises:
        ValueError: for what is no scheduler, and for one whose path is not known.
    """
    row = getattr(scheduler, "row", None)
    return row if isinstance(row, Row) else _process(scheduler)[1]


def _process(scheduler: object) -> tuple[Schedule, Row]:
    try:
        return read_process(scheduler, 1)  # the shift by the sequence's length moves neither row nor sigmas
    except ValueError as error:
        raise ValueError(f"the guider reads noise levels from the scheduler: {error}; or {_FIX}") from None


def read_course(scheduler: object) -> Course:
    """The evaluations of a scheduler, after its set_timesteps.

    Args:
        scheduler: one that says `row` and `asked`, per timestep (level, its step's beginning and end, the step's number), as ours does;
            or one of diffusers with `sigmas`, one more than timesteps, or with `alphas_cumprod`.

    Raises:
        ValueError: for another scheduler, or before set_timesteps.
    """
    told: Any = getattr(scheduler, "timesteps", None)
    times = [] if told is None else [float(t) for t in told.tolist()]
    if not times:
        raise ValueError(f"{type(scheduler).__name__} has no timesteps yet; call its set_timesteps first")
    row, own = getattr(scheduler, "row", None), getattr(scheduler, "asked", None)
    if isinstance(row, Row) and own is not None:
        return Course(
            row, times, [Place(_fed(row, level), _fed(row, now), _fed(row, nxt), step) for level, now, nxt, step in own]
        )
    schedule, row = _process(scheduler)
    levels = _levels(scheduler, schedule, row, times)
    starts = _starts(scheduler, times)
    places: list[Place] = []
    for step, (first, after) in enumerate(itertools.pairwise([*starts, len(times)])):
        places += [Place(levels[i], levels[first], levels[after], step) for i in range(first, after)]
    return Course(row, times, places)


def _starts(scheduler: object, times: Sequence[float]) -> list[int]:
    """At which evaluations the steps of a scheduler of diffusers begin."""
    name, order = type(scheduler).__name__, int(getattr(scheduler, "order", 1))
    twice = [i for i, (a, b) in enumerate(itertools.pairwise(times)) if a == b]
    if order == 2:
        return list(range(0, len(times), 2))
    if order == 1 and not twice:
        return list(range(len(times)))
    if order == 1 and twice == [1]:  # PNDM takes its first step again with what the network says at its end
        return [0, *range(2, len(times))]
    raise ValueError(
        f"which evaluations of {name} make a step is not known (order {order}, or repeated timesteps); {_FIX}"
    )


def _fed(row: Row, level: Level) -> Level:
    """A level as the network sees it: its input may have been divided by sqrt((alpha d)^2 + sigma^2), d the data's std (EDM)."""
    if row.input_std is None:
        return level
    scale = sqrt((row.input_std * level.alpha) ** 2 + level.sigma**2)
    return Level(level.t, level.alpha / scale, level.sigma / scale)


def _levels(scheduler: Any, schedule: Schedule, row: Row, times: Sequence[float]) -> list[Level]:
    """One level per timestep, and the end."""
    name, sigmas = type(scheduler).__name__, getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) == len(times) + 1:
        return [_of_sigma(schedule, row, float(sigma)) for sigma in sigmas.tolist()]
    table: Any = getattr(scheduler, "alphas_cumprod", None)
    if sigmas is not None or table is None or not all(t.is_integer() and 0 <= t < len(table) for t in times):
        raise ValueError(
            f"{name} has neither sigmas, one more than timesteps, nor a table that they are entries of; {_FIX}"
        )
    if times[-1] > times[0]:
        raise ValueError(f"{name} walks upwards on a table, where its timesteps are not those of its levels; {_FIX}")
    squares = [float(table[int(t)]) for t in times]
    squares.append(float(getattr(scheduler, "final_alpha_cumprod", 1.0)))
    return [_vp(schedule, sqrt((1.0 - a) / a) if a > 0.0 else float("inf")) for a in squares]


def _of_sigma(schedule: Schedule, row: Row, sigma: float) -> Level:
    """What diffusers calls sigma: the noise of a straight path, else sigma / alpha, of which the network is fed a scaled x."""
    middle = schedule(0.5)
    if abs(middle.alpha + middle.sigma - 1.0) < 1e-12:
        return Level(sigma, 1.0 - sigma, sigma)
    if row.input_std is not None:
        return _fed(row, Level(schedule.at_log_snr(Level(0.0, 1.0, sigma).log_snr).t, 1.0, sigma))
    return _vp(schedule, sigma)


def _vp(schedule: Schedule, ratio: float) -> Level:
    """The variance-preserving level of sigma / alpha."""
    scale = sqrt(1.0 + ratio**2)
    level = Level(0.0, 1.0 / scale, ratio / scale) if ratio < float("inf") else Level(0.0, 0.0, 1.0)
    return level._replace(t=schedule.at_log_snr(level.log_snr).t)
