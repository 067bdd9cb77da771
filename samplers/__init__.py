"""How to walk back: samplers, and the loop that runs them."""

from typing import Any

from .adaptive_step import AdaptiveStep
from .as_diffusers import as_diffusers
from .churn import Churn
from .clipped import Clipped
from .ddim import DDIM
from .ddpm import DDPM
from .dpm_solver import DPMSolverPP
from .dpm_solver_2 import DPMSolver2
from .dpm_solver_2s import DPMSolverPP2S
from .euler import Euler
from .from_diffusers import Sampling, from_diffusers
from .ghvb import GHVB
from .gradient_estimation import GradientEstimation
from .heavy_ball import HeavyBall
from .heun import Heun
from .langevin import Corrector, Langevin
from .network_denoise import network_denoise
from .path import on_path
from .plms import PLMS
from .predictor_corrector import PredictorCorrector
from .state import Denoise, Sampler, State, move
from .trajectory import Step, tabulate, trajectory
from .unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "GHVB",
    "PLMS",
    "AdaptiveStep",
    "Churn",
    "Clipped",
    "Corrector",
    "DPMSolver2",
    "DPMSolverPP",
    "DPMSolverPP2S",
    "Denoise",
    "Euler",
    "GradientEstimation",
    "HeavyBall",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "Sampler",
    "Sampling",
    "State",
    "Step",
    "UniPC",
    "as_diffusers",
    "from_diffusers",
    "move",
    "network_denoise",
    "on_path",
    "tabulate",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    """SfumatoScheduler, imported when it is asked for, since it imports diffusers."""
    if name == "SfumatoScheduler":
        from .diffusers_scheduler import SfumatoScheduler

        return SfumatoScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
