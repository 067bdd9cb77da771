"""The smallest runs there are, and processes to do harm to: what the tests of faults share."""

import functools
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate.state import AcceleratorState, PartialState
from torch import nn

from sfumato.diffusion import Recipe, train
from sfumato.diffusion.checkpoint import at_step, newest
from sfumato.diffusion.data import Batch
from sfumato.diffusion.feed import Feed
from sfumato.diffusion.update import Update
from sfumato.schedules import EDM, LogNormal, RectifiedFlow

# a disk in memory, where there is one: a kill of a process takes nothing from what it has written, synced or not
RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
GROUPS = ("model", "ema", "optimizer")


class Mixer(nn.Module):
    """A backbone of some hundred weights, with dropout and classes."""

    channels, size, num_classes = 1, 2, 3

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = {"dropout": dropout}
        self.first, self.last = nn.Linear(5, 16), nn.Linear(16, 4)
        self.table, self.drop = nn.Embedding(4, 16), nn.Dropout(dropout)

    def forward(self, x, time, labels=None):
        h = self.first(torch.cat([x.flatten(1), time[:, None].to(x)], dim=1))
        h = h if labels is None else h + self.table(labels)
        return self.last(self.drop(nn.functional.silu(h))).view_as(x)


def calm() -> Mixer:
    """One that draws nothing in training."""
    torch.manual_seed(0)
    return Mixer(0.0)


@dataclass(frozen=True)
class Dots:
    """Samples of four numbers. noisy: each is moved by what the global generators draw, as a user's augmentation does."""

    count: int = 12
    noisy: bool = False
    shape = (1, 2, 2)
    num_classes = 3
    fingerprint = "dots"

    def __len__(self):
        return self.count

    def batch(self, index):
        x = torch.stack([torch.full((1, 2, 2), float(i) / self.count) for i in index])
        if self.noisy:
            x = x + 0.1 * torch.randn(x.shape) + 0.1 * random.random() + 0.1 * float(np.random.rand())  # noqa: NPY002
        return Batch(x, index % 3)


@dataclass(frozen=True)
class Poisoned(Dots):
    """Some of its samples are not numbers."""

    bad: tuple[int, ...] = ()

    def batch(self, index):
        found = super().batch(index)
        found.x[torch.isin(index, torch.tensor(self.bad, dtype=torch.int64))] = torch.nan
        return found


@dataclass(frozen=True)
class OtherDots(Dots):
    """Of another kind."""


def tiny(**changes):
    """A recipe of 12 steps, four an epoch, that saves at every step and keeps all."""
    torch.manual_seed(0)
    values = {
        "data": Dots(), "backbone": Mixer(), "schedule": RectifiedFlow(), "row": EDM(0.75), "density": LogNormal(-0.8, 1.2),
        "steps": 12, "batch": 4, "lr": 2e-3, "warmup": 3, "ema": 0.9, "threads": 1, "log_every": 1, "sampling_steps": 3,
        "tracker": None, "save_every": 1, "keep": 100,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def command(folder, **changes) -> list[str]:
    """The words that train it from the command line, or go on."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(tiny(**changes).describe()))
    return ["train", str(config), "--out", str(folder), "--resume", "--allow", "faulted"]


def go(folder, **changes):
    """Train it, or go on with it."""
    return train(tiny(**changes), folder, resume=True, progress=False)


@functools.cache
def warm() -> None:
    """Import what is imported when it is first needed, once for all children."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        train(tiny(steps=1), folder, progress=False)


class Child:
    """A process forked from this one: no start costs it seconds.

    do: what it does, told how to say a line to its parent; what it returns is the process's exit status, and an exception is 1.
    log: where its output goes.
    """

    def __init__(self, do: Callable[[Callable[[object], None]], int | None], log: Path, **environment: str) -> None:
        warm()
        self._read, write = os.pipe()
        self._heard = b""
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            os.set_blocking(self._read, False)
            return
        status = 1
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            os.environ.update(environment)
            torch.set_num_threads(1)
            AcceleratorState._reset_state(True)
            PartialState._reset_state()
            status = do(lambda line: os.write(write, f"{line}\n".encode())) or 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def said(self) -> list[str]:
        """The lines so far."""
        try:
            while self._read >= 0 and (more := os.read(self._read, 1 << 16)):
                self._heard += more
        except BlockingIOError:
            pass
        return self._heard.decode().splitlines()

    def until(self, line: str, seconds: float = 30.0) -> None:
        """Wait until it has said a line."""
        end = time.monotonic() + seconds
        while line not in self.said():
            assert time.monotonic() < end, f"never said {line!r}: {self.said()}\n{self.log.read_text()}"
            time.sleep(0.002)

    def gone(self) -> bool:
        """Whether it has ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self, seconds: float = 30.0) -> int:
        """Its exit status, less than 0 for the signal that ended it; whatever it started is killed."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                break
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"still ran after {seconds} s: {self.log.read_text()}")
            time.sleep(0.002)
        self.said()
        os.close(self._read)
        self._read = -1
        return os.waitstatus_to_exitcode(status)


def forked(do: Callable[[], int | None], log: Path, seconds: float = 60.0) -> int:
    """The exit status of `do` in a process of its own."""
    return Child(lambda say: do(), log).ended(seconds)


def pair(do: Callable[[int], int | None], log: Path) -> list[Child]:
    """Two processes that find each other as those of torchrun do; do: told the rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def start(rank: int) -> Child:
        return Child(
            lambda say: do(rank), log.with_name(f"{log.name}.{rank}"), RANK=str(rank), LOCAL_RANK=str(rank),
            ACCELERATE_USE_CPU="true", **common,
        )  # fmt: skip

    return [start(0), start(1)]


def numbers(folder, step=None):
    """Step, and every tensor of its newest checkpoint, or of one step, by name."""
    found = newest(folder / "checkpoints") if step is None else at_step(folder / "checkpoints", step)
    assert found is not None
    return found.step, {f"{n}/{k}": v for n in GROUPS for k, v in found.tensors(n).items()}


def same(a, b):
    """Whether two runs are equal to the last bit."""
    return a[0] == b[0] and a[1].keys() == b[1].keys() and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


def apart(a, b):
    """The largest difference of two runs' weights and averages."""
    return max(float((a[1][k] - b[1][k]).abs().max()) for k in a[1] if not k.startswith("optimizer/"))


def recorded(file: Path) -> None:
    """From here on, in this process: every step appends its number, samples, a hash of data and draws, rate, loss and norm."""
    from sfumato.diffusion import update

    feed, draw, call, seen = Feed.__call__, update.draw, Update.__call__, []

    def fed(self, step):
        for read in feed(self, step):
            seen.append([read.places.tolist(), read.samples.tolist(), _hash(read.batch.x)])
            yield read

    def drawn(*args):
        found = draw(*args)
        seen.append(_hash(found.eps, found.level.t, found.dropped))
        return found

    def called(self, step):
        seen.clear()
        made = call(self, step)
        rate = self.optimizer.param_groups[0]["lr"]
        with file.open("a") as out:
            out.write(json.dumps([step, list(seen), rate, float(made.loss).hex(), float(made.norm).hex()]) + "\n")
        return made

    Feed.__call__, update.draw, Update.__call__ = fed, drawn, called


def _hash(*tensors):
    return hashlib.sha256(b"".join(torch.as_tensor(t).numpy().tobytes() for t in tensors)).hexdigest()[:12]


def lines(file: Path):
    """What `recorded` wrote."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def burn(seed: int) -> None:
    """Leave every global generator somewhere else."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.rand(seed + 1)
