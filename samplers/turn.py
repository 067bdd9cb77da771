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

    __slots__ = ("_after", "_last", "_made_of", "at", "level", "plan", "shows", "then")

    def __init__(self, program: Program, rows: Sequence[Row | None], scales: Sequence[float], draws: int) -> None:
        self._made_of = program, rows, scales, draws
        self._after: dict[Row | None, Turn] = {}
        # the last row met, and the turn after it: to hash a row takes as long as a step. One pair, since threads may share a table
        self._last: tuple[Row | None, Turn] | None = None
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
        last = self._last
        if last is not None and last[0] is row:
            return last[1]
        turn = self._after.get(row)
        if turn is None:
            program, rows, scales, draws = self._made_of
            turn = self._after[row] = Turn(program, (*rows, row), scales, draws)
        self._last = row, turn
        return turn
