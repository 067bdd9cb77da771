"""Which clock the networks of a scheduler of diffusers were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...schedules.rows import Flow, Row
from ...schedules.schedule import Schedule, entries
from ..clocks import Clock, EntryClock, LogSNRClock, SigmaClock

__all__ = ["clock_of"]


def clock_of(name: str, config: Mapping[str, Any], schedule: Schedule, row: Row) -> Clock:
    """The clock of a path that was read from a scheduler.

    On a table the entry; on a straight path sigma, in the unit of the training steps; log(sigma) / 4 for EDM and Stable Video
    Diffusion; sigma itself for score networks.

    Args:
        name, config: of the scheduler.
        schedule, row: as `read_process` read them.

    Raises:
        ValueError: for a scheduler whose networks know another time.
    """
    count = entries(schedule)
    if count is not None:
        return EntryClock(count)
    middle = schedule(0.5)
    if isinstance(row, Flow) and abs(middle.alpha + middle.sigma - 1.0) < 1e-12:
        return SigmaClock(float(config.get("num_train_timesteps", 1000)))
    if name.startswith(("EDM", "CosineDPM")) or config.get("timestep_type") == "continuous":
        return LogSNRClock(-0.125)
    if name == "ScoreSdeVeScheduler":
        return SigmaClock(1.0)
    raise ValueError(
        f"{name}: what number its networks take as time is not known; give clock, such as TimeClock(1000) of sfumato.diffusion.clocks"
    )
