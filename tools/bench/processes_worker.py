"""One of the processes that `sfumato bench processes` measures: it trains or samples a round each time that it is told to go."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch

from ...diffusion import ArrayData, Interrupted, Recipe, TimeClock, train
from ...diffusion.generate import generate
from ...diffusion.launch import Processes
from ...schedules import Flow, RectifiedFlow
from .peer_networks import OURS
from .sample_networks import model_of, unsaid

__all__ = ["DATA", "GO", "TOOK", "Job", "Rounds", "work"]

GO, TOOK = "go", "took"
DATA = "pictures.npy"


class Job(NamedTuple):
    """What a process does in a round.

    kind: "training" or "sampling". network: "UNet" or "DiT". each: pictures at a time in each process. steps: of the optimizer, or of the
    sampler, in a round.
    """

    kind: str
    network: str
    each: int
    steps: int


class Rounds:
    """Waits until it is told to go, and says how long what followed has taken.

    Args:
        told: a line with GO starts a round, the end of it all ends.
        say: takes a line, TOOK and the seconds.
    """

    def __init__(self, told: TextIO, say: Callable[[str], object]) -> None:
        self._told, self._say, self._began = told, say, 0.0

    def go(self) -> bool:
        """Wait; False: there is no further round."""
        if self._told.readline().strip() != GO:
            return False
        self._began = time.perf_counter()
        return True

    def over(self) -> None:
        """The round is over."""
        self._say(f"{TOOK} {time.perf_counter() - self._began}")


def work(job: Job, folder: Path, count: int, rounds: Rounds) -> None:
    """Make rounds until there is none.

    Args:
        job: what to do.
        folder: holds DATA; of this group of processes.
        count: processes in the group.
        rounds: when.
    """
    torch.manual_seed(0)
    (_train if job.kind == "training" else _sample)(job, folder, count, rounds)


def _train(job: Job, folder: Path, count: int, rounds: Rounds) -> None:
    """The trainer itself: its step, its exchange of gradients, its log lines."""
    data: Any = ArrayData(str(folder / DATA))
    recipe = Recipe(
        data=data, backbone=OURS["diffusers"][job.network](), schedule=RectifiedFlow(), row=Flow(), clock=TimeClock(),
        steps=1_000_000, batch=job.each * count, threads=1, save_every=0, tracker=None,
    )  # fmt: skip

    def watch(step: int, loss: float) -> bool:
        if (step - 1) % job.steps:
            return False
        if step > 1:  # the first step makes what is made once
            rounds.over()
        return not rounds.go()

    with suppress(Interrupted):
        train(recipe, folder / "run", progress=False, watch=watch)


def _sample(job: Job, folder: Path, count: int, rounds: Rounds) -> None:
    """Pictures as files, in chunks that processes share."""
    model, made = model_of(OURS["diffusers"][job.network]()), 0
    processes = Processes("fp32", cpu=True) if count > 1 else None
    while rounds.go():
        with unsaid():
            generate(
                model,
                folder / f"round-{made}",
                range(job.each * count),
                steps=job.steps,
                batch=job.each,
                processes=processes,
            )
        rounds.over()
        made += 1


def _main(kind: str, network: str, each: str, steps: str, folder: str, count: str, core: str) -> None:
    os.sched_setaffinity(0, {int(core)})
    torch.set_num_threads(1)
    out = sys.stdout
    rounds = Rounds(sys.stdin, lambda line: print(line, file=out, flush=True))
    work(Job(kind, network, int(each), int(steps)), Path(folder), int(count), rounds)


if __name__ == "__main__":
    _main(*sys.argv[1:])
