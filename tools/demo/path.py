"""One sample's path from noise to data: what was believed at each step, as pictures and as numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from ...diffusion import Model, Samples
from ...guidance import Plain, for_picture
from ...samplers import on_path
from ...samplers.filters import Calibrated
from ...samplers.refill import Glimpse, addressed
from ...schedules import Level
from ...schedules.parts import describe
from .form import Asked
from .path_pictures import address, smaller
from .path_scores import Statistic, Statistics
from .preview import Preview
from .pull import Observed, Pull

__all__ = ["Path", "Shot", "decided", "one_of", "walk"]


@dataclass(frozen=True)
class Shot:
    """A place on the path: where a step began, or, the last one, the finished picture.

    index: 0, 1, ...; as many as there are steps for the finished picture. level: there. x0: what was believed there. x: the noisy state
    that it was believed of, scaled to unit variance. addresses: of both, as text within the page. size: root mean square of x0. change: how
    far x0 is from the one before it, root mean square; None: there is none. pull: of the guidance; None: none was asked for. evaluations:
    of the network, this step's included.
    """

    index: int
    level: Level
    x0: Image.Image
    x: Image.Image
    addresses: tuple[str, str]
    size: float
    change: float | None
    pull: Pull | None
    evaluations: int


@dataclass
class Path:
    """A path, complete or on its way.

    name: what sets it apart. steps: in all. shots: so far. scores: what filters said. left: per shot how far its x0 is from the finished
    picture, as a share of that picture's root mean square; when it is finished. samples: what sampling returned, then. seconds: it took.
    """

    name: str
    steps: int
    shots: list[Shot] = field(default_factory=list)
    scores: list[Statistic] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    samples: Samples | None = None
    seconds: float = 0.0

    @property
    def evaluations(self) -> int:
        """Of the network, so far."""
        return self.shots[-1].evaluations if self.shots else 0


def one_of(asked: Asked, seed: int | None = None) -> Asked:
    """What is asked for, of one picture alone, and only once: its first attempt, whatever filters say of it.

    Args:
        asked: of the form.
        seed: of the picture; where the form asks for that seed, everything is as it is there, else as for its first picture. None: its
            first picture.
    """
    at = asked.seeds.index(seed) if seed in asked.seeds else 0
    return replace(
        asked, seeds=(asked.seeds[0] if seed is None else seed,), retries=0, mark=True,
        labels=None if asked.labels is None else [asked.labels[at]], prompts=None if asked.prompts is None else [asked.prompts[at]],
        also=None if asked.also is None else {name: [its[at]] for name, its in asked.also.items()},
        sampler=for_picture(asked.sampler, at), guidance=for_picture(asked.guidance, at),
    )  # fmt: skip


def walk(
    model: Model, one: Asked, path: Path, preview: Preview, side: int, say: Callable[[Path], object], plain: bool = False
) -> Path:  # fmt: skip
    """Walk a sample and fill its path in.

    The picture at the end is, bit for bit, that of `model.sample` for the same arguments: nothing but watching is added.

    Args:
        model: that is sampled.
        one: what is asked for, of one picture; see `one_of`.
        path: that is filled in.
        preview: how the model's x0 is looked at.
        side: of the pictures, in pixels, at most.
        say: told after every step; an exception in it ends the walk.
        plain: without guidance, whatever is asked for.

    Raises:
        ValueError, FloatingPointError: of `model.sample`.
    """
    if plain and not isinstance(one.guidance, Plain):  # thresholds that were found with guidance hold for no other
        kept = [f for f in one.filters if not (isinstance(f, Calibrated) and f.calibration.sampler is not None)]  # pyright: ignore[reportAttributeAccessIssue]
        one = replace(one, guidance=Plain(), filters=kept, weak=None, also=None)
    observed = None if isinstance(one.guidance, Plain) else Observed(one.guidance)
    preview.begin(model)
    watcher = _Watcher(model, one, path, preview, side, observed)
    began = time.perf_counter()

    def watch(glimpse: Glimpse) -> None:
        watcher.see(glimpse)
        path.seconds = time.perf_counter() - began
        say(path)

    given = one.arguments() if observed is None else replace(one, guidance=observed).arguments()
    samples = model.sample(
        **{"batch": 1, **given}, watch=watch
    )  # strict batches have a size of their own, and repeats in them
    path.seconds = time.perf_counter() - began
    path.samples = replace(samples, settings={**samples.settings, "guidance": describe(one.guidance)})
    watcher.finish(samples)
    return path


def decided(path: Path, share: float = 0.1) -> int | None:
    """The first shot from which on x0 stays within a share of the finished picture, as `Path.left` has it; None before the end.

    Args:
        path: that was walked.
        share: of the picture's root mean square.
    """
    if not path.left:
        return None
    outside = [i for i, left in enumerate(path.left) if not left <= share]
    return outside[-1] + 1 if outside else 0


class _Watcher:
    """Writes down what is seen."""

    def __init__(
        self, model: Model, one: Asked, path: Path, preview: Preview, side: int, observed: Observed | None
    ) -> None:
        self._path, self._preview, self._side, self._observed = path, preview, side, observed
        levels = one.grid(model.denoiser.schedule, one.steps)
        self._statistics = Statistics(on_path(tuple(one.filters), model.denoiser.schedule), levels)
        seeds = torch.tensor(one.seeds, dtype=torch.int64)
        noise = addressed(seeds, torch.zeros_like(seeds), model.shape, device=model.device)
        # the very x that the sampler begins with
        self._before = levels[0].sigma * noise(-1, 0)
        # of each x0 half of its digits: enough for how far it is from the end
        self._x0s: list[Tensor] = []
        self._previous: Tensor | None = None
        self._last: Level = levels[0]
        path.scores = self._statistics.all

    def see(self, glimpse: Glimpse) -> None:
        step, x0 = glimpse.step, glimpse.x0
        self._statistics.see(step, step.x)
        pull = None if self._observed is None else self._observed.pulls.get(step.index)
        spent = int(glimpse.spent[0].sum())
        x = self._before / math.hypot(step.now.alpha, step.now.sigma)
        shown, noisy = (smaller(self._preview(each, self._side), self._side) for each in (x0, x))
        self._add(step.now, x0[0], shown, noisy, pull, spent)
        self._before, self._last = step.x[:1].clone(), step.level

    def finish(self, samples: Samples) -> None:
        """The picture is there."""
        path, end = self._path, self._before / self._last.alpha
        # of latents with a decoder what it makes of them, which no preview shows so well
        shown = smaller(self._preview.finished(samples.images), self._side)
        self._add(self._last, end[0], shown, shown, None, path.evaluations)
        last = self._x0s[-1].float()
        path.left = [_rms(x0.float() - last) / max(_rms(last), 1e-12) for x0 in self._x0s]
        for known, score in zip(path.scores, samples.scores, strict=True):
            known.score = float(score[0])
        reason = samples.reasons[0]
        for known in path.scores:
            least, most = known.bounds
            known.kept = known.score is not None and least <= known.score <= most
            known.reason = reason if not known.kept else ""

    def _add(
        self, level: Level, x0: Tensor, shown: Image.Image, x: Image.Image, pull: Pull | None, evaluations: int
    ) -> None:
        now = x0.detach().float().cpu()
        change = None if self._previous is None else _rms(now - self._previous)
        self._previous = now
        self._x0s.append(now.half())
        at = Level(*(float(v) for v in level))
        both = address(shown), address(x)
        self._path.shots.append(Shot(len(self._path.shots), at, shown, x, both, _rms(now), change, pull, evaluations))


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
