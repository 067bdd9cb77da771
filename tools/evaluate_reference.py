"""What `sfumato evaluate` compares with, and what kind of place it was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..diffusion import Source
from ..diffusion.measuring import OfFolder, OfSource, Pictures
from ..diffusion.prepared import trained_on
from ..diffusion.split import held_out
from ..schedules.parts import build
from .arguments import read_config
from .evaluate import Evaluate
from .spelling import UsageError

__all__ = ["Compared", "compared", "is_model", "place"]


class Compared(NamedTuple):
    """reference: pictures, statistics' path, or None. training: those that the model was trained on, or None. held: out of them, or None.
    what: the reference is, in words."""

    reference: Pictures | Path | None
    training: Pictures | None
    held: Pictures | None
    what: str


def is_model(place: str) -> bool:
    """Whether a path is a run, a folder of diffusers or a checkpoint, and no folder of pictures.

    Raises:
        ValueError: for what is none of these.
    """
    path = Path(place)
    if path.is_file() or any(
        (path / name).is_file() for name in ("config.yaml", "sfumato.yaml", "model_index.json", "config.json")
    ):
        return True
    if not path.is_dir():
        raise ValueError(f"{place} is not there; give a run folder, a model, or a folder of pictures")
    return False


def _trained(options: Evaluate) -> Source | None:
    """The data of a run; None where they can't be had, or it is no run."""
    config = Path(options.run) / "config.yaml"
    if not config.is_file():
        return None
    return trained_on(Path(options.run), build(read_config(str(config))["data"], options.allow, "data"))


def compared(options: Evaluate, shape: Sequence[int] | None, model: bool) -> Compared:
    """What is compared with.

    Args:
        options: of the command.
        shape: of the pictures, where it is known by now.
        model: whether they are a model's.

    Raises:
        ValueError: where there is nothing to compare with.
    """
    own: Source | None = None
    wanted = options.reference is None and options.reference_path is None and options.stats is None
    try:
        own = _trained(options) if model else None
    except ValueError:
        if wanted and options.save_stats is None:  # or it is only for the memorisation check
            raise
    if own is not None and shape is not None and tuple(own.shape) != tuple(shape):
        own = None  # latents, of which no picture is known
    training = None if own is None else OfSource(own)
    rest = None if own is None else held_out(own)
    held = None if rest is None else OfSource(rest)
    if options.stats is not None:
        return Compared(Path(options.stats), training, held, f"the statistics in {options.stats}")
    if options.reference_path is not None:
        return Compared(
            OfFolder(options.reference_path, options.size, options.channels),
            training,
            held,
            f"the pictures in {options.reference_path}",
        )
    if options.reference is not None:
        return Compared(OfSource(options.reference), training, held, f"{options.reference}")
    if training is None and options.save_stats is None:
        raise UsageError(
            ["there is nothing to compare with; give --reference: a folder of real pictures, a data set such as ImageFolder, or an .npz of "
             "statistics (or --save_stats FILE.npz alone, to write those of these pictures)"]
        )  # fmt: skip
    return Compared(
        training, training, held, "the pictures that the model was trained on" if training is not None else ""
    )


def place(options: Evaluate) -> Path:
    """Where reports and pictures go, unless told."""
    own = (Path(options.run) / "config.yaml").is_file()
    return Path(options.run) / "evaluation" if own else Path("evaluation") / (Path(options.run).resolve().stem)
