"""A path that keeps some signal at its end can't make dark and bright pictures."""

from __future__ import annotations

import hashlib
import math
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import Batch, Digits, DiT, Recipe, load
from ...guidance import Plain
from ...schedules import Constant, Level, ScaledLinearBeta, Trailing, V, ZeroTerminalSNR
from .claim import Cells, Claim, Finding, plus_minus, verdict

__all__ = ["CLAIM", "Fields", "gaussian_std", "predicted"]

SIZE, PICTURES = 32, 500
VARIANTS = {"scaled-linear": ScaledLinearBeta(), "zero-terminal": ZeroTerminalSNR(ScaledLinearBeta())}


@dataclass(frozen=True)
class Fields:
    """Grey 32x32 pictures whose brightness is uniform over [-0.9, 0.9]: plain fields, and digits drawn on fields in turn.

    Args:
        count: how many, >= 1.

    Raises:
        ValueError: for count < 1.
    """

    count: int = 2048

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Fields.count is {self.count}; allowed: >= 1")

    @cached_property
    def _images(self) -> Tensor:
        index = torch.arange(self.count, dtype=torch.float64)
        # multiples of the golden ratio fill an interval evenly, whatever the count
        field = (1.8 * torch.frac((index + 0.5) * (math.sqrt(5) - 1) / 2) - 0.9).float().view(-1, 1, 1, 1)
        digits = Digits()
        ink = (digits.batch(torch.arange(self.count) % len(digits)).x + 1) / 2
        ink = F.interpolate(ink, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        ink[::2] = 0  # every other picture is a plain field
        # strokes are lighter on dark fields and darker on light ones
        return field - 0.6 * field.sign() * ink

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, SIZE, SIZE

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._images.numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        return Batch(self._images[index], None)


def gaussian_std(std: float, top: Level, pixels: int) -> float:
    """Standard deviation of the samples' mean brightness, when the data's is Gaussian and independent of all else.

    Noise of level sigma has a mean of standard deviation s = sigma / sqrt(pixels). Sampling starts there, where the path has
    sqrt(alpha^2 std^2 + s^2), and its ODE, which is linear for a Gaussian, scales the one to std as it would the other.

    Args:
        std: of the data's mean brightness.
        top: the level at which sampling starts.
        pixels: of a picture.
    """
    noise = float(top.sigma) / math.sqrt(pixels)
    return std * noise / math.hypot(float(top.alpha) * std, noise)


def predicted(means: Tensor, top: Level, pixels: int, shares: Tensor) -> Tensor:
    """Quantiles of the samples' mean brightness for any law of the data's, when it is independent of all else.

    In one dimension the ODE keeps quantiles: the start at z ends at the data's quantile F(z), F the law of alpha m + s n.

    Args:
        means: (N,) mean brightness of the data.
        top, pixels: as for gaussian_std.
        shares: (Q,) which quantiles, in (0, 1).
    """
    means, noise = means.double(), float(top.sigma) / math.sqrt(pixels)
    start = noise * math.sqrt(2) * torch.erfinv(2 * shares.double() - 1)
    z = (start[:, None] - float(top.alpha) * means) / noise
    return torch.quantile(means, (0.5 * (1 + torch.erf(z / math.sqrt(2)))).mean(1))


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    torch.manual_seed(seed)
    size: dict[str, Any] = {"width": 16, "depth": 1, "heads": 1} if quick else {"width": 96, "depth": 4, "heads": 4}
    return Recipe(
        data=Fields(16 if quick else 2048), backbone=DiT(1, SIZE, 0, patch=4, **size), schedule=VARIANTS[variant], row=V(),
        weighting=Constant(V()), steps=4 if quick else 1000, batch=4 if quick else 32, lr=1e-3, warmup=50, ema=0.99, seed=seed,
        threads=1, grid=Trailing(), sampling_steps=4 if quick else 20, guidance=Plain(), save_every=0 if quick else 500,
    )  # fmt: skip


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Mean brightness of the samples and of the data: standard deviations, and quantiles."""
    model, source = load(folder), recipe.data
    means = model.sample(range(PICTURES if recipe.steps > 100 else 8), batch=100, progress=True).images.mean((1, 2, 3))
    data = source.batch(torch.arange(len(source))).x.mean((1, 2, 3))
    shares = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    expected = predicted(data, recipe.schedule(1.0), SIZE**2, shares)
    return {
        "std": float(means.std()),
        "data_std": float(data.std()),
        "gaussian_std": gaussian_std(float(data.std()), recipe.schedule(1.0), SIZE**2),
        "shares": shares.tolist(),
        "quantiles": torch.quantile(means.double(), shares).tolist(),
        "data_quantiles": torch.quantile(data.double(), shares).tolist(),
        "predicted_quantiles": expected.tolist(),
    }


def _distance(cell: Any, what: str = "quantiles") -> float:
    """Mean absolute difference of the quantiles from the data's."""
    return statistics.fmean(abs(a - b) for a, b in zip(cell[what], cell["data_quantiles"], strict=True))


def _judge(cells: Cells) -> Finding:
    """By how much the rescaled path is nearer to the data's brightness, in every seed."""
    plain, zero = (list(cells[v].values()) for v in VARIANTS)
    gain = [_distance(p) - _distance(z) for p, z in zip(plain, zero, strict=True)]
    data, expected = plain[0]["data_std"], plain[0]["gaussian_std"]
    ours = (
        f"std of mean brightness {plus_minus([c['std'] for c in plain], 3)} unscaled (predicted {expected:.3f}), "
        f"{plus_minus([c['std'] for c in zero], 3)} rescaled, data {data:.3f}"
    )
    notes = {
        "distance": {v: [_distance(c) for c in cells[v].values()] for v in VARIANTS},
        "predicted_distance": {
            v: _distance(c, "predicted_quantiles") for v in VARIANTS for c in [*cells[v].values()][:1]
        },
    }
    return Finding(gain, ours, verdict(gain), notes)


def _panels(cells: Cells) -> list[dict[str, Any]]:
    known = next(iter(cells["scaled-linear"].values()))
    x = known["shares"]
    series: list[dict[str, Any]] = [
        {"name": variant if k == 0 else None, "x": x, "y": cell["quantiles"], "color": color}
        for color, variant in enumerate(VARIANTS)
        for k, cell in enumerate(cells[variant].values())
    ]
    series += [
        {"name": "data", "x": x, "y": known["data_quantiles"], "color": None},
        {"name": "scaled-linear, predicted", "x": x, "y": known["predicted_quantiles"], "color": None, "style": "--"},
    ]
    title = "mean brightness of pictures, one line per seed"
    return [{"title": title, "x": "share of pictures below", "y": "mean brightness", "series": series}]


CLAIM = Claim(
    name="zero-terminal-snr",
    paper="Lin et al. 2024",
    arxiv="2305.08891",
    promise="a schedule without zero terminal SNR makes pictures of medium brightness only; rescaled, dark and bright ones come back",
    figure="shown in pictures (Stable Diffusion)",
    measurement="zero-terminal-snr",
    variants=tuple(VARIANTS),
    recipe=_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
)
