"""`sfumato evaluate`: how good a model, or a folder of pictures, is, in numbers."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..diffusion import Source
from ..diffusion.backbones.attention import Backend
from ..diffusion.measuring import Extractor
from ..diffusion.vae import Precision
from ..guidance import Guidance
from ..samplers import Sampler
from ..samplers.filters import Filter
from ..schedules import Grid
from .arguments import split
from .command import flags_of, help_text, parse
from .parts import choices
from .sample import own_parts
from .spelling import UsageError
from .stopping import Stopped, stopping

__all__ = ["Evaluate", "run"]


@dataclass(frozen=True)
class Evaluate:
    """Measure how near pictures are to real ones: those of a model, which are made first, or of a folder.

    Args:
        run: a run folder, a folder of diffusers or a published checkpoint; or a folder of pictures.
        nll: bits per dimension of a run's data instead; --nll --help lists its own options.
        reference: real pictures: a data set, its arguments dotted (--reference ImageFolder --reference.root photos), the path of a folder
            of pictures, or of an .npz of statistics; null: the data that the run was trained on.
        reference_path: the folder, where --reference has another meaning.
        stats: the .npz of the reference's statistics, of which only the Frechet distance can be had.
        save_stats: .npz to write the statistics of the pictures to, which pytorch-fid reads too; then no reference is needed, and of a
            folder without one nothing else is measured, so it may hold any number of pictures.
        extractor: who looks; may be given several times; none: the digits classifier for the digits, else the pixels.
        classifier: who tells classes; null: the extractor, if it does.
        measures: which, as kid,precision; null: all that can be had.
        count: pictures per set that are made; of a folder those that are taken, from the first; null: 10,000, or all.
        seeds: sets of pictures, each of other seeds: every number then has a mean and a spread.
        first_seed: of the first set; each has the next `count`.
        labels: classes, as seeds (0-9), in turn; none: no class; null: as often as in the reference, or in turn.
        prompts: of a network that knows texts: one text, or a file (.txt) with a text per line, in turn.
        steps: how many; null: the run's own.
        sampler: the method; null: the run's own.
        grid: the levels; null: the run's own.
        guidance: the rule; null: the run's own.
        filters: rejected pictures are tried again; may be given several times.
        retries: how often a rejected picture is tried again.
        strict: the same pictures to the last bit, whatever the batch and the number of processes.
        pictures: folder to keep the pictures in; null: one in RUN/evaluation, which the same command finds again.
        k: neighbours of precision, recall, density and coverage.
        seed: of measures that draw.
        size: pixels to which the pictures of folders are cropped and resized; of networks that take any, what they make; null: their own.
        channels: of the pictures of folders, 1 (grey) or 3; null: their own.
        batch: pictures at a time, >= 1.
        out: folder of the report; null: RUN/evaluation, or evaluation/NAME of a folder.
        ema: the averaged weights: true, false, or the length of an average, see `sfumato sample`.
        vae: folder of the VAE that makes pictures of latents.
        text: folder where the run's text encoder is, when it is no longer where it was.
        scheduler: folder of the scheduler that a network of diffusers was trained with.
        precision: of the network: fp32, bf16, fp16.
        attention: by which back-end a network of ours attends.
        compile: compile the network's blocks, or the whole.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    nll: bool = False
    reference: Source | None = None
    reference_path: str | None = None
    stats: str | None = None
    save_stats: str | None = None
    extractor: Sequence[Extractor] = ()
    classifier: Extractor | None = None
    measures: str | None = None
    count: int | None = None
    seeds: int = 1
    first_seed: int = 0
    labels: str | None = None
    prompts: str | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()
    retries: int = 8
    strict: bool = False
    pictures: str | None = None
    k: int = 5
    seed: int = 0
    size: int | None = None
    channels: int | None = None
    batch: int = 64
    out: str | None = None
    ema: bool | float = True
    vae: str | None = None
    text: str | None = None
    scheduler: str | None = None
    precision: Precision = "fp32"
    attention: Backend = "auto"
    compile: Literal["blocks", "whole"] | None = None
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("count", 2), ("seeds", 1), ("batch", 1), ("k", 1), ("threads", 1), ("first_seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; allowed: >= {least}")
        given = [n for n in ("reference", "reference_path", "stats") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; allowed: one reference")


def _sorted_out(argv: Sequence[str]) -> list[str]:
    """The words with --reference PATH said as what it is: a folder, or statistics."""
    words, pairs = split(argv, flags_of(Evaluate))
    found: list[tuple[str, Any]] = []
    for key, value in pairs:
        if key == "reference" and isinstance(value, str) and value not in choices(Source):
            if value.endswith(".npz"):
                key = "stats"
            elif Path(value).is_dir():
                key = "reference_path"
            elif os.sep in value or (value.isidentifier() and value.islower()):  # no name of a class
                raise UsageError(
                    [
                        f"reference is {value!r}, where there is nothing; give a folder of pictures, or data: {', '.join(choices(Source))}"
                    ]
                )
        found.append((key, value))
    return [*words, *(f"--{key}" if value is True else f"--{key}={value}" for key, value in found)]


def run(argv: Sequence[str]) -> int:
    """The command."""
    if any(word == "--nll" or word.startswith("--nll=") for word in argv) and "--nll=false" not in argv:
        from .evaluate_nll import run as run_nll

        return run_nll(argv)
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato evaluate RUN|FOLDER --reference DATA [--count 10000] [--seeds 3] ...", Evaluate, None, argv
            )
        )
        return 0
    options, _ = parse(_sorted_out(argv), Evaluate, ("run",), base=own_parts)
    from .evaluate_work import work  # torchmetrics and more, which --help does not need

    try:
        with stopping():
            return work(options, shlex.join(["sfumato", "evaluate", *argv]))
    except Stopped as stopped:
        with suppress(OSError):
            print(
                f"sfumato evaluate: {stopped}; pictures that are finished are kept\n"
                f"go on with: {shlex.join(['sfumato', 'evaluate', *argv])}",
                file=sys.stderr,
            )
        return stopped.code
