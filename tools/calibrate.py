"""`sfumato calibrate`: thresholds of a filter, from real pictures that the model was not trained on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..diffusion import Found, Model, Samples, Source, calibrate, load
from ..diffusion.calibrate import Condition
from ..diffusion.prepared import trained_on
from ..diffusion.probe_level import CUT, NoLevel
from ..diffusion.split import held_out, shared
from ..guidance import Guidance
from ..samplers import Sampler
from ..samplers.filters import Calibrated, ExcessError, Filter, RenoiseProbe
from ..samplers.filters.conformal import Sides
from ..schedules import Grid
from ..schedules.parts import build, describe
from .arguments import read_config, split
from .calibrate_report import draw, lines
from .command import flags_of, help_text, parse
from .folders import free_file, ready_folder
from .sample import own_parts

__all__ = ["CalibrateFilter", "run"]


@dataclass(frozen=True)
class CalibrateFilter:
    """Find a filter's thresholds from real pictures, so that a real one is rejected with probability <= alpha; no labels are needed.

    That is all that is promised: neither how many bad samples are rejected, nor how many good ones are kept.

    Args:
        run: the run folder.
        alpha: share of real pictures that may be rejected, above 0 and below 1.
        filter: which one; RenoiseProbe without a level gets one by the first crossing. null: that, or ExcessError, which needs no level,
            where there is none (most pictures).
        sides: "upper": high scores are rejected. "both": low ones too (empty pictures).
        margin: how far beyond the guaranteed bounds the thresholds are put, as a factor >= 1; rejects less of everything.
        data: real pictures; null: those that the run held out (--data Split when it was trained), else those that it was trained on.
        count: of them, at most.
        condition: what the model is told of them: their "labels", or "none"; null: labels where it knows some.
        cut: ratio of the 99th percentile of the round-trip error to its median, at which a level is too noisy for RenoiseProbe.
        steps: how many, for a filter that watches trajectories; null: the run's own.
        sampler: the method, likewise; also of the samples that are checked.
        grid: the levels, likewise.
        guidance: the rule, likewise.
        check: samples of the model that are scored afterwards, to see how many are rejected; 0: none.
        batch: pictures at a time, >= 1.
        seed: of the choice of pictures and of the noise.
        out: folder; null: RUN/filters.
        ema: the averaged weights.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    alpha: float = 0.01
    filter: Filter | None = None
    sides: Sides = "upper"
    margin: float = 1.0
    data: Source | None = None
    count: int = 2000
    condition: Condition | None = None
    cut: float = CUT
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    check: int = 100
    batch: int = 64
    seed: int = 0
    out: str | None = None
    ema: bool = True
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("check", 0), ("batch", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; allowed: >= {least}")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha is {self.alpha}; allowed: above 0 and below 1")
        if not 1.0 <= self.margin < float("inf"):
            raise ValueError(f"margin is {self.margin}; allowed: a finite number >= 1")
        if not self.cut > 1.0:
            raise ValueError(f"cut is {self.cut}; allowed: above 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")


def _data(options: CalibrateFilter) -> tuple[Source, bool, str]:
    """The real pictures, whether the model was not trained on them, and what they are, for people."""
    config = read_config(str(Path(options.run) / "config.yaml"))
    trained: Source = trained_on(Path(options.run), build(config["data"], options.allow, "data"))
    if options.data is not None:
        if not shared(trained, options.data):
            rest = held_out(trained)
            own = rest is not None and rest.fingerprint == options.data.fingerprint
            return options.data, True, "that the run held out" if own else "of --data, taken to be new to the model"
        same = options.data.fingerprint == trained.fingerprint
        return options.data, False, f"that it was trained on{'' if same else ', at least some'}"
    held = held_out(trained)
    return (trained, False, "that it was trained on") if held is None else (held, True, "that the run held out")


def _found(model: Model, source: Source, held: bool, options: CalibrateFilter) -> Found:
    """The calibration of the filter that was asked for, or of the one that suits these pictures."""

    def of(judge: Filter) -> Found:
        return calibrate(
            model, judge, source, held_out=held, alpha=options.alpha, sides=options.sides, margin=options.margin, count=options.count,
            condition=options.condition, cut=options.cut, steps=options.steps, sampler=options.sampler, grid=options.grid,
            guidance=options.guidance, batch=options.batch, seed=options.seed, progress=True,
        )  # fmt: skip

    if options.filter is not None:
        describe(options.filter)  # what can't be saved is refused before the work
        return of(options.filter)
    try:
        return of(RenoiseProbe())
    except NoLevel as error:
        print(
            "these pictures have no level for RenoiseProbe, so ExcessError is calibrated, which sees a part of what does not fit together "
            f"as a whole: {error}"
        )
        return of(ExcessError())


