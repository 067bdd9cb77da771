"""Data made ready for training: read once, without what can't be read."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from .data import Source
from .edm_loss import data_std
from .interrupt import Interrupted, Told
from .launch import Processes
from .recipe import Recipe
from .scan import Scan, checkable, scan
from .whole_file import replace_text

__all__ = ["REPORT", "Prepared", "prepare", "trained_on"]

REPORT = "data.json"
"""The file of a run folder that says what was found in its data."""


class Prepared(NamedTuple):
    """data: what is trained on. std: its standard deviation. found: what reading it came to; None where it can't say."""

    data: Source
    std: float
    found: Scan | None

    def save(self, folder: Path) -> None:
        """Keep the outcome, so that a resumed run leaves out the same samples without reading them all again."""
        known = {"std": self.std, "scan": None if self.found is None else self.found.to_json()}
        replace_text(folder / REPORT, json.dumps(known, indent=1))


def prepare(recipe: Recipe, processes: Processes, folder: Path, progress: bool, told: Told | None = None) -> Prepared:
    """Read every sample of a data set that can say what is wrong with one, and leave out what the recipe allows to leave out.

    The main process reads, unless the run folder knows the outcome for the very same data; the others are told.

    Args:
        recipe: whose data.
        processes: who trains.
        folder: of the run, which may not be there yet.
        progress: show a bar.
        told: what signals ask for; one that asks to stop ends the reading.

    Raises:
        Interrupted: when a signal asked to stop.
        ValueError: in every process, when samples can't be read and the recipe does not allow that.
    """
    error: Exception | None = None
    found: Scan | None = None
    std = 0.0
    if processes.main:
        try:
            known = _known(folder, recipe.data)
            found = known.found if known else _scan(recipe, progress, told)
            if found is not None:  # also of what is known: another policy than when the data were read may not allow it
                found.check(recipe.corrupt, recipe.corrupt_limit)
                if found.bad and not known:
                    warnings.warn("\n".join([*found.words(), "they are left out"]), stacklevel=2)
            std = known.std if known else _std(_good(recipe.data, found))
        except (ValueError, OSError, Interrupted) as wrong:
            error = wrong
    processes.agree(error)
    if processes.count > 1:
        found, std = _shared(recipe.data, found, std, processes)
    data = _good(recipe.data, found)
    if recipe.augment is not None and data.batch(torch.zeros(1, dtype=torch.int64)).spread is not None:
        raise ValueError(
            f"augment is {type(recipe.augment).__name__}, but the data are latents with a spread of their own, which would not follow; "
            "set augment: null (`sfumato encode --mirror` encodes mirrored pictures), or data.sample: false"
        )
    if processes.main:
        _look_at_std(recipe, std)
    return Prepared(data, std, found)


def _look_at_std(recipe: Recipe, std: float) -> None:
    """Warn of parts that take the data's standard deviation for another than it is."""
    for key in ("row", "weighting"):
        said = getattr(getattr(recipe, key), "data_std", None)
        if said is not None and not 0.8 < said / std < 1.25:
            warnings.warn(
                f"{key}.data_std is {said:g}, and the data's standard deviation {std:.3g}; set {key}.data_std: {std:.2g}",
                stacklevel=2,
            )


def trained_on(folder: Path, data: Source) -> Source:
    """A run's data without the samples that it left out.

    Args:
        folder: of the run.
        data: those of its config.
    """
    known = _known(folder, data)
    return data if known is None else _good(data, known.found)


def _good(data: Source, found: Scan | None) -> Source:
    return data if found is None else found.good(data)


def _scan(recipe: Recipe, progress: bool, told: Told | None) -> Scan | None:
    if len(recipe.data) == 0 or not checkable(recipe.data):
        return None
    return scan(recipe.data, min(8, os.cpu_count() or 1), progress, told)


def _std(data: Source) -> float:
    """The standard deviation of the data; 1 for data that have none, which is no reason not to train on them."""
    try:
        return data_std(data)
    except ValueError as error:
        warnings.warn(f"edm_loss is measured with a standard deviation of 1: {error}", stacklevel=2)
        return 1.0


def _known(folder: Path, data: Source) -> Prepared | None:
    """What the run folder knows of these data."""
    with suppress(OSError, ValueError, KeyError, TypeError, UnicodeDecodeError):
        known = json.loads((folder / REPORT).read_text())
        found = None if known["scan"] is None else Scan.from_json(known["scan"])
        std = float(known["std"])
        if found is None or (found.count, found.fingerprint) != (len(data), data.fingerprint):
            return None
        if all(0 <= i < found.count for i in found.bad) and 0.0 < std < float("inf"):
            return Prepared(data, std, found)
    return None


def _shared(data: Source, found: Scan | None, std: float, processes: Processes) -> tuple[Scan | None, float]:
    """What the main process found, in every process; as sums to which the others add nothing."""
    bad = sorted(found.bad) if found is not None else []
    facts = torch.tensor([len(bad), float(found is not None), std], dtype=torch.float64, device=processes.device)
    count, any_found, std = processes.total(facts if processes.main else torch.zeros_like(facts)).tolist()
    listed = torch.zeros(int(count), dtype=torch.int64, device=processes.device)
    if processes.main:
        listed += torch.tensor(bad, dtype=torch.int64, device=processes.device)
    if count:
        listed = processes.total(listed)
    if not any_found:
        return None, std
    reasons = found.bad if found is not None else dict.fromkeys(listed.tolist(), "found by the main process")
    return Scan(len(data), reasons, data.fingerprint), std
