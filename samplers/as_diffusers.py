"""Our samplers as the scheduler of a diffusers pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schedules.diffusers_config import Process, read_config, read_process
from ..schedules.diffusers_defaults import complete
from ..schedules.grid import Grid
from ..schedules.grids import Trailing
from ..schedules.level import Level
from ..schedules.rows import X0, Eps, Flow, Row, V
from ..schedules.schedule import Schedule, entries
from .state import Sampler

if TYPE_CHECKING:
    from .diffusers_scheduler import SfumatoScheduler

__all__ = ["ROWS", "as_diffusers", "check_part"]

# prediction types by the names of diffusers
ROWS: dict[str, Row] = {"epsilon": Eps(), "sample": X0(), "v_prediction": V(), "flow_prediction": Flow()}


def as_diffusers(
    sampler: Sampler, schedule: Schedule | None = None, row: Row | str | None = None, grid: Grid | None = None, *,
    like: Mapping[str, Any] | str | Path | object | None = None, clock: Callable[[Level], object] | None = None,
) -> SfumatoScheduler:  # fmt: skip
    """A scheduler for `pipe.scheduler`, which walks exactly as `trajectory` does: the same bits, for one network and dtype.

    What diffusers calls a step is one evaluation of the network: `num_inference_steps` counts steps of the sampler, `timesteps` lists
    its evaluations. The pipeline starts from sigma times its noise (init_noise_sigma), as our own sampling does. Gaussians come from the
    pipeline's `generator`, one tensor per draw of a step. Half precision is walked in float32. Gradients are recorded where they are on.

    Args:
        sampler: any of ours, or yours. Not one that asks as often as the data wants (AdaptiveStep), or under a rule with branches.
        schedule: the path of the network. Give this, or `like`.
        like: the scheduler that the pipeline had, its config, or its folder: schedule and row are read from it.
        row: what the network's output means: a row, or "epsilon", "sample", "v_prediction", "flow_prediction"; None: that of `like`, else
            "epsilon".
        grid: None: Trailing(), from the noisiest entry whatever the number of steps.
        clock: level -> the number that the network is told; None: the entry's index on a table (see `network_time`).

    Raises:
        ValueError: for a part that is none, for neither or both of `schedule` and `like`, and what `Table.from_diffusers` refuses;
            by `set_timesteps`, for a sampler that a pipeline can't drive.
        PairingError: by `set_timesteps`, where the network would be asked at a level that its row says nothing about.
    """
    from .diffusers_scheduler import SfumatoScheduler

    if (schedule is None) == (like is None):
        given = "both" if like is not None else "neither"
        raise ValueError(
            f"as_diffusers got {given} of schedule and like; give one: the path of the network, or like=pipe.scheduler"
        )
    native: dict[str, Any] = {}
    if (
        like is not None
        and not isinstance(like, SfumatoScheduler)
        and read_config(like)[0] == SfumatoScheduler.__name__
    ):
        like = SfumatoScheduler.from_config({"_class_name": SfumatoScheduler.__name__, **read_config(like)[1]})
    if isinstance(like, SfumatoScheduler):
        schedule, row, clock = like.schedule, row or like.row, clock or like.clock
        native = {k: v for k, v in like.config.items() if not k.startswith("_") and k not in SfumatoScheduler.OWN}
    elif like is not None:
        process: Process = read_process(like, None)
        schedule, row = process.schedule, row or process.row
        # the keys that say on what path the network was trained stay, so that a scheduler of diffusers can be made of this one again
        native = complete(*read_config(like))
        native.pop("_class_name")
    assert schedule is not None
    native = native or _trained_betas(schedule)
    scheduler = SfumatoScheduler(sampler, schedule, row or "epsilon", grid or Trailing(), clock)
    scheduler.register_to_config(
        **{k: v for k, v in native.items() if k not in ("prediction_type", "num_train_timesteps")}
    )
    return scheduler


def _trained_betas(schedule: object) -> dict[str, Any]:
    """What tells a scheduler of diffusers about a table that preserves variance: its betas; nothing of another path."""
    if not isinstance(schedule, Schedule) or (count := entries(schedule)) is None:
        return {}
    levels = [schedule((i + 1) / count) for i in range(count)]
    if any(abs(level.alpha**2 + level.sigma**2 - 1) > 1e-9 for level in levels):
        return {}
    squares = [1.0, *(float(level.alpha) ** 2 for level in levels)]
    return {"trained_betas": [1.0 - b / a for a, b in itertools.pairwise(squares)]}


def check_part(name: str, value: object, wanted: type, example: str) -> Any:
    """The value, refused where it is no such part: a class instead of an instance, a name instead of an object.

    Raises:
        ValueError: naming the argument and the fix.
    """
    if isinstance(value, type):
        raise ValueError(f"{name} is the class {value.__name__}; give an instance, {value.__name__}()")
    if not isinstance(value, wanted):
        raise ValueError(f"{name} is {value!r}, which is no {wanted.__name__}; give an object, such as {example}")
    return value
