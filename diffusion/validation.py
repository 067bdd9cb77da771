"""Validation: the loss on fixed samples at fixed levels with fixed noise, so that two numbers differ only by what was learned."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..schedules import Density, Level, Schedule, Stream, Weighting, gaussian, uniform
from ..schedules.schedule import entries, first_t
from .buckets import EDGES
from .data import Source
from .denoiser import Denoiser
from .edm_loss import edm_loss
from .objective import Noised, Objective, regression
from .prompts import TextEncoder
from .scan import checkable
from .training_text import caption_condition, first_captions

__all__ = ["CENTRES", "Validated", "Validation"]

# the open buckets have theirs as far out as their neighbours'
CENTRES = (
    1.5 * EDGES[0] - 0.5 * EDGES[1],
    *(0.5 * (a + b) for a, b in itertools.pairwise(EDGES)),
    1.5 * EDGES[-1] - 0.5 * EDGES[-2],
)
"""Log-SNR at the centres of the buckets; on a table the nearest entry is asked."""


class Validated(NamedTuple):
    """What a validation found.

    loss: the recipe's own, weighted and over the training density. edm_loss: the same levels under EDM's weighting, see `edm_loss`.
    error: unweighted mean squared error of the output at the centre of each bucket of log-SNR; edm_error: the same under EDM's
    weighting, which can be compared between densities too; None where the schedule does not reach.
    """

    loss: float
    edm_loss: float
    error: list[float | None]
    edm_error: list[float | None]


class Validation:
    """A fixed set of questions to a model: samples, levels and noise are functions of the seed alone.

    `count` samples are asked at the quantiles (i + 1/2) / count of the training density, and count / 12 of them at the centre of every
    bucket, which costs as much again. All with their labels, none dropped, and in evaluation mode. A density that learns is taken as it
    starts, so that the levels stay.

    Args:
        data: samples that are not trained on, such as the held-out part of a Split.
        schedule, density, weighting, objective: of training.
        classes: how many the network is told, 0: none.
        data_std: of the data, for the EDM loss.
        seed: of the choice of samples, the pairing with levels, and the noise; in [0, 2^63).
        count: samples, >= 1; all of the data where there are fewer.
        batch: samples asked at once, >= 1; it changes nothing but rounding.
        device: of the model.
        skip: leave out samples that can't be read, which are looked for now and not in the middle of a run.
        text: what encodes the captions, the first of each sample; None: the network is told no texts.

    Raises:
        ValueError: for a count or batch below 1, no data, and samples that can't be read.
    """

    def __init__(
        self, data: Source, schedule: Schedule, density: Density, weighting: Weighting, objective: Objective, classes: int,
        data_std: float, seed: int = 0, count: int = 256, batch: int = 64, device: torch.device | str = "cpu",
        skip: bool = False, text: TextEncoder | None = None,
    ) -> None:  # fmt: skip
        if count < 1 or batch < 1 or len(data) < 1:
            raise ValueError(
                f"validation of {count} samples in batches of {batch}, the data have {len(data)}; allowed: at least one of each"
            )
        self.data, self.weighting, self.objective = data, weighting, objective
        self.classes, self.data_std, self.seed, self.batch = classes, data_std, seed, batch
        self.device, self.text = torch.device(device), text
        key = torch.tensor([seed])
        samples = _readable(
            data, uniform(key, 0, 0, len(data), Stream.VALIDATION)[0].argsort(stable=True)[:count], skip
        )
        # which sample meets which level is drawn as well, or the order of the data might show in the levels
        places = uniform(key, 1, 0, len(samples), Stream.VALIDATION)[0].argsort(stable=True)
        drawn = density((places + 0.5) / len(samples), schedule)
        self._reached, table = _table(schedule)
        # one question per row: which sample, at which level, with the noise of which step; first those of the density
        self._count, self._share = len(samples), max(1, len(samples) // len(CENTRES))
        self._samples = torch.cat([samples, samples[: self._share].repeat(len(self._reached))])
        self._steps = torch.cat(
            [
                torch.zeros_like(samples),
                1 + torch.tensor(self._reached, dtype=torch.int64).repeat_interleave(self._share),
            ]
        )
        asked = (
            (_whole(a, len(samples)), _whole(b, len(self._reached))) for a, b in zip(drawn.level, table, strict=True)
        )
        self._level = torch.stack([torch.cat([a, b.repeat_interleave(self._share)]) for a, b in asked])
        self._factor = _whole(drawn.weight, len(samples))

    @torch.no_grad()
    def partial(self, denoiser: Denoiser, head: nn.Module | None = None, rank: int = 0, processes: int = 1) -> Tensor:
        """The answers of one process, zero where they are another's: the sum over processes is exact, and the same for any number.

        Args:
            denoiser: the model, not wrapped, holding the weights that are judged.
            head: of the objective, or None.
            rank, processes: which share is asked; every `processes`-th batch.

        Returns:
            float64 (questions, 3): loss, unweighted error, EDM loss.
        """
        found = torch.zeros(len(self._samples), 3, dtype=torch.float64, device=self.device)
        modules = [m for outer in (denoiser, head) if outer is not None for m in outer.modules()]
        training = [m.training for m in modules]
        try:
            for m in modules:
                m.training = False
            # batches of the levels that training has, and batches of the table
            own, table = (part.split(self.batch) for part in torch.arange(len(found)).split_with_sizes(self._parts))
            batches = [rows for rows in (*own, *table) if len(rows)]
            for rows in batches[rank::processes]:
                found[rows.to(found.device)] = self._ask(denoiser, head, rows)
        finally:
            for m, before in zip(modules, training, strict=True):
                m.training = before
        return found

    @property
    def _parts(self) -> list[int]:
        return [self._count, len(self._samples) - self._count]

    def _ask(self, denoiser: Denoiser, head: nn.Module | None, rows: Tensor) -> Tensor:
        index, level = self._samples[rows], Level(*self._level[:, rows].to(self.device))
        given, at = self.data.batch(index), index.to(self.device)
        eps = gaussian(
            torch.full_like(at, self.seed), at, self._steps[rows].to(self.device), 1, given.x.shape[1:], stream=Stream.VALIDATION
        )  # fmt: skip
        condition = None
        if self.classes and given.labels is not None:
            condition = {"labels": given.labels.to(self.device)}
        if self.text is not None:
            condition = caption_condition(self.text, first_captions(self.data, index), None, self.device)
        double = any(p.dtype == torch.float64 for p in denoiser.parameters())
        dtype = torch.float64 if double else torch.float32
        seen = Noised(given.x.to(self.device, dtype), eps.to(dtype), level, condition)
        if int(rows[0]) < self._count:
            losses = self.objective(denoiser, head, self.weighting, seen)
        else:  # an objective may have no loss between its steps
            losses = regression(denoiser.answer(seen.x, level, condition), denoiser, self.weighting, seen)
        judged = edm_loss(losses.error, denoiser.row, level, self.data_std)
        return torch.stack([losses.loss.double(), losses.error.double(), judged], dim=1)

    def result(self, total: Tensor) -> Validated:
        """What the answers of all processes say, their sum having been taken.

        Args:
            total: the sum of `partial` over the processes.
        """
        found = total.cpu()
        own, table = found[: self._count], found[self._count :].reshape(len(self._reached), self._share, 3).mean(1)
        error: list[float | None] = [None] * len(CENTRES)
        normalised = list(error)
        for k, mean in zip(self._reached, table.tolist(), strict=True):
            error[k], normalised[k] = mean[1], mean[2]
        return Validated(float((own[:, 0] * self._factor).mean()), float(own[:, 2].mean()), error, normalised)


def _readable(data: Source, samples: Tensor, skip: bool) -> Tensor:
    """Those of the samples that can be read."""
    if not checkable(data):
        return samples
    wrong = {i: reason for i in samples.tolist() if (reason := data.problem(i)) is not None}
    if wrong and (not skip or len(wrong) == len(samples)):
        first = min(wrong)
        raise ValueError(
            f"{len(wrong)} of {len(samples)} samples of the validation can't be read; mend or remove them, or leave them out (corrupt "
            f"'skip'): sample {first}: {wrong[first]}"
        )
    return torch.tensor([i for i in samples.tolist() if i not in wrong], dtype=torch.int64)


def _whole(value: Tensor | float, count: int) -> Tensor:
    """One float64 number for each question."""
    return torch.as_tensor(value, dtype=torch.float64).expand(count)


def _table(schedule: Schedule) -> tuple[list[int], Level]:
    """Which buckets a schedule reaches the centre of, and the levels there; of a table the nearest entries."""
    low, high = (float(schedule(t).log_snr) for t in (1.0, first_t(schedule)))
    reached = [k for k, v in enumerate(CENTRES) if low <= v <= high]
    level, count = (
        schedule.at_log_snr(torch.tensor([CENTRES[k] for k in reached], dtype=torch.float64)),
        entries(schedule),
    )
    if count is None:
        return reached, level
    return reached, schedule((torch.as_tensor(level.t) * count).round().clamp(1, count) / count)
