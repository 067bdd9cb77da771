"""`sfumato quickstart`: from nothing to pictures of handwritten digits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Digits, Interrupted, Model, train
from ..diffusion.images import contact_sheet, save_png
from ..diffusion.measuring.judge import Judge, measure, references, train_judge
from ..guidance import Plain
from .command import help_text, parse
from .folders import free_folder
from .train import plot_losses, recipe_from, resolve_recipe

__all__ = ["Quickstart", "run"]


@dataclass(frozen=True)
class Quickstart:
    """Train a class-conditional model on handwritten digits, sample from it, measure it, and leave pictures.

    Args:
        out: the run folder; when it holds a run already, a number is added.
        samples: pictures per digit to measure, >= 2.
        seed: of everything.
        steps: optimizer steps, >= 1; null: those of the preset, 800.
    """

    out: str = "runs/quickstart"
    samples: int = 100
    seed: int = 0
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}; allowed: >= 2")


def _sheet(model: Model, source: Digits, path: Path) -> None:
    """Real digits beside samples, a row per class."""
    labels = source.batch(torch.arange(len(source))).labels
    assert labels is not None
    samples = model.sample(range(100), [i // 10 for i in range(100)])
    real = [source.batch((labels == c).nonzero().flatten()[:6]).x for c in range(10)]
    rows = [torch.cat([real[c], samples.images[10 * c : 10 * c + 10]]) for c in range(10)]
    guided = f"samples, {type(model.sampler).__name__}, {model.steps} steps, {model.guidance}, seeds 0-99"
    sheet = contact_sheet(rows, [str(c) for c in range(10)], tile=48, groups=[("real scans", 6), (guided, 10)])
    save_png(path, sheet, {**samples.settings, "pictures": [samples.settings_of(i) for i in range(100)]})


def _measured(judge: Judge, model: Model, real: Tensor, count: int) -> dict[str, Any]:
    labels = torch.arange(10 * count) % 10
    out: dict[str, Any] = {}
    for name, guidance in (("unguided", Plain()), ("guided", model.guidance)):
        began = time.perf_counter()
        samples = model.sample(range(10 * count), labels, guidance=guidance, batch=250)
        seconds = time.perf_counter() - began
        evaluations = samples.evaluations.sum().item() / len(samples)
        out[name] = {
            **measure(judge, real, samples.images, labels), "guidance": str(guidance), "seconds": round(seconds, 2),
            "evaluations_per_picture": evaluations,
        }  # fmt: skip
    return out


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato quickstart [--out FOLDER] [--samples 100] [--seed 0] [--steps 800]", Quickstart))
        return 0
    options, _ = parse(argv, Quickstart, ("out",))
    folder = free_folder(Path(options.out), "config.yaml")
    source = Digits()
    real = source.batch(torch.arange(len(source))).x
    given = [("seed", options.seed), *([] if options.steps is None else [("steps", options.steps)])]
    recipe = recipe_from(resolve_recipe("digits", given, ()), ())
    torch.set_num_threads(recipe.threads or 1)
    print(
        f"training on {len(source):,} handwritten digits, 8x8, on one CPU thread; Ctrl-C stops and saves",
        file=sys.stderr,
    )
    began, busy = time.perf_counter(), time.process_time()
    try:
        model = train(recipe, folder, progress=True)
    except Interrupted as stopped:
        print(f"{stopped}\ngo on with: sfumato train {folder} --resume", file=sys.stderr)
        return 130
    trained = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(time.process_time() - busy, 1)}
    began, busy = time.perf_counter(), time.process_time()
    _sheet(model, source, folder / "samples.png")
    sampled = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(time.process_time() - busy, 1)}
    print("measuring with a digits classifier trained on the spot", file=sys.stderr)
    judge = train_judge(source)
    results = {
        "training": trained,
        "sampling": sampled,
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        **_measured(judge, model, real, options.samples),
        "references": references(judge, source),
    }
    (folder / "metrics.json").write_text(json.dumps(results, indent=1))
    _say(folder, results, plot_losses(folder))
    return 0


def _say(folder: Path, results: dict[str, Any], loss: str) -> None:
    plain, guided, known = results["unguided"], results["guided"], results["references"]
    print(f"trained in {results['training']['seconds']} s, drew the sheet in {results['sampling']['seconds']} s")
    print(f"Frechet distance of {plain['n']} unguided samples {plain['frechet']:.1f}, every second real one against the others "
          f"{known['real_vs_real']:.1f}, noise {known['noise_vs_real']:.0f}")  # fmt: skip
    print(f"class accuracy {plain['accuracy']:.3f} unguided, {guided['accuracy']:.3f} under {guided['guidance']}; "
          f"the classifier's own {known['test_accuracy']:.3f}")  # fmt: skip
    print(f"\nthe picture: {folder / 'samples.png'}\n{loss}\nnext:")
    print(
        f"  sfumato sample {folder} --seeds 0-15 --labels 3 --sampler HeavyBall --sampler.base DPMSolverPP --steps 12"
    )
    print(f"  sfumato sample {folder} --labels 0-9 --guidance Interval --guidance.rule CFG --guidance.rule.scale 4 "
          "--guidance.low 0.2 --guidance.high 2")  # fmt: skip
    print("  sfumato train digits --row V --weighting MinSNR --steps 1000 --out runs/mine")
