"""The table of claims, for a terminal and for the README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from .claim import Claim

__all__ = ["HEAD", "as_markdown", "as_text", "row_of"]

HEAD = (
    "claim",
    "paper",
    "promise",
    "paper's figure",
    "ours (mean ± std over seeds)",
    "verdict",
    "minutes",
    "seeds",
    "command",
)
_WIDTHS = (26, 14, 27, 18, 28, 12, 7, 5, 26)


def row_of(claim: Claim, result: Mapping[str, Any] | None) -> list[str]:
    """One claim under `HEAD`; without a result it has not been measured. seeds: how many runs of every variant.

    Args:
        claim: which.
        result: as recorded, or None.
    """
    if result is None:
        measured = ["", "not measured", "", ""]
    else:
        measured = [result["ours"], result["verdict"], f"{result['minutes']:.0f}", str(len(result["seeds"]))]
    return [claim.name, claim.paper, claim.promise, claim.figure, *measured, claim.command]


def as_text(claims: Mapping[str, Claim], results: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The table in columns, cells wrapped."""
    blocks = [list(HEAD), *(row_of(claim, results[name]) for name, claim in claims.items())]
    lines: list[str] = []
    for block in blocks:
        wrapped = [
            textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(block, _WIDTHS, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=""):
            lines.append("  ".join(part.ljust(width) for part, width in zip(parts, _WIDTHS, strict=True)).rstrip())
        lines.append("-" * (sum(_WIDTHS) + 2 * (len(_WIDTHS) - 1)) if len(lines) < 4 else "")
    return "\n".join(lines).rstrip()


def as_markdown(claims: Mapping[str, Claim], results: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The table as in the README; the command names the claim."""
    head = HEAD[1:]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, claim in claims.items():
        _, paper, *rest, command = row_of(claim, results[name])
        source = f"[{paper}](https://arxiv.org/abs/{claim.arxiv})" if claim.arxiv else paper
        lines.append(f"| {source} | {' | '.join(rest)} | `{command}` |")
    return "\n".join(lines)
