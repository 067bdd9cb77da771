"""One step of a run that is not begun: what it takes, before anything is written."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .interrupt import Told
from .launch import usable
from .recipe import Recipe
from .run import Run
from .trainer import threads

__all__ = ["Rehearsal", "rehearse"]


@dataclass(frozen=True)
class Rehearsal:
    """A step that was tried. loss, norm: of its global batch. seconds: it took, once warm. micro_batch: samples at once, as they fit.

    checkpoint: bytes of one. free: bytes on the disk of the run folder. processes: that took part. held: numbers of the weights, their
    bytes, and bytes of the optimizer's state and the averages, of each process.
    """

    loss: float
    norm: float
    seconds: float
    micro_batch: int
    checkpoint: int
    free: int
    processes: int
    held: tuple[tuple[int, int, int], ...] = ()

    def words(self, steps: int) -> list[str]:
        """Lines for a report.

        Args:
            steps: optimizer steps of the run.
        """
        hours = self.seconds * steps / 3600
        took = (
            f"{hours:.1f} hours"
            if hours >= 1
            else f"{hours * 60:.0f} minutes"
            if hours > 1 / 30
            else f"{hours * 3600:.0f} s"
        )
        return [
            f"one step on {self.processes} process(es): loss {self.loss:.4f}, gradient norm {self.norm:.4f}, {self.seconds:.3f} s; "
            f"at this pace {steps:,} steps take about {took}",
            f"a checkpoint takes about {self.checkpoint / 2**20:.1f} MiB, {self.free / 2**30:.1f} GiB are free",
            *(
                f"process {rank} holds {count:,} weights, {weights / 2**20:.2f} MiB, and {beside / 2**20:.2f} MiB of optimizer and averages"
                for rank, (count, weights, beside) in enumerate(self.held if self.processes > 1 else ())
            ),
        ]


def rehearse(recipe: Recipe, folder: str | Path) -> Rehearsal:
    """Make the first step of a run, and a second for its time, since the first one warms up; nothing is written.

    Args:
        recipe: what would be trained.
        folder: where it would be.

    Raises:
        ValueError: for parts that do not fit together, and a disk without room for the checkpoints.
        FloatingPointError: when the loss or gradient is not finite.
        MemoryError: when not even one sample fits.
    """
    if recipe.tracker is not None:
        usable(recipe.tracker)
    with threads(recipe.threads), tempfile.TemporaryDirectory() as nowhere:
        run = Run(replace(recipe, tracker=None), Path(nowhere), Told(), progress=True)
        try:
            run.backbone.train()
            made = run.update(0)
            loss, norm = float(made.loss), float(made.norm)
            began = time.perf_counter()
            float(run.update(min(1, recipe.steps - 1)).loss)  # the next one, which workers have begun to read
            seconds = time.perf_counter() - began
            size = run.checkpoint_bytes()
            free = run.room(Path(folder), size)
            # what the slowest process took
            seconds = run.processes.largest(torch.tensor(seconds, device=run.processes.device))
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of the first step is {loss}")
            held = run.processes.gather(torch.tensor([run.held()], device=run.processes.device)).tolist()
            return Rehearsal(
                loss, norm, seconds, run.plan.micro_batch, size, free, run.processes.count, tuple(map(tuple, held))
            )
        finally:
            run.close()
