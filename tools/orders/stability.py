"""How long a step may be: real stability intervals, measured from a sampler's own table of numbers."""

from __future__ import annotations

import math

import numpy as np

from ...samplers import GHVB, PLMS, DPMSolverPP, GradientEstimation, HeavyBall, Heun, Sampler, UniPC
from ...samplers.form import Form
from ...samplers.ghvb import split_order
from ...samplers.table import Program, trace
from ...schedules import Level

__all__ = ["FURTHER", "LOG_STEPS", "ON_DATA", "ON_EPS", "closed_form", "real_interval", "spectral_radius"]

# more steps than any method remembers: the last one is the method without its start
_STEPS = 12
# lengths of a step in half log-SNR: the limit of short ones, and that of about 14 steps from sigma / alpha 20 to 0.02
LOG_STEPS = (0.001, 0.5)
# A_k of Adams-Bashforth: 2 over its alternating sum of numbers
_ADAMS = {1: 2.0, 2: 1.0, 3: 6 / 11, 4: 3 / 10, 5: 90 / 551}

# one row per number of terms
ON_EPS: tuple[dict[str, Sampler], ...] = tuple(
    {
        f"PLMS({k})": PLMS(k),
        f"HeavyBall(PLMS({k}), 0.8)": HeavyBall(PLMS(k), 0.8),
        f"HeavyBall(PLMS({k}), 0.5)": HeavyBall(PLMS(k), 0.5),
        f"GHVB({k - 0.2:.1f})": GHVB(k - 0.2),
        f"GHVB({k - 0.5:.1f})": GHVB(k - 0.5),
    }
    for k in range(1, 6)
)
FURTHER: dict[str, Sampler] = {
    "GradientEstimation()": GradientEstimation(),
    "GradientEstimation(1.5)": GradientEstimation(1.5),
    "HeavyBall(PLMS(4), 0.8, nesterov=True)": HeavyBall(PLMS(4), 0.8, nesterov=True),
    "Heun()": Heun(),
}
ON_DATA: dict[str, Sampler] = {
    "DPMSolverPP(1)": DPMSolverPP(1),
    "DPMSolverPP(2)": DPMSolverPP(2),
    "HeavyBall(DPMSolverPP(2), 0.8)": HeavyBall(DPMSolverPP(2), 0.8),
    "DPMSolverPP(3)": DPMSolverPP(3),
    "HeavyBall(DPMSolverPP(3), 0.8)": HeavyBall(DPMSolverPP(3), 0.8),
    "UniPC(1)": UniPC(1),
    "UniPC(2)": UniPC(2),
    "UniPC(3)": UniPC(3),
}


def _levels(log_step: float | None) -> list[Level]:
    """Equal steps of length 1 in sigma / alpha, or of length log_step in its logarithm."""
    if log_step is None:
        return [Level(0.0, 1.0, float(_STEPS + 1 - i)) for i in range(_STEPS + 1)]
    return [Level(0.0, 1.0, math.exp(-log_step * i)) for i in range(_STEPS + 1)]


def _matrix(program: Program, step: float, log_step: float | None) -> np.ndarray:
    """The step as a matrix on (x, memory...), for the length `step` times slope."""
    table: dict[str, Form] = {}
    for k, (form, level) in enumerate(program.asks):
        at = form.into(table)
        g = float(level.ratio)
        slope = step if log_step is None else step / -math.expm1(-log_step) / g
        table |= {f"eps.{k}": at * slope, f"x0.{k}": at * (1.0 - slope * g)}
    names = ["x", *(f"m{j}" for j in range(len(program.memory)))]
    rows = [form.into(table).terms for form in (program.x, *program.memory)]
    return np.array([[row.get(name, 0.0) for name in names] for row in rows])


def _program(sampler: Sampler, log_step: float | None) -> Program:
    programs = trace(sampler, _levels(log_step))
    if programs is None:
        raise ValueError(
            f"{sampler} has no table of numbers; allowed: samplers that do + - * / by numbers, on levels alone"
        )
    return programs[-1]


