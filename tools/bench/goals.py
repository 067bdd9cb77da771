"""What was promised of speed, and what was measured: each goal is a limit on one cell of one bench."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from .sheet import Cell, shown

__all__ = ["Goal", "kept", "markdown", "table"]


@dataclasses.dataclass(frozen=True)
class Goal:
    """A limit.

    what: in words. bench, row, column: which cell it limits. limit: the number. at_most: whether the cell may not be above it; else not
    below. why: where it was not kept when it was last measured, the reason, as a profiler shows it.
    """

    what: str
    bench: str
    row: str
    column: str
    limit: float
    at_most: bool = True
    why: str = ""


def kept(goal: Goal, cell: Cell) -> bool:
    """Whether a cell keeps to a goal, by its value (the median)."""
    return cell.value <= goal.limit if goal.at_most else cell.value >= goal.limit


def table(goals: Sequence[Goal], measured: Mapping[str, Mapping[str, Mapping[str, Cell]]]) -> list[tuple[str, ...]]:
    """Each goal in words: (what, limit, measured, verdict, why).

    Args:
        goals: in their order.
        measured: bench -> row -> column -> cell.
    """
    rows: list[tuple[str, ...]] = []
    for goal in goals:
        cell = measured.get(goal.bench, {}).get(goal.row, {}).get(goal.column)
        unit = "" if cell is None or cell.unit == "%" else cell.unit
        limit = (
            shown(Cell(goal.limit, unit=unit))
            if cell is None or cell.unit != "%"
            else shown(Cell(goal.limit, unit="%"))
        )
        bound = f"{'<=' if goal.at_most else '>='} {limit} {unit}".rstrip()
        if cell is None:
            rows.append((goal.what, bound, "-", "not measured", goal.why))
            continue
        good = kept(goal, cell)
        rows.append(
            (goal.what, bound, f"{shown(cell)} {unit}".rstrip(), "kept" if good else "short", "" if good else goal.why)
        )
    return rows


def markdown(goals: Sequence[Goal], measured: Mapping[str, Mapping[str, Mapping[str, Cell]]]) -> str:
    """A table for a README: goals of one limit in one line, with how many are kept and the one that is furthest from it.

    Args:
        goals: in their order.
        measured: bench -> row -> column -> cell; goals that were not measured are only counted.
    """
    groups: dict[tuple[str, str, float, bool], list[tuple[Goal, Cell]]] = {}
    left: dict[str, int] = {}
    for goal in goals:
        cell = measured.get(goal.bench, {}).get(goal.row, {}).get(goal.column)
        if cell is None:
            left[goal.bench] = left.get(goal.bench, 0) + 1
        else:
            groups.setdefault((goal.bench, goal.column, goal.limit, goal.at_most), []).append((goal, cell))
    lines = [
        "| bench | kept | the worst of them | limit | measured | why it falls short |",
        "|---|---|---|---|---|---|",
    ]
    for (bench, _, _, at_most), found in groups.items():
        worst = max(found, key=lambda pair: pair[1].value if at_most else -pair[1].value)
        ((what, bound, value, _, why),) = table([worst[0]], measured)
        good = sum(kept(*pair) for pair in found)
        lines.append(f"| {bench} | {good} of {len(found)} | {what} | {bound} | {value} | {why} |")
    missing = ", ".join(f"{count} of {bench}" for bench, count in left.items())
    return "\n".join([*lines, *([f"\nGoals that were not measured: {missing}."] if left else [])])
