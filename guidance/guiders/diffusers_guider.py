"""The guider that a modular pipeline of diffusers asks; the only file here that imports diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor

from ...schedules.parts import build, describe
from ...schedules.plain_json import from_json, to_json
from ..ask import Branch, Guidance
from ..field import Field
from ..space import check_levels
from .course import read_row
from .guided_output import answer, fed, nobody
from .loop import Loop
from .probe import may_ask, offer, stand_in, would_ask

__all__ = ["SfumatoGuider"]


class SfumatoGuider(BaseGuidance):
    """A guidance rule of ours as a guider of diffusers; made by `as_guider`.

    It is saved by `save_pretrained(folder)`, as a guider_config.json, and loaded by
    `SfumatoGuider.from_pretrained(folder, scheduler=pipe.scheduler)`.

    Args:
        rule, scheduler, start, stop: see `as_guider`. The rule may be a description (class_path, init_args), as in the config.
        enabled: whether it guides at all; pipelines set this themselves.
        allow: packages whose classes the config may name, beside Sfumato's.

    Raises:
        ValueError: for what is no rule, a class that is not allowed, and what `as_guider` refuses.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # noqa: RUF012 (diffusers reads the attribute)
    _NAMES = {"cond": "pred_cond", "ref": "pred_uncond"}  # noqa: RUF012

    def __init__(
        self, rule: Any = None, scheduler: object | None = None, start: float = 0.0, stop: float = 1.0, enabled: bool = True,
        allow: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(start, stop, enabled)
        if isinstance(rule, Mapping):
            rule = build(from_json(rule), allow, "rule")
        if isinstance(rule, type) or not isinstance(rule, Guidance):
            raise ValueError(
                f"rule is {rule!r}; allowed: a guidance rule, such as CFG(5.0) or Interval(CFG(5.0), 0.28, 5.42)"
            )
        self.register_to_config(rule=to_json(describe(rule)), start=start, stop=stop, enabled=enabled)
        self.rule: Guidance = rule
        self._ever = may_ask(rule)
        self.scheduler = scheduler
        self._handle: Any = None
        self._loop: Loop | None = None
        self._field: Field | None = None
        self._size, self._open = 1, False
        self._x: Tensor | None = None  # what the network is fed
        self._like: Tensor | None = None  # and was, in the evaluation before
        self._running: tuple[str, ...] | None = None

    @classmethod
    def from_config(  # pyright: ignore[reportIncompatibleMethodOverride] (nothing here swallows keyword arguments)
        cls, config: Any = None, return_unused_kwargs: bool = False, rule: Any = None, scheduler: object | None = None,
        start: float | None = None, stop: float | None = None, enabled: bool | None = None, allow: Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """A guider of a config. Packages and the scheduler are only ever the caller's: a config can't allow itself anything.

        Args:
            config: of a guider.
            return_unused_kwargs: whether to return a pair, with the config's keys that this class does not read.
            rule, start, stop, enabled: instead of the config's.
            scheduler, allow: see the class.

        Raises:
            ValueError: see the class.
        """
        given = {"rule": rule, "start": start, "stop": stop, "enabled": enabled}
        given = {k: v for k, v in given.items() if v is not None}
        return super().from_config(config, return_unused_kwargs, scheduler=scheduler, allow=allow, **given)

    @property
    def scheduler(self) -> object | None:
        """The pipeline's scheduler, which knows the noise levels. It is not part of the config."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: object | None) -> None:
        if scheduler is not None:
            read_row(scheduler)  # refuses what it can't read
        self._scheduler = scheduler

    def new(  # pyright: ignore[reportIncompatibleMethodOverride] (nothing here swallows keyword arguments)
        self, rule: Any = None, scheduler: object | None = None, start: float | None = None, stop: float | None = None,
        enabled: bool | None = None,
    ) -> SfumatoGuider:  # fmt: skip
        """Another guider like this one, without its memory; what is given replaces its own."""
        return SfumatoGuider(
            self.rule if rule is None else rule,
            self.scheduler if scheduler is None else scheduler,
            self._start if start is None else start,
            self._stop if stop is None else stop,
            self._enabled if enabled is None else enabled,
        )

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """An evaluation begins: number `step` of the pipeline's loop. Where that count does not go on, memory starts anew.

        Raises:
            ValueError: for a timestep that is not the scheduler's, and a scheduler that can't be read.
            PairingError: for a level at which the rule's space says nothing.
        """
        if self._loop is None or step <= self._loop.step:
            self._field, self._loop = None, Loop(self.scheduler, step, num_inference_steps, timestep)
            check_levels(self.rule, self._loop.guided(self._start, self._stop))
        else:
            self._loop.go_on(step, timestep)
        super().set_state(step, num_inference_steps, timestep)
        self._x, self._running, self._open = None, None, True
        if self._field is not None:
            self._loop.begin(self._field)

    def _guiding(self) -> Loop | None:
        """The loop, where the rule guides now."""
        if self._loop is None:
            raise ValueError("the guider was asked outside of a loop; call set_state(...) before each evaluation")
        return self._loop if self._enabled and self._loop.within(self._start, self._stop) else None

    def _new_field(self, loop: Loop, size: int) -> Field:
        return loop.begin(Field(offer(Branch(nobody), Branch(nobody)), self.rule, size))

    def _decide(self, size: int) -> tuple[str, ...]:
        """Which of "cond" and "ref" run in this evaluation: asked of the rule itself, before they do."""
        loop = self._guiding()
        if loop is None:
            return ("cond",)
        if self._field is None or self._like is None:
            asked = would_ask(self._new_field(loop, size), stand_in(size), loop.place.level)
        else:
            asked = would_ask(self._field, self._like, loop.place.level)
        return tuple(name for name in self._NAMES if name in asked)

    @property
    def num_conditions(self) -> int:
        """Branches in the evaluation under way; outside of one (or after one that was broken off) 2 where the rule may ever ask both."""
        if not self._enabled:
            return 1
        if not self._open or self._handle is not None:
            return 2 if "ref" in self._ever else 1  # pipelines ask before they encode the negative prompt
        return len(self._running or self._decide(self._size))

    @property
    def is_conditional(self) -> bool:
        """Whether the branch that was prepared last is the conditional one."""
        names = self._running or tuple(self._NAMES)
        return 0 < self._count_prepared <= len(names) and names[self._count_prepared - 1] == "cond"

    def prepare_inputs(self, data: Any) -> list[Any]:
        """The inputs of the branches that run: {name: (conditional, unconditional)} to one batch per branch.

        Raises:
            ValueError: where the unconditional branch runs and there are no inputs for it; and what the rule refuses.
        """
        pairs = [pair for pair in data.values() if isinstance(pair, tuple)]
        return [self._prepare_batch(data, i, name) for i, name in self._branches(pairs)]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, str | tuple[str, str]]) -> list[Any]:
        """The same of a pipeline's state, whose fields `input_fields` names: {name: field, or (conditional, unconditional) fields}."""
        pairs = [
            tuple(getattr(data, v, None) for v in pair) for pair in input_fields.values() if isinstance(pair, tuple)
        ]
        return [self._prepare_batch_from_block_state(input_fields, data, i, name) for i, name in self._branches(pairs)]

    def _branches(self, pairs: Sequence[tuple[Any, ...]]) -> list[tuple[int, str]]:
        """Place in the pairs, and name, of the branches that run."""
        self._size = next((len(v) for pair in pairs for v in pair if isinstance(v, Tensor)), 1)
        self._open = False  # unless all is well
        running = self._decide(self._size)
        there = any(pair[0] is not None for pair in pairs)
        if "ref" in running and there and all(pair[1] is None for pair in pairs):
            raise ValueError(
                f"{self.rule} asks the unconditional branch, and the pipeline has encoded no negative prompt; pass one, '' will do"
            )
        self._running, self._open = running, True
        return [(i, self._NAMES[name]) for i, name in enumerate(self._NAMES) if name in running]

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Hear what the denoiser is fed: rules in the space of the data need it."""
        super().prepare_models(denoiser)
        self.cleanup_models(denoiser)
        self._handle = denoiser.register_forward_pre_hook(self._hear, with_kwargs=True)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """Hear no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _hear(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._x is None:
            self._x = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))

    def forward(self, pred_cond: Tensor | None = None, pred_uncond: Tensor | None = None) -> GuiderOutput:
        """The guided output, of the outputs of the branches that ran, (B, C, ...) each.

        Raises:
            ValueError: where the network's input was not heard; and what the rule refuses.
        """
        out, loop = pred_cond, self._guiding()
        if loop is not None:
            said = pred_cond if pred_cond is not None else pred_uncond
            if not isinstance(self._x, Tensor) or said is None:
                raise ValueError("the guider heard no network; call prepare_models(denoiser) before the denoiser runs")
            x = fed(self._x, said)
            x = x if x.dtype == torch.float64 else x.float()  # half precision is guided in float32
            if self._field is None:
                self._field = self._new_field(loop, len(x))
            out, self._like = answer(self._field, loop.place, loop.row, x, pred_cond, pred_uncond), x
            if loop.ends:  # of no more use, and perhaps large
                self._field, self._like, self._x = None, None, None
        self._running, self._open = None, False
        return GuiderOutput(pred=out, pred_cond=pred_cond, pred_uncond=pred_uncond)
