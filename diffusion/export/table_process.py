"""A variance-preserving path as the betas of DDPM's schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...samplers import DDIM, DDPM, DPMSolverPP, Euler, Sampler
from ...schedules import X0, Eps, Level, Trailing, V
from ..clocks import EntryClock, TimeClock
from ..denoiser import Denoiser
from ..model import Model
from .process import Process
from .told import Told

__all__ = ["betas_of", "table_process"]

_TYPES: dict[type, str] = {Eps: "epsilon", X0: "sample", V: "v_prediction"}
_MOST = 100_000


def table_process(model: Model) -> Process | None:
    """Of a model that predicts eps, x0 or v on a preserving path and is told the time; None for another.

    Args:
        model: ours.

    Raises:
        ValueError: for a time that is not told in whole numbers, and fewer of them than steps.
    """
    denoiser = model.denoiser
    kind = _TYPES.get(type(denoiser.row))
    if kind is None or denoiser.input_std is not None or not isinstance(denoiser.clock, EntryClock | TimeClock):
        return None
    count, told = _entries(denoiser)
    levels = [denoiser.schedule((i + 1) / count) for i in range(count)]
    if any(abs(level.alpha**2 + level.sigma**2 - 1.0) > 1e-9 for level in levels):
        return None
    if model.steps > count:
        raise ValueError(
            f"sampling_steps is {model.steps}, and diffusers has one timestep for each of the {count} numbers of the clock; allowed: at "
            f"most {count}: train on with sampling_steps: {count}, or fewer"
        )
    sampler, name, more = _sampler(model.sampler, even=count % model.steps == 0)
    config = {
        "num_train_timesteps": count, "trained_betas": betas_of(levels), "prediction_type": kind, "timestep_spacing": "trailing", **more,
    }  # fmt: skip
    notes: list[str] = []
    if levels[-1].alpha == 0 and name != "DDIMScheduler":
        config["rescale_betas_zero_snr"] = True
        notes.append("zero SNR is alpha 2^-12 there")
    if count % model.steps:
        notes.append(f"{model.steps} steps do not divide {count} entries: timesteps are rounded there")
    if not isinstance(model.grid, Trailing):
        notes.append(f"the grid {model.grid} has no counterpart there: trailing timesteps are written")

    def timestep(level: Level) -> float:
        return float(level.t) * count - 1.0

    same = (sampler == model.sampler or type(model.sampler) is Euler) and isinstance(model.grid, Trailing)
    variance = isinstance(sampler, DDPM) and sampler.variance == "learned"
    if variance and model.steps < count:
        notes.append(
            f"it draws noise in the last step, too, of the learned variance, where ours draws none: at fewer than {count} steps pictures "
            "differ by that"
        )
    start = float(levels[-1].sigma)
    return Process(name, config, told, timestep, False, sampler, Trailing(), start, same, variance, notes)


def betas_of(levels: Sequence[Level]) -> list[float]:
    """1 - alpha^2 / alpha'^2 of each entry and the one before, from sigma, which keeps its digits where alpha is nearly 1.

    Args:
        levels: least noise first, on a preserving path.
    """
    alpha, sigma, betas = 1.0, 0.0, []
    for level in levels:
        betas.append((float(level.sigma) ** 2 - sigma**2) / alpha**2)
        alpha, sigma = float(level.alpha), float(level.sigma)
    return betas


def _entries(denoiser: Denoiser) -> tuple[int, Told]:
    """How many timesteps there are, and how our number follows from them."""
    clock, scale = denoiser.clock, float(getattr(denoiser.backbone, "config", {}).get("time_scale", 1.0))
    if isinstance(clock, EntryClock):
        if scale != 1.0:
            raise ValueError(
                f"time_scale is {scale:g} with clock {clock}; allowed: 1, since diffusers tells the entry itself"
            )
        return clock.entries, Told()
    assert isinstance(clock, TimeClock)
    entries = clock.scale * scale
    if not 2 <= entries <= _MOST or round(entries) != entries:
        raise ValueError(
            f"clock is {clock}, with time_scale {scale:g} of the backbone; allowed: a product that is a whole number from 2 to {_MOST}, "
            "the timesteps of diffusers, such as TimeClock(1000) with time_scale 1; train with that clock"
        )
    return round(entries), Told(1.0, 1.0)  # entry i is at t = (i + 1) / T


def _sampler(own: Sampler, even: bool) -> tuple[Sampler, str, dict[str, Any]]:
    """Ours that equals the scheduler, its class, and further arguments of it.

    Args:
        own: the model's.
        even: whether the steps divide the entries.
    """
    if isinstance(own, DDPM):
        # its "fixed_large" draws noise in the last step, too, where that step begins above entry 0
        kind, ours = ("learned_range", own) if own.variance == "learned" else ("fixed_small", DDPM("small"))
        return ours, "DDPMScheduler", {"variance_type": kind, "clip_sample": False}
    if isinstance(own, DPMSolverPP) and own.order < 3 and own.eta in (0.0, 1.0) and own.solver == "midpoint":
        kind = "sde-dpmsolver++" if own.eta else "dpmsolver++"
        more = {"solver_order": own.order, "algorithm_type": kind, "final_sigmas_type": "zero"}
        return own, "DPMSolverMultistepScheduler", {**more, "lower_order_final": False}
    if not even:
        # DDIMScheduler steps down by whole entries, rounded, wherever its next timestep is; the same steps, to where they should go:
        more = {"solver_order": 1, "algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"}
        return DDIM(), "DPMSolverMultistepScheduler", {**more, "lower_order_final": False}
    return DDIM(), "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}
