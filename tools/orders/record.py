"""All that is measured, as one JSON-able result, and what has drifted from what is expected."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any

import torch

from ...samplers import AdaptiveStep, on_path
from .inversion import INVERTED, ROUND_STEPS, inversion_errors
from .measure import STEPS, errors_on, fitted, walked
from .methods import METHODS
from .paths import DATA, PATHS, Both, Path
from .stability import FURTHER, LOG_STEPS, ON_DATA, ON_EPS, closed_form, real_interval

__all__ = ["drifted", "measured", "recorded"]

TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
# how far a fitted order may lie from the expected one
_SLACK = 0.15


def _short(value: Any) -> Any:
    """The same with numbers of six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {k: _short(v) for k, v in value.items()}
    return [_short(v) for v in value] if isinstance(value, list | tuple) else value


def _adaptive(path: Path, tolerance: float) -> dict[str, Any]:
    """Errors of AdaptiveStep over the whole path in one go, and how often it asked (for the slowest of eight samples)."""
    model, ends = Both(), [path.schedule(1.0), path.schedule(0.0)]
    z = walked(on_path(AdaptiveStep(tolerance), path.schedule), model, ends, path.start[:, None]) / ends[-1].alpha
    apart = (z[:, 0] - path.exact).abs().chunk(len(DATA))
    return {"evaluations": model.calls, **{d: float(a.max()) for d, a in zip(DATA, apart, strict=True)}}


def measured(
    steps: Sequence[int] = STEPS, rounds: Sequence[int] = ROUND_STEPS, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure everything, on one thread.

    Args:
        steps: numbers of steps on every path.
        rounds: numbers of steps of round trips, one way.
        say: told what is being measured.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        errors: dict[str, Any] = {}
        for number, m in enumerate(METHODS, 1):
            say(f"{number} of {len(METHODS)}: {m.name}")
            errors[m.name] = {name: errors_on(path, m.sampler, steps) for name, path in PATHS.items()}
        say("AdaptiveStep, round trips, stability")
        inverted = {
            name: {path: inversion_errors(PATHS[path], sampler, rounds) for path in expected}
            for name, (sampler, expected) in INVERTED.items()
        }
        on_eps = {name: real_interval(s) for group in (*ON_EPS, FURTHER) for name, s in group.items()}
        on_data = {name: {str(h): real_interval(s, h) for h in LOG_STEPS} for name, s in ON_DATA.items()}
        adaptive = {name: {str(t): _adaptive(path, t) for t in TOLERANCES} for name, path in PATHS.items()}
    finally:
        torch.set_num_threads(before)
    return _short({
        "version": version("sfumato"), "torch": str(torch.__version__), "steps": list(steps), "rounds": list(rounds),
        "paths": {name: path.about for name, path in PATHS.items()}, "errors": errors, "adaptive": adaptive,
        "inversion": inverted, "stability": {"eps": on_eps, "data": on_data},
    })  # fmt: skip


def recorded() -> dict[str, Any]:
    """The result that ships with this version."""
    return json.loads(resources.files(__package__ or "").joinpath("orders.json").read_text())


def drifted(result: Mapping[str, Any], known: Mapping[str, Any] | None) -> list[str]:
    """What is not as expected, one line each.

    Args:
        result: of `measured`; orders are looked at where the steps are those of the full measurement.
        known: the recorded result, whose errors are to be met, and may have more steps; None: not compared.
    """
    found: list[str] = []

    def order(name: str, errors: Sequence[float], steps: Sequence[int], expected: float) -> None:
        slope = fitted(errors, steps)
        if not abs(slope - expected) <= _SLACK:
            found.append(f"{name}: order {slope:.2f}, expected {expected:g} within {_SLACK}")

    if tuple(result["steps"]) == STEPS:
        for m in METHODS:
            for path in PATHS:
                for data in DATA:
                    order(
                        f"{m.name} on {path}, {data}",
                        result["errors"][m.name][path][data],
                        STEPS,
                        m.expected(path, data),
                    )
    if tuple(result["rounds"]) == ROUND_STEPS:
        for name, (_, expected) in INVERTED.items():
            for path, wanted in expected.items():
                for way, target in zip(("up", "back"), wanted, strict=True):
                    errors = result["inversion"][name][path]["mixture"][way]
                    order(f"{name} {way} on {path}", errors, ROUND_STEPS, target)
    intervals = [(name, s, None, result["stability"]["eps"][name]) for g in (*ON_EPS, FURTHER) for name, s in g.items()]
    intervals += [
        (name, s, h, result["stability"]["data"][name][str(h)]) for name, s in ON_DATA.items() for h in LOG_STEPS
    ]
    for name, sampler, h, interval in intervals:
        exact = closed_form(sampler, h)
        if exact is not None and not math.isclose(interval, exact, rel_tol=1e-5):
            found.append(f"{name}: real interval {interval:.6g}, in closed form {exact:.6g}")
    return found + (_apart(result, known, "") if known is not None else [])


def _apart(ours: Any, known: Any, name: str) -> list[str]:
    """Numbers that are not the recorded ones, to 0.1 % or 1e-12; of a list of errors, those of the same steps."""
    if name == "":
        found = []
        for key, steps in (("errors", "steps"), ("inversion", "rounds")):
            at = [known[steps].index(n) for n in ours[steps]]
            found += _apart(ours[key], _picked(known[key], at), key)
        return [
            *found,
            *_apart(ours["adaptive"], known["adaptive"], "adaptive"),
            *_apart(ours["stability"], known["stability"], "stability"),
        ]
    if isinstance(ours, Mapping):
        missing = [f"{name}: {key} is not in the recorded result" for key in ours if key not in known]
        return missing + [
            line for key in ours if key in known for line in _apart(ours[key], known[key], f"{name}, {key}")
        ]
    if isinstance(ours, list):
        pairs = zip(ours, known, strict=True)
        return [
            f"{name}: {a:.6g}, recorded {b:.6g}"
            for a, b in pairs
            if not math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-12)
        ]
    # a try more or less is rounding's
    slack = 3 if name.endswith("evaluations") else 0
    return (
        []
        if math.isclose(ours, known, rel_tol=1e-3, abs_tol=max(slack, 1e-12))
        else [f"{name}: {ours:.6g}, recorded {known:.6g}"]
    )


def _picked(known: Any, at: Sequence[int]) -> Any:
    """The recorded errors at some of their steps."""
    return [known[i] for i in at] if isinstance(known, list) else {k: _picked(v, at) for k, v in known.items()}
