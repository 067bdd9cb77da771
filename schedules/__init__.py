"""The forward process: levels, schedules, prediction types, densities, weightings, grids and addressed noise."""

from .beta_table import BetaTable
from .brownian import Brownian
from .cosine import Cosine
from .cosine_gamma import CosineGamma
from .cosine_shifted import CosineShifted
from .densities import LogitNormal, LogNormal, LogSNRImportance, Uniform, UniformEntries
from .density import Density, Drawn, log_snr_density
from .explicit_grid import Explicit
from .grid import Grid
from .grids import Leading, Linspace, Trailing, leading, linspace, trailing
from .importance import Cauchy, Laplace
from .level import Level
from .linear_beta import LinearBeta
from .linear_gamma import LinearGamma
from .loss_resampler import Learning, LossSecondMoment
from .noise import Noise, Stream, check_seeds, gaussian, permutation, uniform
from .prediction import Prediction, combine, difference, from_eps, from_x0, lerp
from .ratio_grids import Exponential, Karras, LogSNRUniform, exponential, karras, log_snr_uniform
from .rectified_flow import RectifiedFlow
from .rows import EDM, X0, Eps, Flow, Negative, PairingError, Row, Score, V, check_pairing, target
from .scaled_linear_beta import ScaledLinearBeta
from .schedule import Schedule
from .shifted import InputScaled, Shifted
from .sigmoid import Sigmoid
from .table import Table
from .truncated import Truncated
from .variance_exploding import VarianceExploding
from .weighting import Weighting, output_weight
from .weightings import ELBO, P2, Constant, Debiased, EDMWeighting, MinSNR, SigmoidWeighting, SoftMinSNR
from .zero_terminal import ZeroTerminalSNR

__all__ = [
    "EDM",
    "ELBO",
    "P2",
    "X0",
    "BetaTable",
    "Brownian",
    "Cauchy",
    "Constant",
    "Cosine",
    "CosineGamma",
    "CosineShifted",
    "Debiased",
    "Density",
    "Drawn",
    "EDMWeighting",
    "Eps",
    "Explicit",
    "Exponential",
    "Flow",
    "Grid",
    "InputScaled",
    "Karras",
    "Laplace",
    "Leading",
    "Learning",
    "Level",
    "LinearBeta",
    "LinearGamma",
    "Linspace",
    "LogNormal",
    "LogSNRImportance",
    "LogSNRUniform",
    "LogitNormal",
    "LossSecondMoment",
    "MinSNR",
    "Negative",
    "Noise",
    "PairingError",
    "Prediction",
    "RectifiedFlow",
    "Row",
    "ScaledLinearBeta",
    "Schedule",
    "Score",
    "Shifted",
    "Sigmoid",
    "SigmoidWeighting",
    "SoftMinSNR",
    "Stream",
    "Table",
    "Trailing",
    "Truncated",
    "Uniform",
    "UniformEntries",
    "V",
    "VarianceExploding",
    "Weighting",
    "ZeroTerminalSNR",
    "check_pairing",
    "check_seeds",
    "combine",
    "difference",
    "exponential",
    "from_eps",
    "from_x0",
    "gaussian",
    "karras",
    "leading",
    "lerp",
    "linspace",
    "log_snr_density",
    "log_snr_uniform",
    "output_weight",
    "permutation",
    "target",
    "trailing",
    "uniform",
]
