"""Thresholds of filters from real samples, without labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..guidance import Branch, Field, Guidance, Plain
from ..samplers import Denoise, Sampler, State, on_path, trajectory
from ..samplers.filters import Calibration, ExcessError, Filter, RenoiseProbe, Scores, conformal_bounds
from ..samplers.filters.conformal import Sides
from ..samplers.filters.filter import apart
from ..schedules import Grid, Level, Prediction
from ..schedules.noise import Noise, Stream, check_seeds, gaussian, permutation
from .chunked import Chunked
from .data import Source
from .fingerprint import fingerprint
from .model import Model
from .probe_level import CUT, LevelPoint, NoLevel, candidates, find_level
from .progress import progress_bar

__all__ = ["Condition", "Found", "calibrate"]

Condition = Literal["labels", "none"]

# noisings per sample while the level is looked for
LOOK = 4

# steps before the window in which a method that remembers gathers what it would remember
WARM = 4


@dataclass(frozen=True)
class Found:
    """A calibration, and what it was read from.

    scores: of the real samples, float (n,), in the order they were taken. curve: the levels that were looked at, () for filters that
    have none. evaluations: of the network per sample: to find the level, and to score.
    """

    calibration: Calibration
    scores: Tensor
    curve: tuple[LevelPoint, ...]
    evaluations: tuple[float, float]


@torch.no_grad()
def calibrate(
    model: Model, judge: Filter, data: Source, *, held_out: bool, alpha: float = 0.01, sides: Sides = "upper", margin: float = 1.0,
    count: int = 2000,
    condition: Condition | None = None, cut: float = CUT, steps: int | None = None, sampler: Sampler | None = None,
    grid: Grid | None = None, guidance: Guidance | None = None, batch: int = 64, seed: int = 0, progress: bool = False,
) -> Found:  # fmt: skip
    """Find a filter's level and thresholds from real samples, so that a real one is rejected with probability <= alpha.

    A filter that judges finished pictures judges the samples themselves; its thresholds hold for every sampler of the model. One that
    watches trajectories is shown each sample noised to where its window begins, and walked back (four steps earlier for a method that
    remembers, so that it has something to remember); its thresholds hold for this sampler, grid, steps and guidance.

    Args:
        model: the model.
        judge: the filter; RenoiseProbe without a level gets one, from these same samples, so that strictly alpha holds for a level that
            was given, and nearly for one that was found. ExcessError without bins gets those of the data, where these say them.
        data: real samples, of the model's shape.
        held_out: whether the model was not trained on them; noted. If it was, alpha holds for these samples and not for new ones.
        alpha: share of real samples that may be rejected, in (0, 1).
        sides: "upper", or "both", for a filter that has a `least` too.
        margin: how far beyond the guaranteed bounds the thresholds are put, as a factor >= 1: rejects less of everything. What a model
            makes well is wider spread than the data, and what it makes badly is often much farther off (1.5 for RenoiseProbe).
        count: samples that are taken, drawn by `seed`; at most all, at least what alpha needs.
        condition: whether the model sees the "labels" of the samples, or the null class ("none"); None: labels where it knows some.
        cut: see find_level.
        steps, sampler, grid, guidance: for a filter that watches trajectories; None: the model's own.
        batch: samples at a time, >= 1.
        seed: of the choice and of the noise.
        progress: show a bar.

    Raises:
        ValueError: for values out of range, data of another shape, and a filter that can't be calibrated; NoLevel where no level will do.
    """
    if model.text is not None:
        raise ValueError(
            "this model knows texts, under which real samples can't be judged here yet; give the filter its threshold yourself, by the "
            "scores of samples: sfumato sample RUN --filters NAME writes scores.csv"
        )
    condition = ("labels" if model.num_classes else "none") if condition is None else condition
    _check(model, judge, data, sides, count, condition, batch, seed, sampler, grid, guidance)
    if not 1.0 <= margin < math.inf:
        raise ValueError(f"margin is {margin}; allowed: a finite number >= 1")
    conformal_bounds(torch.zeros(min(count, len(data))), alpha, sides)  # refused before the work
    chosen = permutation(seed, 0, len(data))[:count]
    watching = on_path(judge, model.denoiser.schedule)
    real = _Real(model, data, chosen, condition, batch, seed)
    training = model.denoiser.training
    model.denoiser.eval()
    try:
        curve: list[LevelPoint] = []
        if isinstance(watching, RenoiseProbe) and watching.level is None:
            watching, curve = _with_level(watching, real, cut, progress)
            judge = dataclasses.replace(cast(Any, judge), level=watching.level)
        bins = getattr(data, "bins", None)
        if isinstance(watching, ExcessError) and watching.bins is None and bins:
            judge = dataclasses.replace(cast(Any, judge), bins=bins)
            watching = dataclasses.replace(watching, bins=bins)
        walked: dict[str, object] = {}
        if isinstance(watching, Scores):
            scores = real.each(
                lambda x, field, noise: watching.score(x, field, lambda draw: noise(0, draw)),
                Plain(),
                "scores",
                progress,
            )
        else:
            levels = (model.grid if grid is None else grid)(
                model.denoiser.schedule, model.steps if steps is None else steps
            )
            own, rule = model.sampler if sampler is None else sampler, model.guidance if guidance is None else guidance
            walked = {"sampler": repr(own), "guidance": repr(rule), "log_snrs": [float(v.log_snr) for v in levels]}
            walker = on_path(own, model.denoiser.schedule)
            tail = levels[max(_begins(watching, levels) - (WARM if _remembers(walker, levels) else 0), 0) :]

            def walk(x: Tensor, field: Field, noise: Noise) -> Tensor:
                return _walked(watching, walker, tail, x, field, noise)

            scores = real.each(walk, rule, "walks", progress)
    finally:
        model.denoiser.train(training)
    least, most = conformal_bounds(scores, alpha, sides)
    least, most = _outwards(least, 1 / margin), _outwards(most, margin)
    bounds = {"threshold": most}
    for field in dataclasses.fields(cast(Any, judge)):
        if field.name == "least":  # one that was there before would reject real samples that alpha does not count
            free = -math.inf if field.default is dataclasses.MISSING else field.default
            bounds["least"] = least if sides == "both" else free
    found = dataclasses.replace(cast(Any, judge), **bounds)
    spent = real.spent / len(chosen)
    look = float(LOOK * len(curve))
    made = Calibration(
        cast(Filter, found), alpha, len(chosen), sides, fingerprint(model.denoiser), data.fingerprint, held_out, condition,
        margin=margin, **walked,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    return Found(made, scores, tuple(curve), (look, spent - look))


def _check(
    model: Model, judge: Filter, data: Source, sides: Sides, count: int, condition: Condition, batch: int, seed: int,
    sampler: object, grid: object, guidance: object,
) -> None:  # fmt: skip
    name = type(judge).__name__
    if isinstance(judge, type) or not isinstance(judge, Filter):
        raise ValueError(f"judge is {judge!r}; allowed: a filter, such as RenoiseProbe()")
    fields = {f.name for f in dataclasses.fields(judge)} if dataclasses.is_dataclass(judge) else set()
    if "threshold" not in fields:
        raise ValueError(f"{name} has no field threshold, so there is nothing to calibrate")
    if sides == "both" and "least" not in fields:
        raise ValueError(f"sides is 'both', but {name} has no field least; allowed: 'upper'")
    if not isinstance(judge, Scores) and not hasattr(judge, "begins"):
        raise ValueError(
            f"{name} can't be calibrated: it has neither score(x0, denoise, noise), for finished pictures, nor begins(levels), the step "
            "from which it watches"
        )
    for what, given, kind in (("sampler", sampler, Sampler), ("grid", grid, Grid), ("guidance", guidance, Guidance)):
        if given is not None and (isinstance(given, type) or not isinstance(given, kind)):
            raise ValueError(
                f"{what} is {given!r}; allowed: an object, such as those of `Model.sample`, or None for the model's own"
            )
    if isinstance(data, type) or not isinstance(data, Source):
        raise ValueError(f"data is {data!r}; allowed: a data set, such as Split(Digits(), 'held_out')")
    if tuple(data.shape) != tuple(model.shape):
        raise ValueError(f"data are {tuple(data.shape)}, the model makes {tuple(model.shape)}; allowed: the same shape")
    if condition not in ("labels", "none"):
        raise ValueError(f"condition is {condition!r}; allowed: 'labels', 'none'")
    if condition == "labels" and data.num_classes < model.num_classes:
        raise ValueError(
            f"the data have {data.num_classes} classes, the model {model.num_classes}; give labelled data, or condition='none'"
        )
    if condition == "labels" and model.num_classes == 0:
        raise ValueError("condition is 'labels', but this model was trained without classes; give 'none'")
    for what, value in (("count", count), ("batch", batch)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what} is {value!r}; allowed: a whole number >= 1")
    check_seeds([seed])


def _begins(watching: object, levels: Sequence[Level]) -> int:
    return int(watching.begins(levels))  # pyright: ignore[reportAttributeAccessIssue] (checked)


def _outwards(bound: float, factor: float) -> float:
    """A bound times a factor, or, below 0, divided by it: moved the same way in either case."""
    return bound * factor if bound > 0 else bound / factor


def _remembers(walker: Sampler, levels: Sequence[Level]) -> bool:
    """Whether a method carries anything but x from step to step."""
    x = torch.zeros(1, 1)
    state, _ = walker.step(State(x), _Anything(), list(levels[:2]), tuple(x for _ in range(walker.draws)))
    return bool(state.memory)


class _Anything:
    """A model that answers something, under any rule (a corrector may have one of its own)."""

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        return Prediction.pair(x, x, x)

    def under(self, rule: object) -> _Anything:
        return self


@dataclass
class _Real:
    """Real samples, and the model that looks at them; counts what it is asked."""

    model: Model
    data: Source
    chosen: Tensor
    condition: Condition
    batch: int
    seed: int
    spent: int = 0

    def each(
        self, look: Callable[[Tensor, Field, Noise], Tensor], rule: Guidance, about: str, progress: bool, salt: int = 0
    ) -> Tensor:
        """What `look` makes of every sample, on the host.

        look: (x0, field, noise) -> float (B,). rule: of the field. about: what the bar says. salt: other noise for another purpose.
        """
        model, found = self.model, []
        network = Chunked(model.denoiser, self.batch)
        with progress_bar(len(self.chosen), 0, about, progress, leave=False) as bar:
            for index in self.chosen.split(self.batch):
                x, given, _ = self.data.batch(index)
                labels = given.tolist() if self.condition == "labels" and given is not None else None
                conditions = model.conditions(labels, len(index))
                field = Field({name: Branch(network, c) for name, c in conditions.items()}, rule, len(index))
                scores = look(x.to(model.device), field, self._noise(index, salt)).cpu()
                # as exact as they are judged: rounded, a threshold may end below the score that it was read from
                found.append(scores.to(torch.promote_types(scores.dtype, torch.float32)))
                self.spent += int(field.spent.sum())
                bar.update(len(index))
        return torch.cat(found)

    def _noise(self, index: Tensor, salt: int) -> Noise:
        """Gaussians of each sample's own, whatever it is looked at with."""
        seeds = torch.full_like(index, self.seed).to(self.model.device)
        at = index.to(self.model.device)

        def draw(step: int, draw: int) -> Tensor:
            return gaussian(seeds, at, step, (salt << 20) + draw, self.model.shape, stream=Stream.CALIBRATION)

        return draw


