"""Cells: one trained and measured run each, kept as JSON so that an interrupted measurement goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...diffusion import Recipe, train
from .claim import Claim

__all__ = ["measure_cells", "raw_of"]


def measure_cells(claim: Claim, seeds: int, out: Path, quick: bool) -> list[dict[str, Any]]:
    """Train and measure every cell of a claim that is not known yet, one after the other, on one thread.

    Args:
        claim: which one.
        seeds: 0, 1, ..., seeds - 1, each for every variant.
        out: folder; cells are kept in out/cells.
        quick: the tiny version.

    Returns:
        One per (variant, seed): variant, seed, seconds, cpu_seconds, version, torch, recipe, raw.

    Raises:
        Interrupted, KeyboardInterrupt: when told to stop; the next call goes on from the last finished step.
    """
    variants = claim.quick_variants if quick and claim.quick_variants else claim.variants
    todo = [(variant, seed) for seed in range(seeds) for variant in variants]
    found: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number, (variant, seed) in enumerate(todo, 1):
            print(f"{claim.name}: run {number} of {len(todo)}, {variant}, seed {seed}", file=sys.stderr)
            found.append(_cell(claim, variant, seed, out / ("quick" if quick else "cells") / claim.measurement, quick))
    finally:
        torch.set_num_threads(before)
    return found


def _cell(claim: Claim, variant: str, seed: int, home: Path, quick: bool) -> dict[str, Any]:
    """One cell: from its file when it was made of this very recipe and version, else trained and measured."""
    recipe = claim.recipe(variant, seed, quick)
    about = {
        "variant": variant, "seed": seed, "version": version("sfumato"), "torch": str(torch.__version__),
        "recipe": _without_seed(recipe),
    }  # fmt: skip
    name = f"{variant}-{seed}"
    file, run, clock = home / f"{name}.json", home / name, home / f"{name}.seconds"
    if claim.keeps_runs:
        run = home.parent / "trained" / f"{name}-{_address(recipe)}"
    if file.is_file():
        known = json.loads(file.read_text())
        if all(known.get(key) == json.loads(json.dumps(value)) for key, value in about.items()):
            return known
        print(f"  {file} is of another recipe or version: measured again", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    training = run.with_name(f"{run.name}.seconds") if claim.keeps_runs else clock
    if claim.trains:
        with _timed(training, run.is_dir()):
            train(recipe, run, resume=True)
    with _timed(clock, clock.is_file() and run.is_dir()):
        raw = claim.measure(run, recipe)
    spent = [sum(parts) for parts in zip(*(json.loads(c.read_text()) for c in {training, clock}), strict=True)]
    cell = {**about, "seconds": round(spent[0], 1), "cpu_seconds": round(spent[1], 1), "raw": raw}
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(json.dumps(cell))
    os.replace(temporary, file)
    if claim.trains and not claim.keeps_runs:
        shutil.rmtree(run)
    clock.unlink()
    return cell


@contextmanager
def _timed(clock: Path, goes_on: bool) -> Iterator[None]:
    """Add wall and CPU seconds to those in a file, also when interrupted: the time is spent. goes_on: whether they count."""
    spent = json.loads(clock.read_text()) if goes_on and clock.is_file() else [0.0, 0.0]
    began, busy = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        clock.write_text(json.dumps([spent[0] + time.perf_counter() - began, spent[1] + time.process_time() - busy]))


def _address(recipe: Recipe) -> str:
    """A name for a recipe: another recipe never finds this one's run."""
    return hashlib.sha256(json.dumps(recipe.describe()).encode()).hexdigest()[:12]


def _without_seed(recipe: Recipe) -> dict[str, Any]:
    """What describes all runs of a variant."""
    return {key: value for key, value in recipe.describe().items() if key != "seed"}


def raw_of(cells: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """The raw numbers by variant and seed, as a claim judges them."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault(cell["variant"], {})[cell["seed"]] = cell["raw"]
    return found
