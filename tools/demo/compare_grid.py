"""The grid of a comparison as HTML: headings, and cells that fill in as they are finished."""

from __future__ import annotations

import html
import math
from typing import Any

from torch import Tensor

from ..compare.lettering import short
from ..compare.outcome import Outcome
from ..compare.report import heading_of
from ..compare.table import MEASURES
from .compare_job import Job
from .encoded import data_uri
from .told import readable

__all__ = ["bar_of", "grid_of", "lines_of", "picture_of", "seconds_words", "state_words"]

_FEW = 4
"""Columns that leave room for larger tiles."""


def seconds_words(seconds: float) -> str:
    """A duration as one says it.

    Args:
        seconds: >= 0.
    """
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"


def picture_of(outcome: Outcome, i: int) -> Tensor | None:
    """Picture i of a cell in [-1, 1]; None where there is none."""
    if outcome.pictures is None or i >= len(outcome.pictures):
        return None
    if outcome.pictured is not None and not bool(outcome.pictured[i]):
        return None
    return outcome.pictures[i].float() / 127.5 - 1


def state_words(outcome: Outcome) -> str:
    """What became of a cell, where that is not simply pictures."""
    words = {"made": "", "diverged": "diverged", "unsupported": "not possible"}[outcome.state]
    return ": ".join(filter(None, (words, readable(ValueError(outcome.problem)))))


def lines_of(outcome: Outcome, about: Any) -> list[str]:
    """What was measured of a cell, a line each; not the seconds, which are those of a server that others use, too."""
    mean = {key: sum(values) / len(values) for key, values in outcome.measured.items() if values}
    found = [f"{mean['evaluations']:.4g} evaluations"] if "evaluations" in mean else []
    for m in MEASURES:
        if m.key in ("evaluations", "seconds") or m.key not in mean or math.isnan(mean[m.key]):
            continue
        said = f"{mean[m.key]:.0%}" if m.key in ("rejected", "accuracy") else short(mean[m.key])
        found.append(f"{heading_of(m, about)} {said}")
    return found


def grid_of(job: Job) -> str:
    """The whole grid; what is not there yet is an empty place.

    Args:
        job: of which `show` says which picture of each cell.
    """
    x, y, about = (
        job.wanted.x,
        job.wanted.y,
        {"looking": job.comparison.looking.about(), "count": job.wanted.own.count},
    )
    corner = html.escape(f"{job.wanted.own.y} / {job.wanted.own.x}" if y.keys else job.wanted.own.x)
    heads = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in x.labels)
    rows: list[str] = []
    for row in range(len(y)):
        side = html.escape(y.labels[row]) or "&nbsp;"
        cells = "".join(_cell(job, row, column, about) for column in range(len(x)))
        rows.append(f'<tr><th scope="row">{side}</th>{cells}</tr>')
    what = html.escape(f"{job.wanted.own.x} from left to right" + (f", {job.wanted.own.y} downwards" if y.keys else ""))
    kind = "sf-cmp" + (" few" if len(x) <= _FEW else "") + ("" if y.keys else " one")
    return (
        f'<div class="sf-cmp-box" role="region" tabindex="0" aria-label="Comparison: {what}"><table class="{kind}">'
        f'<thead><tr><td class="corner">{corner}</td>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{_impossible(job)}'
    )


def _cell(job: Job, row: int, column: int, about: Any) -> str:
    outcome = job.outcomes.get((row, column))
    if outcome is None:
        cell = next(c for c in job.wanted.cells if (c.row, c.column) == (row, column))
        if job.at is cell:
            return '<td class="sf-cell running"><div class="empty"><i></i></div><p>running</p></td>'
        if cell.problem:
            return _no(cell.problem)
        return f'<td class="sf-cell wait"><div class="empty"></div><p>{"" if job.state == "running" else "not made"}</p></td>'
    if outcome.state == "unsupported":
        return _no(outcome.problem)
    picture = picture_of(outcome, job.show)
    name = html.escape(outcome.cell.name, quote=True)
    shown = (
        f'<img src="{data_uri(picture)}" alt="" class="{_kind(picture)}">'
        if picture is not None
        else '<div class="empty gone">no picture</div>'
    )
    words = [html.escape(line) for line in lines_of(outcome, about)]
    if outcome.cached:
        words.append('<b class="tag">cached</b>')
    if outcome.state == "diverged":
        words.append(f'<b class="bad">{html.escape(state_words(outcome))}</b>')
    elif outcome.problem:
        words.append(html.escape(state_words(outcome)))
    if outcome.no_distance and job.wanted.own.fine:
        words.append(
            f'<span title="{html.escape(readable(ValueError(outcome.no_distance)), quote=True)}">no distance</span>'
        )
    picked = ' aria-pressed="true"' if job.picked == (row, column) else ""
    return (
        f'<td class="sf-cell {outcome.state}"><button type="button" data-row="{row}" data-column="{column}"{picked} '
        f'aria-label="Show {name} large">{shown}</button><p>{"<br>".join(words)}</p></td>'
    )


def _kind(picture: Tensor) -> str:
    return "pixels" if picture.shape[-1] <= 64 else ""


def _no(problem: str) -> str:
    why = html.escape(readable(ValueError(problem)), quote=True)
    brief = why if len(why) <= 60 else f"{why[:57].rpartition(' ')[0]} …"
    return f'<td class="sf-cell no" title="{why}"><div class="empty"><span>not possible</span></div><p>{brief}</p></td>'


def _impossible(job: Job) -> str:
    """The reasons why cells are not possible, each once."""
    why: dict[str, list[str]] = {}
    for cell in job.wanted.cells:
        found = job.outcomes.get((cell.row, cell.column))
        problem = found.problem if found is not None and found.state == "unsupported" else cell.problem
        if problem:
            why.setdefault(readable(ValueError(problem)), []).append(cell.name)
    lines = "".join(
        f"<li><b>{html.escape(_named(names))}</b>: {html.escape(reason)}</li>" for reason, names in why.items()
    )
    return f'<div class="sf-cmp-no"><h4>Not possible</h4><ul>{lines}</ul></div>' if lines else ""


def _named(names: list[str]) -> str:
    return "; ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def bar_of(job: Job) -> str:
    """How far it is, in a bar and in words."""
    done, all_of = len(job.outcomes), len(job.wanted.cells)
    cached = sum(o.cached for o in job.outcomes.values())
    there = f", {cached} of them were there already" if cached else ""
    if job.state == "finished":
        words = f"{done} cells{there}; {job.spent:,} evaluations in {job.seconds:.1f} s."
    elif job.state == "stopped":
        words = f"Stopped. {done} of {all_of} cells are finished and kept{there}; Compare goes on with the rest."
    else:
        left = "" if job.left is None else f", {seconds_words(job.left)} left"
        now = "" if job.at is None else f" Now {job.at.name}."
        words = f"{done} of {all_of} cells{there}{left}.{now}"
    share = 1.0 if job.state == "finished" else job.share
    return (
        f'<div class="sf-cmp-bar {job.state}"><progress max="1" value="{share:.3f}" aria-label="Progress of the comparison"></progress>'
        f'<p role="status">{html.escape(words)}</p></div>'
    )
