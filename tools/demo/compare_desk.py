"""What the compare tab does for its visitors, without a page: tests ask it as the page does."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from ...diffusion.plan import is_picture
from ..compare.words import shared_words
from . import checked
from .compare_asked import Own, Wanted, axis_problems, read_own, wanted
from .compare_back import form_of, left_behind
from .compare_grid import bar_of, grid_of, seconds_words
from .compare_job import Job, Jobs
from .compare_moves import MOVES, NOTHING, choices_of, values_of
from .compare_results import large_of, results_of
from .compare_stock import Stock
from .facts import beside
from .form import NAMES, Form, read_form
from .limits import Limits
from .running import Done, Running, going_on
from .shelf import Loaded, Shelf
from .told import readable

__all__ = ["Desk"]

SLICE = 5.0
"""Seconds after which a comparison lets others have their turn, between two cells."""

COSTLY = 120.0
"""Seconds from which on a comparison is asked for twice."""


class Desk:
    """The server's side of the tab.

    Args:
        shelf: the models.
        limits: of one visitor.
        running: who is at work.
        stock: of networks and cells.
    """

    def __init__(self, shelf: Shelf, limits: Limits, running: Running, stock: Stock | None = None) -> None:
        self._shelf, self._limits, self._running = shelf, limits, running
        self.stock, self.jobs = stock or Stock(shelf), Jobs()

    def _read(self, name: str, values: Sequence[Any]) -> tuple[Form, Own, Loaded]:
        form, own = read_form(values[: len(NAMES)], self._limits), read_own(values[len(NAMES) :], self._limits)
        return form, own, self._shelf.get(name)

    def wanted(self, name: str, values: Sequence[Any]) -> Wanted:
        """What was asked for.

        Args:
            name: of the model.
            values: of the form and the tab.

        Raises:
            ValueError: for what can't be, in words.
        """
        form, own, loaded = self._read(name, values)
        if not is_picture(loaded.model.picture_shape):
            raise ValueError("the samples of this model are no pictures, so there is nothing to look at side by side")
        weak = self._shelf.entry(form.weak) if form.weak else None
        return wanted(form, own, loaded, self._limits, beside(self._shelf, loaded), weak)

    # before it starts

    def cost(self, name: str, *values: Any) -> tuple[str, str, str, str]:
        """What a comparison will take, in words, what is wrong with columns and rows, and which model must be timed for it."""
        try:
            form, own, loaded = self._read(name, values)
        except ValueError as error:
            return _wrong(error), "", "", ""
        if not own.x_values and own.y == NOTHING:
            return "", "", "", ""
        x, y = axis_problems(form, own, loaded.model, self._limits, beside(self._shelf, loaded))
        if x or y:
            return "", _beside_box(x), _beside_box(y), ""
        try:
            asked = self.wanted(name, values)
            return self._cost_words(asked), "", "", name if self.stock.pace(loaded, own.count) is None else ""
        except ValueError as error:
            return _wrong(error), "", "", ""

    def _cost_words(self, asked: Wanted) -> str:
        comparison, _ = self.stock.comparison(asked)
        cost, shared, pace = comparison.cost(), asked.shared, self.stock.pace(asked.loaded, asked.shared.count)
        said = [f"{cost.cells} cells ({len(asked.x)} by {len(asked.y)})"]
        said += [f"{cost.cached} of them there already"] if cost.cached else []
        said += [f"{cost.unsupported} not possible"] if cost.unsupported else []
        sets = f" in each of {shared.sets} sets of seeds" if shared.sets > 1 else ""
        pictures = "1 picture" if shared.count == 1 else f"{shared.count} pictures"
        lines = [f"{', '.join(said)}; {pictures} per cell{sets}."]
        took = (
            "" if pace is None or not cost.evaluations else f", {seconds_words(cost.evaluations * pace)} on this server"
        )
        lines.append(
            f"{cost.evaluations:,} evaluations of the network{took}."
            if cost.evaluations
            else "No network has to be asked."
        )
        if cost.fine:
            lines.append(
                f"{cost.fine:,} of them are for fine solutions in {shared.fine_steps} steps, to which the distance is measured."
            )
        if asked.form.rejected == "retry" and asked.form.filters:
            lines.append("Further attempts of what filters reject come on top.")
        if problem := self._too_much(cost.evaluations):
            lines.append(problem)
        said, in_all = html.escape(" ".join(lines)), html.escape(shared_of(asked))
        return f'<div class="sf-cmp-cost"><p>{said}</p><p class="sf-soft">{in_all}</p></div>'

    def _too_much(self, evaluations: int) -> str:
        most = self._limits.evaluations
        return (
            ""
            if evaluations <= most
            else f"That is more than the {most:,} that this server makes at once; take fewer cells, pictures or steps."
        )

    def time(self, name: str, count: object) -> None:
        """Measure how fast a model is, where nobody knows; to be run where the model's other work is.

        Args:
            name: of the model; "" for none.
            count: pictures at a time.
        """
        if name:
            self.stock.time_steps(
                self._shelf.get(name), checked.whole(count, "pictures per cell", 1, self._limits.pictures)
            )

    # while it runs

    def start(self, session: str, show: object, name: str, *values: Any) -> Iterator[Job | str]:
        """Begin a comparison; one that takes long is begun when it is asked for twice, and until then words are handed out.

        Args:
            session: of the visitor.
            show: which picture of each cell is shown, from 1.
            name, values: as of `wanted`.
        """
        asked = self.wanted(name, values)
        job = Job(asked, self.stock, checked.whole(show, "picture shown", 1, self._limits.pictures) - 1)
        if problem := self._too_much(job.cost.evaluations):
            raise ValueError(f"{job.cost.evaluations:,} evaluations of the network: {problem}")
        before = self.jobs.get(session)
        sure = before is not None and before.state == "asked" and before.wanted.key == asked.key
        if not sure and ((job.left or 0.0) > COSTLY or (job.left is None and job.cost.evaluations > 200_000)):
            job.state = "asked"
            self.jobs.put(session, job)
            took = "long" if job.left is None else seconds_words(job.left)
            yield f"This takes {took}. Press Compare once more to begin; it can be stopped at any time, and finished cells are kept."
            return
        self.jobs.put(session, job)
        yield from self.go_on(session)

    def go_on(self, session: str) -> Iterator[Job | str]:
        """The next slice of a visitor's comparison; see `Job.state` for whether there are more."""
        job = self.jobs.get(session)
        if job is None or job.state != "running":
            return
        flag = self._running.begin(session, "compare")

        def work(say: Callable[[Job], None]) -> bool:
            return job.go_on(say, SLICE)

        try:
            yield job
            for said in going_on(work, flag, pause=0.25):
                if isinstance(said, Done):
                    if said.stopped:
                        job.stop()
                else:
                    yield said
            yield job
        finally:
            self._running.end(session, "compare", flag)

    def stop(self, session: str) -> str:
        """Stop a visitor's comparison, also between two slices."""
        self._running.stop(session, "compare")
        job = self.jobs.get(session)
        if job is None:
            return ""
        job.stop()
        return bar_of(job)

    # afterwards

    def show(self, session: str, show: object) -> tuple[Any, Any]:
        """The grid and the large view with another picture of each cell."""
        job = self.jobs.get(session)
        if job is None or job.state == "asked":
            return gr.skip(), gr.skip()
        job.show = min(checked.whole(show, "picture shown", 1, self._limits.pictures), job.pictures) - 1
        job.version += 1
        return grid_of(job), large_of(job)

    def pick(self, session: str, row: object, column: object) -> tuple[Any, str, bool]:
        """The grid, a cell large, and whether there is one."""
        job = self.jobs.get(session)
        if job is None:
            return gr.skip(), "", False
        place = (checked.whole(row, "row", 0, 10_000), checked.whole(column, "column", 0, 10_000))
        if place not in job.outcomes:
            raise ValueError("this cell is not finished yet")
        job.picked = place
        job.version += 1
        return grid_of(job), large_of(job), job.outcomes[place].state != "unsupported"

    def put(self, session: str) -> tuple[Form, str]:
        """The form that samples the cell that was picked, and what has no place in it.

        Raises:
            ValueError: where none was.
        """
        job = self.jobs.get(session)
        if job is None or job.picked is None:
            raise ValueError("choose a cell first, by a click on its picture")
        return form_of(job.wanted, job.outcomes[job.picked].cell), left_behind(job.wanted)

    def sort(self, session: str, by: object) -> Any:
        """The results, sorted by a measure."""
        job = self.jobs.get(session)
        if job is None or job.state not in ("finished", "stopped"):
            return gr.skip()
        job.sort = checked.text(by, "sort", 40)
        return results_of(job)

    def begin(self, move: object, name: str, prompt: object) -> tuple[str, list[str], str]:
        """Of an axis that was chosen: values to begin with, names to choose among, and how values are written."""
        move = checked.choice(move, "axis", [NOTHING, *MOVES])
        if move == NOTHING:
            return "", [], ""
        loaded = self._shelf.get(name)
        form = Form(prompt=checked.text(prompt, "prompt", self._limits.text))
        return values_of(MOVES[move], loaded, form), choices_of(MOVES[move], loaded), MOVES[move].says


def shared_of(asked: Wanted) -> str:
    """What all cells share, in words."""
    moved = {key for axis in (asked.x, asked.y) for key in axis.keys}
    nobody = {"extractor": None, "data": None}
    return shared_words(asked.loaded.model, asked.base, asked.shared, moved, nobody)


def _wrong(error: ValueError) -> str:
    return f'<div class="sf-cmp-cost wrong"><p>{html.escape(readable(error))}</p></div>'


def _beside_box(words: str) -> str:
    return f'<p class="sf-cmp-wrong" role="alert">{html.escape(readable(ValueError(words)))}</p>' if words else ""
