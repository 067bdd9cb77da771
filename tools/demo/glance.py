"""What can be told of a run at a glance, without reading weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...diffusion.plan import is_picture
from ...diffusion.run_model import description_of, of_latents
from ...schedules.parts import class_paths

__all__ = ["Glance", "glance", "refuse_run"]

_NAME = re.compile(r"step-(\d{9,})")


class Glance(NamedTuple):
    """A checkpoint whose files have the sizes that its manifest says; their hashes are for whoever loads it.

    step: of the optimizer. published: when it was, nanoseconds. inode: of its manifest, another when it was published again.
    """

    step: int
    published: int
    inode: int


def glance(run: Path) -> Glance | None:
    """The newest checkpoint of a run that seems whole, or None.

    Args:
        run: its folder.
    """
    found = _newest(run)
    return None if found is None else found[0]


def refuse_run(run: Path, allow: Sequence[str], vae: bool) -> None:
    """Refuse a run that can't be sampled as pictures, as far as its config and the newest checkpoint's say it.

    Args:
        run: its folder.
        allow: packages beside Sfumato whose classes it may name.
        vae: whether there is something that makes pictures of latents.

    Raises:
        ValueError: with the reason.
    """
    description = description_of(run)
    found = _newest(run)
    if found is None:
        raise ValueError(f"{run} holds no valid checkpoint; train it first: sfumato train ... --out {run}")
    named = {key: description[key] for key in ("backbone", "schedule", "row", "clock", "sampler", "grid", "guidance")}
    packages = {path.split(".")[0] for path in class_paths(named) if isinstance(path, str)} - {"sfumato", *allow}
    if packages:
        raise ValueError(
            f"{run} names classes of {', '.join(sorted(packages))}; say --allow for packages that you trust"
        )
    state = found[1]
    shape = state.get("shape")
    if vae and of_latents(state, description.get("data")):
        return
    if of_latents(state, description.get("data")):
        raise ValueError(f"the samples of {run} are latents; give the folder of their VAE by --vae")
    if not isinstance(shape, list) or not is_picture(tuple(shape)):
        raise ValueError(f"the samples of {run} are of shape {tuple(shape or ())}, which are no pictures")


def _newest(run: Path) -> tuple[Glance, dict[str, Any]] | None:
    """The newest checkpoint that seems whole, and its state."""
    folders = [p for p in (run / "checkpoints").glob("step-*") if _NAME.fullmatch(p.name)]
    for folder in sorted(folders, reverse=True):
        try:
            manifest = folder / "manifest.json"
            listed = json.loads(manifest.read_text())["files"]
            if any((folder / name).stat().st_size != known["bytes"] for name, known in listed.items()):
                continue
            state, about = json.loads((folder / "state.json").read_text()), manifest.stat()
            if isinstance(state, dict):
                return Glance(int(folder.name[5:]), about.st_mtime_ns, about.st_ino), state
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return None
