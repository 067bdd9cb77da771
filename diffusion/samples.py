"""What sampling returns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..guidance import Guidance, for_picture
from ..samplers import Sampler
from ..schedules.parts import describe
from .filtered import Filtered
from .images import contact_sheet, save_png
from .whole_file import whole_file

__all__ = ["Samples", "file_names", "picture_settings"]

SHEET = 1024
"""Pictures on a sheet at most: those of the first slots. More could not be looked at, and would not fit in memory."""


@dataclass(frozen=True)
class Samples:
    """One entry per asked-for slot, in order.

    images: (N, C, H, W) in [-1, 1]; a slot that no filter would keep holds nan (with mark=True its picture); latents, of any size, of a
    model on latents without a decoder. seeds: int64 (N,). labels: int64 (N,), the null class where there was no label, or None. prompts:
    what each was asked for in words, or None. attempts: int64 (N,), how many attempts before this one were rejected. kept: bool (N,).
    evaluations: int64 (N, branches), of the network, lost attempts and filters included. branches: their names. scores: one (N,) tensor
    per filter, of the last attempt. settings: everything else that made these pictures, JSON-able. own: what of the settings is another
    for each picture, one mapping per picture; () where nothing is. filtered: every attempt, with scores and reasons, and what was
    rejected.
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
    filtered: Filtered = field(default_factory=Filtered)
    prompts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def settings_of(self, i: int) -> dict[str, Any]:
        """How picture i was made: `settings`, its seed, label, attempt, evaluations and scores."""
        return {
            **picture_settings(self.settings, self.own, i, self.seeds, self.labels),
            "attempt": int(self.attempts[i]),
            "evaluations": dict(zip(self.branches, self.evaluations[i].tolist(), strict=True)),
            "scores": {name: float(s[i]) for name, s in zip(self.filtered.names, self.scores, strict=True)},
            "kept": bool(self.kept[i]),
            "reason": self.reasons[i],
        }

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why the last attempt at each slot was rejected; "" where it was kept."""
        last = {t.slot: t.reason for t in self.filtered.tries}  # in the order of attempts
        return tuple(last.get(i, "") for i in range(len(self)))

    @property
    def pictured(self) -> Tensor:
        """Which slots hold a picture, bool (N,): those that were kept, and with mark=True all."""
        return self.kept | torch.full_like(self.kept, bool(self.settings.get("mark")))

    def save(self, folder: str | Path) -> list[Path]:
        """One PNG per picture, `seed-00000007.png`, with its settings, scores and verdict in the metadata; returns the paths.

        Two slots of one seed (other labels) are told apart by their place: `seed-00000007-12.png`. Of attempts, every one of which is in
        the table of `save_scores`, only the one that was kept becomes a file.
        """
        names = file_names(self.seeds.tolist())
        paths: list[Path] = []
        for i in self.pictured.nonzero().flatten().tolist():
            paths.append(Path(folder) / names[i])
            save_png(paths[-1], self.images[i], self.settings_of(i))
        return paths

    def sheet(self, columns: int = 8, captions: Sequence[str] | None = None, tile: int = 64) -> Image.Image:
        """The pictures (of the first 1,024 slots) in rows of `columns`, each with its seed and class, or the given captions, below."""
        groups: list[tuple[str, int]] = []
        if captions is None:
            one = self.prompts is not None and len(set(self.prompts)) == 1
            tile = max(tile, 128) if self.prompts is not None and not one else tile  # a prompt is wider than a class
            captions = self._captions(tile)
            told = " · prompt" if self.prompts is not None and not one else "" if self.labels is None else " · class"
            said = f"; all: {_cut(self.prompts[0], columns * tile - 140)}" if one and self.prompts else ""
            groups = [(f"below each: seed{told}{said}", columns)]
        count = min(len(self), SHEET)
        cut = [slice(i, min(i + columns, count)) for i in range(0, count, columns)]
        return contact_sheet(
            [self.images[c] for c in cut], captions=[captions[c] for c in cut], tile=tile,
            kept=[self.pictured[c] for c in cut], groups=groups, marked=[~self.kept[c] for c in cut],
        )  # fmt: skip

    def filter_sheet(self, columns: int = 8, tile: int = 64, most: int = 64) -> Image.Image:
        """What was kept above what was rejected, each with its score of the first filter and its seed (and attempt), worst first.

        Args:
            columns: pictures per row.
            tile: size of a picture in pixels.
            most: of each kind, those with the highest scores.

        Raises:
            ValueError: where no filter was asked.
        """
        if not self.filtered.names:
            raise ValueError("no filter was asked, so there is no score; give filters=[...]")
        seeds = self.seeds.tolist()
        good = [
            (float(self.scores[0][i]), _who(seeds[i], int(self.attempts[i])), i)
            for i in self.kept.nonzero().flatten().tolist()
        ]
        bad = []
        for i, place in enumerate(self.filtered.shown):
            t = self.filtered.tries[place]
            bad.append((t.scores[0], _who(seeds[t.slot], t.attempt), i))
        rows: list[Tensor] = []
        titles: list[str] = []
        captions: list[list[str]] = []
        for name, found, pictures in (("kept", good, self.images), ("rejected", bad, self.filtered.pictures)):
            # nan is worse than any number, and can't be ordered
            worst = sorted(found, key=lambda f: -math.inf if math.isnan(f[0]) else -f[0])[:most]
            for i in range(0, len(worst), columns):
                part = worst[i : i + columns]
                rows.append(torch.stack([pictures[at].cpu() for *_, at in part]))
                titles.append(name if i == 0 else "")
                captions.append([f"{score:.2g}: {seed}" for score, seed, _ in part])
        shown = ", ".join(f"{min(len(f), most)} of {n}" for f, n in ((good, len(good)), (bad, self.filtered.rejected)))
        tried = "/attempt" * any("/" in f[1] for f in (*good, *bad))
        heading = f"below each: {self.filtered.names[0]}'s score{self._limits}: seed{tried} (shown {shown})"
        return contact_sheet(rows, titles, captions, tile, groups=[(heading, columns)])

    @property
    def _limits(self) -> str:
        """What the first filter keeps, in words."""
        least, most = self.filtered.bounds[0] if self.filtered.bounds else (-math.inf, math.inf)
        said = [f"{name} {v:.3g}" for name, v in (("least", least), ("most", most)) if math.isfinite(v)]
        return f" (kept: {', '.join(said)})" if said else ""

    def save_scores(self, path: str | Path) -> None:
        """A CSV with a line per attempt: slot, seed, label, attempt, kept, a score per filter, reason."""
        with whole_file(path) as temporary:
            self.filtered.save_csv(
                temporary, self.seeds.tolist(), None if self.labels is None else self.labels.tolist()
            )

    def _captions(self, tile: int) -> list[str]:
        seeds = [str(s) for s in self.seeds.tolist()]
        if self.prompts is not None:
            if len(set(self.prompts)) == 1:
                return seeds
            return [_cut(f"{s} · {p}", tile) for s, p in zip(seeds, self.prompts, strict=True)]
        if self.labels is None:
            return seeds
        named = ["none" if v == self.settings.get("null_class") else str(v) for v in self.labels.tolist()]
        return [f"{s} · {v}" for s, v in zip(seeds, named, strict=True)]

    def save_sheet(self, path: str | Path, columns: int = 8) -> None:
        """The sheet as a PNG with the settings of its pictures in its metadata."""
        settings = {**self.settings, "pictures": [self.settings_of(i) for i in range(min(len(self), SHEET))]}
        save_png(Path(path), self.sheet(columns), settings)


def _cut(text: str, pixels: int) -> str:
    """A text in one line of so many pixels, as the captions' letters are wide."""
    line, most = " ".join(text.split()), max(pixels // 6, 4)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def own_settings(
    count: int,
    also: Mapping[str, Sequence[int | str | None]],
    guidance: Guidance,
    sampler: Sampler,
    prompts: Sequence[str] | None = None,
) -> tuple[dict[str, Any], ...]:
    """What of the settings is another for each picture: prompt, labels of further branches, and its own of a number per picture.

    Args:
        count: of pictures.
        also: their labels, by branch.
        guidance, sampler: which may have numbers per picture.
        prompts: one per picture, of a model that knows texts.
    """
    parts = {"guidance": guidance, "sampler": sampler}
    parts = {name: part for name, part in parts.items() if for_picture(part, 0) is not part}
    if not also and not parts and prompts is None:
        return ()
    labels = [{"also": {name: given[i] for name, given in also.items()}} if also else {} for i in range(count)]
    words = [{} if prompts is None else {"prompt": prompts[i]} for i in range(count)]
    return tuple(
        {**words[i], **labels[i], **{name: describe(for_picture(part, i)) for name, part in parts.items()}}
        for i in range(count)
    )


def picture_settings(
    settings: Mapping[str, Any], own: Sequence[Mapping[str, Any]], slot: int, seeds: Tensor, labels: Tensor | None
) -> dict[str, Any]:
    """What is known of a picture before it is made.

    Args:
        settings, own, seeds, labels: see Samples.
        slot: which picture.
    """
    label = None if labels is None else int(labels[slot])
    return {**settings, **(own[slot] if own else {}), "seed": int(seeds[slot]), "label": label}


def file_names(seeds: Sequence[int]) -> list[str]:
    """The file of each picture: by its seed, and its place where several slots have that seed.

    Args:
        seeds: of all slots.
    """
    times = Counter(seeds)
    return [f"seed-{seed:08d}" + (f"-{i}" if times[seed] > 1 else "") + ".png" for i, seed in enumerate(seeds)]


def empty(count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """Slots that are not filled yet."""
    return torch.full((count, *shape), torch.nan, device=device)


def _who(seed: int, attempt: int) -> str:
    """A picture's name on a sheet: its seed, and which attempt at it, where it is not the first."""
    return f"{seed}/{attempt}" if attempt else f"{seed}"
