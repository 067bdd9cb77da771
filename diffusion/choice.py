"""What `auto` comes to: precision and memory format, measured once on the network itself, and kept for the whole run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from .launch import Processes
from .memory_format import has_convolutions, set_memory_format
from .memory_probe import out_of_memory
from .recipe import Recipe
from .still import buffers_of, put_back
from .trial import trial_loss

__all__ = ["chosen", "chosen_memory_format", "computes_in", "measures", "settle", "words"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}

_ROUNDS, _SECONDS = 5, 20.0  # rounds of all candidates, and the time after which no further one begins
_GAIN = 1.03  # less than that is noise


def measures(recipe: Recipe) -> bool:
    """Whether a recipe leaves something to be measured."""
    return "auto" in (recipe.precision, recipe.memory_format)


def computes_in(precision: str) -> torch.dtype:
    """In what a network of a precision computes; float32 for `auto`, which may come to it."""
    return _DTYPES.get(precision, torch.float32)


def settle(recipe: Recipe, choice: Mapping[str, Any] | None) -> Recipe:
    """The recipe with what was chosen in place of `auto`; fp32 and contiguous where nothing was yet.

    Args:
        recipe: as it was asked for.
        choice: as `chosen` gave it, or None.
    """
    found = {"precision": "fp32", "memory_format": "contiguous", **(choice or {})}
    return replace(
        recipe, **{key: found[key] for key in ("precision", "memory_format") if getattr(recipe, key) == "auto"}
    )


def chosen_memory_format(state: Mapping[str, Any]) -> str:
    """The memory format of the run that saved a checkpoint's state."""
    recipe = state.get("recipe") or {}
    return (state.get("chosen") or {}).get("memory_format") or recipe.get("memory_format", "contiguous")


def chosen(recipe: Recipe, processes: Processes, count: int) -> dict[str, Any]:
    """Measure forward and backward passes in every precision and memory format that `auto` allows, and take the fastest.

    Another one than the first (fp32, contiguous) must be 3 % faster than that. Every process measures, and all take what the first
    found. Nothing is compiled for a try. Weights, gradients, buffers and generators are left as they were.

    Args:
        recipe: as it was asked for; its backbone is on the device, and no optimizer was made for it.
        processes: who trains.
        count: samples at once.

    Returns:
        precision, memory_format, and seconds, those of a pass by "precision memory_format"; plain values.
    """
    precisions = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
    formats = ("contiguous", "channels_last") if recipe.memory_format == "auto" else (recipe.memory_format,)
    if recipe.memory_format == "auto" and not has_convolutions(recipe.backbone):
        formats = ("contiguous",)
    candidates = [(p, f) for p in precisions for f in formats]
    seconds = _measured(recipe, processes, count, candidates) if len(candidates) > 1 else {}
    plain = candidates[0]
    best = min(seconds, key=lambda c: seconds[c] * (1.0 if c == plain else _GAIN), default=plain)
    found = {
        "precision": best[0], "memory_format": best[1], "seconds": {" ".join(c): round(s, 6) for c, s in seconds.items()},
    }  # fmt: skip
    return json.loads(processes.tell(json.dumps(found)))


def words(choice: Mapping[str, Any]) -> str:
    """What was chosen, in a line."""
    seconds: Mapping[str, float] = choice["seconds"]
    name = f"{choice['precision']} {choice['memory_format']}"
    others = ", ".join(f"{other} {value / seconds[name]:.2f}" for other, value in seconds.items() if other != name)
    measured = f", the fastest here for this network and batch (times of the others: {others})" if others else ""
    return f"precision {choice['precision']}, memory format {choice['memory_format']}{measured}; kept for the whole run"


def _measured(
    recipe: Recipe, processes: Processes, count: int, candidates: list[tuple[str, str]]
) -> dict[tuple[str, str], float]:
    """The median seconds of a pass of each candidate, in turn, after one that is not counted."""
    module, device = recipe.backbone, processes.device
    kept, training = buffers_of([module]), module.training
    devices = [device] if device.type == "cuda" else []
    taken: dict[tuple[str, str], list[float]] = {candidate: [] for candidate in candidates}
    began = time.perf_counter()
    module.train()
    try:
        with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            for number in range(_ROUNDS + 1):
                if number > 1 and time.perf_counter() - began > _SECONDS:
                    break
                for candidate in list(taken):
                    try:
                        spent = _pass(recipe, processes, count, *candidate)
                    except (MemoryError, RuntimeError) as error:
                        # what does not run here is no candidate; but the plain one's reason is the run's own
                        if candidate == candidates[0] or not (out_of_memory(error) or number == 0):
                            raise
                        del taken[candidate]
                        continue
                    if number:
                        taken[candidate].append(spent)
    finally:
        set_memory_format(module, "contiguous")
        module.zero_grad(set_to_none=True)
        module.train(training)
        put_back(kept)
    return {candidate: median(values) for candidate, values in taken.items()}


def _pass(recipe: Recipe, processes: Processes, count: int, precision: str, memory_format: str) -> float:
    """Seconds of a forward and a backward pass."""
    device, module = processes.device, recipe.backbone
    set_memory_format(module, "channels_last" if memory_format == "channels_last" else "contiguous")
    half = precision in ("bf16", "fp16")
    _wait(device)
    began = time.perf_counter()
    with torch.autocast(device.type, computes_in(precision)) if half else nullcontext():
        loss = trial_loss(recipe, count, device)
    loss.backward()
    _wait(device)
    spent = time.perf_counter() - began
    module.zero_grad(set_to_none=True)
    return spent


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
