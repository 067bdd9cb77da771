"""What a step does next, worked out the first time it gets there."""

from __future__ import annotations

from collections.abc import Sequence

from ..schedules.level import Level
from ..schedules.rows import Row
from .plan import Plan, Recipe, bind, stage
from .table import Program

__all__ = ["Turn"]


class Turn:
    """A place within a step, once some of its asks have been answered: where to ask next, or how the step ends.

    at, level: the next ask, as a recipe over the tensors so far. shows: whether the step shows its answer. plan: the operations after
    the last answer; None before it. then: where the next step begins, once that was worked out.

    Args:
        program: the step.
        rows: the row of each answer so far, None for a pair.
        scales: of the memory that the step starts with.
        draws: noise tensors per step.
    """

    __slots__ = ("_after", "_made_of", "_row", "_turn", "at", "level", "plan", "shows", "then")

    def __init__(self, program: Program, rows: Sequence[Row | None], scales: Sequence[float], draws: int) -> None:
        self._made_of = program, rows, scales, draws
        self._after: dict[Row | None, Turn] = {}
        self._row: Row | None = None
        self._turn: Turn | None = (
            None  # after an answer of that row, the last one met: to hash a row takes as long as a step
        )
        self.shows = len(rows) == program.shown
        self.then: Turn | None = None
        self.at: Recipe | None = None
        self.level: Level | None = None
        self.plan: Plan | None = None
        if len(rows) < len(program.asks):
            self.at, self.level = stage(program, rows, scales, draws), program.asks[len(rows)][1]
        else:
            self.plan = bind(program, rows, scales, draws)

    def answered(self, row: Row | None) -> Turn:
        """The turn after an answer: an output of a row, or a pair for None."""
        if row is self._row and self._turn is not None:
            return self._turn
        turn = self._after.get(row)
        if turn is None:
            program, rows, scales, draws = self._made_of
            turn = self._after[row] = Turn(program, (*rows, row), scales, draws)
        self._row, self._turn = row, turn
        return turn
