"""Whether sampling waits for the device: every sampler and every rule of guidance, with PyTorch raising where the host would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ...diffusion import Denoiser, LogSNRClock
from ...guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Branch,
    CFGPlusPlus,
    Field,
    Guidance,
    Interval,
    Mix,
    Plain,
    Rescale,
    Threshold,
)
from ...samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    AdaptiveStep,
    Churn,
    Clipped,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    GradientEstimation,
    HeavyBall,
    Heun,
    Langevin,
    PredictorCorrector,
    Sampler,
    UniPC,
    on_path,
    trajectory,
)
from ...schedules import RectifiedFlow, Trailing
from ...schedules.noise import gaussian
from ...schedules.rows import Flow
from .gpu_clock import wait
from .gpu_runs import dit, filled
from .sheet import Cell, exact

__all__ = ["RULES", "SAMPLERS", "WAITING", "Walked", "walked"]

SAMPLERS: Mapping[str, Sampler] = {
    "DDIM": DDIM(), "DDIM(eta=1)": DDIM(eta=1.0), "DDPM": DDPM(), "Euler": Euler(), "Heun": Heun(), "DPMSolverPP(2)": DPMSolverPP(2),
    "DPMSolverPP(3)": DPMSolverPP(3), "DPMSolver2": DPMSolver2(), "DPMSolverPP2S": DPMSolverPP2S(), "UniPC(2)": UniPC(2),
    "PLMS(4)": PLMS(4), "GHVB(3.8)": GHVB(3.8), "HeavyBall(PLMS(4))": HeavyBall(PLMS(4)), "GradientEstimation": GradientEstimation(),
    "Churn": Churn(), "Clipped": Clipped(), "PredictorCorrector": PredictorCorrector(DDIM(), Langevin()),
    "PredictorCorrector(snr)": PredictorCorrector(DDIM(), Langevin("snr", 0.1)), "AdaptiveStep": AdaptiveStep(),
}  # fmt: skip

RULES: Mapping[str, Guidance] = {
    "Plain": Plain(), "CFG": CFG(2.0), "CFG of a number per picture": CFG([1.0, 1.5, 2.0, 3.0]), "CFGPlusPlus": CFGPlusPlus(0.6),
    "Interval": Interval(CFG(2.0), 0.5, 2.0), "Rescale": Rescale(CFG(2.0)), "Threshold": Threshold(CFG(2.0)),
    "Threshold(quantile)": Threshold(CFG(2.0), quantile=0.99), "APG": APG(2.0, momentum=-0.5, norm=5.0), "Mix": Mix({"cond": 2.0}),
    "Autoguidance": Autoguidance(2.0), "Adaptive": Adaptive(CFG(2.0)),
}  # fmt: skip

# what they do next hangs on numbers of the samples, which the host must see
WAITING = ("AdaptiveStep", "Adaptive")

_STEPS = 4


class Walked:
    """A network and a weaker one, walked by samplers under rules.

    Args:
        device: where.
        small: tiny networks.
    """

    def __init__(self, device: torch.device, small: bool) -> None:
        torch.manual_seed(0)
        self.schedule, self.device = RectifiedFlow(), device
        networks = [filled(dit("S/2", small)).to(device).eval() for _ in range(2)]
        main, weak = (Denoiser(net, self.schedule, Flow(), LogSNRClock()).eval() for net in networks)
        self.shape = (4, *(networks[0].size,) * 2)
        self.seeds = torch.arange(4, dtype=torch.int64, device=device)
        labels = {"labels": self.seeds % 1000}
        null = {"labels": torch.full_like(self.seeds, 1000)}
        self.branches = {"cond": Branch(main, labels), "ref": Branch(main, null), "weak": Branch(weak, labels)}

    def __call__(self, sampler: Sampler, rule: Guidance) -> tuple[int, str]:
        """How many steps were made without waiting, and where it waited: "" for nowhere."""
        levels = Trailing()(self.schedule, _STEPS)
        x = gaussian(self.seeds, 0, -1, 0, self.shape)
        walker = on_path(sampler, self.schedule)
        made = 0
        with torch.no_grad():
            for watched in (False, True):  # once before, in which libraries begin
                field, made = Field(self.branches, rule, len(x)), 0
                steps = trajectory(
                    walker, field, levels, x, lambda step, draw: gaussian(self.seeds, 0, step, draw, self.shape)
                )
                try:
                    with _no_waits(self.device if watched else torch.device("cpu")):
                        for _ in steps:
                            made += 1
                except RuntimeError as error:
                    if "synchronizing" not in str(error):
                        raise
                    return made, str(error).splitlines()[0]
                wait(self.device)
        return made, ""


def walked(walk: Walked, sampler: str, rule: str) -> tuple[dict[str, Cell], str]:
    """Cells of a row: steps made, of a GPU also whether the host waited; and where.

    Args:
        walk: of the device.
        sampler, rule: of SAMPLERS and RULES.
    """
    made, where = walk(SAMPLERS[sampler], RULES[rule])
    waited = {"waits": exact(bool(where))} if walk.device.type == "cuda" else {}
    return {"steps": exact(made), **waited}, where


@contextmanager
def _no_waits(device: torch.device) -> Iterator[None]:
    """PyTorch raises where the host would wait for a GPU; elsewhere nothing is watched."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
