"""Levels that are not on the grid: a method that asks between its points, or above them, has to know the path."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar, cast

from ..schedules.level import Level
from ..schedules.scalar import Number, log
from ..schedules.schedule import Schedule

__all__ = ["at_ratio", "known", "on_path", "plain"]

S = TypeVar("S")


def on_path(sampler: S, schedule: Schedule) -> S:
    """The sampler with its field `path: Schedule | None`, and those of the parts in it, set to a schedule where they are None.

    `Model.sample` does this with the schedule of its network; who calls `trajectory` alone gives `path` to the sampler.

    Args:
        sampler: any; one without such a field is returned as it is.
        schedule: the path that the levels lie on.
    """
    if isinstance(sampler, tuple):
        parts = [on_path(part, schedule) for part in sampler]
        return sampler if all(a is b for a, b in zip(parts, sampler, strict=True)) else cast(S, tuple(parts))
    if not dataclasses.is_dataclass(sampler) or isinstance(sampler, type):
        return sampler
    changed = {}
    for f in dataclasses.fields(sampler):
        if not f.init:
            continue
        value = getattr(sampler, f.name)
        wanted = (
            schedule if f.name == "path" and value is None and "Schedule" in str(f.type) else on_path(value, schedule)
        )
        if wanted is not value:
            changed[f.name] = wanted
    return dataclasses.replace(sampler, **changed) if changed else sampler


def plain(sampler: object, *levels: Level) -> None:
    """Refuse levels per sample or per element.

    Raises:
        ValueError: naming the sampler and those that take them.
    """
    if not all(level.is_scalar for level in levels):
        raise ValueError(
            f"{type(sampler).__name__} needs one noise level per step, and these are per sample or per element; "
            "use DDIM, DDPM, Euler or Heun, which remember nothing"
        )


def known(path: Schedule | None, sampler: object, *levels: Level) -> Schedule:
    """The path of a sampler, refused where it has none, or where the alpha and sigma of a level are not of it.

    Raises:
        ValueError: naming the sampler and the fix.
    """
    name = type(sampler).__name__
    if path is None:
        raise ValueError(
            f"{name} asks the network between the levels of its grid and needs to know their path; give it the schedule, "
            f"{name}(..., path=Cosine()) (a model's own `sample` does that by itself)"
        )
    for level in levels:
        here = path.at_log_snr(level.log_snr)
        size = math.hypot(level.alpha, level.sigma)
        if abs(here.alpha - level.alpha) > 1e-6 * size or abs(here.sigma - level.sigma) > 1e-6 * size:
            raise ValueError(
                f"{name}.path is {path}, but the level (alpha {level.alpha:.6g}, sigma {level.sigma:.6g}) does not lie on it: at that "
                f"log-SNR it has alpha {here.alpha:.6g}, sigma {here.sigma:.6g}; give the schedule that the levels were made of"
            )
    return path


def at_ratio(path: Schedule, ratio: Number) -> Level:
    """The level of a path whose sigma / alpha is `ratio`, in (0, inf]."""
    return path.at_log_snr(-2.0 * log(ratio))
