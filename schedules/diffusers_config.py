"""diffusers scheduler configs as our parts: which path a model was trained on, and what its output means."""

from __future__ import annotations

import difflib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .cosine import Cosine
from .diffusers_betas import alphas_cumprod
from .diffusers_defaults import DYNAMIC, KNOWN, REFUSED, complete, wrong
from .linear_beta import LinearBeta
from .rectified_flow import RectifiedFlow
from .rows import EDM, X0, Eps, Flow, Negative, Row, Score, V
from .scalar import log
from .schedule import Schedule
from .shifted import Shifted
from .table import Table
from .truncated import Truncated
from .variance_exploding import VarianceExploding

__all__ = ["Process", "read_config", "read_process"]

_ROWS: dict[str, Row] = {
    "epsilon": Eps(),
    "sample": X0(),
    "original_sample": X0(),
    "v_prediction": V(),
    "flow_prediction": Flow(),
}
_SOURCES = (
    "allowed: a scheduler, its config as a mapping with _class_name, a scheduler_config.json, or a folder with that file in it or in "
    "its folder scheduler (nothing is downloaded)"
)


class Process(NamedTuple):
    """A forward process: schedule, the path; row, what a network's output means on it."""

    schedule: Schedule
    row: Row


def read_process(source: Mapping[str, Any] | str | Path | object, tokens: int | None) -> Process:
    """The forward process of a diffusers scheduler, with the defaults of its own class; keys that only sampling reads are ignored.

    Args:
        source: see Table.from_diffusers.
        tokens: sequence length, > 0, where the shift depends on it.

    Raises:
        ValueError: see Table.from_diffusers.

    Source: diffusers 0.42.1, schedulers/.
    """
    name, given = read_config(source)
    supported = f"supported: {', '.join(sorted(KNOWN))}"
    if name in REFUSED:
        raise ValueError(f"{name} has no path that we could give: {REFUSED[name]}; {supported}")
    if name not in KNOWN:
        near = difflib.get_close_matches(name, [*KNOWN, *REFUSED], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"_class_name is {name!r}, which is no scheduler of diffusers 0.42{hint}; {supported}")
    for key in given:  # most other keys are those of sampling, which have no say here
        near = difflib.get_close_matches(key, KNOWN[name].defaults, n=1, cutoff=0.9)
        if near and key not in KNOWN[name].defaults:
            raise ValueError(f"{key}: no key of {name}; did you mean {near[0]}?")
    return _READERS[KNOWN[name].kind](complete(name, given), tokens)


def read_config(source: Mapping[str, Any] | str | Path | object) -> tuple[str, Mapping[str, Any]]:
    """The class name of a scheduler, and its config; see Table.from_diffusers.

    Raises:
        ValueError: for what is no scheduler, config, file or folder of one.
    """
    if isinstance(source, Mapping):
        if not isinstance(source.get("_class_name"), str):
            raise ValueError(f"a scheduler config without _class_name: its defaults are unknown; {_SOURCES}")
        return source["_class_name"], source
    if isinstance(source, str | Path):
        place = Path(source)
        tries = (place, place / "scheduler_config.json", place / "scheduler" / "scheduler_config.json")
        file = next((path for path in tries if path.is_file()), None)
        if file is None:
            raise ValueError(f"{source} is no file, and no folder that holds a scheduler_config.json; {_SOURCES}")
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not JSON ({error}); {_SOURCES}") from None
        if not isinstance(config, dict) or "_class_name" not in config:
            raise ValueError(f"{file} is no scheduler config: it names no _class_name; {_SOURCES}")
        return read_config(config)
    if hasattr(source, "scheduler"):
        raise ValueError(f"a {type(source).__name__} is a pipeline; give its scheduler, pipe.scheduler")
    config = getattr(source, "config", None)
    if not isinstance(config, Mapping):
        raise ValueError(f"a {type(source).__name__} is no scheduler; {_SOURCES}")
    return type(source).__name__, config


