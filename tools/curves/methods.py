"""Which samplers are compared: those of the house, each with the arguments that its paper or its file recommends."""

from __future__ import annotations

from collections.abc import Mapping

from ...samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    Churn,
    Clipped,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    GradientEstimation,
    HeavyBall,
    Heun,
    Langevin,
    PredictorCorrector,
    Sampler,
    UniPC,
)
from ..spelling import did_you_mean

__all__ = ["METHODS", "chosen"]

# Euler() is the map of DDIM(), and Euler(eta=1) and DDPM() that of DDIM(eta=1); what AdaptiveStep costs is another number per picture,
# and can't be chosen before
METHODS: Mapping[str, Sampler] = {
    "DDIM()": DDIM(),
    "Heun()": Heun(),
    "DPMSolver2()": DPMSolver2(),
    "DPMSolverPP2S()": DPMSolverPP2S(),
    "DPMSolverPP(2)": DPMSolverPP(2),
    'DPMSolverPP(2, solver="heun")': DPMSolverPP(2, solver="heun"),
    "DPMSolverPP(3)": DPMSolverPP(3),
    'UniPC(2, "bh1")': UniPC(2, "bh1"),
    'UniPC(2, "bh2")': UniPC(2, "bh2"),
    'UniPC(3, "bh2")': UniPC(3, "bh2"),
    "PLMS(2)": PLMS(2),
    "PLMS(4)": PLMS(4),
    "PLMS(2, variable=True)": PLMS(2, variable=True),
    "PLMS(4, variable=True)": PLMS(4, variable=True),
    'PLMS(4, variable=True, warm_up="rk4")': PLMS(4, variable=True, warm_up="rk4"),
    "HeavyBall(PLMS(4), 0.8)": HeavyBall(PLMS(4), 0.8),
    "HeavyBall(DPMSolverPP(2), 0.8)": HeavyBall(DPMSolverPP(2), 0.8),
    "GHVB(1.8)": GHVB(1.8),
    "GHVB(3.8)": GHVB(3.8),
    "GradientEstimation()": GradientEstimation(),
    "GradientEstimation(1.5)": GradientEstimation(1.5),
    "Clipped(DPMSolverPP(2))": Clipped(DPMSolverPP(2)),
    "DDPM()": DDPM(),
    'DDPM("large")': DDPM("large"),
    "DDIM(eta=0.5)": DDIM(0.5),
    "DPMSolverPP(2, eta=1)": DPMSolverPP(2, eta=1.0),
    "GradientEstimation(2, mu=0.5)": GradientEstimation(2.0, mu=0.5),
    "Churn(Heun())": Churn(Heun()),
    "PredictorCorrector(DDIM(), Langevin(0.01))": PredictorCorrector(DDIM(), Langevin("share", 0.01)),
}


def _parts(text: str) -> list[str]:
    """Split at commas outside of parentheses."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found if part.strip()]


def chosen(text: str | None) -> dict[str, Sampler]:
    """Those of METHODS that are named.

    Args:
        text: names with commas between them: of METHODS, such as GHVB(3.8), or of a class, which stands for all of it; None: all.

    Raises:
        ValueError: for a name that stands for none.
    """
    if text is None:
        return dict(METHODS)
    found: dict[str, Sampler] = {}
    for part in _parts(text):
        bare = part.replace(" ", "")
        own = {k: s for k, s in METHODS.items() if bare in (k.replace(" ", ""), k.partition("(")[0])}
        if not own:
            raise ValueError(
                f"samplers names {part!r}; allowed: {', '.join(METHODS)}, or a class of these{did_you_mean(part, METHODS)}"
            )
        found |= own
    if not found:
        raise ValueError(f"samplers is {text!r}; allowed: names with commas between them, or null for all")
    return found
