"""The forward process and sampler of a model in the words of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...samplers import DDIM, Euler, Sampler
from ...schedules import Grid, Level
from ...schedules.parts import in_short
from ..model import Model
from .told import Told

__all__ = ["Process", "process_of"]


@dataclass
class Process:
    """A scheduler of diffusers, and what of ours it equals.

    Args:
        kind: name of its class.
        config: arguments of the class.
        told: how the number that our network is told follows from a timestep of it.
        timestep: the timestep at a level.
        scaled: whether it scales the network's input and the starting noise, so that a pipeline must ask it to.
        sampler, grid: of ours, that make the same steps.
        start: what unit noise is multiplied with so that it begins where ours does.
        same: whether the sampler and grid are the model's own.
        variance: whether it reads a learned variance.
        notes: what is worth saying.
    """

    kind: str
    config: dict[str, Any]
    told: Told
    timestep: Callable[[Level], float]
    scaled: bool
    sampler: Sampler
    grid: Grid
    start: float
    same: bool = True
    variance: bool = False
    notes: list[str] = field(default_factory=list)


def process_of(model: Model) -> Process:
    """The nearest scheduler of diffusers for what a model was trained on and is sampled by.

    Args:
        model: ours.

    Raises:
        ValueError: for what no scheduler says: another pairing of row, schedule and clock, with what is allowed.
    """
    from .edm_process import edm_process
    from .flow_process import flow_process
    from .table_process import table_process

    if model.text is not None:
        raise ValueError(
            "the run knows texts, and no network that is written here hears any; allowed: runs of classes, or without"
        )
    for make in (edm_process, table_process, flow_process):
        found = make(model)
        if found is not None:
            if not _steps_alike(model.sampler, found.sampler):
                found.notes.insert(0, f"the run's own sampler {in_short(model.sampler)} has no counterpart there: {found.kind} is "
                    f"written, which steps as {in_short(found.sampler)}")  # fmt: skip
            return found
    denoiser = model.denoiser
    said = ", ".join(f"{key}: {in_short(getattr(denoiser, key))}" for key in ("schedule", "row", "clock"))
    raise ValueError(
        f"{said}, input_std: {denoiser.input_std}: no scheduler of diffusers says that. Allowed: row EDM on any schedule with clock "
        "LogSNRClock (scale: -0.125, or 0.125; divided by the backbone's time_scale); row Eps, X0 or V on a variance-preserving "
        "schedule with clock TimeClock or EntryClock; row Flow on schedule RectifiedFlow with clock TimeClock or SigmaClock (scale times "
        "time_scale a whole number, such as 1000)"
    )


def _steps_alike(own: Sampler, written: Sampler) -> bool:
    """Whether two samplers take the same steps; Euler without noise is DDIM on every path that is written."""
    plain = (Euler, DDIM)
    both = isinstance(own, plain) and isinstance(written, plain) and not own.draws and not written.draws
    return own == written or both
