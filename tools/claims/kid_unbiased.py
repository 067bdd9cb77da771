"""The kernel distance has no bias at any count, the Frechet distance has.

Fixed before anything was measured: pixels of digits as features, counts, repeats, and the effect. Sets are drawn from the law of all 1,797
digits, so the truth is known without sampling: that of all pairs for the kernel distance, that of the moments of all for Frechet's. Against
digits of the same law, and of 0.8 times the contrast. Per count and pair of laws the bias is counted in standard deviations of a single
measurement; the effect is the logarithm of Frechet's over the kernel distance's, whose bias counts as no smaller than what the repeats can
resolve, 1 / sqrt(repeats). The smallest effect counts.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from torch import Tensor

from ...diffusion import Recipe
from ...diffusion.measuring import Moments, frechet, kernel_distance, moments
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .drawn import VARIANTS, all_digits, drawn_recipe, drawn_rows

__all__ = ["CLAIM", "truths"]

COUNTS, REPEATS, LAWS = (50, 100, 200), 60, {"same": 1.0, "contrast 0.8": 0.8}


def truths(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Kernel and Frechet distance of two laws that are equally likely rows; every row is its own partner, too."""

    def mean(a: Tensor, b: Tensor) -> float:
        return float((a @ b.T / x.shape[1] + 1).pow(3).mean())

    def law(values: Tensor) -> Moments:
        m = moments(values)
        return Moments(m.mean, m.covariance * (m.count - 1) / m.count, m.count)

    return mean(x, x) + mean(y, y) - 2 * mean(x, y), frechet(law(x), law(y))


def _measure(_: Path, recipe: Recipe) -> dict[str, Any]:
    digits, repeats = all_digits(), 10 if recipe.steps == 1 else REPEATS
    rows, draw = [], 0
    for law, factor in LAWS.items():
        known = truths(factor * digits, digits)
        for count in COUNTS:
            found: list[tuple[float, float]] = []
            for _repeat in range(repeats):
                fake, real = (digits[drawn_rows(count, len(digits), recipe.seed, draw + i)] for i in (0, 1))
                draw += 2
                fake = factor * fake
                found.append((kernel_distance(fake, real).value, frechet(moments(fake), moments(real))))
            for name, truth, values in zip(("kernel", "frechet"), known, zip(*found, strict=True), strict=True):
                numbers = {"truth": truth, "mean": statistics.fmean(values), "std": statistics.stdev(values)}
                rows.append(
                    {"law": law, "count": count, "measure": name, **{k: round(v, 6) for k, v in numbers.items()}}
                )
    return {"rows": rows, "repeats": repeats}


def _row(run: Any, law: str, count: int, measure: str) -> Any:
    return next(r for r in run["rows"] if (r["law"], r["count"], r["measure"]) == (law, count, measure))


def _bias(run: Any, law: str, count: int, measure: str) -> float:
    """In standard deviations of a single measurement."""
    row = _row(run, law, count, measure)
    return (row["mean"] - row["truth"]) / row["std"]


def _judge(cells: Cells) -> Finding:
    runs = list(cells["digits"].values())
    parts = {
        f"{law}, {count}": [
            math.log(
                max(_bias(r, law, count, "frechet"), 1e-6)
                / max(abs(_bias(r, law, count, "kernel")), 1 / math.sqrt(r["repeats"]))
            )
            for r in runs
        ]
        for law in LAWS
        for count in COUNTS
    }

    def text(law: str, measure: str, digits: int) -> str:
        found = ", ".join(
            plus_minus([_row(r, law, n, measure)["mean"] for r in runs], digits) for n in (COUNTS[0], COUNTS[-1])
        )
        return f"{found} (truth {_row(runs[0], law, COUNTS[0], measure)['truth']:.{digits}f})"

    ours = (
        f"digits' pixels, means of {runs[0]['repeats']} at {COUNTS[0]} and {COUNTS[-1]} vectors: equal laws, "
        f"kernel {text('same', 'kernel', 4)}, Frechet {text('same', 'frechet', 2)}; contrast 0.8, "
        f"kernel {text('contrast 0.8', 'kernel', 4)}, "
        f"Frechet {text('contrast 0.8', 'frechet', 2)}"
    )
    return weakest(parts, ours, {})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    runs = list(cells["digits"].values())
    return [
        {
            "title": f"laws: {law}", "x": "vectors in either set", "y": "bias, in standard deviations of one measurement", "log": "x",
            "ticks": COUNTS, "level": (0.0, "no bias"),
            "series": [
                {
                    "name": name if k == 0 else None, "x": list(COUNTS), "color": color, "style": "o-",
                    "y": [_bias(run, law, n, name) for n in COUNTS],
                }
                for color, name in enumerate(("kernel", "frechet"))
                for k, run in enumerate(runs)
            ],
        }
        for law in LAWS
    ]  # fmt: skip


CLAIM = Claim(
    name="kid-unbiased",
    paper="Binkowski et al. 2018",
    arxiv="1801.01401",
    promise="the kernel distance (KID) has an estimator without bias, at any count; the Frechet distance's is biased",
    figure="a theorem; FID and KID against the count, in plots (CIFAR-10)",
    measurement="kid-unbiased",
    variants=VARIANTS,
    recipe=drawn_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    trains=False,
)
