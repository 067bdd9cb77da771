"""The forward process: levels, schedules, prediction types, densities, weightings, grids and addressed noise."""

from .cosine import Cosine
from .densities import Density, Drawn, LogNormal, Uniform
from .grids import Grid, Karras, Trailing, karras, trailing
from .level import Level
from .linear_beta import LinearBeta
from .noise import Noise, Stream, check_seeds, gaussian, permutation, uniform
from .prediction import Prediction, from_eps, from_x0, lerp
from .rectified_flow import RectifiedFlow
from .rows import EDM, X0, Eps, Flow, PairingError, Row, V, check_pairing, target
from .schedule import Schedule
from .truncated import Truncated
from .weightings import EDMWeighting, MinSNR, Weighting, output_weight
from .zero_terminal import ZeroTerminalSNR

__all__ = [
    "EDM",
    "X0",
    "Cosine",
    "Density",
    "Drawn",
    "EDMWeighting",
    "Eps",
    "Flow",
    "Grid",
    "Karras",
    "Level",
    "LinearBeta",
    "LogNormal",
    "MinSNR",
    "Noise",
    "PairingError",
    "Prediction",
    "RectifiedFlow",
    "Row",
    "Schedule",
    "Stream",
    "Trailing",
    "Truncated",
    "Uniform",
    "V",
    "Weighting",
    "ZeroTerminalSNR",
    "check_pairing",
    "check_seeds",
    "from_eps",
    "from_x0",
    "gaussian",
    "karras",
    "lerp",
    "output_weight",
    "permutation",
    "target",
    "trailing",
    "uniform",
]
