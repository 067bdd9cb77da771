"""Our guidance rules as the guider of a modular pipeline of diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ask import Guidance

if TYPE_CHECKING:
    from .diffusers_guider import SfumatoGuider

__all__ = ["as_guider"]


def as_guider(
    rule: Guidance, scheduler: object | None = None, *, start: float = 0.0, stop: float = 1.0
) -> SfumatoGuider:
    """A guider for `pipe.update_components(guider=...)`, which guides by the noise level of each step.

    "cond" is the pipeline's prompt, "ref" (and "negative") its negative prompt. A branch that the rule does not ask does not run; which
    ones it asks is found by asking it before each step. The network's output is guided, and a learned variance stays the prompt's. CFG,
    and Rescale in the network's own row, are bit for bit diffusers' ClassifierFreeGuidance in float32.

    Rules that move x after a step (CFGPlusPlus) can't do so here. They are given as the guided output from which DDIM and Euler come to the
    same place, CFG of scale / (1 - g' / g); with other methods that is another guidance.

    Args:
        rule: any of ours, or yours (a dataclass, so that it can be saved), that asks for no other branches and decides by levels, steps and
            memory which ones it asks.
        scheduler: the pipeline's, which knows the levels; one of ours or of diffusers. A config can't hold it: it is given here, or set
            later, `guider.scheduler = pipe.scheduler`. Rules that look at no level (CFG, Mix) need none.
        start, stop: guide from this share of the evaluations on, and up to that one, as diffusers' guiders; 0 <= start <= stop <= 1,
            start < 1. They mean other levels for other numbers of steps; Interval does not.

    Raises:
        ValueError: for what is no rule, a rule that asks for other branches or can't be written to a config, and a scheduler whose
            levels are not known. While it runs, for a rule that needs levels where there is no scheduler.
    """
    from .diffusers_guider import SfumatoGuider

    return SfumatoGuider(rule, scheduler, start, stop)
