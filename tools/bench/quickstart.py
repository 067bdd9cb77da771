"""The quickstart as its user meets it: its time, what it says of its pictures, and the way from a clone to the first of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from .goals import Goal
from .kind import Ask, Kind
from .quickstart_clone import first_picture
from .sheet import Cell, Sheet, exact
from .startup import command
from .startup_child import spent

__all__ = ["QUICKSTART", "rows_of"]

_CLONE = "first-picture"


def rows_of(results: dict[str, Any], cpu: float) -> dict[str, dict[str, Cell]]:
    """The rows of what a quickstart has left in its metrics.json.

    Args:
        results: as it has written them.
        cpu: seconds of the whole process.
    """
    known, both = results["references"], [results["training"]["seconds"], results["sampling"]["seconds"]]
    rows = {
        "digits": {
            "training": Cell(both[0], unit="s"), "the sheet of samples": Cell(both[1], unit="s"), "both": Cell(sum(both), unit="s"),
            "CPU of all": Cell(cpu, unit="s"), "parameters": exact(results["parameters"]),
        },
    }  # fmt: skip
    for name in ("unguided", "guided"):
        found = results[name]
        rows[f"digits, {name}"] = {
            "Frechet distance": Cell(found["frechet"], unit=""), "class accuracy": Cell(found["accuracy"], unit="%"),
            "sampling": Cell(found["seconds"], unit="s"), "pictures": exact(found["n"]),
            "evaluations per picture": exact(found["evaluations_per_picture"]),
        }  # fmt: skip
    rows["digits, references"] = {
        "Frechet distance of every second one": Cell(known["real_vs_real"], unit=""), "of noise": Cell(known["noise_vs_real"], unit=""),
        "the judge's accuracy": Cell(known["test_accuracy"], unit="%"),
    }  # fmt: skip
    return rows


def _measure(ask: Ask, sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as name:
        if ask.only == _CLONE:
            first_picture(Path(name), sheet)
            return
        out = Path(name) / "quickstart"
        words = ["quickstart", "--out", str(out), *(["--steps", "2", "--samples", "2"] if ask.quick else [])]
        cpu = spent(command(*words))
        for row, cells in rows_of(json.loads((out / "metrics.json").read_text()), cpu).items():
            sheet.add(row, cells)
    sheet.note("one run in one process and one thread; its own clock on the wall")


QUICKSTART = Kind(
    _measure, (_CLONE,),
    goals=(
        Goal("quickstart, training and sampling, one idle core", "quickstart", "digits", "both", 30.0),
        # two halves of the data, drawn at random, in the features of our judge; 14.7 in those of the classifier that the goal was set with
        Goal("quickstart, Frechet distance, at most that of two real halves", "quickstart", "digits, unguided", "Frechet distance", 8.4),
        Goal("quickstart, class accuracy at guidance 1.5", "quickstart", "digits, guided", "class accuracy", 0.98, at_most=False),
        Goal("first picture after a clone, installation included", "quickstart", "from a clone to the first picture", "the picture", 180.0),
    ),
)  # fmt: skip
