"""What is measured: our samplers, the floor of each, and its name elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...samplers import DDIM, DDPM, GHVB, PLMS, DPMSolverPP, GradientEstimation, HeavyBall, Heun, Sampler, UniPC
from ...schedules import Level, LinearBeta, Noise, Row, trailing
from ...schedules.rows import X0, V
from .floors import Floor, Means, data_means, ddpm, heun, noise_means
from .floors_momentum import data_momentum, noise_momentum, unipc

__all__ = ["METHODS", "ROWS", "Method", "levels_for"]


class Method(NamedTuple):
    """A sampler, its floor along levels for a row, and what others call it: diffusers and azula (class, arguments), k-diffusion."""

    sampler: Sampler
    floor: Callable[[Sequence[Level], Row, Noise], Floor]
    diffusers: tuple[str, dict[str, object]] | None = None
    k_diffusion: str | None = None
    azula: tuple[str, dict[str, object]] | None = None


ROWS: dict[str, Row | None] = {"x0": X0(), "v": V(), "pair": None}
"""How the network answers: the data on a variance-exploding path, v on a variance-preserving one, or a pair on the first."""


def levels_for(row: Row | None, steps: int) -> list[Level]:
    """The levels of a row's case: sigma 80 to 0.02 geometrically and then 0, or the linear-beta table."""
    if isinstance(row, V):
        return trailing(LinearBeta(), steps)
    ratios = [80.0 * (0.02 / 80.0) ** (i / (steps - 1)) for i in range(steps)]
    return [*(Level(0.0, 1.0, s) for s in ratios), Level(0.0, 1.0, 0.0)]


def _means(sampler: DPMSolverPP | PLMS, levels: Sequence[Level]) -> Means:
    return lambda i: sampler.weights(levels[:i], levels[i], levels[i + 1], min(i, sampler.order - 1))


def _data(sampler: DPMSolverPP) -> Callable[[Sequence[Level], Row, Noise], Floor]:
    return lambda levels, row, noise: data_means(levels, row, _means(sampler, levels), sampler.order - 1)


def _ghvb(i: int) -> list[float]:
    """The weights of 3.8: four terms, momentum 0.8, with fewer at the start."""
    b = 0.8
    return [
        [1.0],
        [(2 + b) / (2 * b), -(2 - b) / (2 * b)],
        [(18 + 5 * b) / (12 * b), -(24 - 8 * b) / (12 * b), (6 - b) / (12 * b)],
        [(46 + 9 * b) / (24 * b), -(78 - 19 * b) / (24 * b), (42 - 5 * b) / (24 * b), -(10 - b) / (24 * b)],
    ][min(i, 3)]


def _unipc(levels: Sequence[Level], row: Row, noise: Noise) -> Floor:
    method = UniPC(2)
    return unipc(
        levels, row,
        lambda i: method.predictor(levels[:i], levels[i], levels[i + 1], min(i, 2)) if i else [1.0],
        lambda i: method.corrector(levels[:i], levels[i], min(i, 2)),
    )  # fmt: skip


def _multistep(order: int) -> tuple[str, dict[str, object]]:
    return "DPMSolverMultistepScheduler", {"solver_order": order}


METHODS: dict[str, Method] = {
    "DDIM": Method(
        DDIM(),
        lambda levels, row, noise: data_means(levels, row, lambda i: [1.0], 0),
        ("DDIMScheduler", {"clip_sample": False}),
        "sample_euler",
        ("DDIMSampler", {}),
    ),
    "Heun": Method(
        Heun(),
        lambda levels, row, noise: heun(levels, row),
        ("HeunDiscreteScheduler", {}),
        "sample_heun",
        ("HeunSampler", {}),
    ),
    "DPMSolverPP(2)": Method(
        DPMSolverPP(2), _data(DPMSolverPP(2)), _multistep(2), "sample_dpmpp_2m", ("xEABSampler", {"order": 2})
    ),
    "DPMSolverPP(3)": Method(DPMSolverPP(3), _data(DPMSolverPP(3)), _multistep(3), None, ("xEABSampler", {"order": 3})),
    "UniPC(2)": Method(UniPC(2), _unipc, ("UniPCMultistepScheduler", {"solver_order": 2})),
    "PLMS(4)": Method(
        PLMS(4),
        lambda levels, row, noise: noise_means(levels, row, _means(PLMS(4), levels), 3),
        ("PNDMScheduler", {"skip_prk_steps": True}),
        "sample_lms",
        ("zABSampler", {"order": 4}),
    ),
    "GHVB(3.8)": Method(
        GHVB(3.8), lambda levels, row, noise: noise_momentum(levels, row, _ghvb, 3, GHVB(3.8).order - 3, True)
    ),
    "HeavyBall(PLMS(4))": Method(
        HeavyBall(PLMS(4)),
        lambda levels, row, noise: noise_momentum(levels, row, _means(PLMS(4), levels), 3, 0.8, False),
    ),
    "HeavyBall(DPMSolverPP(2))": Method(
        HeavyBall(DPMSolverPP(2)),
        lambda levels, row, noise: data_momentum(levels, row, _means(DPMSolverPP(2), levels), 1, 0.8),
    ),
    "GradientEstimation": Method(
        GradientEstimation(),
        lambda levels, row, noise: noise_means(levels, row, lambda i: [2.0, -1.0] if i else [1.0], 1),
    ),
    "DDPM": Method(
        DDPM(), ddpm, ("DDPMScheduler", {"clip_sample": False}), "sample_euler_ancestral", ("DDPMSampler", {})
    ),
}
