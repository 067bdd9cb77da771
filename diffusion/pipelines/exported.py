"""What `sfumato export` says of a model beside what diffusers reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ...guidance import Guidance
from ...samplers import Sampler
from ...schedules import Grid
from ...schedules.parts import build, class_paths

__all__ = ["Exported", "read_exported"]

NAME = "sfumato.yaml"


class Exported(NamedTuple):
    """classes: of the network; 0: none. null: whether the null class was trained. latents: whether it makes latents. sampler, grid, steps,
    guidance: the run's own; None: a class of somebody's own, which a folder can't ask to be imported."""

    classes: int
    null: bool
    latents: bool
    steps: int
    sampler: Sampler | None
    grid: Grid | None
    guidance: Guidance | None


def read_exported(folder: Path) -> Exported | None:
    """What is said beside a model of diffusers, if Sfumato wrote its folder.

    Args:
        folder: the pipeline's, or a network's within it.

    Raises:
        ValueError: for a file that is not what `sfumato export` wrote.
    """
    file = next((place / NAME for place in (folder, folder.parent) if (place / NAME).is_file()), None)
    if file is None:
        return None
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise ValueError(
            f"{file} can't be read as YAML: {' '.join(str(error).split())}; export again, or remove it"
        ) from error
    if not isinstance(said, Mapping) or said.get("format") != 1:
        raise ValueError(f"{file} is not what `sfumato export` of this version writes; export again, or remove it")
    try:
        numbers = int(said["num_classes"]), bool(said["null_class"]), bool(said["latents"]), int(said["sampling_steps"])
        parts = [_part(said[key]) for key in ("sampler", "grid", "guidance")]
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not what `sfumato export` writes ({error}); export again, or remove it") from error
    return Exported(*numbers, *parts)


def _part(description: Any) -> Any:
    """A part, of ours only."""
    outside = [path for path in class_paths(description) if not path.startswith("sfumato.")]
    return None if outside else build(description)
