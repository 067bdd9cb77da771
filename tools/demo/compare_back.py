"""From a cell of a comparison back to the form that samples the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..compare.axes import cut_pair
from ..compare.settings import Cell
from ..compare.spelled import spelled
from .compare_asked import Wanted
from .compare_moves import MOVES
from .form import Form
from .menus import EACH

__all__ = ["form_of", "left_behind"]


def form_of(wanted: Wanted, cell: Cell) -> Form:
    """The form of the comparison, with what moved put in.

    Args:
        wanted: the comparison.
        cell: of it.
    """
    form, s = wanted.form, cell.settings
    form = replace(form, seeds=str(s.first), count=wanted.own.count)
    for axis, move, at in ((wanted.x, wanted.own.x, cell.column), (wanted.y, wanted.own.y, cell.row)):
        if not axis.keys:
            continue
        keys = MOVES[move].keys
        label = axis.labels[at]
        words = [label] if len(keys) == 1 else cut_pair(label, keys, move)
        for key, word in zip(keys, words, strict=True):
            form = replace(form, **_moved(key, word, s))
    return form


def _moved(key: str, word: str, s: Any) -> dict[str, Any]:
    """Fields of the form that a key moves; parts by the visitor's own word, unless an argument of them moved."""
    if key in ("sampler", "grid"):
        return {key: word}
    if key == "guidance" or key.startswith("guidance.") or key == "interval":
        # the rule as it is, with its interval in it
        return {"rule": spelled(s.guidance), "limited": False} if s.guidance else {}
    return {
        "steps": {"steps": s.steps}, "sampler.eta": {"sampler": spelled(s.sampler)}, "label": {"labels": s.labels or EACH},
        "prompt": {"prompt": s.prompts or ""}, "filters.threshold": {"threshold": word}, "seed": {"seeds": word},
    }.get(key, {})  # fmt: skip


def left_behind(wanted: Wanted) -> str:
    """What moves in a comparison and has no place in the form, in words; "" where there is nothing."""
    own = {"checkpoint": "the checkpoint", "ema": "the average of the weights"}
    found = [words for key, words in own.items() if key in (*wanted.x.keys, *wanted.y.keys)]
    return f"{' and '.join(found)} can't be chosen in the form, and is left out" if found else ""
