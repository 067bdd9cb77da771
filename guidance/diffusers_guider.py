"""The guider that a modular pipeline of diffusers asks; the only file here that imports diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor

from ..schedules.parts import build, describe
from ..schedules.plain_json import from_json, to_json
from ..schedules.rows import Row
from .ask import Branch, Guidance
from .course import Course, Place, read_course, read_row
from .field import Field
from .guided_output import answer, fed, nobody
from .probe import may_ask, offer, stand_in, would_ask
from .space import check_levels
from .unknown import UnknownLevel, UnknownRow

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
        self._course: Course | None = None
        self._field: Field | None = None
        self._offset, self._size, self._open = 0, 1, False
        self._x: Tensor | None = None  # what the network is fed
        self._like: Tensor | None = None  # and was, in the evaluation before
        self._running: tuple[str, ...] | None = None

    @property
    def scheduler(self) -> object | None:
        """The pipeline's scheduler, which knows the noise levels. It is not part of the config."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: object | None) -> None:
        self._row: Row = UnknownRow() if scheduler is None else read_row(scheduler)
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
            ValueError: for a timestep that the scheduler has not, and a scheduler that can't be read.
            PairingError: for a level at which the rule's space says nothing.
        """
        fresh = self._step is None or step <= self._step
        super().set_state(step, num_inference_steps, timestep)
        self._x, self._running, self._open = None, None, True
        if fresh:
            self._field, self._course, self._offset = None, None, 0
        if fresh and self.scheduler is not None:
            course = read_course(self.scheduler)
            self._offset = course.find(timestep, getattr(self.scheduler, "begin_index", None)) - step
            check_levels(self.rule, [p.level for p in course.places[self._offset + step :] if self._within(course, p)])
            self._course = course
        elif self._course is not None:
            self._course.check(timestep, self._offset + step)
        place = self._place()
        if self._field is not None and self._field.step != place.step:
            self._begin(self._field, place)

    def _place(self) -> Place:
        """The evaluation under way."""
        if self._course is None:
            return Place(UnknownLevel(), UnknownLevel(), UnknownLevel(), self._step)
        return self._course.places[self._offset + self._step]

    def _within(self, course: Course | None, place: Place) -> bool:
        """Whether a place's step begins within start and stop, fractions of the evaluations of this loop."""
        count, i = self._num_inference_steps, self._step
        if course is not None:
            first = next(i for i, other in enumerate(course.places) if other.step == place.step)
            count, i = len(course.places) - self._offset, max(first - self._offset, 0)
        return int(self._start * count) <= i and (self._stop == 1.0 or i < int(self._stop * count))

    def _begin(self, field: Field, place: Place) -> Field:
        field.begin(place.now, place.nxt)
        field.step = place.step - (0 if self._course is None else self._course.places[self._offset].step)
        return field

    def _guides(self) -> bool:
        return self._enabled and self._within(self._course, self._place())

    def _decide(self, size: int) -> tuple[str, ...]:
        """Which of "cond" and "ref" run in this evaluation: asked of the rule itself, before they do."""
        if not self._guides():
            return ("cond",)
        if self._field is None or self._like is None:
            trial = self._begin(Field(offer(Branch(nobody), Branch(nobody)), self.rule, size), self._place())
            asked = would_ask(trial, stand_in(size), self._place().level)
        else:
            asked = would_ask(self._field, self._like, self._place().level)
        return tuple(name for name in self._NAMES if name in asked)

    @property
    def num_conditions(self) -> int:
        """Branches in the evaluation under way; outside of one 2 where the rule may ever ask the unconditional branch."""
        if not self._enabled:
            return 1
        if self._running is None and not self._open:
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
        self._running = self._decide(self._size)
        there = any(pair[0] is not None for pair in pairs)
        if "ref" in self._running and there and all(pair[1] is None for pair in pairs):
            raise ValueError(
                f"{self.rule} asks the unconditional branch, and the pipeline has encoded no negative prompt; pass one, '' will do"
            )
        return [(i, self._NAMES[name]) for i, name in enumerate(self._NAMES) if name in self._running]

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Hear what the denoiser is fed, once: rules in the space of the data need it."""
        super().prepare_models(denoiser)
        self.cleanup_models(denoiser)
        if self._x is None:
            self._handle = denoiser.register_forward_pre_hook(self._hear, with_kwargs=True)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """Hear no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _hear(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._x = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))

    def forward(self, pred_cond: Tensor | None = None, pred_uncond: Tensor | None = None) -> GuiderOutput:
        """The guided output, of the outputs of the branches that ran, (B, C, ...) each.

        Raises:
            ValueError: where the network's input was not heard; and what the rule refuses.
        """
        out = pred_cond
        if self._guides():
            place, x = self._place(), self._x
            said = pred_cond if pred_cond is not None else pred_uncond
            if not isinstance(x, Tensor) or said is None:
                raise ValueError(
                    "the guider heard no network; call prepare_models(denoiser), then the denoiser, for each branch"
                )
            x = fed(x, said)
            x = x if x.dtype == torch.float64 else x.float()  # half precision is guided in float32
            if self._field is None:
                self._field = self._begin(Field(offer(Branch(nobody), Branch(nobody)), self.rule, len(x)), place)
            out, self._like = answer(self._field, place, self._row, x, pred_cond, pred_uncond), x
        self._running, self._open = None, False
        return GuiderOutput(pred=out, pred_cond=pred_cond, pred_uncond=pred_uncond)
