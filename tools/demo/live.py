"""One visitor's pictures while they are made: what is known so far, as tiles and in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model
from ...diffusion.filtered import Filtered, summed_up
from ...diffusion.prompts import Decoder
from ...diffusion.samples import Samples, file_names
from ...samplers.refill import Glimpse
from .encoded import data_uri
from .form import Asked
from .gathered import Attempt, Gathered
from .preview import LARGEST, Preview, as_pictures
from .running import Halt
from .thresholds import unbounded
from .tiles import State, Tile, scored, shown_size, table, tile

__all__ = ["CARRIED", "Live", "at_once"]

# numbers of a batch's x: large pictures go a few at a time, so that memory lasts and the first are finished early
_NUMBERS = 2**18
CARRIED = 24 * 2**20
"""Characters of finished pictures that travel in the page; beyond, tiles show smaller ones, and the files are in the ZIP."""


def at_once(model: Model) -> int:
    """How many pictures a batch has."""
    numbers = 1
    for side in model.shape:
        numbers *= side
    return max(1, min(64, _NUMBERS // numbers))


@dataclass(eq=False)
class _Halting:
    """A decoder that looks at the flag before each picture, and tells the preview what became of latents."""

    vae: Decoder
    flag: Halt
    preview: Preview

    def decode(self, x: Tensor) -> Tensor:
        self.flag.check()
        pictures = self.vae.decode(x)
        if self.preview.colours is not None:
            self.preview.colours.learn(x, pictures)
        return pictures

    def picture_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.vae.picture_shape(shape)


@dataclass(eq=False)
class Live:
    """Pictures that are made; written to by the thread that makes them, and read by the one that shows them.

    model: that is sampled. asked: what for. preview: how its x0 is looked at. flag: that stops it. gathered: what is finished. began:
    when sampling did, in seconds. at: the step that was made last, and how many there are.
    """

    model: Model
    asked: Asked
    preview: Preview
    flag: Halt
    gathered: Gathered = field(default_factory=Gathered)
    began: float = field(default_factory=time.perf_counter)
    at: tuple[int, int] = (0, 0)
    _sources: dict[int, tuple[Attempt, str, bool]] = field(default_factory=dict)
    _believed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.filtered: Filtered = summed_up(self.asked.filters, (), ())
        channels, height, width = self.model.picture_shape
        _, _, self._height, self._width = as_pictures(torch.zeros(1, channels, height, width)).shape
        self._names = file_names(self.asked.seeds)
        self.count = len(self.asked.seeds)

    def work(self, say: Callable[[Glimpse], None]) -> Samples:
        """Make them.

        Args:
            say: shown every step; ends the work by an exception.
        """
        self.preview.begin(self.model)
        model = self.model
        if model.vae is not None:
            model = replace(model, vae=_Halting(model.vae, self.flag, self.preview))
        self.began = time.perf_counter()
        arguments = {"batch": at_once(model), **self.asked.arguments()}

        def watch(glimpse: Glimpse) -> None:
            self.at = glimpse.step.index + 1, glimpse.steps  # of every step, though not every one is shown
            say(glimpse)

        return model.sample(**arguments, folder=self.gathered, watch=watch)

    def tiles(self, glimpse: Glimpse | None, over: bool) -> list[str]:
        """One piece of HTML per slot, and one for what all have in common once it is over.

        Args:
            glimpse: the step that was made last; None: none yet.
            over: whether nothing is made any more.
        """
        height, width, crisp = shown_size(self._height, self._width, self.count)
        running: dict[int, int] = {}
        if glimpse is not None and not over:
            slots, attempts = glimpse.slots.tolist(), glimpse.attempts.tolist()
            running = {s: a for s, a in zip(slots, attempts, strict=True) if not self._finished(s, a)}
            if running:
                most = min(LARGEST, max(64, 2 * max(height, width)))
                seen = self.preview(glimpse.x0, most)
                for row, slot in enumerate(slots):
                    if slot in running:
                        self._believed[slot] = data_uri(seen[row], kind="png" if crisp else "webp")
        found: list[str] = []
        for slot, seed in enumerate(self.asked.seeds):
            made = self.gathered.latest.get(slot)
            base = Tile(
                seed,
                self._what(slot),
                "waiting",
                width,
                height,
                self._believed.get(slot, ""),
                crisp,
                label=self._label(slot),
            )
            if slot in running:
                base = replace(base, state="running", attempt=running[slot])
            elif made is not None:
                base = self._made(base, slot, made, over)
            elif over:
                base = replace(base, state="stopped")
            found.append(tile(base))
        job = getattr(self.gathered, "job", None)
        return [*found, table(job.settings, "sf-shared") if over and job is not None else ""]

    def _finished(self, slot: int, attempt: int) -> bool:
        made = self.gathered.latest.get(slot)
        return made is not None and made.attempt >= attempt

    def _made(self, base: Tile, slot: int, made: Attempt, over: bool) -> Tile:
        """The tile of an attempt that is finished."""
        retried = not made.kept and not self.asked.mark and made.attempt < self.asked.retries and not over
        dropped = over and not made.shown and made.attempt < self.asked.retries  # by Stop, before it was tried again
        lost = not made.shown and not retried and not dropped
        state: State = "again" if retried else "lost" if lost else "kept" if made.kept else "rejected"
        state = "dropped" if dropped else state
        state = "made" if not self.filtered.names else state
        judged = len(unbounded(self.filtered)) < len(self.filtered.names)
        state = "scored" if state == "kept" and not judged else state
        named = zip(self.filtered.names, self.filtered.bounds, made.scores, strict=True)
        rows = {**self.gathered.job.own[slot]} if self.gathered.job.own else {}
        own = self.settings(slot, made)
        rows = {
            k: own[k]
            for k in ("seed", "label", *rows, "attempt", "evaluations", "scores", "kept", "reason")
            if k in own and (judged or k not in ("kept", "reason"))
        }
        source, whole = self._source(slot, made, not made.shown)
        return replace(
            base, state=state, attempt=made.attempt, reason=made.reason, rows=rows, source=source,
            scores=[scored(name, score, bounds) for name, bounds, score in named],
            name=self._names[slot] if whole else "", elsewhere=made.shown and not whole,
        )  # fmt: skip

    def _source(self, slot: int, made: Attempt, lost: bool) -> tuple[str, bool]:
        """The picture of an attempt, encoded once, and whether it is the whole file with its settings."""
        there = self._sources.get(slot)
        if there is None or there[0] is not made:
            picture = self.preview.finished(made.picture[None])[0]
            room = sum(len(uri) for _, uri, _ in self._sources.values()) < CARRIED
            whole = room and not lost
            uri = (
                data_uri(picture, self.settings(slot, made))
                if whole
                else data_uri(self.preview.small(picture), kind="webp")
            )
            there = self._sources[slot] = made, uri, whole
        return there[1:]

    def settings(self, slot: int, made: Attempt) -> dict[str, Any]:
        """How a picture was made, as `Samples.settings_of` says it."""
        job = self.gathered.job
        return {
            **job.of(slot), "attempt": made.attempt, "evaluations": dict(zip(job.branches, made.spent, strict=True)),
            "scores": dict(zip(job.filters, made.scores, strict=True)), "kept": made.kept, "reason": made.reason,
        }  # fmt: skip

    def _label(self, slot: int) -> str:
        """The class of a slot as the form has it."""
        labels = self.asked.labels
        return "" if labels is None else "none" if labels[slot] is None else str(labels[slot])

    def _what(self, slot: int) -> str:
        """The class or the prompt of a slot, in words."""
        asked = self.asked
        if asked.prompts is not None:
            return asked.prompts[slot]
        if asked.labels is None:
            return ""
        return "no class" if asked.labels[slot] is None else f"class {asked.labels[slot]}"
