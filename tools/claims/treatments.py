"""What the next generation is trained on: a model's samples as they come, thinned at random, or filtered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...diffusion import Model, Source, calibrate
from ...samplers import on_path
from ...samplers.filters import Filter, RenoiseProbe, TrajectoryVariance
from ...samplers.refill import fill
from ...schedules import permutation

__all__ = ["EXTRA", "TREATMENTS", "Made", "extra_of", "level_of", "make", "sampled"]

TREATMENTS = ("all", "random", "paper", "probe")
# of the count, drawn and dropped again: the authors draw 102,500 for 100,000; "more" drops 6.1 %, about as many as the probe rejects
EXTRA = {"random": 0.025, "paper": 0.025, "more": 0.065}
ALPHA, RETRIES = 0.01, 60


@dataclass(frozen=True, eq=False)
class Made:
    """What a model made, and what is kept of it.

    Args:
        raw: the first attempts at all slots, (M, C, H, W), before anything was dropped.
        x: what is kept, (N, C, H, W); of `probe` further attempts too.
        dropped: which of `raw` were dropped, bool (M,).
        rejected: share of all attempts that were dropped, 0 to 1.
    """

    raw: Tensor
    x: Tensor
    dropped: Tensor
    rejected: float


def extra_of(treatment: str, count: int) -> int:
    """How many samples are drawn beside `count`, and dropped: those of "random", "paper" and "more"."""
    return round(count * EXTRA[treatment])


class _Walked(NamedTuple):
    """raw, score: of first attempts. last, kept: of last attempts. attempts: how many each slot had."""

    raw: Tensor
    score: Tensor
    last: Tensor
    kept: Tensor
    attempts: Tensor


@torch.no_grad()
def sampled(model: Model, seeds: Sequence[int], batch: int, judge: Filter | None = None, retries: int = 0) -> _Walked:
    """What the model's own sampler makes of slots, cut by nothing.

    Args:
        model: without classes.
        seeds: one per slot.
        batch: samples at a time.
        judge: a filter; None: keep all.
        retries: of what it rejects.
    """
    path, n = model.denoiser.schedule, len(seeds)
    levels = model.grid(path, model.steps)
    raw = torch.zeros(n, *model.shape)
    found = _Walked(
        raw, torch.zeros(n), raw.clone(), torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.int64)
    )
    for done in fill(
        on_path(model.sampler, path), lambda _: model.denoiser, levels, seeds, model.shape, retries=retries, batch=batch,
        filters=[] if judge is None else [on_path(judge, path)],
    ):  # fmt: skip
        x, first = done.x / levels[-1].alpha, done.attempts == 0
        found.raw[done.slots[first]] = x[first]
        if done.verdicts:
            found.score[done.slots[first]] = done.verdicts[0].score[first]
        found.last[done.slots], found.kept[done.slots], found.attempts[done.slots] = x, done.keep, done.attempts + 1
    return found


def level_of(model: Model, data: Source) -> float | None:
    """The level of the probe, found on real data without labels; None where there is none."""
    try:
        found = calibrate(
            model, RenoiseProbe(), data, held_out=False, alpha=ALPHA, count=min(500, len(data)), batch=500
        )
    except ValueError as error:
        if "no level was found" not in str(error):
            raise
        return None
    return getattr(found.calibration.filter, "level", None)


def make(treatment: str, model: Model, count: int, block: int, batch: int, data: Source, level: float | None) -> Made:
    """Samples of a model, and `count` of them kept.

    `all`: as they come. `random`, `paper`: 2.5 % more are drawn, and as many dropped, at random or those with the highest
    `TrajectoryVariance.paper()`; `more`: likewise, with 6.5 % more. `probe`: what the re-noise probe rejects is drawn again, with a
    threshold that 1 % of the model's own training data (after the first generation samples themselves) are beyond; without a level it
    can't be asked, and keeps all.

    Args:
        treatment: of TREATMENTS, or "more".
        model: without classes.
        count: samples that are kept, >= 1.
        block: where the sampling seeds begin; equal ones start from the same noise.
        batch: samples at a time.
        data: what the model was trained on.
        level: of the probe.

    Raises:
        ValueError: for another treatment.
    """
    if treatment not in (*TREATMENTS, "more"):
        raise ValueError(f"treatment is {treatment!r}; allowed: {', '.join(TREATMENTS)}, more")
    if treatment == "all" or (treatment == "probe" and level is None):
        raw = sampled(model, range(block, block + count), batch).raw
        return Made(raw, raw, torch.zeros(count, dtype=torch.bool), 0.0)
    if treatment == "probe":
        judge = RenoiseProbe(level=level)
        size = min(2000, len(data))
        judge = calibrate(model, judge, data, held_out=False, alpha=ALPHA, count=size, batch=batch).calibration.filter
        walked = sampled(model, range(block, block + count), batch, judge, RETRIES)
        lost = int(walked.attempts.sum()) - int(walked.kept.sum())
        # the verdict on a first attempt: its slot was tried again
        dropped = (walked.attempts > 1) | ~walked.kept
        return Made(walked.raw, walked.last[walked.kept], dropped, lost / int(walked.attempts.sum()))
    extra = extra_of(treatment, count)
    watch = None if treatment == "random" else TrajectoryVariance.paper()
    walked = sampled(model, range(block, block + count + extra), batch, watch)
    order = permutation(block, 0, count + extra) if watch is None else walked.score.argsort(stable=True)
    keep = order[:count].sort().values
    dropped = torch.ones(count + extra, dtype=torch.bool)
    dropped[keep] = False
    return Made(walked.raw, walked.raw[keep], dropped, extra / (count + extra))
