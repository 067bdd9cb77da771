"""The smallest runs there are, what they come to, and how they are compared: what the tests of faults share."""

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from sfumato.diffusion import Recipe, train
from sfumato.diffusion.checkpoint import at_step, newest
from sfumato.diffusion.data import Batch
from sfumato.diffusion.feed import Feed
from sfumato.diffusion.update import Update
from sfumato.schedules import EDM, LogNormal, RectifiedFlow

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


class Normed(Mixer):
    """A backbone with running statistics, and a list of blocks."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.config = {}
        self.blocks, self.norm = nn.ModuleList([nn.Linear(16, 16)]), nn.BatchNorm1d(16)

    def forward(self, x, time, labels=None):
        h = self.first(torch.cat([x.flatten(1), time[:, None].to(x)], dim=1))
        return self.last(nn.functional.silu(self.norm(self.blocks[0](h)))).view_as(x)


def normed(**changes):
    torch.manual_seed(0)
    return tiny(backbone=Normed(), **changes)


def command(folder, **changes) -> list[str]:
    """The words that train it from the command line, or go on."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(tiny(**changes).describe()))
    return ["train", str(config), "--out", str(folder), "--resume", "--allow", "faulted"]


def go(folder, **changes):
    """Train it, or go on with it."""
    return train(tiny(**changes), folder, resume=True, progress=False)


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
    from sfumato.diffusion.draws import Drawing

    feed, draw, call, seen = Feed.__call__, Drawing.__call__, Update.__call__, []

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

    Feed.__call__, Drawing.__call__, Update.__call__ = fed, drawn, called


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
