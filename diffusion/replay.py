"""Whether a run, resumed, is the same run: steps that it has made are made again, and compared to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .checkpoint import Checkpoint
from .interrupt import Told
from .plan import check_recipe
from .progress import progress_bar
from .recipe import Recipe
from .run import Run
from .trainer import threads

__all__ = ["Replayed", "replay"]

# what a resume may change, and steps made again to the last bit may not: the learning rate, or how sums are rounded
_EXACT = (
    "steps",
    "micro_batch",
    "threads",
    "parallel",
    "gradient_checkpointing",
    "compile",
    "memory_format",
    "attention",
    "nonfinite",
    "nonfinite_limit",
)
# what is only told: of logs, of which a replay writes none
_TOLD = {"growth", "line"}


@dataclass(frozen=True)
class Replayed:
    """What a replay came to.

    first, last: the steps that were made again. differences: what was not equal to the last bit, in words. whole: whether it
    reached the next checkpoint, so that its weights, averages and optimizer were compared too.
    """

    first: int
    last: int
    differences: tuple[str, ...]
    whole: bool

    def words(self) -> str:
        """The outcome in a line or two."""
        about = f"steps {self.first} to {self.last} made again from the checkpoint of step {self.first}"
        also = ", and the next checkpoint" if self.whole else ""
        if not self.differences:
            return f"{about}: losses and gradient norms{also} are equal to the last bit"
        return f"{about} are not the steps that were made: {'; '.join(self.differences[:5])}"


def replay(recipe: Recipe, folder: str | Path, steps: int, progress: bool = True) -> Replayed:
    """Make steps again that a run has made, from the checkpoint before its newest one; nothing is written.

    Args:
        recipe: of the run.
        folder: the run folder.
        steps: how many, >= 1; as many as there are up to the newest checkpoint, if that is fewer, and at most 100.
        progress: show a bar.

    Raises:
        ValueError: for a run without two valid checkpoints that were saved one after the other, or that was trained by another
            number of processes.
    """
    if steps < 1:
        raise ValueError(f"verify is {steps}; allowed: >= 1")
    check_recipe(recipe)
    with threads(recipe.threads):
        run = Run(recipe, Path(folder), Told(), progress)
        try:
            run.look()
            start, end = _pair(run)
            run.restore(start)
            run.backbone.train()
            return _compare(run, start, end, steps, progress)
        finally:
            run.close()


def _pair(run: Run) -> tuple[Checkpoint, Checkpoint]:
    """The newest checkpoint, and the one from which its trail begins."""
    found = run.folder.valid()
    if not found:
        raise ValueError(f"{run.folder.path} holds no valid checkpoint")
    end = found[0]
    first = end.state["trail"][0][0] if end.state["trail"] else None
    start = next((c for c in found[1:] if c.step == first), None)
    if start is None:
        raise ValueError(
            f"verify needs the newest checkpoint of {run.folder.path} and the one that was saved before it; it holds those of steps "
            f"{', '.join(str(c.step) for c in reversed(found))}. Set keep: 2 or more, and go on until one more is saved"
        )
    if end.state["processes"] != run.processes.count:
        raise ValueError(
            f"{run.folder.path} was trained by {end.state['processes']} process(es), and {run.processes.count} would verify it; sums over "
            "other processes round differently, so start as many"
        )
    then, now = end.state["recipe"], run.asked_for.describe()
    other = [f"{key} was {then[key]}, is {now[key]}" for key in _EXACT if key in then and then[key] != now[key]]
    if other:
        raise ValueError(
            f"{run.folder.path} can't be verified to the last bit under another recipe: {'; '.join(other)}. Verify it as it was trained, "
            "and change that afterwards"
        )
    return start, end


def _compare(run: Run, start: Checkpoint, end: Checkpoint, steps: int, progress: bool) -> Replayed:
    wrong: list[str] = []
    trail = end.state["trail"][:steps]
    with progress_bar(len(trail), 0, "verifying", progress and run.processes.main, leave=False) as bar:
        for step, *then in trail:
            made = run.make()
            now = [float(made.loss).hex(), float(made.norm).hex()]
            for name, a, b in zip(("loss", "gradient norm"), then, now, strict=True):
                if a != b:
                    wrong.append(f"the {name} of step {step} was {float.fromhex(a):.9g}, is {float.fromhex(b):.9g}")
            bar.update()
    whole = run.step == end.step
    if whole:
        for name, tensors in run.tensors().items():
            if name in _TOLD:
                continue
            saved = end.tensors(name)
            odd = [k for k, v in tensors.items() if not torch.equal(v.cpu(), saved[k])]
            wrong += [f"{len(odd)} tensors of {name}, such as {odd[0]}"] if odd else []
    return Replayed(start.step, run.step - 1, tuple(wrong), whole)
