"""Cells: one trained and measured run each, kept as JSON so that an interrupted measurement goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
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
    if file.is_file():
        known = json.loads(file.read_text())
        if all(known.get(key) == json.loads(json.dumps(value)) for key, value in about.items()):
            return known
        print(f"  {file} is of another recipe or version: measured again", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    spent = json.loads(clock.read_text()) if clock.is_file() and run.is_dir() else [0.0, 0.0]
    began, busy = time.perf_counter(), time.process_time()
    try:
        train(recipe, run, resume=True)
        raw = claim.measure(run, recipe)
    finally:  # also when interrupted: the time is spent
        spent = [spent[0] + time.perf_counter() - began, spent[1] + time.process_time() - busy]
        clock.write_text(json.dumps(spent))
    cell = {**about, "seconds": round(spent[0], 1), "cpu_seconds": round(spent[1], 1), "raw": raw}
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(json.dumps(cell))
    os.replace(temporary, file)
    shutil.rmtree(run)
    clock.unlink()
    return cell


def _without_seed(recipe: Recipe) -> dict[str, Any]:
    """What describes all runs of a variant."""
    return {key: value for key, value in recipe.describe().items() if key != "seed"}


def raw_of(cells: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """The raw numbers by variant and seed, as a claim judges them."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault(cell["variant"], {})[cell["seed"]] = cell["raw"]
    return found
