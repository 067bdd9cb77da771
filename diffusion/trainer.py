"""Training: from a recipe to a run folder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..schedules.parts import class_paths
from .choice import words
from .interrupt import Interrupted, signals
from .loading import load
from .model import Model
from .plan import check_recipe
from .progress import progress_bar
from .recipe import Recipe
from .run import Run
from .run_folder import RunFolder

__all__ = ["threads", "train"]


def train(
    recipe: Recipe, folder: str | Path, *, resume: bool = False, progress: bool = True, other_data: bool = False,
    watch: Callable[[int, float], object] | None = None,
) -> Model:  # fmt: skip
    """Train a recipe into a run folder: config.yaml, checkpoints/, metrics.jsonl, samples/, tensorboard/.

    On one process, or on several when started by torchrun or `accelerate launch`; the recipe, the data order and every draw are
    the same. A copy of the recipe's backbone is trained, from the weights that it has. SIGINT or SIGTERM saves a checkpoint at the
    next step and raises Interrupted; a second one ends the process at once. SIGUSR1 saves one and goes on.

    Args:
        recipe: what to train.
        folder: the run folder; made when missing. One process (or one group of them) writes it at a time.
        resume: go on from the newest valid checkpoint of the folder, or start when there is none.
        progress: show a bar.
        other_data: let a resumed run go on with data that have changed.
        watch: shown every step: how many are done, and the loss of the last; True as its answer asks to stop, as SIGINT does.

    Returns:
        The trained model (averaged weights), as `load(folder)` gives it.

    Raises:
        ValueError: for parts that do not fit together, a folder that holds a run already or is being written, or a resume under
            another recipe.
        FloatingPointError: when the loss or gradient is not finite; the weights are those before the step.
        MemoryError: when memory runs out; the steps before are saved.
        OSError: when a checkpoint can't be written; the earlier ones are as they were.
        Interrupted: after a signal, or when `watch` asked for it.
    """
    check_recipe(recipe)
    RunFolder(Path(folder), recipe).refuse(resume)  # before the data are read; looked at again when it is taken
    with signals() as told, threads(recipe.threads):
        run = Run(recipe, Path(folder), told, progress)
        try:
            run.claim(resume, other_data)
            _loop(run, progress, watch)
        finally:
            run.close()
    # whoever built the recipe's parts trusts their packages
    return load(folder, allow=sorted({path.split(".")[0] for path in class_paths(recipe.describe())}))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """A number of CPU threads, and what it was afterwards; None: as it is."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loop(run: Run, progress: bool, watch: Callable[[int, float], object] | None) -> None:
    """Step after step, and what is due between them.

    Raises:
        Interrupted: when a signal ended it.
    """
    recipe, observer = run.recipe, run.observer
    run.backbone.train()
    with progress_bar(recipe.steps, run.step, "training", progress and run.processes.main) as bar:
        if run.chose and run.choice is not None and run.processes.main:
            bar.write(words(run.choice), file=sys.stderr)
        while run.step < recipe.steps:
            saved = run.saved
            if run.asked():
                break
            if run.saved != saved and run.processes.main:
                bar.write(f"saved step {run.step}, as SIGUSR1 asked", file=sys.stderr)
            made = run.make()
            observer.add(made)
            bar.update()
            if watch is not None and watch(run.step, float(made.loss)) is True:
                run.told.stop = run.told.stop or signal.SIGINT
            if run.step % recipe.log_every == 0 or run.step == recipe.steps:
                bar.set_postfix(loss=f"{observer.log(run.step):.4f}", refresh=False)
            with observer.meter.paused():
                if recipe.snapshot_every and run.step % recipe.snapshot_every == 0:
                    run.snapshot()
                if recipe.validate_every and run.step % recipe.validate_every == 0:
                    observer.validate(run.step)
                if recipe.save_every and run.step % recipe.save_every == 0:
                    run.save()
                if recipe.sample_every and run.step % recipe.sample_every == 0:
                    observer.preview(run.step)
    if run.saved != run.step:
        run.save()
    run.finish_save()
    if run.step < recipe.steps:
        raise Interrupted(f"stopped at step {run.step} of {recipe.steps}; the checkpoint is saved", run.told.stop)
