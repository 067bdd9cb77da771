"""Pictures that are saved as they are finished, so that a job which was killed goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..samplers.filters import Verdict
from ..samplers.refill import Finished
from ..schedules.plain_json import to_json
from .images import read_picture, read_settings, save_png
from .samples import file_names, picture_settings
from .whole_file import PART

__all__ = ["Job", "PictureFolder"]

_REJECTED = ".rejected"
# what of a picture's settings is known only when it is finished
_FOUND = ("attempt", "evaluations", "scores", "kept", "reason")


@dataclass(frozen=True)
class Job:
    """What is about to be sampled.

    settings: shared by all pictures. own: what of them is another for each; () where nothing is. seeds: int64 (N,). labels: int64 (N,) or
    None. branches: of the network. filters: their names. scale: of the data at the last level. shape: (C, H, W). device: of the samples.
    """

    settings: Mapping[str, Any]
    own: Sequence[Mapping[str, Any]]
    seeds: Tensor
    labels: Tensor | None
    branches: tuple[str, ...]
    filters: tuple[str, ...]
    scale: float
    shape: tuple[int, ...]
    device: torch.device

    def of(self, slot: int) -> dict[str, Any]:
        """What is known of a picture before it is made."""
        return picture_settings(self.settings, self.own, slot, self.seeds, self.labels)


class PictureFolder:
    """A folder that holds each picture as soon as its batch is finished, and knows them again.

    A batch is known if all of it is there, attempts that filters rejected included (in a hidden folder, until `finish`); else all of
    it is made again. So batches hold the same slots as if nothing had happened, and the pictures are the same to the last bit, strict or
    not, on the same machine and number of threads.

    Args:
        folder: where; made by the first picture.
        resume: whether what lies there counts.
    """

    def __init__(self, folder: str | Path, resume: bool = False) -> None:
        self.folder, self._resume = Path(folder), resume
        self._there: dict[tuple[int, int], Path] = {}
        self._known: Finished | None = None

    @property
    def found(self) -> int:
        """How many pictures were there when it began."""
        return sum(path.parent == self.folder for path in self._there.values())

    def count(self) -> int:
        """How many pictures are there now."""
        return sum(1 for _ in self.folder.glob("seed-*.png"))

    def begin(self, job: Job) -> None:
        """Look at what is there.

        Raises:
            ValueError: for pictures of another job, naming what differs.
        """
        self._job, self._names = job, file_names(job.seeds.tolist())
        self._spent = torch.zeros(len(job.seeds), len(job.branches), dtype=torch.int64)
        if not self._resume:
            return
        places = {name: slot for slot, name in enumerate(self._names)}
        for path in sorted(self.folder.glob("seed-*.png")):
            if path.name not in places:
                raise ValueError(
                    f"{self.folder} holds {path.name}, which is none of the pictures asked for; give the seeds that it was begun with, "
                    "or another folder"
                )
            self._look(path, places[path.name])
        for path in sorted((self.folder / _REJECTED).glob("*.png")):
            slot = re.fullmatch(r"(\d+)-\d+\.png", path.name)
            if slot and int(slot[1]) < len(self._names):
                self._look(path, int(slot[1]))

    def _look(self, path: Path, slot: int) -> None:
        """Note a picture. One that is damaged counts as missing."""
        try:
            found = read_settings(path)
        except (OSError, SyntaxError):
            return
        wanted = self._job.of(slot)
        wrong = [
            f"{key} was {_text(found.get(key))}, is {_text(wanted.get(key))}"
            for key in dict.fromkeys([*wanted, *found])
            if key not in _FOUND and (key in found, _text(found.get(key))) != (key in wanted, _text(wanted.get(key)))
        ]
        if wrong:
            raise ValueError(
                f"{path} was made by another command: {'; '.join(wrong)}. Repeat the command that it was begun with, or give another folder"
            )
        if isinstance(found.get("attempt"), int):
            self._there[slot, found["attempt"]] = path

    def known(self, work: Sequence[tuple[int, int]]) -> Finished | None:
        """The batch of these slots and attempts, if all of it is there."""
        if not all(entry in self._there for entry in work):
            return None
        found = [_stored(self._there[entry], self._job) for entry in work]
        rows = [row for row in found if row is not None]
        if len(rows) < len(work):
            return None
        slots, attempts = torch.tensor(work).T
        total, keep = torch.tensor([row.evaluations for row in rows]), torch.tensor([row.kept for row in rows])
        verdicts = tuple(
            # reasons of several filters were joined to one text
            Verdict(keep, torch.tensor([row.scores[j] for row in rows]), [row.reason * (not j) for row in rows])
            for j in range(len(self._job.filters))
        )
        x = torch.stack([row.picture for row in rows]).to(self._job.device) * self._job.scale
        self._known = Finished(slots, attempts, x, keep, verdicts, total - self._spent[slots])
        return self._known

    def add(self, done: Finished, images: Tensor, shown: Tensor) -> None:
        """A batch has finished.

        Args:
            done: the batch.
            images: (B, C, H, W) in [-1, 1], what it made.
            shown: bool (B,), which of them are pictures to hand out.
        """
        self._spent[done.slots] += done.evaluations
        if done is self._known:
            return
        job, scores = self._job, [v.score.float().tolist() for v in done.verdicts]
        for i, (slot, attempt) in enumerate(zip(done.slots.tolist(), done.attempts.tolist(), strict=True)):
            name = self._names[slot] if shown[i] else f"{_REJECTED}/{slot}-{attempt}.png"
            settings = {
                **job.of(slot), "attempt": attempt,
                "evaluations": dict(zip(job.branches, self._spent[slot].tolist(), strict=True)),
                "scores": dict(zip(job.filters, (s[i] for s in scores), strict=True)), "kept": bool(done.keep[i]),
                "reason": "; ".join(filter(None, (v.reasons[i] for v in done.verdicts))),
            }  # fmt: skip
            save_png(self.folder / name, images[i], settings)

    def finish(self) -> None:
        """Remove what only a resume needs."""
        shutil.rmtree(self.folder / _REJECTED, ignore_errors=True)
        for left in self.folder.glob(f".*{PART}"):  # of a process that was killed
            left.unlink(missing_ok=True)


class _Stored(NamedTuple):
    """An attempt, as it lies in the folder."""

    picture: Tensor
    evaluations: list[int]
    kept: bool
    scores: list[float]
    reason: str


def _stored(path: Path, job: Job) -> _Stored | None:
    """Read an attempt; None: it is damaged, or lacks something."""
    try:
        picture, found = read_picture(path)
        row = _Stored(
            picture, [int(found["evaluations"][name]) for name in job.branches], bool(found["kept"]),
            [float(found["scores"][name]) for name in job.filters], str(found["reason"]),
        )  # fmt: skip
    except (OSError, SyntaxError, LookupError, TypeError, ValueError):
        return None
    return row if picture.shape == job.shape else None


def _text(value: Any) -> str:
    """A value of the settings, to be compared and shown."""
    return json.dumps(to_json(value), sort_keys=True)
