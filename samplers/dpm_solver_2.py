"""DPM-Solver-2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.schedule import Schedule
from .state import Denoise, State, Vector
from .two_stage import check_stage, two_stage

__all__ = ["DPMSolver2"]


@dataclass(frozen=True)
class DPMSolver2:
    """z' = z + (g' - g) ((1 - 1 / 2r) eps + eps_u / 2r), eps_u asked at g^(1-r) g'^r: order 2, two evaluations.

    One evaluation in the step that reaches the data and in one that leaves pure noise.

    Args:
        eta: share of the noise that is drawn anew (ancestral), in [0, 1].
        r: where in the step, in log g, the second evaluation stands, in (0, 1).
        path: the schedule of the levels; None: the model's.

    Raises:
        ValueError: for values out of range; in a step, without a path.

    Source: Lu et al. 2022 (2206.00927), DPM-Solver-2; k-diffusion's `sample_dpm_2` and `sample_dpm_2_ancestral`.
    """

    eta: float = 0.0
    r: float = 0.5
    path: Schedule | None = None

    def __post_init__(self) -> None:
        check_stage(self, self.eta, self.r)

    @property
    def draws(self) -> int:
        return int(self.eta > 0)

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        def mean(p: Prediction, u: Prediction, c: float) -> tuple[Vector, Vector]:
            return (1 - c) * p.eps + c * u.eps, None

        return two_stage(self, self.path, self.eta, self.r, state, denoise, levels[-2], levels[-1], z, mean)
