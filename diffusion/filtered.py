"""What filters did: every attempt with its scores, and the pictures that were rejected."""

from __future__ import annotations

import csv
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..samplers.filters import Calibrated, Calibration, Filter, RenoiseProbe
from ..samplers.refill import Finished
from .warned import Rejected

__all__ = ["MOST", "Filtered", "Record", "Try", "filter_names", "summed_up"]

MOST = 64
"""Rejected pictures that are kept to be looked at: those of the first slots, so that they do not depend on the batch."""

# share of attempts above which the model should be mended rather than filtered, and attempts before anything is said about it
TOO_MANY, ENOUGH = 0.2, 10


class Try(NamedTuple):
    """One attempt at a slot: which, whether it was kept, a score per filter, and why it was rejected ("" where it was not)."""

    slot: int
    attempt: int
    kept: bool
    scores: tuple[float, ...]
    reason: str


@dataclass(frozen=True)
class Filtered:
    """What filters did to a batch of slots.

    names: of the filters, each once. tries: every attempt, by slot. alphas: per filter the share of real pictures that its calibration
    lets it reject, None where it has none. pictures: (M, C, H, W) in [-1, 1], of the first rejected attempts; shown: which of `tries`
    they are. bounds: the least and the largest score that each filter keeps, as far as it says (nan).
    """

    names: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    alphas: tuple[float | None, ...] = ()
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0))
    shown: tuple[int, ...] = ()
    bounds: tuple[tuple[float, float], ...] = ()

    @property
    def rejected(self) -> int:
        """How many attempts were rejected."""
        return sum(not t.kept for t in self.tries)

    @property
    def rate(self) -> float:
        """The share of attempts that were rejected; nan without any."""
        return self.rejected / len(self.tries) if self.tries else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Where that share lies with 95 % confidence (Wilson's interval)."""
        n, z = len(self.tries), 1.96
        if not n:
            return 0.0, 1.0
        middle = (self.rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.rate * (1 - self.rate) / n + z * z / (4 * n * n))
        return max(middle - half, 0.0), min(middle + half, 1.0)

    @property
    def estimate(self) -> float | None:
        """What is rejected beyond what real pictures may be, (rate - alpha) / (1 - alpha). Some of it is good pictures, which a model
        spreads wider than the data; what the filter does not see is not in it. None unless the one filter is calibrated."""
        if len(self.alphas) != 1 or self.alphas[0] is None or not self.tries:
            return None
        return max(self.rate - self.alphas[0], 0.0) / (1 - self.alphas[0])

    def words(self) -> list[str]:
        """What there is to say, in lines."""
        if not self.names or not self.tries:
            return []
        low, high = self.interval
        lines = [
            f"{self.rejected} of {len(self.tries)} attempts rejected by {', '.join(self.names)} ({self.rate:.1%}; 95 % confidence "
            f"{low:.1%} to {high:.1%})"
        ]
        open_ = [
            name
            for name, (least, most) in zip(self.names, self.bounds, strict=False)
            if most == math.inf and least == -math.inf
        ]
        if open_:
            lines.append(
                f"{', '.join(open_)} has no threshold, so it scores and keeps all; `sfumato calibrate RUN` finds one"
            )
        if self.estimate is not None:
            lines.append(
                f"real pictures like those of the calibration are rejected in at most {self.alphas[0]:.1%}; about {self.estimate:.1%} of "
                "what the model makes is rejected beyond that (what the filter does not see is not counted)"
            )
        return lines

    def warn(self, lost: int, slots: int, retries: int | None, stacklevel: int) -> None:
        """Say that slots were lost, or that so much is rejected that the model should be mended.

        Args:
            lost: slots without a picture, of `slots` in all.
            retries: that each had; None: rejected pictures stay where they are, marked.
            stacklevel: of the warning.
        """
        alpha = max((a for a in self.alphas if a is not None), default=0.0)
        # what may be rejected of real pictures is nothing to mend
        many = len(self.tries) >= ENOUGH and self.rate > TOO_MANY and self.interval[0] > alpha
        if not lost and not many:
            return
        low, high = self.interval
        said = (
            f"filters rejected {self.rate:.0%} of {len(self.tries)} attempts (95 % confidence {low:.0%} to {high:.0%})"
        )
        tries = f"all {retries + 1} attempts at each were" if retries else "the one attempt at each was"
        gone = f"{lost} of {slots} slots have no picture: {tries} rejected; " if lost and retries is not None else ""
        other = "calibrate again" if any(a is not None for a in self.alphas) else "choose another threshold"
        fix = f"mend the model (more training, more steps, less guidance) rather than filter it, or {other}"
        if retries is not None:
            fix += "; mark=True shows what was rejected"
        warnings.warn(f"{gone}{said}; {fix}", Rejected, stacklevel=stacklevel + 1)

    def save_csv(self, path: str | Path, seeds: Sequence[int], labels: Sequence[int] | None) -> None:
        """A line per attempt: slot, seed, label, attempt, kept, a score per filter, reason.

        Args:
            path: of the file.
            seeds, labels: one per slot; labels None: no column.
        """
        with Path(path).open("w", newline="") as file:
            lines = csv.writer(file)
            own = [] if labels is None else ["label"]
            lines.writerow(["slot", "seed", *own, "attempt", "kept", *self.names, "reason"])
            for t in self.tries:
                label = [] if labels is None else [labels[t.slot]]
                scores = [f"{s:.9g}" for s in t.scores]
                lines.writerow([t.slot, seeds[t.slot], *label, t.attempt, int(t.kept), *scores, t.reason])


class Record:
    """Collects what filters do while batches finish.

    Args:
        filters: their filters.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters, self._names = filters, filter_names(filters)
        self._tries: list[Try] = []
        self._pictures: list[tuple[int, int, Tensor]] = []

    def add(self, done: Finished, images: Tensor) -> None:
        """A batch has finished.

        Args:
            done: the batch.
            images: (B, C, H, W) in [-1, 1], what it made.
        """
        if not self._filters:
            return
        slots, attempts = done.slots.tolist(), done.attempts.tolist()
        columns = [v.score.float().tolist() for v in done.verdicts]  # as they are stored with a picture
        new: list[tuple[int, int, Tensor]] = []
        for i, (slot, attempt, kept) in enumerate(zip(slots, attempts, done.keep.tolist(), strict=True)):
            reason = "; ".join(filter(None, (v.reasons[i] for v in done.verdicts)))
            self._tries.append(Try(slot, attempt, kept, tuple(c[i] for c in columns), reason))
            if not kept:
                new.append((slot, attempt, images[i]))
        first = sorted([*self._pictures, *new], key=lambda p: p[:2])[:MOST]
        there = {p[:2] for p in self._pictures}
        # copied, for a view would keep its whole batch in memory
        self._pictures = [p if p[:2] in there else (*p[:2], p[2].to("cpu", copy=True)) for p in first]

    def result(self) -> Filtered:
        """All of it."""
        return summed_up(self._filters, self._tries, self._pictures)


def summed_up(filters: Sequence[Filter], tries: Sequence[Try], pictures: Sequence[tuple[int, int, Tensor]]) -> Filtered:
    """What filters did.

    Args:
        filters: their filters.
        tries: every attempt, in any order.
        pictures: the first rejected ones: slot, attempt, picture.
    """
    tries = tuple(sorted(tries))
    place = {(t.slot, t.attempt): i for i, t in enumerate(tries)}
    shown = torch.stack([p[2] for p in pictures]) if pictures else torch.zeros(0)
    known = [f.calibration if isinstance(f, Calibrated) else None for f in filters]
    # of pictures that the model was trained on alpha says nothing about new ones
    alphas = tuple(c.alpha if isinstance(c, Calibration) and c.held_out else None for c in known)
    return Filtered(
        filter_names(filters), tries, alphas, shown, tuple(place[p[:2]] for p in pictures), tuple(map(_bounds, filters))
    )


def _bounds(judge: Filter) -> tuple[float, float]:
    """The least and the largest score that a filter keeps, as far as it says; a least of 0 where no score is below is none."""
    own = judge.filter if isinstance(judge, Calibrated) else judge
    least = float(getattr(own, "least", -math.inf))
    return (-math.inf if isinstance(own, RenoiseProbe) and least == 0.0 else least), float(
        getattr(own, "threshold", math.nan)
    )


def filter_names(filters: Sequence[Filter]) -> tuple[str, ...]:
    """A name for each filter: its class, that of the filter that was calibrated, and a number where there are several."""
    names = [type(f.filter if isinstance(f, Calibrated) else f).__name__ for f in filters]
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(found)
