"""The menus: names that people know, and the part that each stands for, written as in Python."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EACH", "FILTERS", "GRIDS", "NONE", "OWN", "RULES", "SAMPLERS", "SCALES", "Scale"]

OWN = "the model's own"
"""Of samplers, grids and rules: whatever the model was saved with."""

EACH, NONE = "each in turn", "none"
"""Of classes: all of them one after the other, and no class at all."""

# as k-diffusion, A1111, ComfyUI and diffusers mean these names; what is ours alone has a name that is none of theirs
SAMPLERS: dict[str, str] = {
    "Euler": "Euler", "Euler a": "Euler(eta=1)", "Heun": "Heun", "DDIM": "DDIM", "DDPM": "DDPM",
    "DPM2": "DPMSolver2", "DPM2 a": "DPMSolver2(eta=1)", "DPM++ 2S a": "DPMSolverPP2S(eta=1)",
    "DPM++ 2M": "DPMSolverPP(order=2)", "DPM++ 2M SDE": "DPMSolverPP(order=2, eta=1)",
    "DPM++ 2M SDE Heun": "DPMSolverPP(order=2, eta=1, solver=heun)", "DPM++ 3M": "DPMSolverPP(order=3)",
    "DPM++ 3M SDE": "DPMSolverPP(order=3, eta=1, solver=heun, legacy=true)", "UniPC": "UniPC",
    "LMS": "PLMS(order=4, variable=true)", "PLMS": "PLMS(order=4, warm_up=heun)", "GHVB": "GHVB", "Heavy ball (PLMS)": "HeavyBall",
    "Heavy ball (DPM++ 2M)": "HeavyBall(base=DPMSolverPP(order=2))", "Gradient estimation": "GradientEstimation",
    "EDM with churn": "Churn(sampler=Heun)", "Predictor-corrector": "PredictorCorrector", "Adaptive step": "AdaptiveStep",
}  # fmt: skip

GRIDS: dict[str, str] = {
    "Simple (trailing)": "Trailing", "Karras": "Karras", "Exponential (uniform in log-SNR)": "Exponential", "Leading": "Leading",
    "Linspace": "Linspace",
}  # fmt: skip

RULES: dict[str, str] = {
    NONE: "Plain", "CFG": "CFG", "CFG++": "CFGPlusPlus", "Rescaled CFG": "Rescale(rule=CFG)", "APG": "APG",
    "Dynamic thresholding": "Threshold(rule=CFG, quantile=0.995)", "Adaptive": "Adaptive(rule=CFG)", "Autoguidance": "Autoguidance",
}  # fmt: skip

FILTERS: dict[str, str] = {
    "trajectory variance": "TrajectoryVariance", "path length": "PathLength",
    "re-noise probe": "RenoiseProbe(level=2)", "excess error": "ExcessError",
}  # fmt: skip


class Scale(NamedTuple):
    """Ends, step and usual value of a rule's strength."""

    least: float
    most: float
    step: float
    usual: float


_CFG = Scale(0.0, 15.0, 0.1, 3.0)

SCALES: dict[str, Scale] = {
    "CFG": _CFG, "CFG++": Scale(0.0, 1.0, 0.05, 0.6), "Rescaled CFG": _CFG, "APG": _CFG, "Dynamic thresholding": _CFG, "Adaptive": _CFG,
    "Autoguidance": Scale(0.0, 6.0, 0.1, 2.0),
}  # fmt: skip
"""Of the rules that have a strength."""
