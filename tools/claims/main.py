"""`sfumato claims`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from ...diffusion import Interrupted
from ...diffusion.whole_file import replace_text
from ..command import help_text, parse
from ..spelling import UsageError, did_you_mean
from . import (
    adaptive_guidance,
    autoguidance,
    cfg_plus_plus,
    debiased,
    density_coverage,
    hallucination_guidance,
    input_scaling,
    kid_unbiased,
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
    sliced_control_variates,
    zero_terminal_snr,
)
from .again import compared, measure_again, quick_ones
from .cells import measure_cells, raw_of
from .claim import Claim
from .report import write_report
from .result import lines_of, recorded, result_of
from .table import as_markdown, as_text

__all__ = ["CLAIMS", "Claims", "recorded", "run"]

CLAIMS: dict[str, Claim] = {
    m.CLAIM.name: m.CLAIM
    for m in (
        zero_terminal_snr, min_snr, debiased, log_snr_importance, input_scaling, momentum, limited_interval, cfg_plus_plus,
        adaptive_guidance, linear_adaptive, predictor_corrector_guidance, autoguidance, mode_interpolation, renoise_probe,
        simple_shapes, recursive_training, hallucination_guidance, kid_unbiased, density_coverage,
        sliced_control_variates,
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Claims:
    """Print what papers promise beside what was measured here, or measure one promise again.

    Args:
        name: which claim to measure (of --again also several, a,b); null: print the table of recorded results.
        seeds: runs of every variant, >= 2: a spread needs two.
        out: folder of the new result, figure, and finished runs, which an interrupted measurement goes on from.
        quick: a tiny version in seconds, to see whether it runs; its numbers mean nothing.
        markdown: print the table as in the README.
        again: measure the named claims from nothing, or without a name those that fit into `minutes`, and hold their verdicts against those
            that are recorded; exit code 1 where one has become its opposite.
        minutes: of the processor that the claims that are not named may take together, by what is recorded.
        html: file of a page of all recorded claims with their figures; nothing is measured.
    """

    name: str | None = None
    seeds: int = 3
    out: str = "runs/claims"
    quick: bool = False
    markdown: bool = False
    again: bool = False
    minutes: float = 9.0
    html: str | None = None

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds is {self.seeds}; allowed: >= 2, since a spread needs two")
        for name in self.names if self.again else [] if self.name is None else [self.name]:
            if name not in CLAIMS:
                raise ValueError(f"name is {name!r}; allowed: {', '.join(CLAIMS)}{did_you_mean(name, CLAIMS)}")
        if self.again and self.quick:
            raise ValueError("again is given with quick, whose numbers mean nothing; leave one of them out")
        if self.html is not None and (self.name is not None or self.again):
            raise ValueError("html is a page of what is recorded; leave name and again out")

    @property
    def names(self) -> list[str]:
        """The named claims, each once."""
        return list(dict.fromkeys((self.name or "").replace(" ", "").split(","))) if self.name else []


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text("sfumato claims [NAME] [--again] [--seeds 3] [--out FOLDER] [--html FILE] [--markdown]", Claims)
        )
        print(f"claims: {', '.join(CLAIMS)}")
        return 0
    options, _ = parse(argv, Claims, ("name",))
    if options.html is not None:
        return _report(Path(options.html))
    if options.name is None and not options.again:
        if options.quick:
            raise UsageError([f"quick is for one claim; allowed names: {', '.join(CLAIMS)}"])
        results = {name: recorded(name) for name in CLAIMS}
        print(as_markdown(CLAIMS, results) if options.markdown else as_text(CLAIMS, results))
        return 0
    try:
        return _again(options) if options.again else _measure(CLAIMS[options.name or ""], options)
    except (Interrupted, KeyboardInterrupt) as stopped:
        print(f"sfumato claims: {stopped or 'interrupted'}\ngo on with the same command", file=sys.stderr)
        return 130


def _again(options: Claims) -> int:
    results = {name: recorded(name) for name in CLAIMS}
    names = options.names or quick_ones(CLAIMS, results, options.minutes)
    if not names:
        raise UsageError([f"minutes is {options.minutes:g}: no claim was measured in so few; raise it, or name claims"])
    print(f"measuring again, in full: {', '.join(names)}", file=sys.stderr)
    rows = measure_again([CLAIMS[name] for name in names], results, options.seeds, Path(options.out))
    print("\n".join(compared(rows)))
    turned = [row["name"] for row in rows if row["turned"]]
    total = f"{len(rows)} measured again, {len(turned)} turned into the opposite of what is recorded"
    print(f"{total}{': ' if turned else ''}{', '.join(turned)}\nnumbers: {Path(options.out) / 'again.json'}")
    return 1 if turned else 0


def _report(path: Path) -> int:
    drawn = write_report(CLAIMS, {name: recorded(name) for name in CLAIMS}, path)
    print(f"report: {path}" if drawn else f"report, without figures: {path} (pip install 'sfumato[plots]' draws them)")
    return 0


def _measure(claim: Claim, options: Claims) -> int:
    out = Path(options.out)
    cells = measure_cells(claim, options.seeds, out, options.quick)
    raw = raw_of(cells)
    finding = claim.judge(raw)
    folder = out / "quick" if options.quick else out
    result = result_of(claim, cells, finding, options.quick)
    replace_text(folder / f"{claim.name}.json", lines_of(result))
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
