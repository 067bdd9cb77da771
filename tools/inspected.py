"""What `sfumato inspect` looks at: the forward process of a recipe, or of a diffusers pipeline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from ..diffusion import Recipe
from ..diffusion.migrate import current_recipe
from ..samplers import DPMSolverPP, Sampler
from ..schedules import (
    Constant,
    Density,
    Exponential,
    Grid,
    Karras,
    Leading,
    Linspace,
    Row,
    Schedule,
    Table,
    Trailing,
    Uniform,
    UniformEntries,
    Weighting,
)  # fmt: skip
from ..schedules.parts import build, describe
from ..schedules.schedule import entries
from .arguments import merge, read_config
from .resolve import fields_of, resolve
from .spelling import UsageError
from .train import resolve_recipe

__all__ = ["Inspected", "Parts", "look"]


@dataclass(frozen=True)
class Parts:
    """What of a recipe `inspect` looks at; unlike a Recipe, they need not fit together."""

    schedule: Schedule
    row: Row
    density: Density
    weighting: Weighting
    sampler: Sampler
    grid: Grid
    sampling_steps: int
    input_std: float | None = None


class Inspected(NamedTuple):
    """The parts, their description, how many numbers per channel a sample has, and whether training is only assumed."""

    parts: Parts
    description: dict[str, Any]
    elements: int
    assumed: bool = False


def look(config: str, pairs: Sequence[tuple[str, Any]], allow: Sequence[str], tokens: int | None) -> Inspected:
    """The forward process of a preset, a YAML file, a run folder, or a diffusers folder, with values set over it.

    Args:
        config: its name or path; a diffusers folder holds scheduler/scheduler_config.json or scheduler_config.json.
        pairs: keys and values set over it.
        allow: packages beside Sfumato that class paths may name.
        tokens: sequence length, for diffusers schedulers that shift by it.

    Raises:
        ValueError: for what can't be read; UsageError, with every problem found, for values that don't fit.
    """
    path = Path(config)
    tries = (path, path / "scheduler_config.json", path / "scheduler" / "scheduler_config.json")
    found = next((p for p in tries if p.name == "scheduler_config.json" and p.is_file()), None)
    if found is None and (tokens is not None or (path.is_dir() and not (path / "config.yaml").is_file())):
        raise ValueError(
            f"{config} is no diffusers folder: it holds neither scheduler/scheduler_config.json nor scheduler_config.json"
            + ("; leave tokens out" if tokens is not None else ", and no run folder: it holds no config.yaml")
        )
    if tokens is not None and tokens < 1:
        raise ValueError(f"tokens is {tokens}; allowed: >= 1")
    if found is None:
        description = _recipe(config, pairs, allow)
        backbone = description["backbone"]
        size = ((backbone.get("init_args") if isinstance(backbone, Mapping) else None) or {}).get("size", 32)
        kept = {f.name: description[f.name] for f in fields(Parts)}
        return Inspected(Parts(**build(kept, allow)), kept, size**2)
    own = _diffusers(found, tokens)
    description = resolve(merge(describe(own)["init_args"], pairs), Parts, allow)
    return Inspected(Parts(**build(description, allow)), description, _size(found) ** 2, True)


def _recipe(config: str, pairs: Sequence[tuple[str, Any]], allow: Sequence[str]) -> dict[str, Any]:
    """A recipe's description, also where its data or its network can't be made here: neither is looked at."""
    try:
        return resolve_recipe(config, pairs, allow)
    except UsageError as error:
        own = {f.name for f in fields(Parts)}
        told = {re.split(r"[.:\[ ]", problem)[0] for problem in error.problems}
        # what was said with the command must be right whatever it is about, and so must every name
        if told & (own | {key.split(".")[0] for key, _ in pairs}) or told - {*fields_of(Recipe)}:
            raise
        path = Path(config) / "config.yaml"
        tree = merge(current_recipe(read_config(str(path) if path.is_file() else config)), pairs)
        mine = {name: tree[name] for name in own & {*tree}}
        defaults = {name: describe(f.default) for name, f in fields_of(Recipe).items() if name in own - {*tree}}
        return {"backbone": tree.get("backbone"), **resolve({**defaults, **mine}, Parts, allow)}


def _diffusers(file: Path, tokens: int | None) -> Parts:
    """The process of a scheduler config, sampled on the grid that it names."""
    schedule, row = Table.from_diffusers(file, tokens)
    density = Uniform() if entries(schedule) is None else UniformEntries()
    return Parts(schedule, row, density, Constant(row), DPMSolverPP(), _grid(json.loads(file.read_text())), 20)


def _grid(config: dict[str, Any]) -> Grid:
    """The grid that a config asks for, or its class by default."""
    name = str(config.get("_class_name"))
    edm = config.get("sigma_schedule", "exponential" if name.startswith("Cosine") else "karras")
    if config.get("use_exponential_sigmas") or edm == "exponential":
        return Exponential()
    if config.get("use_karras_sigmas") or name.startswith(("EDM", "Cosine")):
        return Karras()
    solver = name.startswith(("DPMSolverMultistep", "DPMSolverSinglestep", "UniPC", "DEIS", "SASolver"))
    leading = name.startswith(("DDIM", "DDPM", "PNDM", "CogVideoX", "RePaint", "UnCLIP"))
    if name.startswith("FlowMatch"):  # from sigma 1 to 1 / T in equal steps, shifted
        return Linspace()
    straight = (
        name.startswith(("LCM", "TCD"))
        or bool(config.get("use_flow_sigmas"))
        or any(w in name for w in ("Flow", "RF", "MiniMax", "IPNDM", "Wuerstchen", "Sde"))
    )
    default = "trailing" if straight else "leading" if leading else "linspace"
    spacing = config.get("timestep_spacing", default)
    grids: dict[str, Grid] = {
        "leading": Leading(int(config.get("steps_offset", 0))), "linspace": Linspace(clean=not solver), "trailing": Trailing(),
    }  # fmt: skip
    return grids.get(spacing, Trailing())


def _size(scheduler: Path) -> int:
    """Pixels or latents along a side, from the network's config beside the scheduler's; 64 where it does not say."""
    for name in ("unet", "transformer"):
        file = scheduler.parent.parent / name / "config.json"
        if file.is_file():
            size = json.loads(file.read_text()).get("sample_size")
            if isinstance(size, int):
                return size
    return 64
