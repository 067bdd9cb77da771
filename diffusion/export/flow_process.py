"""Rectified flow as diffusers' flow matching scheduler."""

from __future__ import annotations

from ...samplers import DDIM, Euler
from ...schedules import Flow, Level, RectifiedFlow, Trailing
from ..clocks import SigmaClock, TimeClock
from ..model import Model
from .process import Process
from .told import Told

__all__ = ["flow_process"]


def flow_process(model: Model) -> Process | None:
    """Of a model that predicts the velocity of the straight path and is told the time; None for another.

    Args:
        model: ours.

    Raises:
        ValueError: for a time that is not told in whole numbers.
    """
    denoiser = model.denoiser
    clock, straight = denoiser.clock, type(denoiser.schedule) is RectifiedFlow
    if not straight or type(denoiser.row) is not Flow or not isinstance(clock, SigmaClock | TimeClock):
        return None
    if denoiser.input_std is not None:
        return None
    scale = float(getattr(denoiser.backbone, "config", {}).get("time_scale", 1.0))
    count = clock.scale * scale
    if not 2 <= count <= 100_000 or round(count) != count:
        raise ValueError(
            f"clock is {clock}, with time_scale {scale:g} of the backbone; allowed: a product that is a whole number from 2 to 100000, "
            "such as TimeClock(1000) with time_scale 1; train with that clock"
        )
    config: dict[str, object] = {"num_train_timesteps": round(count)}
    notes: list[str] = []
    if model.steps > 1:
        config["shift_terminal"] = 1.0 / model.steps
        notes.append(
            f"its last step begins at sigma 1 / {model.steps} (shift_terminal), so that its levels at {model.steps} steps are ours; at "
            "another number of steps they are not evenly spaced"
        )

    def timestep(level: Level) -> float:
        return float(level.sigma) * count

    plain = isinstance(model.sampler, Euler | DDIM) and not model.sampler.draws
    even = isinstance(model.grid, Trailing)
    if not even:
        notes.append(f"the grid {model.grid} has no counterpart there: even steps are written")
    return Process(
        "FlowMatchEulerDiscreteScheduler", config, Told(), timestep, False, Euler(), Trailing(), 1.0, plain and even, notes=notes
    )  # fmt: skip
