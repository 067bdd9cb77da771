"""A model as a subject: its pictures against those of a fine solution of its own ODE, and against data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model, Samples, Source
from ...diffusion.measuring import Extractor, Moments, OfSource, as_bytes, batches, frechet, identity, look, moments
from ...guidance import Guidance, Plain
from ...samplers import DPMSolverPP, Sampler
from ...schedules import Grid, Level, Schedule
from ...schedules.grid import to_data
from ...schedules.parts import describe
from ...schedules.schedule import entries
from ..compare.networks import model_hash
from .budgets import asks
from .subject import Block, Ends

__all__ = ["FineGrid", "Sampled"]

# pictures whose evaluations are counted where the guidance decides how many there are
_COUNTED = 8
_DIVERGED = re.compile(r"(\d+) of \d+ pictures diverged")


@dataclass(frozen=True)
class FineGrid:
    """From where another grid starts, uniform in t, down to data; on a table on its entries.

    Args:
        t: of the first level, above 0 to 1.
    """

    t: float

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        count = entries(schedule)
        if count is None:
            return to_data(schedule, [schedule(self.t * (1 - i / steps)) for i in range(steps)])
        first = round(self.t * count)
        kept = sorted({round(first * (1 - i / steps)) for i in range(steps)} - {0}, reverse=True)
        return to_data(schedule, [schedule(k / count) for k in kept])


class Sampled:
    """A model, sampled as `Model.sample` does; pictures as they are handed out, cut to their range.

    Args:
        model: any.
        guidance: the rule; None: the model's own.
        data: what its pictures are compared with; None: nothing.
        extractor: what looks at them; None only without data.
        fine: steps of the ODE's solution.
        batch: pictures at a time.

    `kept` may be set to another (name, make) -> tensor, which keeps what was made.
    """

    def __init__(
        self, model: Model, guidance: Guidance | None = None, data: Source | None = None, extractor: Extractor | None = None,
        fine: int = 300, batch: int = 250,
    ) -> None:  # fmt: skip
        self.model, self.fine = model, fine
        self.guidance = model.guidance if guidance is None else guidance
        self._data, self._extractor, self._batch = data, extractor, batch
        self.kept: Callable[[str, Callable[[], Tensor]], Tensor] = lambda name, make: make()
        self._real: Moments | None = None
        self._costs: dict[tuple[str, str, int], int] = {}

    @property
    def schedule(self) -> Schedule:
        return self.model.denoiser.schedule

    @property
    def grid(self) -> Grid:
        return self.model.grid

    @property
    def measures(self) -> dict[str, str]:
        unit = "of latents" if self.model.latents and self.model.vae is None else "pictures in [-1, 1]"
        found = {
            "ode": f"root mean square distance to the model's own ODE, solved in {self.fine} steps from the same noise ({unit})"
        }
        if self._data is not None and self._extractor is not None:
            who = identity(self._extractor)
            found["law"] = f"squared Frechet distance to data, features of {who['name']}"
        return found

    @property
    def about(self) -> dict[str, Any]:
        law = None
        if self._data is not None and self._extractor is not None:
            law = {
                "data": describe(self._data),
                "data_fingerprint": self._data.fingerprint,
                "data_count": len(self._data),
                "extractor": identity(self._extractor),
            }
        return {
            **self.model.source, "network": model_hash(self.model), "guidance": describe(self.guidance),
            "schedule": describe(self.schedule), "row": describe(self.model.denoiser.row),
            "labels": "in turn" if self.model.num_classes else None, "law": law,
            "reference": {"sampler": describe(_REFERENCE), "steps": self.fine, "grid": "uniform in t from the grid's first level"},
        }  # fmt: skip

    def cost(self, sampler: Sampler, grid: Grid, steps: int) -> int:
        key = (repr(sampler), repr(grid), steps)
        if key not in self._costs:
            if isinstance(self.guidance, Plain):
                self._costs[key] = asks(sampler, self.schedule, grid, steps)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = self._sample(sampler, grid, steps, Block(0, _COUNTED))
                self._costs[key] = int(made.evaluations.sum(1).max())
        return self._costs[key]

    def ends(self, sampler: Sampler, grid: Grid, steps: int, block: Block) -> Ends:
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                made = self._sample(sampler, grid, steps, block)
        except FloatingPointError:
            return Ends(None, None, float(self.cost(sampler, grid, steps)), failed="numbers that are not finite")
        found = [_DIVERGED.search(str(w.message)) for w in said]
        diverged = sum(int(m[1]) for m in found if m is not None)
        ode = None
        if not sampler.draws:
            ode = _rms(made.images.cpu() - self._reference(grid(self.schedule, steps)[0], block))
        spent = float(made.evaluations.sum(1).double().mean())
        return Ends(ode, self._law(made.images), spent, diverged)

    def exact(self, block: Block) -> dict[str, Any]:
        level = self.grid(self.schedule, self.model.steps)[0]
        few, grid = Block(block.first, min(block.count, 50)), FineGrid(float(level.t))

        def error() -> Tensor:
            fine, half = (self._sample(_REFERENCE, grid, n, few).images for n in (self.fine, self.fine // 2))
            # of order 2, so that half the steps err by four times as much
            return torch.tensor(_rms(fine - half) / 3)

        found = float(self.kept(f"error-{float(level.t):.12g}-{block.first}-{block.count}", error))
        return {"law": self._law(self._reference(level, block)), "error": found}

    def _sample(self, sampler: Sampler, grid: Grid, steps: int, block: Block) -> Samples:
        classes = self.model.num_classes
        labels = [seed % classes for seed in block.seeds] if classes else None
        return self.model.sample(
            block.seeds, labels, steps=steps, sampler=sampler, grid=grid, guidance=self.guidance, batch=self._batch
        )

    def _reference(self, level: Level, block: Block) -> Tensor:
        """The fine solution from a level."""
        t = float(level.t)
        made = lambda: self._sample(_REFERENCE, FineGrid(t), self.fine, block).images.cpu()  # noqa: E731
        return self.kept(f"reference-{t:.12g}-{block.first}-{block.count}", made)

    def _law(self, images: Tensor) -> float | None:
        if self._data is None or self._extractor is None:
            return None
        if self._real is None:
            pages = [look(self._extractor, x).features for _, x in batches(OfSource(self._data), self._batch)]
            self._real = moments(torch.cat(pages))
        features = [look(self._extractor, as_bytes(x)).features for x in images.split(self._batch)]
        return frechet(moments(torch.cat(features)), self._real)


_REFERENCE = DPMSolverPP(2)


def _rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())
