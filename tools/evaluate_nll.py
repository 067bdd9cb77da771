"""`sfumato evaluate RUN --nll`: bits per dimension of the data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from ..diffusion import Source, load
from ..diffusion.measuring.likelihood import bound_grid, likelihood
from ..diffusion.prepared import trained_on
from ..schedules import Grid
from ..schedules.parts import build, describe
from .arguments import read_config
from .command import help_text, parse
from .sample import own_parts

__all__ = ["BitsPerDimension", "run"]


@dataclass(frozen=True)
class BitsPerDimension:
    """Measure how many bits a run needs per number of its data.

    Args:
        run: the run folder.
        nll: which says that this is measured, by the variational bound of the ancestral sampler.
        data: of which; null: those that the run was trained on.
        count: how many samples, from the first; null: all.
        steps: of the bound, >= 2; more are tighter.
        grid: levels of the bound; null: a table's entries, or uniform in log-SNR down to noise of a sixth of a bin.
        terms: steps of the bound that are evaluated per sample, at random and unbiased; null: all.
        bins: values that a number of the data can take, over [-1, 1]; 0: continuous data; null: as the data say (8-bit images 256).
        fixed: variance of a network that learns none: "large" or "small".
        seed: of the noise.
        batch: samples at a time, >= 1.
        out: JSON file; null: RUN/nll.json.
        ema: the averaged weights.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    nll: bool = False
    data: Source | None = None
    count: int | None = None
    steps: int = 1000
    grid: Grid | None = None
    terms: int | None = None
    bins: int | None = None
    fixed: Literal["large", "small"] = "large"
    seed: int = 0
    batch: int = 256
    out: str | None = None
    ema: bool = True
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("threads", 1), ("bins", 0), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; allowed: >= {least}{'' if name == 'batch' else ', or null'}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.bins == 1:
            raise ValueError("bins is 1; allowed: 0 (continuous data), or >= 2")


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato evaluate RUN --nll [--steps 1000] [--terms 50] ...", BitsPerDimension, None, argv))
        return 0
    options, _ = parse(argv, BitsPerDimension, ("run",), base=_own_data)
    out = Path(options.run) / "nll.json" if options.out is None else Path(options.out)
    if out.is_dir():
        raise ValueError(f"out is {str(out)!r}, which is a folder; give the name of a JSON file")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = load(options.run, ema=options.ema, device=options.device, allow=options.allow)
    trained = options.data is None
    source: Source = options.data or trained_on(
        Path(options.run), build(read_config(str(Path(options.run) / "config.yaml"))["data"], options.allow, "data")
    )
    if tuple(source.shape) != tuple(model.shape):
        raise ValueError(f"data are {source.shape}, the model was trained on {tuple(model.shape)}")
    if options.count is not None and options.count > len(source):
        raise ValueError(
            f"count is {options.count}, the data have {len(source)}; allowed: at most that, or null for all"
        )
    count = options.count or len(source)
    own = getattr(source, "bins", None)
    if options.bins is None and own is None:
        raise ValueError(
            f"bins is null, and {type(source).__name__} does not say its own; give --bins 256, or 0 for continuous data"
        )
    bins = own if options.bins is None else options.bins or None
    out.parent.mkdir(parents=True, exist_ok=True)  # found out before the work, not after it
    schedule = model.denoiser.schedule
    grid = options.grid or bound_grid(schedule, bins)
    began = time.perf_counter()
    found = likelihood(
        model, source, torch.arange(count), steps=options.steps, grid=grid, terms=options.terms, bins=bins, fixed=options.fixed,
        seed=options.seed, batch=options.batch, progress=True,
    )  # fmt: skip
    parts = {name: float(getattr(found, name).double().mean()) for name in ("prior", "middle", "decoder")}
    error = found.error if math.isfinite(found.error) else None
    result = {
        "bits_per_dim": found.mean, "standard_error": error, **parts, "n": count, "bins": bins, "steps": options.steps,
        "grid": describe(grid),
        "terms": options.terms, "labels": bool(model.num_classes and source.num_classes),
        "variance": "learned" if found.learned else options.fixed, "seed": options.seed,
        "seconds": round(time.perf_counter() - began, 1), "data": describe(source), "trained_on": trained, **model.source,
        "schedule": describe(schedule), "version": version("sfumato"),
    }  # fmt: skip
    out.write_text(json.dumps(result, indent=1))
    spread = f" +- {error:.4f}" if error is not None else ""
    kind = f"{bins} values per number" if bins else "continuous data, differential"
    print(
        f"{found.mean:.4f}{spread} bits per dimension at most, of {count} samples ({kind}); +- is the standard error over them"
    )
    drawn = "all" if options.terms is None else f"{options.terms} per sample, at random"
    print(
        f"of these {parts['prior']:.4f} for the noisiest level, {parts['middle']:.4f} for {options.steps - 1} steps ({drawn}), "
        f"{parts['decoder']:.4f} for the last; the steps draw with the {result['variance']} variance, on {grid}"
    )
    if model.num_classes and not source.num_classes:
        print("the data have no labels: the model was asked for its null class")
    if trained:
        print("these are the data that the model was trained on; give --data for others")
    print(f"numbers: {out}")
    return 0


def _own_data(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The run's own data where only arguments of them are given, such as --data.part even."""
    return own_parts([(key, value) for key, value in pairs if key == "run" or key.split(".")[0] == "data"])
