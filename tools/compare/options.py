"""The options of `sfumato compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...diffusion import Source
from ...diffusion.backbones.attention import Backend
from ...diffusion.measuring import Extractor
from ...diffusion.vae import Precision
from ...guidance import Guidance
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ...schedules.parts import describe
from ..sample import numbers
from .outcome import Shared
from .settings import Settings

__all__ = ["Compare"]


@dataclass(frozen=True)
class Compare:
    """Sample one model in many ways, side by side: the same seeds in every cell, a labelled picture, and a table of what was measured.

    Args:
        run: a run folder, a folder of diffusers (a pipeline's or a network's), or a .safetensors file of DiT, ADM or EDM in its authors'
            own form.
        x: what differs from column to column: KEY=VALUE,VALUE,... Keys: sampler, grid, steps, guidance, interval (LOW:HIGH or none, put
            around the rule), filters (or none), seed, label, prompt, also.NAME, checkpoint, ema, weak, weak_step, and any argument of a
            part, such as sampler.eta, guidance.scale or filters.threshold. A part has its arguments as in Python: DDIM(eta=1),
            HeavyBall(base=DPMSolverPP(2), beta=0.8). 4..32..4 are numbers from 4 to 32, 0.1..0.5..0.1 too. KEY+KEY=A:1,B:2 moves several
            keys together: sampler+steps=DDIM:20,Heun:10. A text with commas stands in quotes.
        y: likewise from row to row; null: one row.
        seeds: how many sets of seeds are measured; two or more give mean and spread, three may name a winner. (Which seeds: first
            and count.)
        count: pictures per cell and set; null: 64, or 4 where they are larger than 64 pixels.
        first: the first seed; the others follow.
        show: pictures per cell that are shown, 1 to 4.
        labels: classes, 3 or 0-9, repeated in turn; null: all classes in turn; none: no class.
        prompts: of a network that knows texts: one text, or a file (.txt) with a text per line, repeated in turn.
        also: labels (or prompts) of further branches by name, as `sfumato sample` has them.
        vae: folder of the VAE that makes pictures of latents, for a network that was trained on them.
        text: folder where the run's text encoder is, when it is no longer where it was.
        weak: run folder of a weaker network, for Autoguidance.
        weak_step: its checkpoint of that optimizer step; null: the newest.
        checkpoint: of the run, that optimizer step; null: the newest.
        steps: how many; null: the run's own.
        sampler: the method; null: the run's own.
        grid: the levels; null: the run's own.
        guidance: the rule; null: the run's own.
        filters: rejected pictures are tried again; may be given several times.
        retries: how often a rejected picture is tried again.
        mark: rejected pictures stay, and nothing is tried again.
        reference: real pictures: a data set, its arguments dotted (--reference ImageFolder --reference.root photos), or the path of a
            folder, whose pictures are brought to the model's size; null: those that the run was trained on.
        reference_path: the folder, where --reference has another meaning.
        reference_count: how many of them at the most.
        extractor: whose features are compared; null: the digits classifier for 8x8 digits, raw pixels for other small pictures.
        frechet: whether an extractor looks at the pictures: Frechet distance to the real ones, and accuracy; false: neither is measured.
        fine_steps: of the fine solution, to which the distance is measured: DPM-Solver++ in so many steps, under the same rule, from the
            same noise; 0: no distance.
        near: pictures of each set whose distance is measured.
        brownian: a stochastic sampler follows one Brownian motion, so that its distance to its own fine solution can be measured.
        batch: pictures at a time.
        strict: the same picture to the last bit, however many are asked for at once.
        most: cells that are not refused.
        tile: width of a picture in the sheet, pixels; null: what suits.
        out: folder of the report; null: RUN/compare/AXES; of a model that is no run, compare/NAME/AXES.
        fresh: make everything again, also what is there.
        ema: the averaged weights: true, false, or a length; as for `sfumato sample`.
        scheduler: folder of the scheduler that a network of diffusers was trained with, where none is beside it.
        size: height and width of the pictures, pixels, for networks that take any; null: as they were trained.
        precision: of the network: fp32, bf16, fp16.
        attention: by which back-end a network of ours attends: auto, or one that `sfumato doctor` calls ok.
        compile: compile the network's blocks, or the whole; null: run it as it is written.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    x: str
    y: str | None = None
    seeds: str = "1"
    count: int | None = None
    first: int = 0
    show: int = 4
    labels: str | None = None
    prompts: str | None = None
    also: Mapping[str, Any] | None = None
    vae: str | None = None
    text: str | None = None
    weak: str | None = None
    weak_step: int | None = None
    checkpoint: int | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()
    retries: int = 8
    mark: bool = False
    reference: Source | None = None
    reference_path: str | None = None
    reference_count: int = 10_000
    extractor: Extractor | None = None
    frechet: bool = True
    fine_steps: int = 1000
    near: int = 16
    brownian: bool = False
    batch: int = 64
    strict: bool = False
    most: int = 400
    tile: int | None = None
    out: str | None = None
    fresh: bool = False
    ema: bool | float = True
    scheduler: str | None = None
    size: int | None = None
    precision: Precision = "fp32"
    attention: Backend = "auto"
    compile: Literal["blocks", "whole"] | None = None
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.seeds.isdecimal() or int(self.seeds) < 1:
            raise ValueError(
                f"seeds is {self.seeds!r}; here it is how many sets of seeds are measured, >= 1, such as 3; which pictures there are say "
                "--first and --count: seeds 0-15 are --first 0 --count 16"
            )
        least = {
            "count": 1,
            "show": 1,
            "threads": 1,
            "most": 1,
            "tile": 1,
            "reference_count": 2,
            "steps": 1,
            "first": 0,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"{name} is {value}; allowed: >= {bound}")
        if self.reference is not None and self.reference_path is not None:
            raise ValueError("reference and reference_path are given; allowed: one of them")
        for name in ("reference", "reference_path", "extractor"):
            if not self.frechet and getattr(self, name) is not None:
                raise ValueError(f"frechet is false and {name} is given; allowed: one of them; leave one out")
        if self.show > 4:
            raise ValueError(f"show is {self.show}; allowed: 1 to 4")
        if self.labels is not None and self.labels.lower() not in ("none", "null"):
            numbers(self.labels, "labels")
        self.shared(1)

    def shared(self, count: int) -> Shared:
        """What all cells share; `count`: pictures of each."""
        computed = {
            "attention": self.attention,
            "compile": self.compile,
            "precision": self.precision,
            "size": self.size,
        }
        return Shared(
            count, int(self.seeds), self.near, self.fine_steps, self.brownian, self.batch, self.strict, self.retries, self.mark, computed,
            self.allow,
        )  # fmt: skip

    def settings(self, own: Mapping[str, Any]) -> Settings:
        """The settings of all cells but for the axes; `own`: descriptions of the model's parts, as far as they are known."""
        parts = {
            name: own.get(name) if getattr(self, name) is None else describe(getattr(self, name))
            for name in ("sampler", "grid", "guidance")
        }
        return Settings(
            **parts, filters=describe(list(self.filters)), steps=self.steps or own.get("steps"), first=self.first, labels=self.labels,
            prompts=self.prompts, also=dict(self.also or {}), checkpoint=self.checkpoint, ema=self.ema, weak=self.weak,
            weak_step=self.weak_step,
        )  # fmt: skip
