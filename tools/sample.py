"""`sfumato sample`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..diffusion import load
from ..guidance import Guidance
from ..samplers import Sampler
from ..samplers.filters import Filter
from ..schedules import Grid
from .arguments import read_config
from .command import help_text, parse
from .folders import free_folder

__all__ = ["Sample", "numbers", "own_parts", "run"]

MOST = 1_000_000


@dataclass(frozen=True)
class Sample:
    """Draw pictures from a run: one PNG per seed, and a sheet of all.

    Args:
        run: the run folder.
        seeds: one picture each: 0-15, 3,5,9 or 7.
        labels: classes, as seeds; fewer than seeds are repeated in turn. null: no class.
        steps: how many; null: the run's own.
        sampler: the method; null: the run's own.
        grid: the levels; null: the run's own.
        guidance: the rule; null: the run's own.
        filters: rejected pictures are tried again; may be given several times.
        retries: how often a rejected picture is tried again.
        batch: pictures at a time.
        strict: the same picture to the last bit, however many are asked for at once.
        brownian: a stochastic sampler follows one Brownian motion, so its pictures converge as steps are added.
        out: folder of the pictures; null: RUN/pictures, or RUN/pictures-2, ... when that holds some.
        columns: of the sheet.
        ema: the averaged weights.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    seeds: str = "0-15"
    labels: str | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()
    retries: int = 8
    batch: int = 64
    strict: bool = False
    brownian: bool = False
    out: str | None = None
    columns: int = 8
    ema: bool = True
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"columns is {self.columns}; allowed: >= 1")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; allowed: >= 1, or null")


def numbers(text: str, name: str) -> list[int]:
    """0-3,7 -> [0, 1, 2, 3, 7].

    Raises:
        ValueError: naming the option and what is allowed.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError(f"{name} is {text!r}; allowed: whole numbers and ranges, such as 0-15 or 3,5,9")
        stop = int(last if dash else first) + 1
        if len(found) + stop - int(first) > MOST:
            raise ValueError(f"{name} is {text!r}: more than {MOST} numbers")
        found += range(int(first), stop)
    return found


def own_parts(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The run's own sampler, grid and guidance where only arguments of them are given, such as --guidance.scale 3."""
    said = {key for key, _ in pairs}
    wanted = {key.split(".")[0] for key in said if "." in key} - said
    config = Path(str(dict(pairs).get("run", ""))) / "config.yaml"
    if not wanted or not config.is_file():
        return {}
    own = read_config(str(config))
    return {key: own[key] for key in wanted if key in own}


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato sample RUN [--seeds 0-15] [--labels 3] [--steps 20] [--sampler NAME ...]", Sample, None, argv
            )
        )
        return 0
    options, _ = parse(argv, Sample, ("run",), base=own_parts)
    import torch

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    out = free_folder(Path(options.run) / "pictures", "samples.json") if options.out is None else Path(options.out)
    if out.is_file() or (out / "samples.json").exists():
        raise ValueError(
            f"out is {str(out)!r}, which {'is a file' if out.is_file() else 'holds pictures already'}; choose another folder"
        )
    seeds = numbers(options.seeds, "seeds")
    model = load(options.run, ema=options.ema, device=options.device, allow=options.allow)
    found = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)  # found out before the work, not after it
    labels = None
    if options.labels is not None:
        given = numbers(options.labels, "labels")
        labels = [given[i % len(given)] for i in range(len(seeds))]
    try:
        samples = model.sample(
            seeds, labels, steps=options.steps, sampler=options.sampler, grid=options.grid, guidance=options.guidance,
            filters=options.filters, retries=options.retries, batch=options.batch, strict=options.strict,
            brownian=options.brownian, progress=True,
        )  # fmt: skip
    except ValueError:
        if not found:  # nothing was made
            out.rmdir()
        raise
    paths = samples.save(out)
    samples.save_sheet(out / "sheet.png", options.columns)
    (out / "samples.json").write_text(json.dumps([samples.settings_of(i) for i in range(len(samples))], indent=1))
    print(f"{len(paths)} pictures in {out}, all of them in {out / 'sheet.png'}")
    lost = int((~samples.kept).sum())
    if lost:
        print(f"{lost} of {len(samples)} slots ran out of retries and are crossed out on the sheet")
    per_slot = samples.evaluations.double().mean(0).tolist()
    print(
        "evaluations per picture: " + ", ".join(f"{n} {v:g}" for n, v in zip(samples.branches, per_slot, strict=True))
    )
    return 0
