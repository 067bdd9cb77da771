"""What a comparison came to, as HTML: who leads, every number, files, the command, and one cell large."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...diffusion.measuring import Spread
from ..compare.lettering import short
from ..compare.outcome import Outcome
from ..compare.report import best_words, heading_of
from ..compare.sheet import draw_sheet
from ..compare.spelled import spelled
from ..compare.table import Measure
from ..compare.words import brief
from .compare_grid import lines_of, picture_of, state_words
from .compare_job import Job
from .encoded import data_uri, encode
from .told import readable

__all__ = ["large_of", "results_of", "sheet_of"]

ACTIONS = """
element.addEventListener('click', (event) => {
  const at = event.target.closest('button');
  if (!at) return;
  if (at.dataset.row !== undefined) trigger('click', {row: Number(at.dataset.row), column: Number(at.dataset.column)});
  if (at.dataset.sort !== undefined) trigger('click', {sort: at.dataset.sort});
  if (at.dataset.copy !== undefined) {
    const code = element.querySelector('code'), text = code.textContent;
    const said = (words) => { at.textContent = words; setTimeout(() => { at.textContent = 'Copy'; }, 1500); };
    const by_hand = () => { getSelection().selectAllChildren(code); said('Selected'); };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said('Copied'), by_hand); else by_hand();
  }
});
"""
"""Clicks on cells and headings are told to the server, and a command is copied, where the page may do that."""

SECONDS = "seconds, this server, as it was busy"
"""The heading of seconds, which are no property of a sampler."""


def results_of(job: Job) -> str:
    """Everything below the grid, of the cells that are finished.

    Args:
        job: that has ended.
    """
    if not job.outcomes:
        return ""
    table, about = job.table, job.about
    parts = [f'<p class="sf-soft">{html.escape(about["shared"])}</p>', _leaders(table, about), _numbers(job, about)]
    parts += [f'<p class="sf-soft">{html.escape(readable(ValueError(line)))}</p>' for line in about["measured"]]
    notes = "".join(f"<li>{html.escape(readable(ValueError(note)))}</li>" for note in about["notes"])
    parts.append(f"<h4>Remarks</h4><ul>{notes}</ul>" if notes else "")
    parts.append(_files(job, about))
    return f'<div class="sf-cmp-results">{"".join(parts)}{_command(job)}</div>'


def _leaders(table: Any, about: Mapping[str, Any]) -> str:
    words = best_words(table, about)
    if not words:
        few = about["sets"] < 3 and len(table.outcomes) > 1
        return (
            '<p class="sf-soft">Nobody is named the best: that takes three sets of seeds, by which differences are told from chance.</p>'
            if few
            else ""
        )
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(each)}</td>' for each in row)}</tr>" for row in words)
    pairs = "" if any("seed" in axis.keys for axis in (table.x, table.y)) else " on the same seeds"
    return (
        f'<h4>Who leads</h4><p class="sf-soft">Cells are told apart by their differences{pairs}, set by set; the ± of the table below is '
        'that of each cell alone.</p><div class="sf-wide"><table><thead><tr><th scope="col">measure</th><th scope="col">where</th>'
        f'<th scope="col">best</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _numbers(job: Job, about: Mapping[str, Any]) -> str:
    """A row per cell, sorted by the measure that was chosen, the better ones first."""
    table = job.table
    rows = list(table.outcomes)
    by = next((m for m in table.measures if m.key == job.sort), None)
    if by is not None:
        rows.sort(key=lambda o: _rank(o, by))
    axes = [axis.name for axis in (table.x, table.y) if axis.keys]
    names = [job.wanted.own.x, job.wanted.own.y][: len(axes)]
    heads = "".join(_heading(name, "", job.sort) for name in names)
    heads += "".join(
        _heading(SECONDS if m.key == "seconds" else heading_of(m, about), m.key, job.sort) for m in table.measures
    )
    body = "".join(
        f'<tr class="{o.state}">{"".join(f"<th scope=row>{html.escape(o.cell.said[name])}</th>" for name in axes)}'
        f"{''.join(f'<td>{html.escape(_value(o, m))}</td>' for m in table.measures)}<td>{html.escape(state_words(o))}</td></tr>"
        for o in rows
    )
    return (
        f'<h4>Every cell</h4><div class="sf-wide" role="region" tabindex="0" aria-label="Table of all cells"><table class="sf-cmp-table">'
        f'<thead><tr>{heads}<th scope="col"></th></tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="sf-soft">Seconds are per picture; those of cached cells are not of now, but of when they were made.</p>'
    )


def _heading(name: str, key: str, sort: str) -> str:
    own = key == sort
    order = ' aria-sort="ascending"' if own and key else ""
    mark = " ↓" if own and key else ""
    return f'<th scope="col"{order}><button type="button" data-sort="{key}" title="Sort by this">{html.escape(name)}{mark}</button></th>'


def _rank(outcome: Outcome, measure: Measure) -> tuple[bool, float]:
    values: Sequence[float] = outcome.measured.get(measure.key) or (math.nan,)
    mean = sum(values) / len(values)
    return math.isnan(mean), -mean if measure.better == "higher" else mean


def _value(outcome: Outcome, measure: Measure) -> str:
    values = outcome.measured.get(measure.key)
    if not values:
        return "–"
    if measure.key in ("evaluations", "seconds"):
        cached = " (cached, not timed now)" if measure.key == "seconds" and outcome.cached else ""
        return short(sum(values) / len(values)) + cached
    return str(Spread(tuple(values)))


def sheet_of(job: Job) -> bytes:
    """The labelled picture of the finished cells, as a PNG that says how it came about."""
    about = job.about
    picture = draw_sheet(job.table, about["title"], about["shared"], min(job.wanted.own.count, 4))
    return encode(picture, {"compare": {k: about[k] for k in ("command", "title", "shared", "id", "version")}})


def _files(job: Job, about: Mapping[str, Any]) -> str:
    table = job.table
    files = (
        ("compare.png", "image/png", sheet_of(job), "Sheet (PNG)"),
        ("compare.csv", "text/csv", table.as_csv().encode(), "Numbers (CSV)"),
        ("compare.json", "application/json", table.as_json(about).encode(), "Everything (JSON)"),
    )
    links = "".join(
        f'<a class="sf-file" download="{name}" href="data:{kind};base64,{base64.b64encode(data).decode()}">{label}</a>'
        for name, kind, data, label in files
    )
    return f'<h4>Take it with you</h4><p class="sf-files">{links}</p>'


def _command(job: Job) -> str:
    w = job.wanted
    if not w.command:
        return f'<h4>Make it again</h4><p class="sf-soft">No command line says exactly this: {html.escape(readable(ValueError(w.why)))}</p>'
    return (
        '<h4>Make it again</h4><p class="sf-soft">The command line finds the cells that are made, and makes the rest:</p>'
        f'<div class="sf-code"><pre tabindex="0"><code>{html.escape(w.command)}</code></pre>'
        '<button type="button" data-copy>Copy</button></div>'
    )


def large_of(job: Job) -> str:
    """The cell that was picked: all its pictures, and how it was sampled."""
    outcome = None if job.picked is None else job.outcomes.get(job.picked)
    if outcome is None:
        return ""
    s, first = outcome.cell.settings, picture_of(outcome, job.show)
    others = "".join(
        f'<img src="{data_uri(picture)}" alt="picture {i + 1}" class="pixels">'
        if (picture := picture_of(outcome, i)) is not None
        else '<span class="gone">none</span>'
        for i in range(min(job.pictures, 16))
    )
    facts = {
        "sampler": brief(s.sampler), "grid": brief(s.grid), "steps": str(s.steps), "guidance": spelled(s.guidance),
        "filters": brief(list(s.filters)) if s.filters else "none", "first seed": str(s.first),
        **({"class": s.labels or "each in turn"} if job.wanted.loaded.model.num_classes else {}),
        **({"prompt": s.prompts or "none"} if job.wanted.loaded.model.text is not None else {}),
        **({"checkpoint": str(s.checkpoint)} if s.checkpoint is not None else {}),
        **({"average": str(s.ema)} if s.ema is not True else {}),
    }  # fmt: skip
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    words = "".join(
        f"<li>{html.escape(line)}</li>" for line in [*lines_of(outcome, job.about), state_words(outcome)] if line
    )
    main = (
        ""
        if first is None
        else f'<img src="{data_uri(first)}" alt="{html.escape(outcome.cell.name, quote=True)}" class="first pixels">'
    )
    return (
        f'<section class="sf-large" aria-label="The cell that was chosen"><h4>{html.escape(outcome.cell.name)}</h4><div class="both">{main}'
        f'<div><dl>{rows}</dl><ul>{words}</ul></div></div><div class="others">{others}</div></section>'
    )
