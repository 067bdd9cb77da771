"""The scheduler that a diffusers pipeline drives; the only file that imports diffusers."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils.outputs import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..schedules.grid import Grid, check_steps
from ..schedules.level import Level
from ..schedules.parts import build, describe
from ..schedules.plain_json import from_json, to_json
from ..schedules.rows import Row
from ..schedules.scalar import sqrt
from ..schedules.schedule import Schedule, entries
from .as_diffusers import ROWS, as_diffusers, check_part
from .evaluations import Evaluations
from .network_time import network_time
from .state import Sampler
from .timesteps import Timesteps
from .trajectory import Step

__all__ = ["SfumatoOutput", "SfumatoScheduler"]


@dataclass
class SfumatoOutput(BaseOutput):
    """What a step returns: prev_sample, where the network is asked next (at last the sample), and pred_original_sample, its x0."""

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None


class SfumatoScheduler(SchedulerMixin, ConfigMixin):
    """A sampler of ours as a scheduler of diffusers; made by `as_diffusers`.

    A pipeline that was saved with it loads again once this class has been imported: `from sfumato.samplers import SfumatoScheduler`.

    Args:
        sampler, schedule, row, grid, clock: see `as_diffusers`; objects, or their descriptions (class_path, init_args) as in the config.
        allow: packages whose classes the config may name, beside Sfumato's.

    Raises:
        ValueError: for a part that is none, or a class that is not allowed.
    """

    _compatibles = [e.name for e in KarrasDiffusionSchedulers]  # noqa: RUF012 (diffusers reads the attribute)
    OWN = frozenset({"sampler", "schedule", "row", "grid", "clock", "num_train_timesteps", "prediction_type"})

    def __init__(
        self, sampler: Any, schedule: Any, row: Any = "epsilon", grid: Any = None, clock: Any = None, allow: Sequence[str] = ()
    ) -> None:  # fmt: skip
        parts = {"sampler": sampler, "schedule": schedule, "row": row, "grid": grid, "clock": clock}
        parts = {k: build(from_json(v), allow, k) if isinstance(v, Mapping) else v for k, v in parts.items()}
        if isinstance(parts["row"], str):
            if parts["row"] not in ROWS:
                raise ValueError(f"row is {parts['row']!r}; allowed: {', '.join(ROWS)}, or a row such as V()")
            parts["row"] = ROWS[parts["row"]]
        self.sampler: Sampler = check_part("sampler", parts["sampler"], Sampler, "DPMSolverPP()")
        self.schedule: Schedule = check_part(
            "schedule", parts["schedule"], Schedule, "Table.from_diffusers(...).schedule"
        )
        self.row: Row = check_part("row", parts["row"], Row, "Eps()")
        self.grid: Grid = check_part("grid", parts["grid"], Grid, "Trailing()")
        self.clock = parts["clock"]
        if self.clock is not None and not callable(self.clock):
            raise ValueError(
                f"clock is {self.clock!r}; allowed: a function of the level, such as TimeClock(1000), or none"
            )
        self._time = network_time(self.schedule, self.row, self.clock)
        name = next((k for k, v in ROWS.items() if v == self.row), type(self.row).__name__)
        self.register_to_config(
            **{k: to_json(describe(v)) for k, v in parts.items()},
            num_train_timesteps=entries(self.schedule) or 1000, prediction_type=name, steps_offset=1, clip_sample=False,
        )  # fmt: skip
        self.num_inference_steps: int | None = None
        self.timesteps = torch.tensor([])
        self._walk: Evaluations | None = None
        self._begin_index: int | None = None
        self._step_index: int | None = None

    @classmethod
    def from_config(  # pyright: ignore[reportIncompatibleMethodOverride] (nothing here swallows keyword arguments)
        cls, config: Any = None, return_unused_kwargs: bool = False, sampler: Any = None, row: Any = None,
        grid: Any = None, clock: Any = None, allow: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """A scheduler from its own config, or from that of a diffusers scheduler together with a sampler.

        Args:
            config: of a SfumatoScheduler; or a scheduler of diffusers, or a config of one that names its class.
            return_unused_kwargs: whether to return a pair, with the config's keys that this class does not read.
            sampler, row, grid, clock: instead of the config's; see `as_diffusers`.
            allow: see the class.

        Raises:
            ValueError: for a config that names no sampler, where none is given.
        """
        given = {"sampler": sampler, "row": row, "grid": grid, "clock": clock}
        given = {k: v for k, v in given.items() if v is not None}
        if isinstance(config, Mapping) and "sampler" in config:
            return super().from_config(dict(config), return_unused_kwargs, allow=allow, **given)
        if sampler is None:
            raise ValueError(
                "the config is that of another scheduler, which says nothing about a sampler of ours; give one: "
                "as_diffusers(DPMSolverPP(), like=pipe.scheduler), or from_diffusers(pipe.scheduler) for its nearest equivalent"
            )
        made = as_diffusers(**given, like=config)
        return (made, {}) if return_unused_kwargs else made

    def __len__(self) -> int:
        return int(cast(Any, self.config).num_train_timesteps)

    @property
    def order(self) -> int:
        """Entries of `timesteps` per step: 2 for Heun; 1 where steps differ in their number of evaluations."""
        starts = self._walk.starts if self._walk else [0]
        each = starts[1] if len(starts) > 1 else 1
        return each if all(start == i * each for i, start in enumerate(starts)) else 1

    @property
    def init_noise_sigma(self) -> float:
        """What the starting noise is multiplied with: sigma where the network is asked first (of t = 1 before set_timesteps)."""
        return float(self._walk.asked[0].sigma if self._walk else self.schedule(1.0).sigma)

    @property
    def asked(self) -> list[tuple[Level, Level, Level, int]]:
        """Per entry of `timesteps`: the level at which the network is asked, where its step begins and ends, and the step's number.

        Raises:
            ValueError: before set_timesteps.
        """
        walk = self._ready("asked")
        steps = [i for i, (a, b) in enumerate(itertools.pairwise([*walk.starts, len(walk.asked)])) for _ in range(a, b)]
        return [(level, walk.levels[i], walk.levels[i + 1], i) for level, i in zip(walk.asked, steps, strict=True)]

    @property
    def step_index(self) -> int | None:
        """Which entry of `timesteps` is next; None before the first step."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Where in `timesteps` the pipeline begins; None: by the timestep of the first step."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at an entry of `timesteps`, which must be one where a step begins.

        Raises:
            ValueError: for an index outside, within a step, or from which the sampler would ask at other levels.
        """
        self._ready("set_begin_index").begins(begin_index)
        self._begin_index = begin_index

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Make the levels, and the list of evaluations: `timesteps`, whole numbers where all of them are entries of a table.

        Args:
            num_inference_steps: steps of the sampler, >= 1.
            device: where `timesteps` shall be.

        Raises:
            ValueError: for another number, a grid that does not fit, or a sampler that a pipeline can't drive.
            PairingError: for a level at which the row says nothing.
        """
        try:
            steps = check_steps(operator.index(num_inference_steps) if num_inference_steps is not True else -1)
        except (TypeError, ValueError):
            raise ValueError(
                f"num_inference_steps is {num_inference_steps!r}; allowed: a whole number from 1 to 100000"
            ) from None
        self._walk = Evaluations(self.sampler, self.schedule, self.row, self.grid(self.schedule, steps))
        self.num_inference_steps, self._begin_index, self._step_index = steps, None, None
        self._times = Timesteps([self._time(level) for level in self._walk.asked], self._walk.starts)
        self.timesteps = self._times.tensor(device)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """What the network is fed: the sample itself, or divided by sqrt(alpha^2 d^2 + sigma^2) for a row with a data std d (EDM)."""
        if self.row.input_std is None:
            return sample
        level = self._here(timestep)
        return sample / float(sqrt((self.row.input_std * level.alpha) ** 2 + level.sigma**2))

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None, eta: float = 0.0,
        use_clipped_model_output: bool | None = None, return_dict: bool = True,
    ) -> SfumatoOutput | tuple[Tensor, Tensor]:  # fmt: skip
        """Take one answer of the network.

        Args:
            model_output: (B, C, ...), or with twice the channels, the second half a learned variance. A sampler that remembers keeps it: a
                network that answers in one buffer again and again gives a copy.
            timestep: the entry of `timesteps` that the network was told.
            sample: (B, C, ...), where the network was asked. It may have been changed since it was returned (inpainting, callbacks;
                in inference mode, where nothing counts writes, into a new tensor).
            generator: one, or one per sample; each draw of a step takes one tensor of normals from it.
            eta: 0, or that of the sampler: the share of new noise is the sampler's own.
            use_clipped_model_output: what DDIMPipeline passes; clipping is a sampler here, so false.
            return_dict: whether to return an object, or the tuple of its two tensors.

        Raises:
            ValueError: before set_timesteps, after the last evaluation, for tensors of other shapes, for another eta, and for a timestep
                that is not the next one.
            FloatingPointError: in the last step, for a sample that is not finite.
        """
        walk = self._ready("step")
        if use_clipped_model_output:
            raise ValueError(
                f"use_clipped_model_output is true; allowed: false, with the sampler Clipped({self.sampler})"
            )
        if eta not in (0, _eta(self.sampler)):
            raise ValueError(
                f"eta is {eta}, the sampler is {self.sampler}; make it with that eta, such as DDIM(eta={eta})"
            )
        index = self._step_index
        if index is None:
            index = self._times.find(timestep) if self._begin_index is None else self._begin_index
        if index >= len(walk.asked):
            raise ValueError(
                f"step was called after the last of {len(walk.asked)} evaluations; call set_timesteps before the next sample"
            )
        self._times.check(timestep, index)
        if isinstance(generator, list) and len(generator) not in (1, len(sample)):
            raise ValueError(
                f"generator is a list of {len(generator)}, the batch has {len(sample)}; allowed: one, or one per sample"
            )

        def normals(like: Tensor) -> Tensor:
            return randn_tensor(tuple(like.shape), generator=generator, device=like.device, dtype=like.dtype)

        x, x0 = walk.answer(index, sample, model_output, normals)
        self._step_index = index + 1
        return SfumatoOutput(x, x0) if return_dict else (x, x0)

    def made(self, latents: Tensor | None = None) -> Step | None:
        """The sampler's step that the last evaluation ended, for who watches; None where it ended none (Heun's first of two).

        Args:
            latents: where the pipeline stands now, for it may have changed what it was given (inpainting); None: it has not.

        Raises:
            ValueError: for latents of another shape.
        """
        return None if self._walk is None else self._walk.step(latents)

    @property
    def levels(self) -> list[Level]:
        """The levels that the walk under way goes along, from where it began to data; before its first evaluation, all.

        Raises:
            ValueError: before set_timesteps.
        """
        walk = self._ready("levels")
        return list(walk.levels[walk.begun :])

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha x0 + sigma noise, at the levels of some timesteps.

        After set_begin_index the level is that of the begin index, and in the loop that of the next evaluation, whatever `timesteps` says
        (two evaluations may share a timestep). Otherwise `timesteps` (B,) are looked up: in the list, or among the table's entries.
        """
        if noise.shape != original_samples.shape:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, original_samples {tuple(original_samples.shape)}; allowed: the same"
            )
        alpha, sigma = self._numbers(timesteps, original_samples)
        return alpha * original_samples + sigma * noise

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = alpha noise - sigma x0, the target of v-prediction; see add_noise."""
        alpha, sigma = self._numbers(timesteps, sample)
        return alpha * noise - sigma * sample

    def _ready(self, name: str) -> Evaluations:
        if self._walk is None:
            raise ValueError(f"{name} was called before set_timesteps; call set_timesteps(num_inference_steps) first")
        return self._walk

    def _here(self, timestep: Any) -> Level:
        """The level of the evaluation under way."""
        walk = self._ready("scale_model_input")
        index = self._begin_index if self._step_index is None else self._step_index
        return walk.asked[self._times.find(timestep) if index is None else min(index, len(walk.asked) - 1)]

    def _numbers(self, timesteps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma per sample, to multiply x with."""
        if self._begin_index is not None:
            levels = [self._here(None)]
        else:
            count = entries(self.schedule)
            times = torch.as_tensor(timesteps).flatten().tolist()
            levels = [
                self._walk.asked[self._times.find(t)] if count is None and self._walk else self._entry(t) for t in times
            ]
        if len(levels) not in (1, len(x)):
            raise ValueError(f"timesteps holds {len(levels)} for a batch of {len(x)}; allowed: one, or one per sample")
        pair = (
            torch.tensor([[level.alpha, level.sigma] for level in levels], dtype=torch.float64).to(x.dtype).to(x.device)
        )
        alpha, sigma = (v.view(-1, *[1] * (x.ndim - 1)) for v in pair.unbind(1))
        return alpha, sigma

    def _entry(self, index: float) -> Level:
        """The level of an entry of the table, or between two."""
        count = entries(self.schedule)
        if count is None or not 0 <= index <= count - 1:
            known = "call set_timesteps first" if count is None else f"allowed: 0 to {count - 1}"
            raise ValueError(f"timesteps holds {index:.6g}; {known}")
        return self.schedule((index + 1) / count)


def _eta(sampler: object) -> float:
    """The share of new noise of a sampler, or of the one that it is around."""
    inner = getattr(sampler, "sampler", None)
    return getattr(sampler, "eta", 0.0) if inner is None else _eta(inner)