def _checked(model: Model, found: Found, options: CalibrateFilter) -> Samples | None:
    """Samples of the model, scored."""
    if not options.check:
        return None
    labels = None
    if found.calibration.condition == "labels":
        labels = [i % model.num_classes for i in range(options.check)]
    return model.sample(
        range(options.check), labels, steps=options.steps, sampler=options.sampler, grid=options.grid, guidance=options.guidance,
        filters=[Calibrated(found.calibration)], mark=True, batch=options.batch, progress=True,
    )  # fmt: skip


def _words(options: CalibrateFilter, argv: Sequence[str], model: Model, file: Path, found: Found) -> str:
    """The words that sample with what was found, as was calibrated."""
    pairs = split(argv, flags_of(CalibrateFilter))[1]
    kept = [(k, v) for k, v in pairs if k.split(".")[0] in ("steps", "sampler", "grid", "guidance", "ema", "allow")]
    labels = ["--labels", f"0-{model.num_classes - 1}"] if found.calibration.condition == "labels" else []
    same = [word for k, v in kept for word in (f"--{k}", "true" if v is True else str(v))]
    return shlex.join(
        [
            "sfumato",
            "sample",
            options.run,
            *labels,
            *same,
            "--filters",
            "Calibrated",
            "--filters.calibration",
            str(file),
        ]
    )


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text("sfumato calibrate RUN [--alpha 0.01] [--filter RenoiseProbe] ...", CalibrateFilter, None, argv)
        )
        return 0
    options, _ = parse(argv, CalibrateFilter, ("run",), base=own_parts)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    out = Path(options.run) / "filters" if options.out is None else Path(options.out)
    if out.is_file():
        raise ValueError(f"out is {str(out)!r}, which is a file; give a folder")
    model = load(options.run, ema=options.ema, device=options.device, allow=options.allow)
    # found out before the work, not after it; what was not there is taken away again if nothing is made
    made = ready_folder(out, "out")
    try:
        source, held, what = _data(options)
        found = _found(model, source, held, options)
        samples = _checked(model, found, options)
    except BaseException:
        for folder in made:
            folder.rmdir()
        raise
    name = type(found.calibration.filter).__name__
    file = free_file(out / f"{name}.json")
    report = _report(model, source, found, samples)
    found.calibration.save(out / f".{file.name}", report)
    os.replace(out / f".{file.name}", file)
    print("\n".join(lines(found, what, samples)))
    walked = (
        f"samples: {samples.settings['steps']} steps of {options.sampler or model.sampler}"
        if samples is not None
        else ""
    )
    title = f"{options.run}: {name}, alpha {options.alpha:g}, {found.calibration.count} real pictures {what}\n{walked}".strip()
    drawn = draw(found, samples, options.cut, title, file.with_suffix(".png"))
    if samples is not None:
        samples.filter_sheet().save(out / f"{file.stem}-samples.png")
        print(f"pictures: {out / f'{file.stem}-samples.png'}")
    print(
        f"figure: {file.with_suffix('.png')}"
        if drawn
        else "no figure: matplotlib is not installed (pip install 'sfumato[plots]')"
    )
    print(f"numbers: {file}\nuse it: {_words(options, argv, model, file, found)}")
    return 0


def _report(model: Model, source: Source, found: Found, samples: Samples | None) -> dict[str, Any]:
    """What is kept beside the calibration."""
    share = torch.linspace(0, 1, 101, dtype=torch.float64)
    return {
        "source": dict(model.source), "data": describe(source),
        "curve": [{**p._asdict(), "ratio": p.ratio} for p in found.curve],
        "scores": torch.quantile(found.scores.double(), share).tolist(),
        "evaluations": {"level": found.evaluations[0], "score": found.evaluations[1]},
        "checked": None if samples is None else {
            "samples": len(samples), "rejected": samples.filtered.rejected, "rate": samples.filtered.rate,
            "confidence": samples.filtered.interval, "estimate": samples.filtered.estimate,
        },
    }  # fmt: skip
