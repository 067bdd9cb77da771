"""`sfumato ema`: averages of the weights over other lengths, made of what a run has stored."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..diffusion.averaged import Kept, file_of, kept_by, make
from ..diffusion.checkpoint import newest
from ..diffusion.posthoc import POOR, Fit
from ..diffusion.profiles import Power
from .command import help_text, parse
from .folders import ready_folder
from .spelling import UsageError

__all__ = ["MakeAverage", "lengths_of", "panels_of", "run"]

_POINTS = 600  # of a curve
_COUNT = 8  # lengths in a range


@dataclass(frozen=True)
class MakeAverage:
    """Make the average of the weights over another length than those that were stored, as if it had been kept while training.

    A length (sigma_rel) is the width of the average as a share of training: weights of training time tau count as tau^gamma.

    Args:
        run: the run folder, trained with ema_lengths and snapshot_every.
        length: above 0 to 0.3, such as 0.12; null: only the figure.
        step: where the average ends; null: the newest checkpoint.
        lengths: draw how each of several lengths weighs training, and how well it can be made: 0.02,0.1,0.2, or 0.02..0.25 (eight of
            them).
        out: folder; null: RUN/averages, where `sfumato sample --ema` looks.
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato that the run needs; repeated in the command that samples.
    """

    run: str
    length: float | None = None
    step: int | None = None
    lengths: str | None = None
    out: str | None = None
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.length is None and self.lengths is None:
            raise ValueError(
                "length is null; say what to make, as --length 0.12, or what to draw, as --lengths 0.02..0.25"
            )
        if self.length is not None:
            Power(self.length)
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; allowed: >= 1, or null")


def lengths_of(text: str) -> list[float]:
    """0.02,0.1 -> [0.02, 0.1]; 0.02..0.25 -> eight of equal ratios.

    Raises:
        ValueError: naming what is allowed.
    """
    first, dots, last = text.strip("[]").partition("..")
    try:
        ends = [float(each) for each in ([first, last] if dots else first.split(","))]
        for each in ends:
            Power(each)
    except ValueError as error:
        raise ValueError(
            f"lengths is {text!r}; allowed: numbers above 0 to 0.3, as 0.02,0.1,0.2, or a range, as 0.02..0.25"
        ) from error
    if not dots:
        return ends
    return [ends[0] * (ends[1] / ends[0]) ** (i / (_COUNT - 1)) for i in range(_COUNT)]


def panels_of(fits: Sequence[tuple[float, Fit]]) -> list[dict[str, Any]]:
    """What the figure shows: the weights that were wanted and that were made over training, and what is missing by length.

    fits: by length, all of one step.
    """
    step = fits[0][1].step
    at = torch.linspace(1, step, min(step, _POINTS), dtype=torch.float64).long()
    lines: list[dict[str, Any]] = []
    for k, (length, found) in enumerate(fits):
        wanted, made = (step * w[at - 1] for w in (Power(length).weights(step), _padded(found.weights(), step)))
        lines.append({"x": at.tolist(), "y": wanted.tolist(), "color": k, "name": f"{length:.3g}"})
        lines.append({"x": at.tolist(), "y": made.tolist(), "color": k, "style": "--"})
    ends = sorted({s for s, _ in fits[0][1].stored})
    lines.append({"x": ends, "y": [0.0] * len(ends), "style": "|", "name": "stored"})
    residuals = [max(found.residual, 1e-9) for _, found in fits]
    return [
        {"title": "weight of a step, times their number (dashed: as made)", "x": "optimizer step", "y": "weight", "series": lines},
        {
            "title": "relative residual", "x": "length (sigma_rel)", "y": "what is missing of the weights", "log": "xy", "legend": True,
            "ticks": [length for length, _ in fits], "names": [f"{length:.2g}" for length, _ in fits],
            "series": [{"x": [length for length, _ in fits], "y": residuals, "style": "o-"}], "level": (POOR, "warned of above"),
        },
    ]  # fmt: skip


def _padded(values: torch.Tensor, step: int) -> torch.Tensor:
    """Zeros after the end, or what lies beyond left out."""
    return torch.nn.functional.pad(values[:step], (0, max(0, step - len(values))))


def _draw(kept: Kept, options: MakeAverage, step: int, out: Path) -> list[str]:
    """The figure, and a line per length."""
    fits = [(length, kept.fit(length, step)) for length in lengths_of(options.lengths or "")]
    said = [f"length {length:.3g}: relative residual {found.residual:.2g}" for length, found in fits]
    try:
        from .plots import draw_panels
    except ImportError:
        return [*said, "no figure: matplotlib is not installed (pip install 'sfumato[plots]')"]
    stored = ", ".join(f"{length:g}" for length in sorted({one.length for one in kept.stored}))
    title = f"{options.run}: averages at step {step}, made of {len(kept.until(step))} stored ones of lengths {stored}"
    draw_panels(panels_of(fits), title, out / "lengths.png")
    return [*said, f"figure: {out / 'lengths.png'}"]


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato ema RUN --length 0.12 [--step 20000] [--lengths 0.02..0.25]", MakeAverage, None, argv))
        return 0
    options, _ = parse(argv, MakeAverage, ("run",))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.lengths is not None:
        lengths_of(options.lengths)
    folder = Path(options.run)
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            [f"run: {folder} is not a run folder: it holds no config.yaml (a run is made by `sfumato train`)"]
        )
    checkpoint = newest(folder / "checkpoints")
    kept = kept_by(
        folder, checkpoint, options.step if checkpoint is None or options.step is not None else checkpoint.step
    )
    step = kept.step if options.step is None else options.step
    fitted = None if options.length is None else kept.fit(options.length, step)
    out = folder / "averages" if options.out is None else Path(options.out)
    if out.is_file():
        raise ValueError(f"out is {str(out)!r}, which is a file; give a folder")
    ready_folder(out, "out")
    if options.lengths is not None:
        print("\n".join(_draw(kept, options, step, out)))
    if fitted is not None and options.length is not None:
        path = file_of(out, options.length, options.step)
        make(kept, fitted, options.length, path)
        lengths = ", ".join(f"{length:g}" for length in sorted({length for _, length in fitted.stored}))
        print(
            f"length {options.length:g} at step {step}, of {len(fitted.stored)} stored averages of lengths {lengths}\n"
            f"relative residual {fitted.residual:.2g}; rounding of what is stored grows by {fitted.gain:.3g} at most\n"
            f"weights: {path}\n{_next(options, step, checkpoint is not None and step == checkpoint.step)}"
        )
    return 0


def _next(options: MakeAverage, step: int, newest_step: bool) -> str:
    """What samples from it."""
    if not newest_step:
        return f"next, in Python: load({options.run!r}, ema={options.length!r}, step={step})"
    words = ["sfumato", "sample", options.run, "--ema", repr(options.length)]
    return "next: " + shlex.join([*words, *(word for package in options.allow for word in ("--allow", package))])
