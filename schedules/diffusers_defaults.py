"""What the scheduler classes of diffusers 0.42 say about a path: their own defaults, the values they know, and who has no path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["DYNAMIC", "KNOWN", "REFUSED", "Known", "complete", "wrong"]

Kind = Literal["table", "flow", "flow_to_data", "edm", "score_ve", "score_vp", "wuerstchen", "ipndm"]


class Known(NamedTuple):
    """A class that we read: kind, how its path is read; defaults, of the keys that matter to it; and the values it knows."""

    kind: Kind
    defaults: Mapping[str, Any]
    predictions: tuple[str, ...] = ("epsilon", "sample", "v_prediction")
    betas: tuple[str, ...] = ("linear", "scaled_linear", "squaredcos_cap_v2")


_T = {"num_train_timesteps": 1000}
_DDPM = {**_T, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "trained_betas": None}
_BETA = {**_DDPM, "prediction_type": "epsilon"}
_SD = {**_BETA, "beta_start": 0.00085, "beta_end": 0.012}
_LATENT = {**_SD, "beta_schedule": "scaled_linear"}
_ZERO = {"rescale_betas_zero_snr": False}
_COG = {**_LATENT, **_ZERO, "snr_shift_scale": 3.0}
# the ends between which mu is linear in the sequence length; pipelines assume them for classes that do not name them
DYNAMIC = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
_BY_LENGTH = {**DYNAMIC, "use_dynamic_shifting": False, "time_shift_type": "exponential"}
_SHIFT = {**_T, "shift": 1.0}
_FLOW_LCM = {**_SHIFT, **_BY_LENGTH, "invert_sigmas": False}
_FLOW_SIGMAS = {"use_flow_sigmas": False, "flow_shift": 1.0}
_SOLVER = {**_BETA, **_FLOW_SIGMAS, **_BY_LENGTH}
_EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "rho": 7.0}

_EPS_V = ("epsilon", "v_prediction")
_ALL = ("epsilon", "sample", "v_prediction", "flow_prediction")
_LAPLACE = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")

KNOWN: dict[str, Known] = {
    "CogVideoXDDIMScheduler": Known("table", _COG),
    "CogVideoXDPMScheduler": Known("table", _COG),
    "CosineDPMSolverMultistepScheduler": Known(
        "edm",
        {
            **_EDM, "sigma_min": 0.3, "sigma_max": 500, "sigma_data": 1.0, "sigma_schedule": "exponential",
            "prediction_type": "v_prediction",
        },
        _EPS_V,
    ),
    "DDIMInverseScheduler": Known("table", _BETA | _ZERO),
    "DDIMParallelScheduler": Known("table", _BETA | _ZERO),
    "DDIMScheduler": Known("table", _BETA | _ZERO),
    "DDPMParallelScheduler": Known("table", _BETA | _ZERO, betas=_LAPLACE),
    "DDPMScheduler": Known("table", _BETA | _ZERO, betas=_LAPLACE),
    "DDPMWuerstchenScheduler": Known("wuerstchen", {"scaler": 1.0, "s": 0.008}),
    "DEISMultistepScheduler": Known("table", _SOLVER, _ALL),
    "DPMSolverMultistepInverseScheduler": Known("table", _BETA | _FLOW_SIGMAS, _ALL),
    "DPMSolverMultistepScheduler": Known("table", _SOLVER | _ZERO, _ALL),
    "DPMSolverSDEScheduler": Known("table", _SD, _EPS_V),
    "DPMSolverSinglestepScheduler": Known("table", _SOLVER, _ALL),
    "EDMDPMSolverMultistepScheduler": Known("edm", _EDM | {"prediction_type": "epsilon"}, _EPS_V),
    "EDMEulerScheduler": Known("edm", _EDM | {"prediction_type": "epsilon"}, _EPS_V),
    "EulerAncestralDiscreteScheduler": Known("table", _BETA | _ZERO, _EPS_V),
    "EulerDiscreteScheduler": Known(
        "table",
        {**_BETA, **_ZERO, "sigma_min": None, "sigma_max": None, "timestep_type": "discrete"},
        ("epsilon", "sample", "original_sample", "v_prediction"),
    ),
    "FlowMapEulerDiscreteScheduler": Known("flow", _SHIFT),
    "FlowMatchEulerDiscreteScheduler": Known("flow", _FLOW_LCM),
    "FlowMatchHeunDiscreteScheduler": Known("flow", _SHIFT),
    "FlowMatchLCMScheduler": Known("flow", _FLOW_LCM),
    "HeunDiscreteScheduler": Known(
        "table", _SD, betas=("linear", "scaled_linear", "squaredcos_cap_v2", "exp")
    ),
    "MiniMaxH3Scheduler": Known("flow_to_data", {"shift": 12.0}),
    "IPNDMScheduler": Known("ipndm", {}),
    "KDPM2AncestralDiscreteScheduler": Known("table", _SD, _EPS_V),
    "KDPM2DiscreteScheduler": Known("table", _SD, _EPS_V),
    "LCMScheduler": Known("table", _LATENT | _ZERO),
    "LMSDiscreteScheduler": Known("table", _BETA),
    # it hands its whole config, shift included, to FlowMatchEulerDiscreteScheduler
    "LTXEulerAncestralRFScheduler": Known("flow", _FLOW_LCM),
    "PNDMScheduler": Known("table", _BETA, _EPS_V),
    "RePaintScheduler": Known("table", _DDPM, betas=("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")),
    "SASolverScheduler": Known("table", _BETA | _FLOW_SIGMAS, _ALL),
    "ScoreSdeVeScheduler": Known("score_ve", {"sigma_min": 0.01, "sigma_max": 1348.0}),
    "ScoreSdeVpScheduler": Known("score_vp", {"beta_min": 0.1, "beta_max": 20}),
    "TCDScheduler": Known("table", _LATENT | _ZERO),
    "UnCLIPScheduler": Known(
        "table",
        {**_T, "prediction_type": "epsilon", "beta_schedule": "squaredcos_cap_v2"},
        ("epsilon", "sample"),
        ("squaredcos_cap_v2",),
    ),
    "UniPCMultistepScheduler": Known("table", _SOLVER | _ZERO, _ALL),
}  # fmt: skip

_CHOICES: dict[str, tuple[str, ...]] = {
    "sigma_schedule": ("karras", "exponential"),
    "time_shift_type": ("exponential", "linear"),
    "timestep_type": ("discrete", "continuous"),
}

_TOKENS = "it unmasks or replaces discrete tokens, so its data never meet Gaussian noise"
_JUMP = "its networks are consistency models: they answer with one point of the data, not with the mean E[x0 | x]"

REFUSED: dict[str, str] = {
    "AmusedScheduler": _TOKENS,
    "BlockRefinementScheduler": _TOKENS,
    "DiscreteDDIMScheduler": _TOKENS,
    "EntropyBoundScheduler": _TOKENS,
    "VQDiffusionScheduler": _TOKENS,
    "CMStochasticIterativeScheduler": _JUMP,
    "ConsistencyDecoderScheduler": _JUMP,
    "SCMScheduler": f"{_JUMP}. (The path alone, TrigFlow, is Cosine(s=0.0) with row V on data divided by sigma_data)",
    "HeliosScheduler": "its path is cut into stages of different resolution, with a jump of the noise between two",
    "HeliosDMDScheduler": "its path is cut into stages of different resolution, with a jump of the noise between two",
    "KarrasVeScheduler": "its networks take (x + 1) / 2, which no part here makes of x",
    "PiflowScheduler": "its networks predict a policy, n_grid velocities at once, not a mean",
    "RFD4ProteinaScheduler": "its config says how to sample a protein structure, not on which path its networks were trained",
}


def complete(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the keys that matter to its class, those left out with its defaults, and _class_name.

    Args:
        name: of a class in KNOWN.
        given: a config, in part or whole; other keys are ignored.

    Raises:
        ValueError: for a value of the wrong kind. The parts check their ranges themselves.
    """
    known = KNOWN[name]
    config: dict[str, Any] = {"_class_name": name}
    config |= {key: given.get(key, default) for key, default in known.defaults.items()}
    choices = {**_CHOICES, "prediction_type": known.predictions, "beta_schedule": known.betas}
    trained = config.get("trained_betas") is not None
    for key, default in known.defaults.items():
        value = config[key]
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if key == "trained_betas" or (value is None and (default is None or key in DYNAMIC)):
            continue
        if isinstance(default, str):
            if value not in choices[key] and not (trained and key == "beta_schedule"):
                raise wrong(config, key, ", ".join(choices[key]))
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise wrong(config, key, "true, false")
        elif key == "num_train_timesteps":
            if not number or not isinstance(value, int) or value < 2:
                raise wrong(config, key, "a whole number >= 2")
        elif not number:
            raise wrong(config, key, "a finite number")
        elif key in ("beta_start", "beta_end") and not 0 < config[key] < 1:
            raise wrong(config, key, "0 < beta < 1")
    return config


def wrong(config: Mapping[str, Any], key: str, allowed: str) -> ValueError:
    """The error for a value: the class, the key, the value and what is allowed."""
    return ValueError(f"{config['_class_name']}: {key} is {config[key]!r}; allowed: {allowed}")
