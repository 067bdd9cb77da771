"""`sfumato guidance`: what of a run's guidance can be saved, measured and fitted."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Cosines, Model, fit_linear, load, measure_cosines
from ..guidance import CFG, Adaptive, Guidance, LinearAdaptive, Plain, rules_within
from ..samplers import Sampler
from ..schedules import Grid, Row
from ..schedules.parts import describe
from .arguments import split
from .command import flags_of, help_text, parse
from .guidance_report import BLOCKS, SPACES, adaptive_words, does_not_pay, draw, nearest, spread_of, table
from .sample import own_parts

__all__ = ["Calibrate", "run"]


@dataclass(frozen=True)
class Calibrate:
    """Measure where the guidance of a run matters, and fit the rules that save evaluations of it: Adaptive and LinearAdaptive.

    Args:
        run: the run folder, of a model with classes whose labels were dropped.
        scale: of CFG; null: that of the run's own guidance, or 3.
        steps: how many; null: the run's own.
        sampler: the method; null: the run's own. LinearAdaptive needs one that asks once per step.
        grid: the levels; null: the run's own.
        save: share of the evaluations that Adaptive shall save, above 0 and below 0.5.
        least: steps that Adaptive guides at the least, >= 1.
        plain: LinearAdaptive does not guide in the second half of the steps, instead of replacing the reference there.
        space: in which LinearAdaptive takes its sums; null: eps, or v where the path begins without data.
        trajectories: that are measured and fitted on, >= 2; seeds 0, 1, ...
        check: pictures on which the rules are verified, >= 1; of the seeds after those.
        batch: samples that the network sees at a time, >= 1.
        out: folder; null: RUN/guidance.
        ema: the averaged weights.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    scale: float | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    save: float = 0.25
    least: int = 1
    plain: bool = False
    space: Row | None = None
    trajectories: int = 200
    check: int = 100
    batch: int = 64
    out: str | None = None
    ema: bool = True
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("least", 1), ("trajectories", 2), ("check", 1), ("batch", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; allowed: >= {least}")
        if not 0.0 < self.save < 0.5:
            raise ValueError(
                f"save is {self.save}; allowed: above 0 and below 0.5 (the reference's are half of all evaluations)"
            )
        if self.scale is not None and not math.isfinite(self.scale):
            raise ValueError(f"scale is {self.scale}; allowed: a finite number")


def _own_scale(model: Model) -> float:
    """The scale of the CFG that the run is sampled with, or 3."""
    scales = (rule.scale for rule, _ in rules_within(model.guidance, CFG) if not isinstance(rule.scale, Sequence))
    return next((float(scale) for scale in scales if scale not in (0.0, 1.0)), 3.0)


def _verify(model: Model, options: Calibrate, rules: Mapping[str, tuple[Guidance, int]]) -> list[dict[str, Any]]:
    """Pictures under each rule, beside those under the first: evaluations per picture, and the distance in units of the data."""
    seeds = range(options.trajectories, options.trajectories + options.check)
    labels = [i % model.num_classes for i in range(options.check)]
    rows: list[dict[str, Any]] = []
    full: Tensor | None = None
    for name, (rule, steps) in rules.items():
        found = model.sample(
            seeds, labels, steps=steps, sampler=options.sampler, grid=options.grid, guidance=rule, batch=options.batch, progress=True,
            brownian=bool((options.sampler or model.sampler).draws),  # else other steps would draw other noise
        )  # fmt: skip
        full = found.images if full is None else full
        cost, apart = found.evaluations.sum(1), (found.images - full).double().flatten(1).square().mean(1)
        rows.append({
            "rule": name, "steps": steps, "evaluations": float(cost.double().mean()), "least": int(cost.min()), "most": int(cost.max()),
            "rms": float(apart.mean().sqrt()),
            "blocks": [float(block.mean().sqrt()) for block in apart.tensor_split(min(BLOCKS, len(apart)))],
        })  # fmt: skip
    return rows


def _thresholds(cosines: Cosines, options: Calibrate) -> tuple[dict[str, float], list[str]]:
    """The threshold per space, and why there is none in others."""
    found: dict[str, float] = {}
    notes: list[str] = []
    for name, values in cosines.values.items():
        if bool(values.isnan().any()):
            notes.append(f"no threshold in {name}: in the first step all networks say the same there")
        else:
            found[name] = cosines.threshold(name, options.save, options.least)
    return found, notes


def _same(argv: Sequence[str], folder: str, classes: int) -> list[str]:
    """The words that sample as was measured."""
    pairs = split(argv, flags_of(Calibrate))[1]
    kept = [(k, v) for k, v in pairs if k.split(".")[0] in ("steps", "sampler", "grid", "ema", "allow")]
    start = ["sfumato", "sample", folder, "--labels", f"0-{classes - 1}"]
    return [*start, *(word for k, v in kept for word in (f"--{k}", "true" if v is True else str(v)))]


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato guidance RUN [--scale 3] [--save 0.25] [--steps 20] ...", Calibrate, None, argv))
        return 0
    options, _ = parse(argv, Calibrate, ("run",), base=own_parts)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    out = Path(options.run) / "guidance" if options.out is None else Path(options.out)
    if out.is_file():
        raise ValueError(f"out is {str(out)!r}, which is a file; give a folder")
    model = load(options.run, ema=options.ema, device=options.device, allow=options.allow)
    # found out before the work, not after it; what was not there is taken away again if nothing is made
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        return _calibrate(options, model, out, argv)
    except BaseException:
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
        raise


def _calibrate(options: Calibrate, model: Model, out: Path, argv: Sequence[str]) -> int:
    scale = _own_scale(model) if options.scale is None else options.scale
    steps = model.steps if options.steps is None else options.steps
    if not options.save < (steps - options.least) / (2 * steps):
        raise ValueError(
            f"save is {options.save:g}; allowed: below {max(steps - options.least, 0) / (2 * steps):g}, all that {steps} steps save when "
            f"{options.least} of them are guided"
        )
    walked: dict[str, Any] = {
        "scale": scale, "steps": steps, "sampler": options.sampler, "grid": options.grid, "batch": options.batch, "progress": True,
    }  # fmt: skip
    seeds = range(options.trajectories)
    cosines = measure_cosines(model, seeds, **walked)
    thresholds, notes = _thresholds(cosines, options)
    plan = None
    try:
        plan = fit_linear(model, seeds, space=options.space, second_half="plain" if options.plain else "replace", **walked)  # fmt: skip
    except ValueError as error:
        notes.append(f"no LinearAdaptive: {error}")
    rules: dict[str, tuple[Guidance, int]] = {f"CFG {scale:g}": (CFG(scale), steps), "unguided": (Plain(), steps)}
    for name, threshold in thresholds.items():
        rules[f"Adaptive in {name}"] = (Adaptive(CFG(scale), threshold, SPACES[name], options.least), steps)
    adaptive = round(steps * (1 - options.save))
    rules[f"CFG {scale:g}, {adaptive} steps"] = (CFG(scale), adaptive)
    if plan is not None:
        rules["LinearAdaptive"] = (LinearAdaptive(plan), steps)
        fewer = round(plan.evaluations / 2)
        rules[f"CFG {scale:g}, {fewer} steps"] = (CFG(scale), fewer)
    rows = _verify(model, options, rules)
    if plan is None:
        (out / "linear.json").unlink(missing_ok=True)  # of another calibration
    else:
        plan.save(out / ".linear.json")
        os.replace(out / ".linear.json", out / "linear.json")
    title = (
        f"{options.run}: cond and ref along {options.trajectories} trajectories under CFG {scale:g} in {steps} steps"
    )
    drawn = draw(cosines, thresholds, title, out / "cosines.png")
    result = {
        **model.source, "scale": scale, "steps": steps, "sampler": describe(options.sampler or model.sampler),
        "grid": describe(options.grid or model.grid), "trajectories": options.trajectories, "check": options.check,
        "save": options.save, "least": options.least, "thresholds": thresholds,
        "cosines": {
            name: [dict(zip(("mean", "low", "high"), v, strict=True)) for v in spread_of(cosines, name)] for name in cosines.values
        },
        "verified": rows, "notes": notes,
    }  # fmt: skip
    (out / ".guidance.json").write_text(json.dumps(result, indent=1))
    os.replace(out / ".guidance.json", out / "guidance.json")
    print("\n".join([*table(rows, options.check), *notes]))
    same, poor = _same(argv, options.run, model.num_classes), does_not_pay(rows)
    best = nearest(rows)
    words: dict[str, list[str]] = {}
    if best:
        space = best.removeprefix("Adaptive in ")
        words[best] = adaptive_words(scale, space, thresholds[space], options.least)
    if plan is not None:
        words["LinearAdaptive"] = ["--guidance", "LinearAdaptive", "--guidance.plan", str(out / "linear.json")]
    for name, own in words.items():
        print(f"{f'{name}, all the same' if name in poor else f'use {name}'}: {shlex.join([*same, *own])}")
    print(
        f"figure: {out / 'cosines.png'}"
        if drawn
        else "no figure: matplotlib is not installed (pip install 'sfumato[plots]')"
    )
    return 0
