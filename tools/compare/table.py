"""What was measured of a comparison, as rows: who leads where, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...diffusion.measuring import Spread, leaders
from ...diffusion.whole_file import replace_text, whole_file
from ...schedules.plain_json import to_json
from .axes import Axis
from .outcome import Outcome

__all__ = ["MEASURES", "Measure", "Table"]


@dataclass(frozen=True)
class Measure:
    """One column.

    key: in JSON and CSV. heading: for people. better: "lower", "higher", or "" where neither is. about: one sentence.
    """

    key: str
    heading: str
    better: str
    about: str


MEASURES = (
    Measure(
        "evaluations",
        "evaluations",
        "",
        "evaluations of the network per picture, all branches, filters and lost attempts together",
    ),
    Measure("seconds", "seconds", "", "seconds per picture of sampling, measured once on the machine as it was"),
    Measure("distance", "distance", "lower", "root mean square distance to the fine solution, pictures in [-1, 1]"),
    Measure("frechet", "Frechet", "lower", "Frechet distance of the features to those of the data"),
    Measure("accuracy", "accuracy", "higher", "share of the pictures that the extractor names as they were asked for"),
    Measure("score", "filter score", "", "mean score of the first filter, of the last attempts"),
    Measure("rejected", "rejected", "", "share of attempts that filters rejected"),
)


class Table:
    """The outcomes of a comparison and what may be said of them.

    Args:
        x, y: columns and rows.
        outcomes: in any order.
    """

    def __init__(self, x: Axis, y: Axis, outcomes: Sequence[Outcome]) -> None:
        self.x, self.y = x, y
        self.outcomes = sorted(outcomes, key=lambda o: (o.cell.row, o.cell.column))
        self.measures = tuple(m for m in MEASURES if any(m.key in o.measured for o in self.outcomes))

    def at(self, row: int, column: int) -> Outcome | None:
        """The outcome at a place, if there is one."""
        return next((o for o in self.outcomes if (o.cell.row, o.cell.column) == (row, column)), None)

    def leading(self, key: str, row: int | None = None, column: int | None = None) -> list[Outcome]:
        """Who may be the best in a row, a column, or all: one is the winner; several are not told apart. Cells that diverged lead nothing,
        nor do those of fewer pictures than others.

        Args:
            key: of a measure that knows what is better.
            row, column: None: all of them.
        """
        better = next(m.better for m in MEASURES if m.key == key)
        own = self._comparable(key, row, column)
        if not better or not own:
            return []
        by_place = {f"{o.cell.row} {o.cell.column}": o for o in own}
        # of different seeds the differences have no pairs, but as many
        found = leaders({name: o.measured[key] for name, o in by_place.items()}, better == "lower")
        return [by_place[name] for name in found]

    def winner(self, key: str, row: int | None = None, column: int | None = None) -> Outcome | None:
        """The best, where it is told apart from all others; None where it is not, or where nothing else was made."""
        found = self.leading(key, row, column)
        return found[0] if len(found) == 1 and len(self._comparable(key, row, column)) > 1 else None

    def _comparable(self, key: str, row: int | None, column: int | None) -> list[Outcome]:
        """Those that may lead: nothing diverged, and of as many pictures as the most."""
        own = [
            o for o in self.outcomes
            if key in o.measured and o.state == "made" and row in (None, o.cell.row) and column in (None, o.cell.column)
        ]  # fmt: skip
        # of fewer pictures a Frechet distance is larger, and another distance is one of other pictures
        most = max((o.counts.get(key, 0) for o in own), default=0)
        return [o for o in own if o.counts.get(key, 0) == most]

    def best(self) -> dict[str, Any]:
        """Of each measure: who leads in all, in each column and each row, by name; winner is null where nobody is told apart."""
        found: dict[str, Any] = {}
        for m in self.measures:
            if not m.better:
                continue
            places: dict[str, Any] = {"all": self._said(m.key)}
            if len(self.y) > 1:
                places["columns"] = {label: self._said(m.key, column=i) for i, label in enumerate(self.x.labels)}
            if len(self.x) > 1 and len(self.y) > 1:
                places["rows"] = {label: self._said(m.key, row=i) for i, label in enumerate(self.y.labels)}
            found[m.key] = places
        return found

    def _said(self, key: str, row: int | None = None, column: int | None = None) -> dict[str, Any]:
        winner = self.winner(key, row, column)
        names = [o.cell.name for o in self.leading(key, row, column)]
        return {"winner": None if winner is None else winner.cell.name, "leaders": names}

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per cell, of plain data."""
        return [_row(o, self.measures) for o in self.outcomes]

    def save_json(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write `as_json`."""
        replace_text(path, self.as_json(about))

    def as_json(self, about: Mapping[str, Any]) -> str:
        """Everything, with what is needed to do it again.

        Args:
            about: of the whole comparison.
        """
        whole = {
            **about, "axes": {a: {"keys": list(axis.keys), "labels": list(axis.labels)} for a, axis in (("x", self.x), ("y", self.y))},
            "measures": {m.key: {"better": m.better or None, "about": m.about} for m in self.measures},
            "cells": self.rows(), "best": self.best(),
        }  # fmt: skip
        return json.dumps(to_json(whole), indent=1, allow_nan=False)

    def save_csv(self, path: Path) -> None:
        """Write `as_csv`."""
        with whole_file(path) as temporary, temporary.open("w", newline="") as file:
            file.write(self.as_csv())

    def as_csv(self) -> str:
        """A line per cell: its place, its state, means, standard deviations over the sets of seeds, and the problem."""
        rows, branches = self.rows(), list(dict.fromkeys(name for o in self.outcomes for name in o.branches))
        axes = [axis.name for axis in (self.x, self.y) if axis.keys]
        spread = len(self._sets()) > 0 and max(self._sets()) > 1
        file = io.StringIO(newline="")
        lines = csv.writer(file)
        head = [name for m in self.measures for name in ([m.key, f"{m.key}_std"] if spread else [m.key])]
        lines.writerow([*axes, "state", *head, *(f"evaluations_{name}" for name in branches), "problem"])
        for row in rows:
            numbers: list[str] = []
            for m in self.measures:
                own = row["measures"].get(m.key)
                shown = [own["mean"], own["std"]] if own else [None, None]
                numbers += [_number(v) for v in (shown if spread else shown[:1])]
            each = [_number(row["branches"].get(name)) for name in branches]
            lines.writerow([*(row["place"][name] for name in axes), row["state"], *numbers, *each, row["problem"]])
        return file.getvalue()

    def _sets(self) -> list[int]:
        return [len(values) for o in self.outcomes for values in o.measured.values()]


def _row(outcome: Outcome, measures: Sequence[Measure]) -> dict[str, Any]:
    cell, measured = outcome.cell, outcome.measured
    numbers = {
        m.key: {
            "mean": Spread(tuple(measured[m.key])).mean,
            "std": _finite(Spread(tuple(measured[m.key])).std),
            "values": list(measured[m.key]),
        }
        for m in measures
        if m.key in measured
    }
    s = cell.settings
    settings = {
        "sampler": s.sampler, "grid": s.grid, "guidance": s.guidance, "filters": list(s.filters), "steps": s.steps, "first_seed": s.first,
        "labels": s.labels, "prompts": s.prompts, "also": dict(s.also), "checkpoint": s.checkpoint, "ema": s.ema, "weak": s.weak,
        "weak_step": s.weak_step,
    }  # fmt: skip
    return {
        "row": cell.row, "column": cell.column, "place": dict(cell.said), "state": outcome.state, "problem": outcome.problem,
        "measures": numbers, "branches": dict(outcome.branches), "no_distance": outcome.no_distance, "settings": settings,
        "sampled_as": dict(outcome.settings), "notes": list(outcome.notes), "cached": outcome.cached,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
