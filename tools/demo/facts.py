"""What the form must know of a model, and what lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...diffusion import Model
from ...diffusion.fingerprint import fingerprint
from ...samplers import on_path
from ...samplers.filters import Calibrated, Filter, Sampling
from ...samplers.filters.pictures import check_for
from ...schedules.parts import describe
from ...schedules.schedule import first_t
from ..compare.words import brief
from .asked_for import Beside
from .shelf import Entry, Loaded, Shelf

__all__ = ["Facts", "beside", "facts_of"]

# calibrations of a run that are read at most, and bytes of each
_MOST, _BYTES = 32, 16 * 2**20


@dataclass(frozen=True)
class Facts:
    """A model as a form sees it, plain values only.

    classes: how many; 0: none. texts: whether it knows prompts. null: whether the null class, or the empty text, was trained. shape: (C, H,
    W) of a picture. pixels: whether it is sampled as pictures in [-1, 1]. low, high: log-SNR of its noisiest and its cleanest level,
    perhaps infinite. steps, sampler, grid, rule: its own, in short. stochastic: whether its own sampler draws noise. late: its own steps
    that begin with more signal than noise. row: what its network predicts. calibrations: names of its calibrated filters. filtered: those
    of them that hold for its own way of sampling, of pictures with labels or prompts. weak: models that may be steered away from. source:
    which it is.
    """

    classes: int
    texts: bool
    null: bool
    shape: tuple[int, ...]
    pixels: bool
    low: float
    high: float
    steps: int
    sampler: str
    grid: str
    rule: str
    stochastic: bool
    late: int
    row: str
    calibrations: tuple[str, ...] = ()
    filtered: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def guidable(self) -> bool:
        """Whether there is a condition, and something to steer away from."""
        return bool(self.classes or self.texts)


def facts_of(loaded: Loaded, shelf: Shelf) -> Facts:
    """What is known of a model that is loaded.

    Args:
        loaded: the model.
        shelf: where it stands.
    """
    model, path = loaded.model, loaded.model.denoiser.schedule
    known = _calibrations(loaded.entry)
    return Facts(
        model.num_classes, model.text is not None, model.null_class, tuple(model.picture_shape), not model.latents,
        float(path(1.0).log_snr), float(path(first_t(path)).log_snr), model.steps, _short(model.sampler), _short(model.grid),
        _short(model.guidance), bool(model.sampler.draws),
        sum(float(level.log_snr) >= 0.0 for level in model.grid(path, model.steps)[:-1]), type(model.denoiser.row).__name__,
        tuple(known), tuple(name for name, each in known.items() if _holds(each, model)),
        tuple(name for name in shelf.names if shelf.entry(name) is not loaded.entry),
        dict(model.source),
    )  # fmt: skip


def beside(shelf: Shelf, loaded: Loaded) -> Beside:
    """What `asked` needs beside a model: its calibrations, and the other models of the shelf.

    Args:
        shelf: where it stands.
        loaded: the model.
    """

    def weak(name: str) -> Model:
        if name not in shelf.names:
            raise ValueError(f"weaker model: there is no such model; allowed: {', '.join(shelf.names)}")
        return shelf.get(name).model

    return Beside(_calibrations(loaded.entry), weak)


def _short(part: object) -> str:
    text = brief(describe(part))
    return text if len(text) <= 70 else f"{text[:67]}..."


def _holds(calibrated: Filter, model: Model) -> bool:
    """Whether a calibration is of these weights, and of trajectories as the model walks them of itself."""
    labelled = True if model.num_classes or model.text is not None else None
    levels = model.grid(model.denoiser.schedule, model.steps)
    own = Sampling(repr(model.sampler), repr(model.guidance), levels, lambda: fingerprint(model.denoiser), labelled)
    try:
        check_for(on_path((calibrated,), model.denoiser.schedule), own)
    except ValueError:
        return False
    return True


def _calibrations(entry: Entry) -> dict[str, Filter]:
    """The calibrated filters of a run by name, those that can't be read left out."""
    found: dict[str, Filter] = {}
    if not entry.run or not (entry.home / "filters").is_dir():
        return found
    for file in sorted((entry.home / "filters").glob("*.json"))[:_MOST]:
        try:
            if file.is_file() and file.stat().st_size <= _BYTES:
                found[f"calibrated {file.stem}"] = Calibrated(str(file))
        except (OSError, ValueError):  # one that is damaged, or of a class that is not ours
            continue
    return found
