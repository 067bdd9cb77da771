"""The report of a comparison: one HTML file to look at, the picture alone, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...diffusion.images import save_png
from ...diffusion.measuring import Spread
from ..page import Page
from .heat import draw_heat
from .lettering import short
from .outcome import Outcome
from .sheet import draw_sheet
from .table import Measure, Table

__all__ = ["FILES", "best_words", "heading_of", "write_report"]

FILES = ("compare.html", "compare.png", "compare.csv", "compare.json")


def heading_of(measure: Measure, about: Mapping[str, Any]) -> str:
    """The name of a measure as it must be quoted: by whom, and of how many pictures.

    Args:
        measure: which.
        about: of the comparison.
    """
    extractor = about["looking"]["extractor"]
    if measure.key == "frechet" and extractor is not None:
        return f"{extractor['short']}@{about['count']}"
    if measure.key == "accuracy":
        return f"{measure.heading}@{about['count']}"
    return measure.heading


def write_report(table: Table, about: Mapping[str, Any], folder: Path, show: int, tile: int | None) -> Image.Image:
    """Write all files; returns the picture.

    Args:
        table: of the outcomes.
        about: of the whole comparison: title, shared (in words), command, count, sets, looking, fine, notes.
        folder: where to.
        show: pictures per cell.
        tile: width of one in pixels; None: what suits.
    """
    picture = draw_sheet(table, about["title"], about["shared"], show, tile)
    save_png(
        folder / "compare.png",
        picture,
        {"compare": {k: about[k] for k in ("command", "title", "shared", "id", "version")}},
    )
    table.save_csv(folder / "compare.csv")
    table.save_json(folder / "compare.json", about)
    page = Page(about["title"], about["shared"])
    page.picture(
        picture,
        "The same seeds in every cell, but for what its axes move. Below each: evaluations of the network per picture.",
        pixels=True,
    )
    page.heading("What was measured")
    for line in about["measured"]:
        page.text(line)
    for measure in table.measures:
        if not measure.better:
            continue
        key = measure.key
        name = heading_of(measure, about)
        better = "higher is better" if measure.better == "higher" else "lower is better"
        heat = draw_heat(table, key, name, f"{measure.about}; {better}, darker is better. {_framed(about)}")
        if heat is not None:
            page.picture(heat, "")
    words = best_words(table, about)
    if words:
        page.heading("Who leads")
        page.text(_rule(about), soft=True)
        page.table(["measure", "where", "best"], words)
    page.heading("Every cell")
    head, rows, marked = _rows(table, about)
    page.table(head, rows, marked)
    if about["notes"]:
        page.heading("Remarks")
        for note in about["notes"]:
            page.text(note)
    page.heading("Make it again")
    page.code(about["command"])
    page.text(
        f"Numbers: compare.csv, compare.json. Finished cells: {about['store']}; the same command reuses them.",
        soft=True,
    )
    page.write(folder / "compare.html")
    return picture


def _framed(about: Mapping[str, Any]) -> str:
    if about["sets"] < 3:
        return "No winner is framed: with fewer than three sets of seeds nothing is told apart (--seeds 3)."
    return "A frame: the best of its row, told apart from the rest of it."


def _rule(about: Mapping[str, Any]) -> str:
    if about["sets"] < 3:
        there = "is one set of seeds" if about["sets"] < 2 else "are two sets of seeds"
        return (
            f"There {there}, so too little is known of how much the numbers would move with others, and no winner is named; --seeds 3 "
            "measures three sets (what is there is reused)."
        )
    return (
        f"Measured on {about['sets']} sets of {about['count']} seeds. A winner is named only where every other cell is further from it "
        "than two standard deviations of their differences, set by set; the ± of the table is that of each cell alone. "
        "This is the spread of sampling, not of training again."
    )


def best_words(table: Table, about: Mapping[str, Any]) -> list[list[str]]:
    """Measure, where, and who leads there, for every measure that knows what is better.

    Args:
        table: of the outcomes.
        about: of the comparison.
    """
    if about["sets"] < 3:
        return []
    found: list[list[str]] = []
    for m in table.measures:
        if not m.better:
            continue
        name = heading_of(m, about)
        places: list[tuple[str, int | None, int | None]] = [("all cells", None, None)]
        if len(table.x) > 1 and len(table.y) > 1:
            places += [(f"{table.y.name} {label}", i, None) for i, label in enumerate(table.y.labels)]
            places += [(f"{table.x.name} {label}", None, i) for i, label in enumerate(table.x.labels)]
        for where, row, column in places:
            leaders = table.leading(m.key, row, column)
            winner = table.winner(m.key, row, column)
            if winner is not None:
                found.append([name, where, f"{winner.cell.name}: {Spread(tuple(winner.measured[m.key]))}"])
            elif len(leaders) > 1:
                names = "; ".join(o.cell.name for o in leaders[:4]) + (
                    f" and {len(leaders) - 4} more" if len(leaders) > 4 else ""
                )
                found.append([name, where, f"not told apart: {names}"])
            name = ""
    return found


def _rows(table: Table, about: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[int]]:
    axes = [axis.name for axis in (table.x, table.y) if axis.keys]
    head = [*axes, *(heading_of(m, about) for m in table.measures), ""]
    rows = [
        [*(o.cell.said[name] for name in axes), *(_cell(o, m) for m in table.measures), _state(o)]
        for o in table.outcomes
    ]
    winners = {id(o) for m in table.measures if m.better and (o := table.winner(m.key)) is not None}
    return head, rows, [i for i, o in enumerate(table.outcomes) if id(o) in winners]


def _state(outcome: Outcome) -> str:
    words = {"made": "", "diverged": "diverged", "unsupported": "not possible"}[outcome.state]
    return ": ".join(filter(None, (words, outcome.problem)))


def _cell(outcome: Outcome, measure: Measure) -> str:
    values: Sequence[float] | None = outcome.measured.get(measure.key)
    if values is None:
        return "not comparable" if measure.key == "distance" and outcome.state == "made" else "-"
    if measure.key == "evaluations":
        return f"{sum(values) / len(values):g}"
    if measure.key == "seconds":
        return short(sum(values) / len(values))
    return str(Spread(tuple(values)))
