"""A visitor's comparison while it goes on: what is finished, what runs, how long the rest will take."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..compare.about import begun
from ..compare.outcome import Cost, Outcome
from ..compare.settings import Cell
from ..compare.table import Table
from ..compare.words import about_of
from .compare_asked import Wanted
from .compare_stock import Stock
from .heard import heard
from .running import Halted

__all__ = ["Job", "Jobs"]

# bytes of pictures that one visitor's comparison holds
_PICTURES = 32 * 2**20


class Job:
    """One comparison, made slice by slice, so that others get their turn in between.

    Args:
        wanted: what was asked for.
        stock: of the server.
        show: which picture of each cell is shown, from 0.

    state: "running", "stopped" or "finished". outcomes: by place. at: the cell whose network is asked. version: another after each
    change that the grid shows.
    """

    def __init__(self, wanted: Wanted, stock: Stock, show: int = 0) -> None:
        self.wanted, self.show, self.sort = wanted, show, ""
        self.picked: tuple[int, int] | None = None
        self.at: Cell | None = None
        self.comparison, self.remarks = stock.comparison(wanted)
        self.cost: Cost = self.comparison.cost()
        self.state, self.version = "running", 0
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        self.spent, self._within, self.seconds = 0, 0, 0.0
        self._stock, self._pictures = stock, 0
        self._cells = self.comparison.run()
        self.comparison.told, self.comparison.begins = self._told, self._begins
        self.notes: list[str] = []
        self._last: deque[tuple[float, int]] = deque(maxlen=3)

    def go_on(self, say: Callable[[Job], None], seconds: float) -> bool:
        """Make cells for so long, and at least one; returns whether there are more.

        Args:
            say: told of every step and every cell; what it raises ends the comparison.
            seconds: after which no new cell is begun.
        """
        began, notes = time.perf_counter(), list[str]()

        def watch(glimpse: Any) -> None:
            self._within = int(glimpse.spent.sum())
            say(self)

        self.comparison.watch = watch
        try:
            with heard() as notes:
                while True:
                    say(self)
                    at, spent = time.perf_counter(), self.spent
                    outcome = next(self._cells, None)
                    self.at, self._within = None, 0
                    self.version += 1
                    if outcome is None:
                        self.state = "finished"
                        return False
                    self._finished(outcome)
                    self._paced(time.perf_counter() - at, self.spent - spent)
                    if time.perf_counter() - began > seconds and len(self.outcomes) < len(self.wanted.cells):
                        return True
        except BaseException as error:
            self.stop()
            if isinstance(error, Halted):
                return False
            raise
        finally:
            self.notes += [note for note in notes if note not in self.notes]
            self.seconds += time.perf_counter() - began

    def stop(self) -> None:
        """No cell is made any more; what is finished stays."""
        if self.state == "running":
            self.state, self.at, self._within = "stopped", None, 0
            self.version += 1

    def _told(self, evaluations: int) -> None:
        self.spent, self._within = self.spent + evaluations, 0

    def _begins(self, cell: Cell) -> None:
        if self.at is not cell:
            self.at = cell
            self.version += 1

    def _paced(self, seconds: float, evaluations: int) -> None:
        """Note the pace of the last cells; those that were there say nothing of it."""
        if evaluations:
            self._last.append((seconds, evaluations))
            took, made = (sum(each) for each in zip(*self._last, strict=True))
            self._stock.measured(self.wanted.loaded, self.wanted.own.count, took, int(made))

    def _finished(self, outcome: Outcome) -> None:
        cell, pictures = outcome.cell, outcome.pictures
        if pictures is not None:
            if not self._pictures:
                self._pictures = max(4, _PICTURES // max(len(self.wanted.cells) * pictures[0].numel(), 1))
            outcome = replace(outcome, pictures=pictures[: self._pictures].clone())
        self.outcomes[cell.row, cell.column] = outcome

    @property
    def pictures(self) -> int:
        """How many of each cell can be shown."""
        return min(self.wanted.own.count, self._pictures or self.wanted.own.count)

    @property
    def share(self) -> float:
        """Of the evaluations that were foreseen, how many are made."""
        if not self.cost.evaluations:
            return len(self.outcomes) / max(len(self.wanted.cells), 1)
        return min((self.spent + self._within) / self.cost.evaluations, 1.0)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None: nobody knows yet."""
        pace = self._stock.pace(self.wanted.loaded, self.wanted.own.count)
        return None if pace is None else max(self.cost.evaluations - self.spent - self._within, 0) * pace

    @property
    def table(self) -> Table:
        """Of what is finished."""
        return Table(self.wanted.x, self.wanted.y, list(self.outcomes.values()))

    @property
    def about(self) -> Mapping[str, Any]:
        """What the report of the command says of a comparison."""
        w, looking = self.wanted, self.comparison.looking.about()
        name = w.loaded.entry.name
        return {
            **begun(name, w.command, w.loaded.model, w.x, w.y, w.base, w.shared, looking, "kept by the server"),
            **about_of(
                name, w.loaded.model, w.x, w.y, w.base, w.shared, looking, [*self.remarks, *self.notes],
                [o for _, o in sorted(self.outcomes.items())],
            ),
        }  # fmt: skip


class Jobs:
    """The last comparison of each visitor, of the last few visitors.

    Args:
        most: visitors.
    """

    def __init__(self, most: int = 16) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._most = most

    def put(self, session: str, job: Job) -> None:
        """Keep a visitor's, in place of the one before; of too many visitors the oldest is forgotten."""
        self._jobs.pop(session, None)
        self._jobs[session] = job
        while len(self._jobs) > self._most:
            self._jobs.popitem(last=False)

    def get(self, session: str) -> Job | None:
        """A visitor's last comparison."""
        return self._jobs.get(session)
