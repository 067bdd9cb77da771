"""`sfumato inspect`: a schedule in a figure and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..diffusion import Recipe
from ..diffusion.forward_check import check_forward
from ..schedules import X0, Eps, Schedule, log_snr_density, output_weight
from ..schedules.parts import in_short
from .command import help_text, parse
from .inspect_words import said_of, warnings_of
from .inspected import Parts, look

__all__ = ["Inspect", "curves", "run"]


@dataclass(frozen=True)
class Inspect:
    """Draw the forward process of a recipe or a diffusers pipeline and say what is wrong with it.

    Args:
        config: a preset's name, a YAML file, a run folder, or a diffusers folder.
        also: schedules to draw beside it; may be given several times.
        tokens: sequence length of a diffusers scheduler that shifts by it.
        out: the PNG to write; figures go beside it as JSON.
        elements: numbers per channel of a sample, for the brightness estimate; null: those of the backbone's size.
        allow: packages beside Sfumato whose classes the config may name.
    """

    config: str = "digits"
    also: Sequence[Schedule] = ()
    tokens: int | None = None
    out: str = "runs/inspect.png"
    elements: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.elements is not None and self.elements < 1:
            raise ValueError(f"elements is {self.elements}; allowed: >= 1, or null")
        if not self.out.endswith(".png"):
            raise ValueError(f"out is {self.out!r}; allowed: a name that ends in .png")


def _numbers(values: Any) -> list[float]:
    return [float(v) for v in values]


def _beside(schedule: Schedule) -> dict[str, Any]:
    """The curves of a schedule that is drawn beside the first."""
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level = schedule(t)
    low, high = (max(-20.0, min(20.0, float(schedule(v).log_snr))) for v in (1.0, 0.0))
    at = torch.linspace(low, high, 401, dtype=torch.float64)[1:-1]
    return {
        "name": str(schedule), "t": _numbers(t), "alpha": _numbers(level.alpha + 0 * t), "sigma": _numbers(level.sigma + 0 * t),
        "log_snr": _numbers(level.log_snr), "density": {"log_snr": _numbers(at), "value": _numbers(log_snr_density(schedule, at))},
    }  # fmt: skip


def curves(parts: Parts, also: Sequence[Schedule] = ()) -> dict[str, Any]:
    """Everything that is drawn, as plain numbers; log-SNR may be +-inf at the ends.

    Args:
        parts: the forward process.
        also: schedules to draw beside it.
    """
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    level = parts.schedule(t)
    grid = parts.grid(parts.schedule, parts.sampling_steps)
    drawn = parts.density((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000, parts.schedule).level.log_snr
    assert isinstance(drawn, Tensor)
    values, edges = np.histogram(drawn.clamp(-20, 20).numpy(), bins=160, range=(-20, 20), density=True)
    log_snr = torch.linspace(-15, 15, 301, dtype=torch.float64)
    at = parts.schedule.at_log_snr(log_snr)
    return {
        "t": _numbers(t),
        "name": str(parts.schedule),
        "also": [_beside(schedule) for schedule in also],
        "alpha": _numbers(level.alpha + 0 * t),
        "sigma": _numbers(level.sigma + 0 * t),
        "log_snr": _numbers(level.log_snr),
        "grid": {"t": _numbers(v.t for v in grid), "log_snr": _numbers(v.log_snr for v in grid)},
        "density": {"log_snr": _numbers((edges[1:] + edges[:-1]) / 2), "value": _numbers(values)},
        "weighting": {
            "name": type(parts.weighting).__name__,
            "row": type(parts.row).__name__,
            "log_snr": _numbers(log_snr),
            "output": _numbers(output_weight(parts.weighting, parts.row, at)),
            "eps": _numbers(output_weight(parts.weighting, Eps(), at)),
            "x0": _numbers(output_weight(parts.weighting, X0(), at)),
        },
    }


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato inspect [CONFIG] [--out PNG] [--schedule NAME ...] [--also NAME ...]", Inspect, Recipe, argv
            )
        )
        return 0
    options, pairs = parse(argv, Inspect, ("config",), Recipe)
    parts, description, elements, assumed = look(options.config, pairs, options.allow, options.tokens)
    elements = options.elements or elements
    check_forward(parts.schedule, parts.weighting)
    data, problems = {**curves(parts, options.also), "assumed": assumed}, warnings_of(parts, elements)
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    title = f"{in_short(parts.schedule)}, row {type(parts.row).__name__}, {parts.sampling_steps} steps of {parts.grid}"
    figures = {**data, "warnings": problems, "config": description}
    # JSON knows no infinity: the ends of log-SNR are null
    out.with_suffix(".json").write_text(json.dumps(_finite(figures), indent=1))
    try:
        from .schedule_figure import draw_schedule

        draw_schedule(data, title, out)
        print(f"figure: {out}")
    except ImportError:
        print("no figure: matplotlib is not installed (pip install 'sfumato[plots]')")
    print(f"numbers: {out.with_suffix('.json')}")
    print("\n".join([title, *said_of(parts, elements, assumed)]))
    print("\n".join(f"warning: {p}" for p in problems) if problems else "nothing wrong found")
    return 0


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
