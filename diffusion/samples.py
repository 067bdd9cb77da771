"""What sampling returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..guidance import Guidance, for_picture
from ..samplers import Sampler
from ..schedules.parts import describe
from .images import contact_sheet, save_png

__all__ = ["Samples"]


@dataclass(frozen=True)
class Samples:
    """One entry per asked-for slot, in order.

    images: (N, C, H, W) in [-1, 1]; a slot that no filter would keep holds nan. seeds: int64 (N,). labels: int64 (N,), the null
    class where there was no label, or None. attempts: int64 (N,), how many attempts before this one were rejected.
    kept: bool (N,). evaluations: int64 (N, branches), of the network, lost attempts included. branches: their names.
    scores: one (N,) tensor per filter. settings: everything else that made these pictures, JSON-able. own: what of the settings is
    another for each picture, one mapping per picture; () where nothing is.
    """

    images: Tensor
    seeds: Tensor
    labels: Tensor | None
    attempts: Tensor
    kept: Tensor
    evaluations: Tensor
    branches: tuple[str, ...]
    scores: tuple[Tensor, ...]
    settings: dict[str, Any]
    own: tuple[dict[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def settings_of(self, i: int) -> dict[str, Any]:
        """How picture i was made: `settings`, its seed, label, attempt, evaluations and scores."""
        return {
            **self.settings,
            **(self.own[i] if self.own else {}),
            "seed": int(self.seeds[i]),
            "label": None if self.labels is None else int(self.labels[i]),
            "attempt": int(self.attempts[i]),
            "evaluations": dict(zip(self.branches, self.evaluations[i].tolist(), strict=True)),
            "scores": [float(s[i]) for s in self.scores],
        }

    def save(self, folder: str | Path) -> list[Path]:
        """One PNG per kept picture, `seed-00000007.png`, with its settings in the metadata; returns the paths.

        Two slots of one seed (other labels) are told apart by their place: `seed-00000007-12.png`.
        """
        seeds = self.seeds.tolist()
        times = Counter(seeds)
        paths: list[Path] = []
        for i in self.kept.nonzero().flatten().tolist():
            name = f"seed-{seeds[i]:08d}" + (f"-{i}" if times[seeds[i]] > 1 else "")
            paths.append(Path(folder) / f"{name}.png")
            save_png(paths[-1], self.images[i], self.settings_of(i))
        return paths

    def sheet(self, columns: int = 8, captions: Sequence[str] | None = None, tile: int = 64) -> Image.Image:
        """All pictures in rows of `columns`, each with its seed and class, or the given captions, below."""
        groups: list[tuple[str, int]] = []
        if captions is None:
            captions = self._captions()
            groups = [("below each: seed" if self.labels is None else "below each: seed · class", columns)]
        cut = [slice(i, i + columns) for i in range(0, len(self), columns)]
        return contact_sheet(
            [self.images[c] for c in cut], captions=[captions[c] for c in cut], tile=tile,
            kept=[self.kept[c] for c in cut], groups=groups,
        )  # fmt: skip

    def _captions(self) -> list[str]:
        seeds = [str(s) for s in self.seeds.tolist()]
        if self.labels is None:
            return seeds
        named = ["none" if v == self.settings.get("null_class") else str(v) for v in self.labels.tolist()]
        return [f"{s} · {v}" for s, v in zip(seeds, named, strict=True)]

    def save_sheet(self, path: str | Path, columns: int = 8) -> None:
        """The sheet as a PNG with all settings in its metadata."""
        settings = {**self.settings, "pictures": [self.settings_of(i) for i in range(len(self))]}
        save_png(Path(path), self.sheet(columns), settings)


def own_settings(
    count: int, also: Mapping[str, Sequence[int | None]], guidance: Guidance, sampler: Sampler
) -> tuple[dict[str, Any], ...]:
    """What of the settings is another for each picture: its labels of further branches, and its own of a number per picture.

    Args:
        count: of pictures.
        also: their labels, by branch.
        guidance, sampler: which may have numbers per picture.
    """
    parts = {"guidance": guidance, "sampler": sampler}
    parts = {name: part for name, part in parts.items() if for_picture(part, 0) is not part}
    if not also and not parts:
        return ()
    labels = [{"also": {name: given[i] for name, given in also.items()}} if also else {} for i in range(count)]
    return tuple(
        {**labels[i], **{name: describe(for_picture(part, i)) for name, part in parts.items()}} for i in range(count)
    )


def empty(count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Slots that are not filled yet."""
    return torch.full((count, *shape), torch.nan, device=device)
