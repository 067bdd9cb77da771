"""What the common schedulers of diffusers 0.42 are told about sampling: their defaults, and what has no equivalent here."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["OPTIONS", "options"]

_LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
_LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
_SOLVER = {
    **_LINSPACE, **_SIGMAS, "solver_order": 2, "thresholding": False, "use_flow_sigmas": False, "final_sigmas_type": "zero",
    "lower_order_final": True,
}  # fmt: skip

# by class, the keys that only sampling reads, with their defaults
OPTIONS: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {**_LEADING, **_CLIP, "variance_type": "fixed_small", "thresholding": False},
    "DDIMScheduler": {**_LEADING, **_CLIP, "set_alpha_to_one": True, "thresholding": False},
    "PNDMScheduler": {**_LEADING, "skip_prk_steps": False, "set_alpha_to_one": False},
    "EulerDiscreteScheduler": {
        **_LINSPACE, **_SIGMAS, "interpolation_type": "linear", "sigma_min": None, "sigma_max": None, "timestep_type": "discrete",
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": {**_LINSPACE},
    "HeunDiscreteScheduler": {**_LINSPACE, **_SIGMAS, "clip_sample": False, "clip_sample_range": 1.0},
    "LMSDiscreteScheduler": {**_LINSPACE, **_SIGMAS},
    "DPMSolverMultistepScheduler": {
        **_SOLVER, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "euler_at_final": False, "use_lu_lambdas": False,
        "lambda_min_clipped": -math.inf,
    },
    "UniPCMultistepScheduler": {
        **_SOLVER, "solver_type": "bh2", "predict_x0": True, "disable_corrector": [], "solver_p": None, "sigma_min": None,
        "sigma_max": None, "shift_terminal": None,
    },
}  # fmt: skip

# key: the values that have an equivalent (none listed: only the class's own default), and why the others have none
_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "timestep_spacing": (("leading", "linspace", "trailing"), "there are no others"),
    "thresholding": ((False,), "no sampler here thresholds by quantiles"),
    "use_beta_sigmas": ((False,), "there is no such grid here"),
    "use_flow_sigmas": ((False,), "its grid is none of ours; as_diffusers(sampler, like=...) takes its path alone"),
    "interpolation_type": (("linear",), "log_linear has a level more than timesteps, and its last step leads to it"),
    "timestep_type": (("discrete",), "the network's time is log(sigma) / 4; as_diffusers(sampler, like=..., clock=...) can tell it"),
    "final_sigmas_type": (("zero", "sigma_min"), "there are no others"),
    "algorithm_type": (("dpmsolver++", "sde-dpmsolver++"), "the solvers of noise prediction are not here"),
    "lambda_min_clipped": ((-math.inf,), "no grid here is cut so; take Karras"),
    "variance_type": (
        ("fixed_small", "fixed_small_log", "fixed_large", "learned_range"),
        "fixed_large_log takes a root of a negative logarithm, and learned trusts the network's second answer as it is",
    ),
    "predict_x0": ((True,), "UniPC is here for data prediction only"),
    "disable_corrector": (([], ()), "UniPC corrects every step here"),
    "solver_p": ((None,), "UniPC's predictor can't be another solver here"),
    "shift_terminal": ((None,), "its grid is none of ours"),
}  # fmt: skip


def options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling keys of a scheduler, those left out with its defaults.

    Args:
        name: its class.
        config: part or whole; other keys are ignored.

    Raises:
        ValueError: for a class or a value that has no equivalent here, with the reason.
    """
    if name not in OPTIONS:
        near = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.9)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"{name} has no equivalent among our samplers{hint}; known: {', '.join(OPTIONS)}. as_diffusers(sampler, like=...) reads the "
            "path of more classes"
        )
    found = {key: config.get(key, default) for key, default in OPTIONS[name].items()}
    for key, (allowed, why) in _ONLY.items():
        if key in found and found[key] not in allowed:
            raise ValueError(
                f"{name}: {key} is {found[key]!r}, which has no equivalent here: {why}; allowed: {', '.join(map(repr, allowed))}"
            )
    return found
