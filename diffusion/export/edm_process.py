"""EDM's preconditioning as diffusers' EDM schedulers."""

from __future__ import annotations

import math

from ...samplers import DDIM, DPMSolverPP, Euler, Sampler
from ...schedules import EDM, Exponential, Grid, Karras, Level, LogSNRUniform, Negative, Row, V
from ...schedules.schedule import entries
from ..clocks import EDGE, LogSNRClock
from ..denoiser import Denoiser
from ..model import Model
from .process import Process
from .told import Told

__all__ = ["edm_process"]

_NOISE = 0.125  # c_noise = ln(sigma) / 4 = -log-SNR / 8


def _data_std(denoiser: Denoiser) -> tuple[float, str] | None:
    """sigma_data and prediction_type of a row that has EDM's form; None for another."""
    row: Row = denoiser.row
    sign = {EDM: "epsilon", Negative: "v_prediction"}.get(type(row))
    inner = row.row if isinstance(row, Negative) else row
    if isinstance(inner, EDM) and sign is not None and denoiser.input_std == inner.data_std:
        return inner.data_std, sign
    # v on a preserving path is EDM's output for data of unit variance, with the other sign; its input has unit variance already
    levels = [denoiser.schedule(t) for t in (0.1, 0.5, 0.9)]
    preserving = all(abs(level.alpha**2 + level.sigma**2 - 1) < 1e-9 for level in levels)
    if isinstance(row, V) and denoiser.input_std is None and preserving and isinstance(denoiser.clock, LogSNRClock):
        return 1.0, "v_prediction"
    return None


def edm_process(model: Model) -> Process | None:
    """Of a model with EDM's row, on any path, since sigma there is sigma / alpha; None for another row.

    Args:
        model: ours.

    Raises:
        ValueError: for a clock whose numbers no rotation of the time's features makes of ln(sigma) / 4.
    """
    denoiser = model.denoiser
    found = _data_std(denoiser)
    if found is None:
        return None
    std, kind = found
    scale = _time_scale(denoiser)
    clock = denoiser.clock
    if not isinstance(clock, LogSNRClock) or not math.isclose(abs(clock.scale * scale), _NOISE, rel_tol=1e-9):
        wanted = f"{{class_path: LogSNRClock, init_args: {{scale: {-_NOISE / scale:g}}}}}"
        raise ValueError(
            f"clock is {clock}, with time_scale {scale:g} of the backbone; diffusers' EDM schedulers tell ln(sigma) / 4, and what is told "
            f"otherwise than by its sign can't be carried over. Allowed: {wanted}; train with that clock"
        )
    sign = -math.copysign(1.0, clock.scale)
    grid, top, bottom, notes = _grid(model)
    kept = min(math.exp(EDGE / 2), top)
    if kept < top:
        notes.append(f"the clock is cut at sigma {kept:.4g}, and the grid begins at {top:.4g}")
    sampler, name, more = _sampler(model.sampler)
    schedule = {Karras: "karras", Exponential: "exponential"}[type(grid)]
    config = {
        "sigma_min": bottom, "sigma_max": top, "sigma_data": std, "sigma_schedule": schedule, "prediction_type": kind,
        "rho": grid.rho if isinstance(grid, Karras) else 7.0, **more,
    }  # fmt: skip

    def timestep(level: Level) -> float:
        return -_NOISE * float(level.log_snr)

    same = sampler == model.sampler or (isinstance(model.sampler, DDIM | Euler) and not model.sampler.draws)
    notes.append(f"it begins with noise of standard deviation sqrt({top:g}^2 + 1), ours with {top:g}")
    return Process(
        name, config, Told(sign), timestep, True, sampler, grid, top, same and not _other_grid(model, grid), notes=notes
    )


def _time_scale(denoiser: Denoiser) -> float:
    return float(getattr(denoiser.backbone, "config", {}).get("time_scale", 1.0))


def _grid(model: Model) -> tuple[Karras | Exponential, float, float, list[str]]:
    """The grid that is written, its ends, and what to say of it."""
    levels = model.grid(model.denoiser.schedule, model.steps)
    ratios = [float(level.ratio) for level in levels]
    top, bottom = ratios[0], ratios[-2] if ratios[-1] == 0 and len(ratios) > 2 else ratios[-1]
    if isinstance(model.grid, Karras | Exponential | LogSNRUniform) and len(ratios) > 2 and ratios[-1] == 0:
        made = model.grid if isinstance(model.grid, Karras | Exponential) else Exponential(bottom, top)
        # the ends as they were said, where they were: not through a logarithm and back
        return made, top if made.high is None else made.high, bottom if made.low is None else made.low, []
    schedule = model.denoiser.schedule
    count = entries(schedule)  # a table knows no noise between its first entry and data
    top = min(top, 80.0)
    bottom = max(0.002, float(schedule(1.0 / count if count else 0.0).ratio))
    return Karras(bottom, top), top, bottom, [
        f"the grid {model.grid} has no counterpart there: Karras(low={bottom:g}, high={top:g}, rho=7) is written"
    ]  # fmt: skip


def _other_grid(model: Model, grid: Grid) -> bool:
    ours = model.grid(model.denoiser.schedule, model.steps)
    theirs = grid(model.denoiser.schedule, model.steps)
    return any(
        not math.isclose(float(a.sigma), float(b.sigma), rel_tol=1e-6, abs_tol=1e-9)
        for a, b in zip(ours, theirs, strict=True)
    )


def _sampler(own: Sampler) -> tuple[Sampler, str, dict[str, object]]:
    """Ours that equals the scheduler, its class, and further arguments of it."""
    if isinstance(own, Euler | DDIM) and not own.draws:
        return own, "EDMEulerScheduler", {}
    if isinstance(own, DPMSolverPP) and own.order < 3 and own.eta in (0.0, 1.0) and own.solver == "midpoint":
        kind = "sde-dpmsolver++" if own.eta else "dpmsolver++"
        more = {"solver_order": own.order, "algorithm_type": kind}
        return own, "EDMDPMSolverMultistepScheduler", {**more, "lower_order_final": False}
    more = {"solver_order": 2, "algorithm_type": "dpmsolver++", "lower_order_final": False}
    return DPMSolverPP(2), "EDMDPMSolverMultistepScheduler", more
