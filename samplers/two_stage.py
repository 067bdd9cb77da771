"""What DPM-Solver-2 and DPM-Solver++ (2S) share: a step down in log g, an evaluation within it, and noise on top."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.schedule import Schedule
from .path import at_ratio, known, plain
from .state import Denoise, State, Vector, move, renewed

__all__ = ["check_stage", "two_stage"]


def check_stage(sampler: object, eta: float, r: float) -> None:
    """Refuse eta outside [0, 1] and r outside (0, 1).

    Raises:
        ValueError: naming the field.
    """
    name = type(sampler).__name__
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"{name}.eta is {eta}; allowed: 0 (the ODE) to 1 (ancestral)")
    if not 0.0 < r < 1.0:
        raise ValueError(f"{name}.r is {r}; allowed: in (0, 1), where in the step the second evaluation stands")


def two_stage(
    sampler: object, path: Schedule | None, eta: float, r: float, state: State, denoise: Denoise, now: Level, nxt: Level,
    z: tuple[Vector, ...], end: Callable[[Prediction, Prediction, float], tuple[Vector, Vector]],
) -> tuple[State, Prediction]:  # fmt: skip
    """One step with a second evaluation at g^(1-r) down^r, then noise from `down` up to g'.

    Args:
        sampler, path, eta, r: see DPMSolverPP2S.
        state, denoise, now, nxt, z: of the step.
        end: (first answer, second answer, 1 / (2 r)) -> the means (eps, x0) over the step, one of them None.
    """
    plain(sampler, now, nxt)
    p = denoise(state.x, now)
    up = float(renewed(now, nxt, eta))
    fresh, down = nxt.sigma * up, nxt.ratio * math.sqrt(1.0 - up**2)
    noise = z[0] if z else None
    if not (down > 0 and 0 < now.ratio < math.inf and math.isfinite(nxt.ratio)):
        return State(move(p, now, nxt, fresh=fresh, z=noise)), p
    between = at_ratio(known(path, sampler, now, nxt), now.ratio ** (1 - r) * down**r)
    eps, x0 = end(p, denoise(move(p, now, between), between), 0.5 / r)
    return State(move(p, now, nxt, eps=eps, x0=x0, fresh=fresh, z=noise)), p
