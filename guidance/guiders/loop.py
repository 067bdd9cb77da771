"""Where a pipeline's loop is: the evaluation under way, and the step that it belongs to."""

from __future__ import annotations

from typing import Any

from ...schedules.level import Level
from ...schedules.rows import Row
from ..field import Field
from .course import Place, read_course
from .unknown import UnknownLevel, UnknownRow

__all__ = ["Loop"]


class Loop:
    """One walk of a pipeline's loop along its scheduler's timesteps.

    Args:
        scheduler: what the pipeline walks by; None: every level is unknown.
        step: number of the evaluation in the loop, >= 0, from which it is watched.
        count: evaluations in the loop, as the pipeline says; where the scheduler is known, as it says.
        timestep: of that evaluation.

    Raises:
        ValueError: for a scheduler that can't be read, or has no such timestep.

    step: the evaluation under way. row: what the network's output means.
    """

    def __init__(self, scheduler: object | None, step: int, count: int, timestep: Any) -> None:
        self.step = step
        self._course = None if scheduler is None else read_course(scheduler)
        self.row: Row = UnknownRow() if self._course is None else self._course.row
        self._offset, self._places, self._first = 0, [], range(count)
        if self._course is not None:
            # image-to-image begins within the scheduler's timesteps
            self._offset = self._course.find(timestep, getattr(scheduler, "begin_index", None)) - step
            places = self._course.places[max(self._offset, 0) :]
            self._places = [place._replace(step=place.step - places[0].step) for place in places]
            steps = [place.step for place in places]
            self._first = [steps.index(k) for k in steps]

    def go_on(self, step: int, timestep: Any) -> None:
        """The next evaluation begins.

        Raises:
            ValueError: for a timestep that is not the scheduler's next one.
        """
        self.step = step
        if self._course is not None:
            self._course.check(timestep, self._offset + step)

    @property
    def ends(self) -> bool:
        """Whether the evaluation under way is known to be the last."""
        return self._course is not None and self.step == len(self._places) - 1

    @property
    def place(self) -> Place:
        """The evaluation under way; its step is counted from the beginning of the loop."""
        if self._course is None:
            return Place(UnknownLevel(), UnknownLevel(), UnknownLevel(), self.step)
        return self._places[self.step]

    def within(self, start: float, stop: float, step: int | None = None) -> bool:
        """Whether the sampler's step to which an evaluation belongs begins within shares of the evaluations.

        Args:
            start, stop: from int(start * count) on, up to int(stop * count); 1: to the end.
            step: number of the evaluation; None: the one under way.
        """
        at, count = self.step if step is None else step, len(self._first)
        first = self._first[at] if at < count else at
        return int(start * count) <= first and (stop == 1.0 or first < int(stop * count))

    def guided(self, start: float, stop: float) -> list[Level]:
        """The levels of the evaluations within, from here on; none where they are unknown."""
        places = enumerate(self._places)
        return [place.level for i, place in places if i >= self.step and self.within(start, stop, i)]

    def begin(self, field: Field) -> Field:
        """Tell a field of the step under way, once; returns it."""
        place = self.place
        if field.step != place.step:
            field.begin(place.now, place.nxt)
            field.step = place.step
        return field
