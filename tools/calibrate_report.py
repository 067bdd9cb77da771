"""What `sfumato calibrate` shows: lines, and a figure of the level's curve and of the scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Found, Samples
from ..samplers.filters import RenoiseProbe

__all__ = ["draw", "lines"]


def lines(found: Found, what: str, samples: Samples | None) -> list[str]:
    """What was found, in words.

    Args:
        found: the calibration.
        what: the real pictures are.
        samples: of the model, that were scored; None: none were.
    """
    known = found.calibration
    least, most = known.bounds
    own = type(known.filter).__name__
    said: list[str] = []
    if found.curve:
        assert isinstance(known.filter, RenoiseProbe)
        said += ["log-SNR   median error   99th percentile   ratio"]
        said += [
            f"{p.log_snr:7.2f}{p.median:15.4g}{p.high:18.4g}{p.ratio:8.2f}{'   taken' if p.log_snr == known.filter.level else ''}"
            for p in found.curve
        ]
    kept = f"score <= {most:.6g}" if known.sides == "upper" else f"{least:.6g} <= score <= {most:.6g}"
    at = f" at log-SNR {known.filter.level:.4g}, k {known.filter.k}" if isinstance(known.filter, RenoiseProbe) else ""
    beyond = "" if known.margin == 1.0 else f", {known.margin:g} times beyond what the guarantee needs"
    said.append(f"{own}{at}: kept where {kept}, from {known.count} real pictures {what}{beyond}")
    if known.held_out:
        said.append(
            f"a real picture of the same kind is rejected with probability <= {known.alpha:g}; nothing is promised about samples"
        )
    else:
        said.append(
            f"the model knows these pictures: of new real ones more than {known.alpha:g} may be rejected; train with --data Split "
            "--data.source ... to hold some out"
        )
    extra = found.evaluations[1]
    if known.sampler is None:
        said.append(f"costs {extra:g} evaluations per attempt; for every sampler of this model")
    else:
        said.append(
            f"costs no evaluations; for this sampler, grid, steps and guidance only (calibrating took {extra:.3g} per real picture)"
        )
    if samples is not None:
        said += ["samples of this model: " + line.replace(" attempts ", " ") for line in samples.filtered.words()]
        below = int((samples.scores[0] < found.scores.min()).sum())
        if known.sides == "upper" and below > 0.02 * len(samples):
            said.append(
                f"{below} of {len(samples)} samples score below every real picture, which this calibration keeps: a blurred or empty "
                "picture does; --sides both rejects those too"
            )
    return said


def draw(found: Found, samples: Samples | None, cut: float, title: str, path: Path) -> bool:
    """The curve that the level was read from, and the scores; whether there was a library to draw with.

    Args:
        found: the calibration.
        samples: of the model, that were scored.
        cut: of the ratio.
        title: of the figure.
        path: of the PNG.
    """
    try:
        from .plots import draw_panels
    except ImportError:
        return False
    panels: list[dict[str, Any]] = []
    if found.curve:
        level = getattr(found.calibration.filter, "level", math.nan)
        taken = [p for p in found.curve if p.log_snr == level]
        panels.append({
            "title": "where real pictures stop returning", "x": "log-SNR (right: cleaner)", "y": "99th percentile / median of the error",
            "log": "y", "level": (cut, f"cut {cut:g}"), "series": [
                {"x": [p.log_snr for p in found.curve], "y": [p.ratio for p in found.curve], "style": "o-", "color": 0, "name": "ratio"},
                {"x": [p.log_snr for p in taken], "y": [p.ratio for p in taken], "style": "s", "name": "taken"},
            ],
        })  # fmt: skip
    least, most = found.calibration.bounds
    series = [_sorted(found.scores, "real", 0)]
    if samples is not None:
        series.append(_sorted(samples.scores[0], "samples of this model", 1))
    if found.calibration.sides == "both":
        series.append({"x": [0, 1], "y": [least, least], "style": "--", "name": f"least {least:.4g}"})
    ends = [v for line in series for v in (min(line["y"]), max(line["y"]))]
    wide = min(ends) > 0 and max(ends) > 20 * min(ends)
    panels.append({
        "title": "scores", "x": "share of pictures that score less", "y": "score (higher: less like the data)", "log": "y" if wide else "",
        "level": (most, f"threshold {most:.4g}"), "series": series,
    })  # fmt: skip
    draw_panels(panels, title, path)
    return True


def _sorted(scores: Tensor, name: str, color: int) -> dict[str, Any]:
    own = torch.sort(scores[scores.isfinite()].double()).values
    if len(own) > 400:  # as many as can be seen
        own = torch.quantile(own, torch.linspace(0, 1, 400, dtype=own.dtype))
    return {"x": torch.linspace(0, 1, len(own)).tolist(), "y": own.tolist(), "name": name, "color": color}
