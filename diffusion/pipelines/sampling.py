"""How a pipeline of diffusers would sample, in our parts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...samplers import DPMSolverPP, Euler, Sampler
from ...samplers.from_diffusers import from_diffusers
from ...schedules import Exponential, Grid, Karras, Trailing
from ...schedules.diffusers_config import read_config
from .flow_grid import FlowLinspace

__all__ = ["sampling_of"]

_EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}


def sampling_of(source: Mapping[str, Any] | str | Path | object, trailing: bool) -> tuple[Sampler, Grid]:
    """The sampler and grid nearest to a scheduler's own; with a warning DPM-Solver++ or Euler on Trailing() where there is none.

    Args:
        source: a scheduler, its config or its folder.
        trailing: whether the pipeline gives its own sigmas, 1 to 1 / steps (FLUX).
    """
    name, config = read_config(source)
    if name == "FlowMatchEulerDiscreteScheduler":
        odd = [
            key
            for key in (
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "shift_terminal",
                "stochastic_sampling",
            )
            if config.get(key)
        ]
        if not odd:
            return Euler(), Trailing() if trailing else FlowLinspace(_clean_end(config))
        _warn(f"{name}: {odd[0]} is {config[odd[0]]!r}, which has no equivalent here", "Euler() on Trailing()")
        return Euler(), Trailing()
    if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        low, high, rho = (float(config.get(key, value)) for key, value in _EDM.items())
        karras = config.get("sigma_schedule", "karras") == "karras"
        sampler = Euler() if name == "EDMEulerScheduler" else DPMSolverPP(int(config.get("solver_order", 2)))
        return sampler, Karras(low, high, rho) if karras else Exponential(low, high)
    try:
        found = from_diffusers(source)
    except ValueError as error:
        flow = "Flow" in name or bool(config.get("use_flow_sigmas"))
        _warn(str(error).partition(";")[0], f"{'Euler' if flow else 'DPMSolverPP'}() on Trailing()")
        return (Euler() if flow else DPMSolverPP()), Trailing()
    return found.sampler, found.grid


def _clean_end(config: Mapping[str, Any]) -> float:
    """t before data: shifted once by the scheduler's constructor, where the shift is fixed."""
    last = 1.0 / float(config.get("num_train_timesteps", 1000))
    shift = 1.0 if config.get("use_dynamic_shifting") else float(config.get("shift", 1.0))
    return shift * last / (1.0 + (shift - 1.0) * last)


def _warn(why: str, instead: str) -> None:
    warnings.warn(
        f"{why}; the model's own sampling is {instead}, and its path is the scheduler's", UserWarning, stacklevel=4
    )
