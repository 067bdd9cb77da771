"""What a bench has measured: rows of named cells, printed as they come, kept as JSON, and held against an earlier run."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

__all__ = ["Cell", "Sheet", "changes", "exact", "ratio_of", "read", "shown"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number.

    value: the number, a median where it was measured in rounds. low, high: the middle half of the rounds lies between them; None for
    what was measured once. unit: "x" (a ratio), "%" (a share, 0.01 is one per cent), "s", "MiB", "img/s", or "" for what is counted.
    exact: whether it is counted or computed, so that every run on every machine gives the same.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "x"
    exact: bool = False


def exact(value: float, unit: str = "") -> Cell:
    """A number that was counted."""
    return Cell(float(value), None, None, unit, True)


def ratio_of(one: Sequence[float], other: Sequence[float], unit: str = "x") -> Cell:
    """The seconds of one side over those of another, round by round.

    Args:
        one, other: seconds per round, of the same rounds, at least one.
        unit: "x", or "%" for a share.
    """
    by_round = [a / b for a, b in zip(one, other, strict=True)]
    return _spread(by_round, unit)


def _spread(values: Sequence[float], unit: str) -> Cell:
    if len(values) < 2:
        return Cell(values[0], None, None, unit)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Cell(median(values), low, high, unit)


def shown(cell: Cell) -> str:
    """A cell as the table has it: the number, and in brackets where the middle half of the rounds lies."""
    said = _number(cell.value, cell.unit)
    if cell.low is None or cell.high is None:
        return said
    return f"{said} ({_number(cell.low, cell.unit)} to {_number(cell.high, cell.unit)})"


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.{2 if abs(value) < 0.1 else 1}f}%"
    if float(value).is_integer() and unit != "x":
        return f"{value:,.0f}"
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else f"{value:.3g}"


class Sheet:
    """The rows of one bench.

    Args:
        name: of the bench.
        say: takes a line.
        quick: whether this was the version that only shows that it runs.
        device: on which it ran.
    """

    def __init__(self, name: str, say: Callable[[str], None], quick: bool = False, device: str = "cpu") -> None:
        self.name, self.say, self.quick, self.device = name, say, quick, device
        self.rows: dict[str, dict[str, Cell]] = {}
        self.absent: dict[str, str] = {}
        self.notes: list[str] = []
        self._head: tuple[str, ...] = ()

    def add(self, row: str, cells: Mapping[str, Cell]) -> None:
        """A row more; printed at once, under a new head where its columns are others than those of the last.

        Args:
            row: what was measured, such as "DDIM, x0, ours"; once per bench.
            cells: by column.
        """
        assert row not in self.rows, row
        self.rows[row] = dict(cells)
        heads = [f"{name} [{cell.unit}]" if cell.unit else name for name, cell in cells.items()]
        widths = [max(len(head), 20) for head in heads]
        if tuple(cells) != self._head:
            self._head = tuple(cells)
            self.say("  ".join(["".ljust(48), *(h.ljust(w) for h, w in zip(heads, widths, strict=True))]).rstrip())
        values = (shown(cell).ljust(width) for cell, width in zip(cells.values(), widths, strict=True))
        self.say("  ".join([row.ljust(48), *values]).rstrip())

    def note(self, line: str) -> None:
        """Something that the numbers do not say; printed, and kept beside them."""
        self.notes.append(line)
        self.say(line)

    def lacks(self, peer: str, why: str) -> None:
        """A peer that could not be measured."""
        self.absent[peer] = why
        self.say(f"{peer}: absent ({why})")

    def json(self) -> dict[str, Any]:
        """All of it, and on what it was measured."""
        return {
            "bench": self.name, "quick": self.quick, "device": self.device, "machine": _machine(), "absent": self.absent,
            "notes": self.notes,
            "rows": {row: {k: _plain(cell) for k, cell in cells.items()} for row, cells in self.rows.items()},
        }  # fmt: skip

    def write(self, folder: Path, join: bool = False) -> Path:
        """Write the JSON file into a folder, which is made.

        Args:
            folder: where.
            join: keep the rows of an earlier file that were not measured now: a row is of one run, whatever lies beside it.
        """
        file = folder / f"{self.name}{'-quick' * self.quick}.json"
        folder.mkdir(parents=True, exist_ok=True)
        found = self.json()
        if join and file.is_file():
            earlier = {row: {k: _plain(cell) for k, cell in cells.items()} for row, cells in read(file).items()}
            found["rows"] = earlier | found["rows"]
        file.write_text(json.dumps(found, indent=1) + "\n")
        return file


def _plain(cell: Cell) -> dict[str, Any]:
    """A cell without what is not said."""
    return {k: v for k, v in dataclasses.asdict(cell).items() if v is not None and v is not False}


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "torch": str(torch.__version__), "python": platform.python_version(), "processor": _processor(), "cores": os.cpu_count(),
        "gpu": gpu, "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }  # fmt: skip


def _processor() -> str:
    """What kind of processor this is, as Linux or the platform names it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read(file: Path, name: str | None = None) -> dict[str, dict[str, Cell]]:
    """The rows of a file that a bench has written.

    Args:
        file: the JSON file.
        name: of the bench that is wanted; None: any.

    Raises:
        ValueError: for a file that is none, and for one of another bench.
    """
    try:
        found = json.loads(file.read_text())
        bench, rows = found["bench"], found["rows"]
        read = {row: {column: Cell(**cell) for column, cell in cells.items()} for row, cells in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} can't be read as the JSON of `sfumato bench` ({error}); give a file that it wrote"
        ) from error
    if name is not None and bench != name:
        raise ValueError(f"{file} is of the bench {bench!r}; give one of {name!r}")
    return read


# of a ratio, which less than this moves from run to run though the rounds of each lie close together
_LEAST = 0.1


def changes(before: Mapping[str, Mapping[str, Cell]], now: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """What differs from an earlier run: what is exact and not equal, ratios whose middle halves lie apart and whose medians by a
    tenth or more, rows that are gone.

    Args:
        before, now: rows, as `read` returns them.

    Returns:
        A line for each; none where nothing differs.
    """
    found: list[str] = []
    for row, cells in before.items():
        if row not in now:
            found.append(f"{row}: was measured before, not now")
            continue
        for column, old in cells.items():
            new = now[row].get(column)
            if new is None:
                found.append(f"{row}, {column}: was measured before, not now")
            elif _differ(old, new):
                found.append(f"{row}, {column}: {shown(new)}, before {shown(old)}")
    return found


def _differ(old: Cell, new: Cell) -> bool:
    if old.exact or new.exact:
        return abs(old.value - new.value) > 1e-6 * max(1.0, abs(old.value))
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return False  # measured once, it says nothing of how far it moves by itself
    apart = new.low > old.high or new.high < old.low
    return apart and abs(new.value - old.value) > _LEAST * abs(old.value)
