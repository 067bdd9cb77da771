"""The menus: names that people know, and the part that each stands for, written as in Python."""

from __future__ import annotations

__all__ = ["FILTERS", "GRIDS", "OWN", "RULES", "SAMPLERS"]

OWN = "the model's own"

SAMPLERS: dict[str, str] = {
    "Euler": "Euler", "Euler a": "Euler(eta=1)", "Heun": "Heun", "DDIM": "DDIM", "DDPM": "DDPM",
    "DPM2": "DPMSolver2", "DPM2 a": "DPMSolver2(eta=1)",
    "DPM++ 2M": "DPMSolverPP(order=2)", "DPM++ 3M": "DPMSolverPP(order=3)", "DPM++ 2M SDE": "DPMSolverPP(order=2, eta=1)",
    "DPM++ 2S a": "DPMSolverPP2S(eta=1)", "UniPC": "UniPC", "PLMS": "PLMS", "Heavy ball (PLMS)": "HeavyBall", "GHVB": "GHVB",
    "Gradient estimation": "GradientEstimation", "Adaptive": "AdaptiveStep",
}  # fmt: skip

GRIDS: dict[str, str] = {
    "Trailing (simple)": "Trailing", "Karras": "Karras", "Exponential": "Exponential", "Leading": "Leading", "Linspace": "Linspace",
    "Uniform in log-SNR": "LogSNRUniform",
}  # fmt: skip

RULES: dict[str, str] = {"none": "Plain", "CFG": "CFG"}

FILTERS: dict[str, str] = {
    "trajectory variance": "TrajectoryVariance", "path length": "PathLength",
    "re-noise probe": "RenoiseProbe", "excess error": "ExcessError",
}  # fmt: skip
