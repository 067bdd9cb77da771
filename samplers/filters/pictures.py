"""Finished pictures, wherever they come from, before the filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.noise import Noise, check_seeds, gaussian
from ...schedules.prediction import Prediction
from ..state import Denoise
from ..trajectory import Step
from .calibration import Calibrated
from .filter import Filter, Sampling, Scores, Verdict, apart, check_verdict

__all__ = ["Seen", "check_for", "judge_pictures", "noise_of", "together", "told", "unknown"]

_DATA = Level(0.0, 1.0, 0.0)


class Seen(NamedTuple):
    """What filters say of a batch: keep, bool (B,) on the host, what all of them keep; verdicts: one per filter, in their order."""

    keep: Tensor
    verdicts: tuple[Verdict, ...]


@torch.no_grad()
def judge_pictures(
    filters: Filter | Sequence[Filter], x0: Tensor, denoise: Denoise | None = None, *,
    seeds: int | Sequence[int] | Tensor = 0, model: Callable[[], str] | None = None,
) -> Seen:  # fmt: skip
    """What filters that look at nothing but the finished picture say of pictures or latents, such as a pipeline returned.

    Args:
        filters: with a method `score` (see Scores): RenoiseProbe, Judged, or Calibrated ones of them.
        x0: (B, ...), in the units of what the model was trained on: pictures in [-1, 1], or latents as the network makes them.
        denoise: the model, without guidance (see network_denoise); None: for filters that ask none.
        seeds: of the noise that a filter adds; one number: all pictures get the same, so that a verdict depends on the picture alone.
        model: tells the fingerprint of the weights, which Calibrated filters hold for: `lambda: fingerprint(unet)`.

    Raises:
        ValueError: for a filter that watches trajectories, pictures of whole numbers, seeds that are no such, a filter that asks the
            model where none is given, and what a filter refuses.
    """
    filters = [filters] if isinstance(filters, Filter) else list(filters)
    for each in filters:
        if isinstance(each, type) or not isinstance(each, Filter):
            raise ValueError(f"filters hold {each!r}; allowed: filters, such as RenoiseProbe(level=4.0)")
        own = each.filter if isinstance(each, Calibrated) else each
        if not isinstance(own, Scores):
            raise ValueError(
                f"{type(own).__name__} watches a trajectory, and these pictures are finished; give it to FilterCallback, or to Model.sample"
            )
    if not x0.is_floating_point():
        raise ValueError(f"x0 is {x0.dtype}; allowed: a floating dtype, pictures in [-1, 1] or latents")
    check_for(filters, Sampling("", "", (), told(model)))
    source, found = noise_of(seeds, x0), []
    for place, each in enumerate(filters):
        step = Step(
            0, True, _DATA, _DATA, x0, Prediction.pair(x0, torch.zeros_like(x0)), denoise or unknown,
            apart(source, place),
        )  # fmt: skip
        found.append(check_verdict(each, each.verdict(each.update(each.init(x0, (_DATA, _DATA)), step)), len(x0)))
    return together(found, len(x0))


def noise_of(seeds: int | Sequence[int] | Tensor, x: Tensor) -> Noise:
    """Normals like x: of one seed for all samples, or of one for each.

    Raises:
        ValueError: for seeds out of range, or not one per sample.
    """
    same = isinstance(seeds, int)
    known = check_seeds([seeds] if same else seeds)
    if not same and len(known) != len(x):
        raise ValueError(f"seeds holds {len(known)} for a batch of {len(x)}; allowed: one number for all, or one each")
    known = known.to(x.device)
    return lambda step, draw: gaussian(known, 0, step, draw, x.shape[1:], x.dtype).expand_as(x)


def check_for(filters: Sequence[Filter], sampling: Sampling) -> None:
    """Let every filter refuse what it was not made for (ValueError)."""
    for each in filters:
        check = getattr(each, "check", None)
        if check is not None:
            check(sampling)


def together(verdicts: Sequence[Verdict], count: int) -> Seen:
    """What all filters keep of `count` samples."""
    keep = torch.ones(count, dtype=torch.bool)
    for verdict in verdicts:
        keep &= verdict.keep
    return Seen(keep, tuple(verdicts))


def unknown(x: Tensor, level: Level) -> Prediction:
    """Stands for a model that was not given."""
    raise ValueError(
        "a filter asks the model, and none is given; give denoise, such as network_denoise(lambda x, t: unet(x, t).sample, pipe.scheduler)"
    )


def told(model: Callable[[], str] | None) -> Callable[[], str]:
    """Who tells the fingerprint of the weights; where it was not given, a refusal."""

    def refuse() -> str:
        raise ValueError(
            "a calibrated filter holds for the weights that it was calibrated on; say which these are: model=lambda: fingerprint(unet), "
            "with fingerprint of sfumato.diffusion, as the calibration has it"
        )

    return model or refuse
