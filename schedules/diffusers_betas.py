"""The tables of diffusers, bit for bit: the same torch operations in the same order and precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["alphas_cumprod"]


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """alpha^2 of the entries, (T,), in float32 or float64 as the class has it, exactly 0 at the end where it is rescaled so.

    Args:
        config: _class_name, and the keys of that class with its defaults.

    Raises:
        ValueError, TypeError: for trained_betas that are no list of numbers.

    Source: diffusers 0.42.1, __init__ of each scheduler and betas_for_alpha_bar, rescale_zero_terminal_snr.
    """
    betas = _betas(config)
    zero = config.get("rescale_betas_zero_snr", False)
    if "snr_shift_scale" in config:  # CogVideoX shifts and rescales alpha^2 itself
        abar = torch.cumprod(1.0 - betas, dim=0)
        scale = config["snr_shift_scale"]
        abar = abar / (scale + (1 - scale) * abar)
        return _zero_terminal(abar) if zero else abar
    if zero:
        abar = _zero_terminal(torch.cumprod(1.0 - betas, dim=0))
        betas = 1 - torch.cat([abar[0:1], abar[1:] / abar[:-1]])
    return torch.cumprod(1.0 - betas, dim=0)


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        values = config["trained_betas"]
        if config["_class_name"] == "RePaintScheduler":  # torch.from_numpy: it keeps the precision
            return torch.from_numpy(np.array(values))
        return torch.tensor(values, dtype=torch.float32, device="cpu")
    count: int = config["num_train_timesteps"]
    low, high = config.get("beta_start", math.nan), config.get("beta_end", math.nan)
    match config["beta_schedule"]:
        case "linear":
            return torch.linspace(low, high, count, dtype=torch.float32, device="cpu")
        case "scaled_linear":
            wide = torch.float64 if "snr_shift_scale" in config else torch.float32
            return torch.linspace(low**0.5, high**0.5, count, dtype=wide, device="cpu") ** 2
        case "sigmoid":
            at = torch.linspace(-6, 6, count, dtype=torch.float32, device="cpu")
            return torch.sigmoid(at) * (high - low) + low
    abar = {"squaredcos_cap_v2": _cosine, "laplace": _laplace, "exp": _exp}[config["beta_schedule"]]
    betas = [min(1 - abar((i + 1) / count) / abar(i / count), 0.999) for i in range(count)]
    return torch.tensor(betas, dtype=torch.float32, device="cpu")


def _cosine(t: float) -> float:
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _laplace(t: float) -> float:
    snr = math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * math.fabs(0.5 - t) + 1e-6))
    return math.sqrt(snr / (1 + snr))  # the root is the slip: alpha, where alpha^2 belongs


def _exp(t: float) -> float:
    return math.exp(t * -12.0)


def _zero_terminal(abar: Tensor) -> Tensor:
    """Lin et al. 2024 (2305.08891), algorithm 1."""
    root = abar.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root -= last
    root *= first / (first - last)
    return root**2