def _with_level(
    watching: RenoiseProbe, real: _Real, cut: float, progress: bool
) -> tuple[RenoiseProbe, list[LevelPoint]]:
    """The probe at the level of the first crossing."""

    def errors_at(log_snr: float) -> Tensor:
        here = dataclasses.replace(watching, level=log_snr, k=LOOK)
        return real.each(
            lambda x, field, noise: here.score(x, field, lambda draw: noise(0, draw)),
            Plain(),
            f"log-SNR {log_snr:.2g}",
            progress,
            1,
        )

    level, curve = find_level(errors_at, candidates(real.model.denoiser.schedule), cut)
    if level is None:
        shown = ", ".join(f"{p.log_snr:.1f}: {p.ratio:.1f}" for p in curve)
        where = "already at the cleanest level" if curve and curve[0].ratio > cut else "nowhere"
        raise NoLevel(
            f"no level was found: the 99th percentile of the round-trip error is more than {cut:g} times its median {where} (log-SNR: "
            f"ratio {shown}); data without separate modes, such as most pictures, have none: give a level, RenoiseProbe(level=4) "
            "(--filter.level 4), or take ExcessError, which needs none"
        )
    return dataclasses.replace(watching, level=level), curve


def _walked(
    watching: Filter, walker: Sampler, tail: Sequence[Level], x: Tensor, field: Denoise, noise: Noise
) -> Tensor:
    """The scores of samples that are noised to the first level of a tail, and walked back along it."""
    x = tail[0].alpha * x + tail[0].sigma * noise(-1, 0)
    memory = watching.init(x, tail)
    for step in trajectory(walker, field, tail, x, noise):
        memory = watching.update(memory, dataclasses.replace(step, noise=apart(noise, 0)))
    return watching.verdict(memory).score
