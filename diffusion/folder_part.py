"""Some slots of a folder of pictures, for a model that is asked for them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..samplers.refill import Finished
from .picture_folder import Job, PictureFolder

__all__ = ["FolderPart"]


class FolderPart(PictureFolder):
    """Some slots of a folder that has begun; they are numbered from 0 here, and named as the whole names them.

    Args:
        whole: the folder.
        slots: which.
        told: how many pictures were finished, whenever some were.
    """

    def __init__(
        self, whole: PictureFolder, slots: range, told: Callable[[int], object] = lambda pictures: None
    ) -> None:
        super().__init__(whole.folder)
        self._whole, self._first, self._told = whole, slots.start, told
        self._of_whole: Finished | None = None

    def begin(self, job: Job, looks: Callable[[int], bool] = lambda slot: True) -> None:
        """Hold the part of the job against the whole."""
        for slot in range(len(job.seeds)):
            own, there = ({**j.of(s), "device": ""} for j, s in ((job, slot), (self._whole.job, self._first + slot)))
            assert own == there, (own, there)

    def known(self, work: Sequence[tuple[int, int]]) -> Finished | None:
        """The batch of these slots and attempts, if all of it is there."""
        self._of_whole = self._whole.known([(slot + self._first, attempt) for slot, attempt in work])
        self._known = self._of_whole and self._of_whole._replace(slots=self._of_whole.slots - self._first)
        return self._known

    def add(self, done: Finished, images: Tensor, shown: Tensor) -> None:
        """A batch has finished, see `PictureFolder.add`."""
        known = self._of_whole if done is self._known else None
        self._whole.add(known or done._replace(slots=done.slots + self._first), images, shown)
        self._told(int(shown.sum()))