def spectral_radius(sampler: Sampler, step: float, log_step: float | None = None) -> float:
    """By which factor a step shrinks (below 1) or grows (above 1) the test equation in the long run.

    Args:
        sampler: deterministic.
        step: length times slope, > 0; see `real_interval`.
        log_step: see `real_interval`.

    Raises:
        ValueError: for a sampler without a table of numbers.
    """
    return float(abs(np.linalg.eigvals(_matrix(_program(sampler, log_step), step, log_step))).max())


def real_interval(sampler: Sampler, log_step: float | None = None, limit: float = 100.0) -> float:
    """The largest l such that every step H in (0, l) makes z' = -L z decay, where H is the step's length in sigma / alpha times L.

    The matrix of a step is read off the sampler's own numbers, and l is where its spectral radius first reaches 1.

    Args:
        sampler: deterministic.
        log_step: None: equal steps in sigma / alpha and eps = L z, what methods that average eps are made for. A number: equal
            steps of that length h in half log-SNR and a linear predicted x0 = -c z, what exponential integrators are made for:
            they solve the rest, -z, exactly. There eps = (1 + c) z / g, so that H = (1 + c) (1 - e^-h); short steps of a steep x0
            are the limit in which both senses agree. Strong guidance makes x0 fall with z like this.
        limit: where to stop looking.

    Returns:
        l, or inf where every step up to `limit` decays.

    Raises:
        ValueError: for a sampler without a table of numbers.

    Source: Wizadwongsa et al. 2024 (2307.11118), section 3.2 and appendix.
    """
    program = _program(sampler, log_step)

    def decays(step: float) -> bool:
        # to rounding: a double root on the circle would be off by its square root
        return bool(abs(np.linalg.eigvals(_matrix(program, step, log_step))).max() < 1.0)

    low = 1e-2 if log_step is None else 1.001 * -math.expm1(-log_step)
    high = low
    while decays(high):
        if high > limit:
            return math.inf
        low, high = high, high * 1.02
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if decays(middle) else (low, middle)
    return 0.5 * (low + high)


def closed_form(sampler: Sampler, log_step: float | None = None) -> float | None:
    """What `real_interval` is by algebra, or None where it has not been worked out.

    Source: Wizadwongsa et al. 2024 (2307.11118) for PLMS, HeavyBall on it and GHVB; the rest by putting (-1)^n into the recursion.
    """
    if isinstance(sampler, HeavyBall) and isinstance(sampler.base, DPMSolverPP):
        inner, b = closed_form(sampler.base, log_step), sampler.beta
        own = 0.0 if log_step is None else -math.expm1(-log_step)
        return None if inner is None or sampler.nesterov else own + (inner - own) * (2 / b - 1)
    if isinstance(sampler, HeavyBall):
        b = sampler.beta
        momentum = (2 - b) / (b * (3 - 2 * b)) if sampler.nesterov else 2 / b - 1
        return _ADAMS[sampler.base.order] * momentum
    if isinstance(sampler, PLMS):
        return _ADAMS[sampler.order]
    if isinstance(sampler, GHVB):
        k, b = split_order(sampler.order)
        return {
            1: 2 * (2 - b) / b, 2: 2 - b, 3: 6 * (2 - b) / (12 - b), 4: 3 * (2 - b) / (11 - b), 5: 90 * (2 - b) / (600 - 49 * b),
        }[k]  # fmt: skip
    if isinstance(sampler, GradientEstimation):
        return 2 / (2 * sampler.gamma - 1)
    if isinstance(sampler, Heun):
        return 2.0
    if isinstance(sampler, DPMSolverPP) and sampler.order < 3 and sampler.solver == "midpoint" and log_step is not None:
        # at -1 the mean of x0 is `order` times x0, and e^-h z + (1 - e^-h) mean = -z
        own = -math.expm1(-log_step)
        return own + (2.0 - own) / sampler.order
    return None
