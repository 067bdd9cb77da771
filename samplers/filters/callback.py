"""Filters on a pipeline of diffusers, through the callback that it calls at the end of each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..path import on_path
from ..state import Denoise
from .filter import Filter, Sampling, Verdict, apart, check_verdict
from .pictures import Seen, check_for, noise_of, together, told, unknown

__all__ = ["FilterCallback"]


class FilterCallback:
    """What filters say of the pictures of a pipeline whose scheduler is one of ours: `pipe(..., callback_on_step_end=watch)`.

    Filters see the sampler's steps, not the pipeline's: with Heun every second evaluation ends one. They see the latents as the pipeline
    left them (inpainting paints over what must stay) and the prediction as the pipeline made it, guidance included. Afterwards `keep`,
    `scores` and `verdicts` have one entry per picture, in the order of the pipeline's images. Each call begins anew; one that was
    interrupted has no verdicts. A callback of your own calls it, after it has changed latents: `return watch(pipe, step, t, tensors)`.

    Args:
        filters: as of `Model.sample`; Calibrated ones refuse another sampler, grid, guidance, or model.
        denoise: the model without guidance, under the condition of each picture, for filters that ask again (RenoiseProbe); see
            network_denoise. None: for filters that ask none.
        seeds: of the noise that filters add, not of the pictures; one number: all pictures get the same, so that what RenoiseProbe says
            depends on the picture alone, and is what `judge_pictures` says of it.
        guidance: the rule of ours that the pipeline's guidance is, such as CFG(7.5); read by Calibrated filters of trajectories only.
        model: tells the fingerprint of the weights, which Calibrated filters hold for: `lambda: fingerprint(pipe.unet)`.
        labelled: whether the pictures have a condition; None: not known, and not checked.

    Raises:
        ValueError: for what is no filter; from the pipeline, for a scheduler that is none of ours, steps that were missed, and what a
            filter refuses.
    """

    def __init__(
        self, filters: Filter | Sequence[Filter], denoise: Denoise | None = None, *, seeds: int | Sequence[int] | Tensor = 0,
        guidance: object = None, model: Callable[[], str] | None = None, labelled: bool | None = None,
    ) -> None:  # fmt: skip
        self.filters: tuple[Filter, ...] = (filters,) if isinstance(filters, Filter) else tuple(filters)
        for each in self.filters:
            if isinstance(each, type) or not isinstance(each, Filter):
                raise ValueError(f"filters hold {each!r}; allowed: filters, such as TrajectoryVariance()")
        self._denoise, self._seeds, self._guidance = denoise, seeds, guidance
        self._model, self._labelled = model, labelled
        self._forget()

    def _forget(self) -> None:
        self._watching: tuple[Filter, ...] = ()
        self._memories: list[Any] = []
        self._made, self._steps = 0, 0
        self._seen: Seen | None = None

    @torch.no_grad()
    def __call__(self, pipe: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        """A pipeline's step is over; see diffusers' callback_on_step_end. What it is given it returns, unchanged."""
        scheduler = _ours(pipe)
        if step == 0:
            self._forget()
        made = scheduler.made(callback_kwargs.get("latents"))
        if made is None:  # within a step of several evaluations
            return callback_kwargs
        if made.index == 0:
            self._begin(pipe, scheduler, made.x)
        if made.index != self._made:
            raise ValueError(
                f"FilterCallback is told of step {made.index} and has seen {self._made}; it must hear of every step of one pipeline, from "
                "the first on: pass it as callback_on_step_end, or call it in each call of your own callback"
            )
        left, self._made = self._steps - 1 - made.index, made.index + 1
        noise = noise_of(self._seeds, made.x)
        for place, each in enumerate(self._watching):
            own = apart(noise, place)
            # counted from the end, so that a finished picture meets the same noise after any number of steps, and in judge_pictures
            shown = replace(made, denoise=self._denoise or unknown, noise=lambda i, draw, own=own: own(left, draw))
            self._memories[place] = each.update(self._memories[place], shown)
        if made.last:
            each = zip(self._watching, self._memories, strict=True)
            self._seen = together([check_verdict(f, f.verdict(m), len(made.x)) for f, m in each], len(made.x))
            self._watching, self._memories = (), []  # of no more use, and perhaps large
        return callback_kwargs

    def _begin(self, pipe: Any, scheduler: Any, x: Tensor) -> None:
        self._forget()
        levels = scheduler.levels
        watching = on_path(self.filters, scheduler.schedule)
        check_for(
            watching,
            Sampling(repr(scheduler.sampler), _rule(self._guidance, pipe), levels, told(self._model), self._labelled),
        )
        self._watching, self._steps = watching, len(levels) - 1
        self._memories = [f.init(x, levels) for f in watching]

    def _result(self) -> Seen:
        if self._seen is None:
            far = f"the pipeline stopped after step {self._made} of {self._steps}" if self._made else "it saw no step"
            raise ValueError(
                f"there are no verdicts: {far}; call the pipeline with callback_on_step_end=watch, and let it finish"
            )
        return self._seen

    @property
    def keep(self) -> Tensor:
        """bool (B,): which pictures all filters keep.

        Raises:
            ValueError: before a pipeline's call has finished; likewise below.
        """
        return self._result().keep

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One per filter."""
        return self._result().verdicts

    @property
    def scores(self) -> tuple[Tensor, ...]:
        """Per filter float (B,)."""
        return tuple(v.score for v in self._result().verdicts)

    @property
    def reasons(self) -> list[str]:
        """Per picture why it was rejected, "" where it was not."""
        found = self._result()
        return ["; ".join(v.reasons[i] for v in found.verdicts if v.reasons[i]) for i in range(len(found.keep))]


def _ours(pipe: Any) -> Any:
    from ..diffusers_scheduler import SfumatoScheduler  # diffusers is there already: it called us

    scheduler = getattr(pipe, "scheduler", None)
    if not isinstance(scheduler, SfumatoScheduler):
        raise ValueError(
            f"pipe.scheduler is {type(scheduler).__name__}, which shows no steps; set pipe.scheduler = as_diffusers(DPMSolverPP(), "
            "like=pipe.scheduler), or as_diffusers(*from_diffusers(pipe.scheduler)) for what it was, or look at the finished pictures with "
            "judge_pictures"
        )
    return scheduler


def _rule(given: object, pipe: Any) -> str:
    """The pipeline's guidance as the text of a rule of ours; one that is not told equals none."""
    if given is not None:
        return given if isinstance(given, str) else repr(given)
    if getattr(pipe, "do_classifier_free_guidance", False):
        scale = getattr(pipe, "guidance_scale", "unknown")
        return f"the pipeline's own, scale {scale} (FilterCallback(guidance=...) says which rule that is)"
    return "Plain()"  # as guidance, which samplers do not know, writes itself
