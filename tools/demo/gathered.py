"""Pictures as they are finished, held in memory, so that they stay when the rest is stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...diffusion.filtered import Filtered, Try
from ...diffusion.picture_folder import Job, PictureFolder
from ...diffusion.samples import Samples
from ...samplers.refill import Finished

__all__ = ["Attempt", "Gathered"]


@dataclass(frozen=True, eq=False)
class Attempt:
    """A finished attempt at a slot.

    picture: (C, H, W), on the host. attempt: 0, 1, ... kept: by all filters. shown: whether it is handed out. scores: per filter.
    reason: why it was rejected. spent: evaluations of the slot so far, by branch.
    """

    picture: Tensor
    attempt: int
    kept: bool
    shown: bool
    scores: tuple[float, ...]
    reason: str
    spent: tuple[int, ...]


class Gathered(PictureFolder):
    """A folder of pictures that is none: it holds the last attempt at each slot in memory, and knows nothing from before."""

    def __init__(self) -> None:
        super().__init__("")
        self.latest: dict[int, Attempt] = {}
        self.rejected = 0
        self.again = 0

    def begin(self, job: Job, looks: Callable[[int], bool] = lambda slot: True) -> None:
        """Hear what is about to be sampled."""
        self.job = job
        self._spent = torch.zeros(len(job.seeds), len(job.branches), dtype=torch.int64)

    def known(self, work: Sequence[tuple[int, int]]) -> Finished | None:
        """Nothing is."""
        return None

    def add(self, done: Finished, images: Tensor, shown: Tensor) -> None:
        """A batch has finished, see `PictureFolder.add`."""
        self._spent[done.slots] += done.evaluations
        scores = [v.score.float().tolist() for v in done.verdicts]  # as they are stored with a picture
        for i, (slot, attempt) in enumerate(zip(done.slots.tolist(), done.attempts.tolist(), strict=True)):
            kept = bool(done.keep[i])
            self.rejected += not kept
            self.again += attempt > 0
            # copied, for a view would keep its whole batch in memory
            self.latest[slot] = Attempt(
                images[i].to("cpu", copy=True), attempt, kept, bool(shown[i]), tuple(s[i] for s in scores),
                "; ".join(filter(None, (v.reasons[i] for v in done.verdicts))), tuple(self._spent[slot].tolist()),
            )  # fmt: skip

    @property
    def evaluations(self) -> int:
        """Of the network, by all attempts that are finished."""
        return sum(sum(one.spent) for one in list(self.latest.values()))

    def samples(self, filtered: Filtered, prompts: Sequence[str] | None) -> Samples | None:
        """The slots that hold a picture to hand out, as `Model.sample` hands them out; None: there is none.

        Args:
            filtered: of the filters, for their names.
            prompts: what each slot was asked for in words.
        """
        slots = [slot for slot in sorted(self.latest) if self.latest[slot].shown]
        if not slots:
            return None
        rows, at, job = [self.latest[slot] for slot in slots], torch.tensor(slots), self.job
        # the last attempt at each, for the reasons
        tries = tuple(Try(i, row.attempt, row.kept, row.scores, row.reason) for i, row in enumerate(rows))
        return Samples(
            torch.stack([row.picture for row in rows]), job.seeds[at], None if job.labels is None else job.labels[at],
            torch.tensor([row.attempt for row in rows]), torch.tensor([row.kept for row in rows]),
            torch.tensor([row.spent for row in rows]), job.branches,
            tuple(torch.tensor([row.scores[j] for row in rows]) for j in range(len(job.filters))),
            dict(job.settings), tuple(dict(job.own[slot]) for slot in slots) if job.own else (),
            Filtered(filtered.names, tries, filtered.alphas, bounds=filtered.bounds),
            None if prompts is None else tuple(prompts[slot] for slot in slots),
        )  # fmt: skip
