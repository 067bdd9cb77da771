"""The interval of guidance: two handles on the log-SNR axis of the model's own schedule."""

from __future__ import annotations

from importlib import resources
from typing import Any

import gradio as gr

from ...diffusion import Model
from ...guidance import Adaptive, Guidance, Interval, Plain, rules_within
from ...samplers import Sampler
from ...schedules import Grid, Schedule
from ...schedules.schedule import first_t
from .asked_for import LOG_SNR
from .costs import step_costs

__all__ = ["axis_of", "interval_field", "interval_props"]

# beyond these nothing is drawn: sigma / alpha 148 and 0.002
_NOISIEST, _CLEANEST = -10.0, 12.5

_SKELETON = """<div class="sf-interval" role="group" aria-label="Interval of guidance, in log-SNR">
<p class="sf-said" aria-live="polite"></p>
<div class="sf-track"><div class="sf-ticks" aria-hidden="true"></div><div class="sf-rail" aria-hidden="true"></div>
<div class="sf-guided" aria-hidden="true"></div>
<input type="range" class="sf-low" aria-label="Noisier end of the interval, log-SNR"/>
<input type="range" class="sf-high" aria-label="Cleaner end of the interval, log-SNR"/></div>
<div class="sf-ends" aria-hidden="true"><span class="sf-from"></span><span>log-SNR</span><span class="sf-to"></span></div>
<p class="sf-ratios"></p></div>"""


def interval_field(value: tuple[float, float]) -> gr.HTML:
    """The component; its value is [low, high] in log-SNR, where an end of the axis is +-`LOG_SNR`.

    Args:
        value: at first.
    """
    script = resources.files("sfumato.tools.demo").joinpath("interval.js").read_text()
    return gr.HTML(
        list(value), html_template=_SKELETON, js_on_load=script, elem_id="interval", axis=[_NOISIEST, _CLEANEST], end=LOG_SNR, ticks=[],
        guided=[], plain=[], own=[], most=False, on=False,
    )  # fmt: skip


def axis_of(schedule: Schedule) -> list[float]:
    """The ends of a schedule in log-SNR, as far as they are drawn."""
    low = max(float(schedule(1.0).log_snr), _NOISIEST)
    return [low, max(min(float(schedule(first_t(schedule)).log_snr), _CLEANEST), low + 1.0)]


def interval_props(
    model: Model, sampler: Sampler, grid: Grid, steps: int, rule: Guidance, limited: bool, alike: bool = False
) -> dict[str, Any]:
    """What is drawn: the axis, the level where each step begins, what each costs with guidance and without, and which the rule guides by
    itself.

    Args:
        model: that is sampled.
        sampler, grid, steps, rule: of the form; an interval of the rule's own holds where the form's does not count.
        limited: whether the form's interval counts.
        alike: whether every picture is steered from what it is asked for, see `step_costs`.

    Raises:
        ValueError: where the grid has no such steps.
    """
    path = model.denoiser.schedule
    levels = grid(path, steps)
    ticks = [min(max(float(level.log_snr), -LOG_SNR), LOG_SNR) for level in levels[:-1]]
    inner = rule.rule if isinstance(rule, Interval) else rule
    own = [not isinstance(inner, Plain) and (inner is rule or bool(rule.inside(level))) for level in levels[:-1]]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        costs = step_costs(inner, sampler, path, levels, alike)
    except ValueError:  # parts that can't be put together are refused where they are sampled, in words
        costs = None
    guided, plain = costs or ([], [])
    most = any(True for _ in rules_within(inner, Adaptive))
    return {
        "axis": axis_of(path), "ticks": ticks, "guided": guided, "plain": plain, "own": own, "most": most,
        "on": limited and not isinstance(inner, Plain),
    }  # fmt: skip
