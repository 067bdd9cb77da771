"""Every deterministic sampler with the order that is expected of it: the one table of expectations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...samplers import (
    DDIM,
    GHVB,
    PLMS,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    GradientEstimation,
    HeavyBall,
    Heun,
    Sampler,
    UniPC,
)

__all__ = ["METHODS", "WHY", "Method"]

# why theory and practice differ, for the methods that say so
WHY: dict[str, str] = {
    "slow": "still rising towards its theory at 1024 steps: steps uniform in t are far from even in log-SNR at the ends",
    "start": "the first steps, of lower order, leave an error of order 2 that takes over only at many steps",
    "grid": "Adams' constant numbers are of order 2 at most on steps that are not equal; that part of the error is still small beside "
    "the rest, or of the other sign",
    "sign": "two parts of the error, of different orders and opposite signs, cancel within the range that is fitted",
    "infinite": "the infinite first step out of alpha = 0 is of order 1 and leaves an error of order 2",
}


@dataclass(frozen=True)
class Method:
    """A sampler and its order.

    Args:
        name: as it is written in Python.
        sampler: deterministic.
        theory: the order in words, on any grid.
        order: what is measured, unless `measured` says otherwise.
        why: keys of WHY, where it does.
        measured: by (path, data), what is expected there, and why is in `why`.
    """

    name: str
    sampler: Sampler
    theory: str
    order: float
    why: tuple[str, ...] = ()
    measured: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def expected(self, path: str, data: str) -> float:
        """The order that a measurement from 256 to 1024 steps is held to."""
        return self.measured.get((path, data), self.order)


# fmt: off
METHODS: tuple[Method, ...] = (
    Method("DDIM()", DDIM(), "1", 1),
    Method("Heun()", Heun(), "2", 2),
    Method("DPMSolver2()", DPMSolver2(), "2", 2),
    Method("DPMSolverPP2S()", DPMSolverPP2S(), "2", 2),
    Method("DPMSolverPP(1)", DPMSolverPP(1), "1", 1),
    Method("DPMSolverPP(2)", DPMSolverPP(2), "2", 2),
    Method('DPMSolverPP(2, solver="heun")', DPMSolverPP(2, solver="heun"), "2", 2),
    Method("DPMSolverPP(3)", DPMSolverPP(3), "2; 3 before", 2, ("start",), {
        ("vp", "mixture"): 2.92, ("vp", "gaussian"): 2.91,
        ("flow", "mixture"): 2.69, ("flow", "gaussian"): 2.84,
        ("ve", "mixture"): 2.29, ("ve", "gaussian"): 1.87,
        ("zero", "mixture"): 2.97, ("zero", "gaussian"): 3.01,
    }),
    Method("DPMSolverPP(3, legacy=True)", DPMSolverPP(3, legacy=True), "2", 2, ("sign",), {
        ("vp", "mixture"): 1.33, ("vp", "gaussian"): 0.88,
        ("flow", "mixture"): 1.46, ("flow", "gaussian"): 1.68,
        ("zero", "mixture"): 2.45,
    }),
    Method('UniPC(1, "bh1")', UniPC(1, "bh1"), "2", 2, ("slow",), {
        ("zero", "mixture"): 1.88,
    }),
    Method('UniPC(1, "bh2")', UniPC(1, "bh2"), "2", 2, ("slow",), {
        ("zero", "mixture"): 1.83, ("zero", "gaussian"): 1.87,
    }),
    Method('UniPC(1, "solved")', UniPC(1, "solved"), "2", 2, ("slow",), {
        ("zero", "mixture"): 1.85,
    }),
    Method('UniPC(2, "bh1")', UniPC(2, "bh1"), "3", 3, ("slow",), {
        ("zero", "mixture"): 2.8, ("zero", "gaussian"): 2.82,
    }),
    Method('UniPC(2, "bh2")', UniPC(2, "bh2"), "3", 3, ("slow",), {
        ("vp", "mixture"): 2.85, ("vp", "gaussian"): 2.86,
        ("zero", "mixture"): 2.69, ("zero", "gaussian"): 2.72,
    }),
    Method('UniPC(2, "solved")', UniPC(2, "solved"), "3", 3, ("slow",), {
        ("vp", "mixture"): 2.87,
        ("zero", "mixture"): 2.73, ("zero", "gaussian"): 2.75,
    }),
    Method('UniPC(3, "bh1")', UniPC(3, "bh1"), "4", 4, ("slow", "sign"), {
        ("vp", "mixture"): 3.73, ("vp", "gaussian"): 3.75,
        ("ve", "mixture"): 3.83, ("ve", "gaussian"): 4.4,
        ("zero", "mixture"): 3.46, ("zero", "gaussian"): 3.5,
    }),
    Method('UniPC(3, "bh2")', UniPC(3, "bh2"), "4", 4, ("slow",), {
        ("vp", "mixture"): 3.72, ("vp", "gaussian"): 3.74,
        ("zero", "mixture"): 3.46, ("zero", "gaussian"): 3.5,
    }),
    Method('UniPC(3, "solved")', UniPC(3, "solved"), "4", 4, ("slow",), {
        ("vp", "mixture"): 3.73, ("vp", "gaussian"): 3.75,
        ("zero", "mixture"): 3.46, ("zero", "gaussian"): 3.5,
    }),
    Method("PLMS(1)", PLMS(1), "1", 1),
    Method("PLMS(2)", PLMS(2), "2", 2),
    Method("PLMS(3)", PLMS(3), "2", 2, ("grid",), {
        ("vp", "mixture"): 2.15, ("vp", "gaussian"): 2.7,
    }),
    Method("PLMS(4)", PLMS(4), "2", 2, ("grid",), {
        ("vp", "mixture"): 2.14, ("vp", "gaussian"): 3.92,
        ("zero", "mixture"): 2.15, ("zero", "gaussian"): 2.3,
    }),
    Method("PLMS(5)", PLMS(5), "2", 2, ("grid",), {
        ("vp", "gaussian"): 2.71,
        ("zero", "mixture"): 2.17, ("zero", "gaussian"): 2.37,
    }),
    Method("PLMS(2, variable=True)", PLMS(2, variable=True), "2", 2),
    Method("PLMS(3, variable=True)", PLMS(3, variable=True), "2; 3 before", 2, ("start",), {
        ("vp", "mixture"): 2.31, ("vp", "gaussian"): 2.32,
        ("flow", "mixture"): 2.38, ("flow", "gaussian"): 2.47,
        ("ve", "mixture"): 2.89, ("ve", "gaussian"): 2.94,
        ("zero", "mixture"): 2.95, ("zero", "gaussian"): 3.03,
    }),
    Method("PLMS(4, variable=True)", PLMS(4, variable=True), "2; 4 before", 2, ("start",), {
        ("vp", "mixture"): 2.19, ("vp", "gaussian"): 2.19,
        ("flow", "mixture"): 2.17, ("flow", "gaussian"): 2.18,
        ("ve", "mixture"): 2.64, ("ve", "gaussian"): 3.01,
        ("zero", "mixture"): 3.6, ("zero", "gaussian"): 2.44,
    }),
    Method("PLMS(5, variable=True)", PLMS(5, variable=True), "2; 5 before", 2, ("start",), {
        ("vp", "mixture"): 2.15, ("vp", "gaussian"): 2.15,
        ("ve", "mixture"): 2.14, ("ve", "gaussian"): 2.28,
        ("zero", "mixture"): 2.4, ("zero", "gaussian"): 2.4,
    }),
    Method('PLMS(2, variable=True, warm_up="rk4")', PLMS(2, variable=True, warm_up="rk4"), "2", 2),
    Method('PLMS(3, variable=True, warm_up="rk4")', PLMS(3, variable=True, warm_up="rk4"), "3", 3, ("slow",), {
        ("vp", "mixture"): 2.84, ("vp", "gaussian"): 2.86,
    }),
    Method('PLMS(4, variable=True, warm_up="rk4")', PLMS(4, variable=True, warm_up="rk4"), "4", 4, ("slow", "infinite"), {
        ("vp", "mixture"): 3.62, ("vp", "gaussian"): 3.61,
        ("flow", "mixture"): 3.79, ("flow", "gaussian"): 3.81,
        ("zero", "gaussian"): 3.39,
    }),
    Method('PLMS(5, variable=True, warm_up="rk4")', PLMS(5, variable=True, warm_up="rk4"), "5", 5, ("slow", "infinite"), {
        ("vp", "mixture"): 4.31, ("vp", "gaussian"): 4.31,
        ("flow", "mixture"): 4.59, ("flow", "gaussian"): 4.59,
        ("zero", "mixture"): 2.74, ("zero", "gaussian"): 2.74,
    }),
    Method("HeavyBall(PLMS(4), 0.8)", HeavyBall(PLMS(4), 0.8), "1", 1),
    Method("HeavyBall(PLMS(4), 0.8, nesterov=True)", HeavyBall(PLMS(4), 0.8, nesterov=True), "1", 1),
    Method("HeavyBall(DPMSolverPP(2), 0.8)", HeavyBall(DPMSolverPP(2), 0.8), "1", 1, ("sign",), {
        ("zero", "gaussian"): 0.87,
    }),
    Method("HeavyBall(DPMSolverPP(2), 0.8, nesterov=True)", HeavyBall(DPMSolverPP(2), 0.8, nesterov=True), "1", 1, ("sign",), {
        ("vp", "gaussian"): 0.62,
        ("flow", "gaussian"): 0.85,
        ("zero", "mixture"): 1.21, ("zero", "gaussian"): 0.21,
    }),
    Method("GHVB(0.8)", GHVB(0.8), "1", 1),
    Method("GHVB(1.8)", GHVB(1.8), "2", 2),
    Method("GHVB(3.8)", GHVB(3.8), "2", 2, ("grid",), {
        ("vp", "mixture"): 2.14, ("vp", "gaussian"): 2.79,
        ("zero", "mixture"): 2.15, ("zero", "gaussian"): 2.29,
    }),
    Method("GHVB(4.0)", GHVB(4.0), "2", 2, ("grid",), {
        ("vp", "mixture"): 2.14, ("vp", "gaussian"): 3.92,
        ("zero", "mixture"): 2.15, ("zero", "gaussian"): 2.3,
    }),
    Method("GradientEstimation()", GradientEstimation(), "1", 1),
    Method("GradientEstimation(1.5)", GradientEstimation(1.5), "2", 2),
)
# fmt: on
