"""Pictures that are saved as they are finished, so that a job which was killed goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..samplers.filters import Verdict
from ..samplers.refill import Finished
from ..schedules.plain_json import to_json
from .images import check_whole, read_picture, read_settings, save_png
from .samples import file_names, picture_settings
from .whole_file import PART

__all__ = ["Job", "PictureFolder", "rejected_attempts"]

_PICTURES, _REJECTED = "seed-*.png", ".rejected"
_ATTEMPT = re.compile(r"(\d+)-(\d+)\.png")
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
        self._there: dict[tuple[int, int], _There] = {}
        self._known: Finished | None = None

    @property
    def found(self) -> int:
        """How many pictures were there when it began."""
        return sum(there.path.parent == self.folder for there in self._there.values())

    def count(self) -> int:
        """How many pictures are there now."""
        return sum(1 for _ in self.folder.glob("seed-*.png"))

    def holds_pictures(self) -> bool:
        """Whether there are pictures, or attempts that filters rejected."""
        return any(True for mark in (_PICTURES, _REJECTED) for _ in self.folder.glob(mark))

    def begin(self, job: Job, looks: Callable[[int], bool] = lambda slot: True) -> None:
        """Look at what is there.

        Args:
            job: what is about to be sampled.
            looks: at the pictures of which slots; others look at the rest.

        Raises:
            ValueError: for pictures of another job, naming what differs.
        """
        self.job, self._names = job, file_names(job.seeds.tolist())
        self._spent = torch.zeros(len(job.seeds), len(job.branches), dtype=torch.int64)
        if not self._resume:
            return
        places = {name: slot for slot, name in enumerate(self._names)}
        for path in sorted(self.folder.glob(_PICTURES)):
            if path.name not in places:
                raise ValueError(
                    f"{self.folder} holds {path.name}, which is none of the pictures asked for; give the seeds that it was begun with, "
                    "or another folder"
                )
            if looks(places[path.name]):
                self._look(path, places[path.name])
        for (slot, _), path in rejected_attempts(self.folder).items():
            if slot < len(self._names) and looks(slot):
                self._look(path, slot)

    def _look(self, path: Path, slot: int) -> None:
        """Note a picture. One that is damaged counts as missing."""
        try:
            check_whole(path)
            found = read_settings(path)
        except (OSError, SyntaxError):
            return
        wanted = self.job.of(slot)
        wrong = [
            f"{key} was {_text(found.get(key))}, is {_text(wanted.get(key))}"
            for key in dict.fromkeys([*wanted, *found])
            if key not in _FOUND
            and (key in found, _text(_kind(key, found))) != (key in wanted, _text(_kind(key, wanted)))
        ]
        if wrong:
            raise ValueError(
                f"{path} was made by another command: {'; '.join(wrong)}. Repeat the command that it was begun with, or give another folder"
            )
        with suppress(LookupError, TypeError, ValueError):
            spent = [int(found["evaluations"][name]) for name in self.job.branches]
            self._there[slot, int(found["attempt"])] = _There(path, bool(found["kept"]), spent)

    def last(self, slot: int, retries: int) -> _There | None:
        """The last attempt at a slot, where that and all before it are there; None: there is something to make.

        Args:
            slot: which picture.
            retries: how often it is tried again.
        """
        there = None
        for attempt in range(retries + 1):
            there = self._there.get((slot, attempt))
            if there is None or there.path.parent == self.folder:
                break
        return there

    def known(self, work: Sequence[tuple[int, int]]) -> Finished | None:
        """The batch of these slots and attempts, if all of it is there."""
        if not all(entry in self._there for entry in work):
            return None
        found = [_stored(self._there[entry].path, self.job) for entry in work]
        rows = [row for row in found if row is not None]
        if len(rows) < len(work):
            return None
        slots, attempts = torch.tensor(work).T
        total, keep = torch.tensor([row.evaluations for row in rows]), torch.tensor([row.kept for row in rows])
        verdicts = tuple(
            # reasons of several filters were joined to one text
            Verdict(keep, torch.tensor([row.scores[j] for row in rows]), [row.reason * (not j) for row in rows])
            for j in range(len(self.job.filters))
        )
        x = torch.stack([row.picture for row in rows]).to(self.job.device) * self.job.scale
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
        job, scores = self.job, [v.score.float().tolist() for v in done.verdicts]
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
        self.sweep()

    def sweep(self) -> None:
        """Remove what is half written; while nobody writes."""
        for left in self.folder.glob(f".*{PART}"):  # of a process that was killed
            left.unlink(missing_ok=True)
        for left in (self.folder / _REJECTED).glob(f".*{PART}"):
            left.unlink(missing_ok=True)


def rejected_attempts(folder: Path) -> dict[tuple[int, int], Path]:
    """Slot and attempt of what filters rejected, and where it lies.

    Args:
        folder: of the pictures.
    """
    named = [(_ATTEMPT.fullmatch(path.name), path) for path in (folder / _REJECTED).glob("*.png")]
    return dict(sorted(((int(name[1]), int(name[2])), path) for name, path in named if name))


class _There(NamedTuple):
    """A picture that lies in the folder: where, whether filters keep it, and what its slot has cost so far, by branch."""

    path: Path
    kept: bool
    evaluations: list[int]


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


def _kind(key: str, settings: Mapping[str, Any]) -> Any:
    """A value of the settings; of a device its kind, since processes have one each."""
    value = settings.get(key)
    return value.partition(":")[0] if key == "device" and isinstance(value, str) else value


def _text(value: Any) -> str:
    """A value of the settings, to be compared and shown."""
    return json.dumps(to_json(value), sort_keys=True)
