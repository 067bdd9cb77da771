"""Generations: models trained on what the model before them made, under several treatments that share the first one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...diffusion import Recipe, Source, load, train
from .kept_samples import KeptSamples, keep_samples
from .treatments import TREATMENTS, level_of, make, sampled

__all__ = ["Recursion", "generations"]

# between the sampling seeds of two generations
_APART = 1 << 20


@dataclass(frozen=True)
class Recursion:
    """How a recursion goes on from its first model.

    Args:
        fresh: generation -> the recipe of a new network; its data are replaced.
        measure: samples -> how good they are, JSON-able.
        hallucinated: samples -> which of them are no data, bool (N,); None where nobody can say.
        count: samples that each generation is trained on, and measured by.
        generations: in all, the first included, >= 2.
        batch: samples at a time.
        limit: kept samples are cut to plus or minus so much; None: not at all.
        treatments: see `make`.
    """

    fresh: Callable[[int], Recipe]
    measure: Callable[[Tensor], Mapping[str, float]]
    hallucinated: Callable[[Tensor], Tensor] | None
    count: int
    generations: int
    batch: int
    limit: float | None = None
    treatments: Sequence[str] = TREATMENTS


def generations(folder: Path, data: Source, plan: Recursion) -> dict[str, Any]:
    """Every generation of every treatment, measured by raw samples; what is done is kept in the folder and not done again.

    Args:
        folder: run of the first generation.
        data: what it was trained on.
        plan: the rest.

    Returns:
        level: of the probe, None where none was found; its recursion is then the unfiltered one. By treatment one row per generation: the
        measures of what its model makes, unfiltered; but for the last also "rejected", "trained_on" (how many are kept), "kept" (their
        measures) and "removed", the share of the hallucinated that were dropped (None where there are none, or nobody can say).
    """
    home = folder / "generations"
    home.mkdir(exist_ok=True)
    found = home / "level.json"
    if not found.is_file():
        _write(found, level_of(load(folder), data))
    level = json.loads(found.read_text())
    rows: dict[str, Any] = {"level": level}
    for treatment in plan.treatments:
        if treatment == "probe" and level is None:  # it would keep all that the unfiltered recursion keeps
            rows[treatment] = rows["all"]
            continue
        rows[treatment] = [
            _generation(home, folder, data, plan, treatment, g, level) for g in range(1, plan.generations + 1)
        ]
    return rows


def _generation(
    home: Path, first: Path, real: Source, plan: Recursion, treatment: str, number: int, level: float | None
) -> dict[str, Any]:
    """One generation: train it on what the one before kept (but for the first), measure it, keep what the next one is trained on."""
    row = home / f"{treatment}-{number}.json"
    if row.is_file():
        return json.loads(row.read_text())
    print(f"  {treatment}, generation {number} of {plan.generations}", file=sys.stderr)
    run, data = first, real
    if number > 1:
        data = KeptSamples(str(home / f"{treatment}-{number - 1}.safetensors"))
        run = home / f"{treatment}-{number}"
        train(replace(plan.fresh(number), data=data), run, resume=True, progress=False)
    model, block = load(run), number * _APART
    if number == plan.generations:
        result: dict[str, Any] = _rounded(
            plan.measure(sampled(model, range(block, block + plan.count), plan.batch).raw)
        )
    else:
        made = make(treatment, model, plan.count, block, plan.batch, data, level)
        kept = made.x if plan.limit is None else made.x.clamp(-plan.limit, plan.limit)
        removed = None
        if plan.hallucinated is not None:
            wrong = plan.hallucinated(made.raw)
            removed = float(made.dropped[wrong].double().mean()) if bool(wrong.any()) else None
        result = {
            **_rounded(plan.measure(made.raw[: plan.count])), "rejected": round(made.rejected, 6), "trained_on": len(kept),
            "removed": removed, "kept": _rounded(plan.measure(kept)),
        }  # fmt: skip
        keep_samples(kept, home / f"{treatment}-{number}.safetensors")
    _write(row, result)
    if number > 1:
        shutil.rmtree(run)
    return result


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {k: round(v, 6) for k, v in values.items()}


def _write(file: Path, value: Any) -> None:
    """The whole file or none."""
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, file)
