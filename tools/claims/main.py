"""`sfumato claims`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ...diffusion import Interrupted
from ..command import help_text, parse
from ..spelling import UsageError, did_you_mean
from . import (
    adaptive_guidance,
    autoguidance,
    cfg_plus_plus,
    debiased,
    hallucination_guidance,
    input_scaling,
    limited_interval,
    linear_adaptive,
    log_snr_importance,
    min_snr,
    mode_interpolation,
    momentum,
    predictor_corrector_guidance,
    recursive_training,
    renoise_probe,
    simple_shapes,
    zero_terminal_snr,
)
from .cells import measure_cells, raw_of
from .claim import Claim, Finding
from .table import as_markdown, as_text

__all__ = ["CLAIMS", "Claims", "recorded", "run"]

CLAIMS: dict[str, Claim] = {
    m.CLAIM.name: m.CLAIM
    for m in (
        zero_terminal_snr, min_snr, debiased, log_snr_importance, input_scaling, momentum, limited_interval, cfg_plus_plus,
        adaptive_guidance, linear_adaptive, predictor_corrector_guidance, autoguidance, mode_interpolation, renoise_probe,
        simple_shapes, recursive_training, hallucination_guidance,
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Claims:
    """Print what papers promise beside what was measured here, or measure one promise again.

    Args:
        name: which claim to measure; null: print the table of recorded results.
        seeds: runs of every variant, >= 2: a spread needs two.
        out: folder of the new result, figure, and finished runs, which an interrupted measurement goes on from.
        quick: a tiny version in seconds, to see whether it runs; its numbers mean nothing.
        markdown: print the table as in the README.
    """

    name: str | None = None
    seeds: int = 3
    out: str = "runs/claims"
    quick: bool = False
    markdown: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds is {self.seeds}; allowed: >= 2, since a spread needs two")
        if self.name is not None and self.name not in CLAIMS:
            raise ValueError(f"name is {self.name!r}; allowed: {', '.join(CLAIMS)}{did_you_mean(self.name, CLAIMS)}")


def recorded(name: str) -> dict[str, Any] | None:
    """The result of a claim that ships with this version, or None."""
    file = resources.files(__package__ or "").joinpath(f"{name}.json")
    return json.loads(file.read_text()) if file.is_file() else None


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato claims [NAME] [--seeds 3] [--out FOLDER] [--markdown]", Claims))
        print(f"claims: {', '.join(CLAIMS)}")
        return 0
    options, _ = parse(argv, Claims, ("name",))
    if options.name is None:
        if options.quick:
            raise UsageError([f"quick is for one claim; allowed names: {', '.join(CLAIMS)}"])
        results = {name: recorded(name) for name in CLAIMS}
        print(as_markdown(CLAIMS, results) if options.markdown else as_text(CLAIMS, results))
        return 0
    try:
        return _measure(CLAIMS[options.name], options)
    except (Interrupted, KeyboardInterrupt) as stopped:
        print(f"sfumato claims: {stopped or 'interrupted'}\ngo on with the same command", file=sys.stderr)
        return 130


def _measure(claim: Claim, options: Claims) -> int:
    out = Path(options.out)
    cells = measure_cells(claim, options.seeds, out, options.quick)
    raw = raw_of(cells)
    finding = claim.judge(raw)
    folder = out / "quick" if options.quick else out
    result = _result(claim, cells, finding, options.quick)
    (folder / f"{claim.name}.json").write_text(_lines(result))
    number = f" (arXiv {claim.arxiv})" if claim.arxiv else ""
    print(f"{claim.paper}{number}: {claim.promise}\npaper: {claim.figure}\nours:  {finding.ours}")
    print(f"{finding.verdict}, by {options.seeds} seeds in {result['minutes']:.1f} minutes")
    if options.quick:
        print("the quick version only shows that it runs: these numbers mean nothing")
    print(f"numbers: {folder / f'{claim.name}.json'}")
    try:
        from ..plots import draw_panels, draw_sheet
    except ImportError:
        print("no figure: matplotlib is not installed (pip install 'sfumato[plots]')")
        return 0
    title = f"{claim.paper}: {finding.verdict}\n{finding.ours}"
    draw_panels(claim.panels(raw), title, folder / f"{claim.name}.png")
    print(f"figure:  {folder / f'{claim.name}.png'}")
    if claim.sheet is not None:
        draw_sheet(claim.sheet(raw), folder / f"{claim.name}-pictures.png")
        print(f"pictures: {folder / f'{claim.name}-pictures.png'}")
    return 0


def _result(claim: Claim, cells: list[dict[str, Any]], finding: Finding, quick: bool) -> dict[str, Any]:
    """Everything that is needed to judge a claim again, and to measure it again."""
    common = {key: cells[0][key] for key in ("version", "torch")}
    kept = ("variant", "seed", "seconds", "cpu_seconds", "raw")
    return {
        "name": claim.name, "paper": claim.paper, "arxiv": claim.arxiv, "promise": claim.promise, "figure": claim.figure,
        "command": claim.command, "quick": quick, **common, "seeds": sorted({c["seed"] for c in cells}),
        "minutes": round(sum(c["seconds"] for c in cells) / 60, 1), **dataclasses.asdict(finding),
        "recipes": {c["variant"]: c["recipe"] for c in cells},
        "cells": [{key: cell[key] for key in kept} for cell in cells],
    }  # fmt: skip


def _lines(result: dict[str, Any]) -> str:
    """JSON with a line per key, recipe and run, so that a difference between two results can be read."""
    parts: list[str] = []
    for key, value in result.items():
        if key == "recipes":
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}: {{\n  {inner}\n }}")
        elif key == "cells":
            inner = ",\n  ".join(json.dumps(v) for v in value)
            parts.append(f"{json.dumps(key)}: [\n  {inner}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"
