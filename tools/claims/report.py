"""All claims as one HTML page, by verdict, each with the figure of its recorded numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..page import Page
from .cells import raw_of
from .claim import FAILED, HELD, UNDECIDED, Claim
from .table import HEAD, row_of

__all__ = ["write_report"]

_GROUPS = {
    HELD: "The effect is on the side of the promise in the mean over the seeds, by more than two standard deviations.",
    FAILED: "The effect is on the other side, or is nothing, by the same rule.",
    UNDECIDED: "The effect is smaller than two standard deviations over the seeds: at this scale nothing can be said of it.",
    "not measured": "There is no result yet.",
}


def write_report(claims: Mapping[str, Claim], results: Mapping[str, Mapping[str, Any] | None], path: Path) -> bool:
    """Write the page; whether there was a library to draw figures with.

    Args:
        claims: by name.
        results: recorded, by name; None: not measured.
        path: of the HTML file.
    """
    page = Page(
        "What papers promise, measured again",
        "Small pictures and points in the plane, small networks, minutes on one CPU core: the direction of an effect, not its size.",
    )
    verdicts = {name: _verdict(results[name]) for name in claims}
    counts = [f"{list(verdicts.values()).count(kind)} {kind}" for kind in _GROUPS if kind in verdicts.values()]
    page.text(f"{len(claims)} claims: {', '.join(counts)}. Mean ± standard deviation are over training seeds.")
    head = ("claim", "paper", "verdict", "minutes", "seeds")
    rows = {name: dict(zip(HEAD, row_of(claim, results[name]), strict=True)) for name, claim in claims.items()}
    order = [name for kind in _GROUPS for name in claims if verdicts[name] == kind]
    page.table(head, [[rows[name][column] for column in head] for name in order])
    drawn = True
    for kind, about in _GROUPS.items():
        members = [name for name in order if verdicts[name] == kind]
        if members:
            page.heading(f"{kind[0].upper()}{kind[1:]}: {len(members)}")
            page.text(about, soft=True)
        for name in members:
            drawn = _section(page, claims[name], results[name]) and drawn
    path.parent.mkdir(parents=True, exist_ok=True)
    page.write(path)
    return drawn


def _verdict(result: Mapping[str, Any] | None) -> str:
    return "not measured" if result is None else result["verdict"]


def _section(page: Page, claim: Claim, result: Mapping[str, Any] | None) -> bool:
    """One claim; whether its figures could be drawn."""
    number = f", arXiv {claim.arxiv}" if claim.arxiv else ""
    page.heading(f"{claim.name} ({claim.paper}{number}): {_verdict(result)}")
    page.text(f"Promise: {claim.promise}.")
    page.text(f"The paper's figure: {claim.figure}.")
    page.code(claim.command)
    if result is None:
        return True
    page.text(f"Ours: {result['ours']}.")
    effects = ", ".join(f"{value:.3g}" for value in result["values"])
    page.text(
        f"The effect per seed (above 0 is as promised): {effects}; seeds {', '.join(map(str, result['seeds']))}; "
        f"{result['minutes']:.0f} minutes; Sfumato {result['version']}, torch {result['torch']}.",
        soft=True,
    )
    try:
        from ..plots import draw_panels, draw_sheet
    except ImportError:
        return False
    raw = raw_of(result["cells"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figure.png"
        draw_panels(claim.panels(raw), f"{claim.paper}: {result['verdict']}", file)
        page.picture(file, claim.promise)
        if claim.sheet is not None:
            draw_sheet(claim.sheet(raw), file)
            page.picture(file, f"pictures of {claim.name}")
    return True
