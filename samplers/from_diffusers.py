"""A scheduler of diffusers as our parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..schedules.diffusers_config import read_config, read_process
from ..schedules.grid import Grid
from ..schedules.grids import Leading, Linspace, Trailing
from ..schedules.ratio_grids import Exponential, Karras
from ..schedules.rows import Row
from ..schedules.schedule import Schedule, first_t
from ..schedules.spaced import Spaced
from .clipped import Clipped
from .ddim import DDIM
from .ddpm import DDPM
from .diffusers_options import options
from .dpm_solver import DPMSolverPP
from .euler import Euler
from .heun import Heun
from .plms import PLMS
from .state import Sampler
from .unipc import UniPC

__all__ = ["Sampling", "from_diffusers"]

_MULTISTEP = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
_WHOLE = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")


class Sampling(NamedTuple):
    """How to sample: the method, the path and the output's meaning of the network, and the choice of levels."""

    sampler: Sampler
    schedule: Schedule
    row: Row
    grid: Grid


def from_diffusers(source: Mapping[str, Any] | str | Path | object) -> Sampling:
    """Our equivalent of a diffusers scheduler: `as_diffusers(*from_diffusers(pipe.scheduler))` would sample as it does.

    The same numbers to rounding, but for these:

    * PNDM without skip_prk_steps makes its first three steps by Runge-Kutta with the middle half-way in the index; here it is half-way in
      sigma / alpha. From there on they are the same.
    * DPM-Solver++ of order 3 makes the last step but one of fewer than 15 with order 2 (lower_order_final), UniPC of order 3 always. The
      last step is of order 1 in any case, but for one that ends at the first entry: there the order is kept here. Order 3 is the
      published one, legacy=True, of order 2 in fact; sde-dpmsolver++ of order 3 has a wrong sign there, which is not imitated.
    * DDIM and PNDM step from t to t - T // steps, whichever timestep is next: "linspace", and "trailing" where steps do not divide T, lead
      them beside the grid. DDPM with variance fixed_large adds noise in a last step that is not the table's last.
    * UniPC's bh1 to sigma 0, its default end, is nan in diffusers; so are bh2 and DPM-Solver++ of order 2 without lower_order_final.
    * Euler's classes return x / alpha where they end at the first entry.
    * Zero SNR is exact here, and 2^-24 in Euler, DPM-Solver and UniPC.
    * Karras grids tell DPM-Solver's and UniPC's network a rounded time; here it is the exact one.
    * A last step of no length is left out where the end is the first entry: DDIM with clip_sample clips x0 once more in it, and UniPC
      corrects once more.
    * What is no config but an argument of a step (eta of DDIM, churn of Euler) is unknown: 0. The starting noise of "leading" is a little
      larger in Euler's classes, and is 1 in the others, for sigma here.

    Args:
        source: a scheduler, its config with _class_name, or its folder; see Table.from_diffusers.

    Raises:
        ValueError: for a class or a value that has no equivalent, by name and with the reason.
    """
    name, given = read_config(source)
    if name == "SfumatoScheduler":  # ours, made by as_diffusers
        from .diffusers_scheduler import SfumatoScheduler

        own = SfumatoScheduler.from_config({"_class_name": name, **given})
        return Sampling(own.sampler, own.schedule, own.row, own.grid)
    config = options(name, given)
    if (
        name == "UniPCMultistepScheduler"
        and config["final_sigmas_type"] == "sigma_min"
        and config["sigma_min"] is not None
    ):
        raise ValueError(
            f"{name}: sigma_min is {config['sigma_min']} with final_sigmas_type sigma_min, which ends at that level; no grid here does. "
            "Allowed: final_sigmas_type zero, or no sigma_min"
        )
    schedule, row = read_process(source, None)
    return Sampling(_sampler(name, config), schedule, row, _grid(name, config, schedule))


def _sampler(name: str, config: Mapping[str, Any]) -> Sampler:
    order = config.get("solver_order", 0)
    sampler: Sampler
    if name == "DDPMScheduler":
        kind = config["variance_type"]
        sampler = DDPM("large" if kind == "fixed_large" else "learned" if kind == "learned_range" else "small")
    elif name == "DDIMScheduler":
        sampler = DDIM()
    elif name == "PNDMScheduler":
        sampler = PLMS(order=4, warm_up="heun" if config["skip_prk_steps"] else "rk4")
    elif name == "LMSDiscreteScheduler":
        sampler = PLMS(order=4, variable=True)
    elif name == "HeunDiscreteScheduler":
        sampler = Heun()
    elif name == "DPMSolverMultistepScheduler":
        # what diffusers accepts for "midpoint"
        solver = "heun" if config["solver_type"] == "heun" else "midpoint"
        eta = 1.0 if config["algorithm_type"] == "sde-dpmsolver++" else 0.0
        sampler = DPMSolverPP(order, eta, solver, legacy=order == 3)
    elif name == "UniPCMultistepScheduler":
        sampler = UniPC(order, "bh1" if config["solver_type"] == "bh1" else "bh2")
    else:
        sampler = Euler(eta=float(name == "EulerAncestralDiscreteScheduler"))
    if config.get("clip_sample"):
        return Clipped(sampler, float(config["clip_sample_range"]), keep_eps=name == "DDIMScheduler")
    return sampler


def _grid(name: str, config: Mapping[str, Any], schedule: Schedule) -> Grid:
    spacing, offset, multistep, whole = (
        config["timestep_spacing"],
        config["steps_offset"],
        name in _MULTISTEP,
        name in _WHOLE,
    )
    noisy = config.get("final_sigmas_type") == "sigma_min" or config.get("set_alpha_to_one") is False
    offset = offset if spacing == "leading" else 0
    between = None
    if config.get("use_karras_sigmas"):
        between = "karras"
    elif config.get("use_exponential_sigmas") or config.get("use_lu_lambdas"):
        between = "exponential"
    low, high = config.get("sigma_min"), config.get("sigma_max")
    if between and multistep:  # these two span the whole table
        low = float(schedule(first_t(schedule)).ratio) if low is None else low
        high = min(float(schedule(1.0).ratio), math.sqrt(2.0**24 - 1)) if high is None else high
        if not noisy:
            return (Karras if between == "karras" else Exponential)(low, high)
    if not (between or noisy):
        if spacing == "trailing":
            return Trailing()
        if spacing == "leading" and not multistep:
            return Leading(offset)
        if spacing == "linspace" and (multistep or whole):
            return Linspace(clean=not multistep)
    # without `between` the ends mean nothing
    ends = (low, high) if between else (None, None)
    return Spaced(spacing, offset, multistep, whole or multistep, between, *ends, noisy)
