"""What a filter is: it watches every step of a batch and gives its verdict at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.noise import Noise
from ..state import Denoise
from ..trajectory import Step

__all__ = ["Filter", "Sampling", "Scores", "Verdict", "apart", "at_end", "bounded", "check_verdict"]


class Verdict(NamedTuple):
    """keep: bool (B,). score: float (B,), what the verdict was read from. reasons: one text per sample, why it was rejected, ""
    where it was not; () leaves it to whoever asks."""

    keep: Tensor
    score: Tensor
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Sampling:
    """What is about to be sampled, for filters that hold for one model or one sampler only.

    sampler, guidance: as text (their repr). levels: that are walked along. model: tells the fingerprint of the weights.
    labelled: whether every picture has a label, or none has; None: some have, or the model knows no classes.
    """

    sampler: str
    guidance: str
    levels: Sequence[Level]
    model: Callable[[], str]
    labelled: bool | None = None


@runtime_checkable
class Filter(Protocol):
    """Watches a batch; a frozen dataclass that keeps what it has seen in a memory of batch-first tensors.

    It may ask `step.denoise` again; that is counted like all else. `step.noise(step.index, draw)` with draw in [0, 65,536) are
    Gaussians of its own: the sampler, and other filters, get others at the same address. A filter may have a method
    `check(sampling)`, which refuses what it was not made for (see Sampling) before the first evaluation, and a field
    `path: Schedule | None = None`, which is set to the model's schedule.
    """

    def init(self, x: Tensor, levels: Sequence[Level]) -> Any:
        """The memory before the first step, for a batch like x that will walk along levels."""
        ...

    def update(self, memory: Any, step: Step) -> Any:
        """The memory after a step."""
        ...

    def verdict(self, memory: Any) -> Verdict:
        """After the last step: which samples to keep."""
        ...


@runtime_checkable
class Scores(Protocol):
    """A filter that judges a finished picture, so that real ones can be judged too, and pictures of any other origin."""

    def score(self, x0: Tensor, denoise: Denoise, noise: Callable[[int], Tensor]) -> Tensor:
        """How unlikely each picture is to be one of the data, float (B,).

        Args:
            x0: (B, ...), in the units of the data.
            denoise: the model.
            noise: draw -> standard normals like x0.
        """
        ...


def at_end(judge: Scores, memory: Tensor, step: Step) -> Tensor:
    """The memory of a filter that judges finished pictures: untouched until the last step, then their scores.

    Args:
        judge: the filter.
        memory: so far.
        step: that has been made.

    Raises:
        ValueError: where it draws noise, and nobody gave any.
    """
    if not step.last:
        return memory
    source, index = step.noise, step.index

    def noise(draw: int) -> Tensor:
        if source is None:
            raise ValueError(f"{type(judge).__name__} draws noise; give trajectory(..., noise=...)")
        return source(index, draw)

    return judge.score(step.x / step.level.alpha, step.denoise, noise)


def bounded(score: Tensor, most: float, least: float = -math.inf) -> Verdict:
    """Keep what scores within [least, most]; nan is rejected.

    Args:
        score: float (B,).
        most, least: the ends.
    """
    score = score.detach().cpu()
    keep = (score <= most) & (score >= least)
    return Verdict(
        keep, score, ["" if k else _why(s, most, least) for s, k in zip(score.tolist(), keep.tolist(), strict=True)]
    )


def _why(score: float, most: float, least: float) -> str:
    if math.isnan(score):
        return "no number"
    return f"score {score:.4g} is above {most:.4g}" if score > most else f"score {score:.4g} is below {least:.4g}"


def apart(noise: Noise, place: int) -> Noise:
    """The noise source of the filter at a place: draws that neither the sampler nor another filter takes.

    Args:
        noise: of the sampler.
        place: among the filters, 0, 1, ...
    """
    return lambda step, draw: noise(step, (place + 1 << 16) + draw)


def check_verdict(judge: object, verdict: object, count: int) -> Verdict:
    """A verdict on `count` samples, on the host, with a reason for each that was rejected.

    Raises:
        ValueError: naming the filter and what it returned.
    """
    name = type(judge).__name__
    if not isinstance(verdict, Verdict):
        raise ValueError(f"{name}.verdict returned a {type(verdict).__name__}; it must return Verdict(keep, score)")
    for field, value in (("keep", verdict.keep), ("score", verdict.score)):
        if not isinstance(value, Tensor) or value.shape != (count,):
            shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name}.verdict returned {field} {shown}; it must be a tensor ({count},), one per sample")
    if verdict.keep.dtype != torch.bool:
        raise ValueError(f"{name}.verdict returned keep of {verdict.keep.dtype}; it must be torch.bool")
    keep, score, reasons = verdict.keep.cpu(), verdict.score.detach().float().cpu(), list(verdict.reasons)
    if reasons and len(reasons) != count:
        raise ValueError(f"{name}.verdict returned {len(reasons)} reasons for {count} samples; give one each, or ()")
    each = zip(score.tolist(), keep.tolist(), reasons or [""] * count, strict=True)
    own = type(getattr(judge, "filter", judge)).__name__  # a calibrated filter is known by its own name
    return Verdict(keep, score, ["" if k else f"{own}: {r or f'score {s:.4g}'}" for s, k, r in each])
