"""How to walk back: samplers, and the loop that runs them."""

from .ddim import DDIM
from .ddpm import DDPM
from .dpm_solver import DPMSolverPP
from .ghvb import GHVB
from .heun import Heun
from .state import Denoise, Sampler, State, move
from .trajectory import Step, tabulate, trajectory

__all__ = [
    "DDIM",
    "DDPM",
    "GHVB",
    "DPMSolverPP",
    "Denoise",
    "Heun",
    "Sampler",
    "State",
    "Step",
    "move",
    "tabulate",
    "trajectory",
]