def _table(config: Mapping[str, Any], tokens: int | None) -> Process:
    row = _ROWS[config.get("prediction_type", "epsilon")]
    if config.get("use_flow_sigmas"):
        return Process(_straight(config, "flow_shift", tokens), row)
    if isinstance(row, Flow):
        raise wrong(config, "prediction_type", "epsilon, sample, v_prediction; a flow needs use_flow_sigmas: true")
    if config["beta_schedule"] == "laplace" and config["trained_betas"] is None:
        warnings.warn(
            "this is the table that diffusers' 'laplace' makes, which is not the Laplace schedule: it takes alpha for alpha^2 and ends "
            "at alpha^2 = 0.03. To train a new model, use Laplace",
            UserWarning,
            stacklevel=4,
        )
    try:
        # as float64 the numbers are the very ones of diffusers, but for the last at zero SNR: Euler, EulerAncestral, DPM-Solver and
        # UniPC put 2^-24 there so that their sigma stays finite; here it is the true 0, as in DDIM
        table = Table.from_alphas_cumprod(alphas_cumprod(config).double().tolist())
    except (ValueError, TypeError) as error:
        raise ValueError(f"{config['_class_name']}: its betas make no table: {error}") from None
    if config.get("timestep_type") == "continuous" and isinstance(row, V):
        # Stable Video Diffusion: the network's time is log(sigma) / 4, so it knows no entries. Its input is x / sqrt(sigma^2 + 1) with
        # x = x0 + sigma eps, which is the variance-preserving path; Cosine(0) is that path with the angle atan(sigma) as its clock
        noisy, clean = config["sigma_max"], config["sigma_min"]
        low = table.log_snr[-1] if noisy is None else -2.0 * log(float(noisy))
        high = table.log_snr[0] if clean is None else -2.0 * log(float(clean))
        return Process(Truncated(Cosine(0.0), low, high), row)
    return Process(table, row)


def _straight(config: Mapping[str, Any], key: str, tokens: int | None) -> Schedule:
    """The straight path, shifted once. (FlowMatchEuler, Heun and LCM shift the clean end of a grid twice.)"""
    shift = config[key]
    if config.get("use_dynamic_shifting"):
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise ValueError(
                f"{config['_class_name']}: use_dynamic_shifting shifts by the sequence length, and tokens is {tokens!r}; give tokens "
                "(--tokens), a whole number > 0: those of one sample (FLUX: height / 16 * width / 16)"
            )
        low, high, start, end = (config[name] for name in DYNAMIC)
        if None in (low, high, start, end) or start == end:
            raise ValueError(
                f"{config['_class_name']}: use_dynamic_shifting needs two lengths and their shifts, {list(DYNAMIC)}"
            )
        mu = low + (tokens - start) * (high - low) / (end - start)
        shift = math.exp(mu) if config["time_shift_type"] == "exponential" else mu
    return RectifiedFlow() if shift == 1 else Shifted(RectifiedFlow(), float(shift))


def _flow(config: Mapping[str, Any], tokens: int | None) -> Process:
    if config.get("invert_sigmas"):  # Mochi: its time runs from noise to data, and so does its velocity
        return _flow_to_data(config, tokens)
    # FlowMapEuler's networks also take the time they jump to: Flow is what they say where both times agree
    return Process(_straight(config, "shift", tokens), Flow())


def _flow_to_data(config: Mapping[str, Any], tokens: int | None) -> Process:
    return Process(_straight(config, "shift", tokens), Negative(Flow()))


def _edm(config: Mapping[str, Any], tokens: int | None) -> Process:
    rho = config["rho"] if config["sigma_schedule"] == "karras" else math.inf
    path = VarianceExploding(float(config["sigma_min"]), float(config["sigma_max"]), float(rho))
    row = EDM(float(config["sigma_data"]))
    return Process(path, Negative(row) if config["prediction_type"] == "v_prediction" else row)


def _score_ve(config: Mapping[str, Any], tokens: int | None) -> Process:
    return Process(VarianceExploding(float(config["sigma_min"]), float(config["sigma_max"]), math.inf), Score())


def _score_vp(config: Mapping[str, Any], tokens: int | None) -> Process:
    # it divides the network's output by -sigma to get the score, so the output is eps
    return Process(LinearBeta(float(config["beta_min"]), float(config["beta_max"])), Eps())


def _wuerstchen(config: Mapping[str, Any], tokens: int | None) -> Process:
    if config["scaler"] != 1:
        raise wrong(config, "scaler", "1: another one bends the time of the cosine, for which there is no part")
    # it clamps alpha^2 to [1e-4, 0.9999]; a path falls all the way, so it is cut there. Its network's time is that of the whole
    # cosine, Cosine(s).at_log_snr(log_snr).t, not the stretched one of the cut
    end = math.log(0.9999) - math.log(0.0001)
    return Process(Truncated(Cosine(float(config["s"])), -end, end), Eps())


def _ipndm(config: Mapping[str, Any], tokens: int | None) -> Process:
    # its betas are a grid, not a path: the network's time is the angle atan(sigma / alpha), and eps = sigma x + alpha output
    return Process(Cosine(0.0), V())


_READERS: dict[str, Callable[[Mapping[str, Any], int | None], Process]] = {
    "table": _table,
    "flow": _flow,
    "flow_to_data": _flow_to_data,
    "edm": _edm,
    "score_ve": _score_ve,
    "score_vp": _score_vp,
    "wuerstchen": _wuerstchen,
    "ipndm": _ipndm,
}
