"""What was found: in words for a terminal, as JSON, and as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..page import Page
from .cells import Line
from .winners import Named, best_grids, values_of

__all__ = ["RULE", "as_json", "said", "write_page"]

RULE = (
    "A sampler is called the best only where the mean of every other's paired difference from it, over the blocks of seeds, is more than "
    "two standard deviations away from zero; where others are not told apart from the best mean, all of them are named, and there is no "
    "winner."
)


def _spent(line: Line) -> str:
    return f"{line.cost} in {line.steps} step{'s' if line.steps != 1 else ''}"


def said(each: Named, most: int = 3) -> str:
    """One sentence on who is the best within a budget.

    Args:
        each: of `named`.
        most: names at the most.
    """
    start = f"{each.budget} evaluations: "
    if not each.lines:
        return f"{start}nothing was measured"
    first = each.lines[0]
    shown = f"{first.name} ({values_of(first, each.measure)}; {_spent(first)})"
    if each.compared == 1:
        return f"{start}no winner, {shown} is alone"
    if len(each.lines) == 1:
        return f"{start}{shown} is the best of {each.compared}"
    others = [f"{line.name} ({values_of(line, each.measure)})" for line in each.lines[1:most]]
    more = f" and {len(each.lines) - most} more" if len(each.lines) > most else ""
    return f"{start}no winner, {len(each.lines)} of {each.compared} are not told apart: {', '.join([shown, *others])}{more}"


def as_json(lines: Sequence[Line], found: Sequence[Named], about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, to be read by machines and to be done again.

    Args:
        lines, found: of `measure` and `named`.
        about: how it was measured.
    """
    rows = [{**asdict(line), "trouble": line.trouble} for line in lines]
    best = [
        {"measure": f.measure, "evaluations": f.budget, "winner": f.lines[0].name if f.won else None,
         "not_told_apart": [line.name for line in f.lines], "compared": f.compared}
        for f in found
    ]  # fmt: skip
    return {**about, "rule": RULE, "best": best, "rows": _finite(rows)}


def _finite(value: Any) -> Any:
    """JSON knows no nan."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def write_page(
    lines: Sequence[Line], found: Sequence[Named], measures: Mapping[str, str], about: Mapping[str, Any], facts: Sequence[str],
    picture: Path | None, path: Path,
) -> None:  # fmt: skip
    """The page.

    Args:
        lines, found: of `measure` and `named`.
        measures: by key, in words.
        about: of the JSON.
        facts: what was measured, in sentences.
        picture: the figure, or None.
        path: of the HTML file.
    """
    page = Page(
        f"Quality against evaluations: {about['subject']}",
        "Which sampler makes the most of so many evaluations of the network.",
    )
    for measure, words in measures.items():
        page.heading(f"By {words}")
        own = [f for f in found if f.measure == measure]
        rows = [
            [f.budget, _verdict(f), "; ".join(f"{n.name}: {values_of(n, measure)}" for n in f.lines[:8]) + _more(f)]
            for f in own
        ]
        alone = [i for i, f in enumerate(own) if f.won]
        page.table(("evaluations", "the best", "not told apart from the best mean, best first"), rows, alone)
    page.text(RULE, soft=True)
    if picture is not None:
        page.picture(
            picture, "A curve is a sampler on the grid that served it best at each budget; dotted: stochastic. In colour: the first seven "
            "of those that come first somewhere or are not told apart from who does; grey: the others, of which the tables below have each "
            "number. Bars: one standard deviation over the blocks of seeds. Curves that are far off are cut at the top.",
        )  # fmt: skip
    page.heading("What was measured")
    for fact in facts:
        page.text(fact)
    page.code(about["command"])
    for measure, words in measures.items():
        page.heading(f"Every sampler on its best grid, by {words}")
        _table(page, lines, found, measure)
    trouble = [line for line in lines if line.trouble]
    if trouble:
        page.heading("What failed, and leads nothing")
        page.table(
            ("sampler", "grid", "evaluations", "steps", "why"),
            [[line.sampler, line.grid, line.budget, line.steps or "", line.trouble[:200]] for line in trouble],
        )
    page.write(path)


def _verdict(each: Named) -> str:
    if len(each.lines) < 2:
        return (
            "no number"
            if not each.lines
            else each.lines[0].name
            if each.won
            else f"no winner: {each.lines[0].name} is alone"
        )
    return f"no winner: {len(each.lines)} of {each.compared} within the noise"


def _more(each: Named) -> str:
    return f"; and {len(each.lines) - 8} more" if len(each.lines) > 8 else ""


def _table(page: Page, lines: Sequence[Line], found: Sequence[Named], measure: str) -> None:
    """A row per sampler, a column per budget: mean and spread, the grid, and what was spent."""
    budgets = sorted({line.budget for line in lines})
    best = {(line.sampler, line.budget): line for line in best_grids(lines, measure)}
    lead = {(line.sampler, f.budget) for f in found if f.measure == measure for line in f.lines}
    several = len({line.grid for line in lines}) > 1
    rows: list[list[str]] = []
    for name in dict.fromkeys(line.sampler for line in lines):
        own = [best.get((name, budget)) for budget in budgets]
        if measure == "ode" and any(line.draws for line in lines if line.sampler == name):
            continue
        cells = []
        for budget, line in zip(budgets, own, strict=True):
            if line is None:
                whys = [each.trouble for each in lines if each.sampler == name and each.budget == budget]
                cells.append("failed" if any("diverged" in w or "finite" in w for w in whys) else "none")
            else:
                star = " *" if (name, budget) in lead else ""
                cells.append(f"{values_of(line, measure)}{star} ({_spent(line)}{', ' + line.grid if several else ''})")
        rows.append([name, *cells])
    page.table(("sampler", *(f"within {b}" for b in budgets)), rows)
    page.text("*: not told apart from the best mean of its column, on this grid or another.", soft=True)
