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
from .menus import EACH, FILTERS, GRIDS, OWN, SAMPLERS

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
            form = replace(form, **_moved(key, word, s, form))
    return form


def _moved(key: str, word: str, s: Any, form: Form) -> dict[str, Any]:
    """Fields of the form that a key moves; parts by the visitor's own word, unless an argument of them moved."""
    if key in ("sampler", "grid"):
        # a name of the menu in other letters means the same in a comparison, and not in the form
        known = {each.lower(): each for each in (OWN, *(SAMPLERS if key == "sampler" else GRIDS))}
        return {key: known.get(word.lower(), word)}
    if (
        key == "filters.threshold" and form.filters[0] not in FILTERS
    ):  # the form's thresholds are those of its menu's filters
        return {"filters": (spelled(s.filters[0]),), "threshold": ""}
    if key == "guidance" or key.startswith("guidance.") or key == "interval":
        # the rule as it is, with its interval in it
        if not s.guidance:
            return {}
        plain = s.guidance["class_path"] == "sfumato.guidance.Plain"  # steers away from nothing
        return {"rule": spelled(s.guidance), "limited": False, **({"negative": ""} if plain else {})}
    return {
        "steps": {"steps": s.steps}, "sampler.eta": {"sampler": spelled(s.sampler)}, "label": {"labels": s.labels or EACH},
        "prompt": {"prompt": s.prompts or ""}, "filters.threshold": {"threshold": word}, "seed": {"seeds": word},
    }.get(key, {})  # fmt: skip


def left_behind(wanted: Wanted) -> str:
    """What moves in a comparison and has no place in the form, in words; "" where there is nothing."""
    own = {"checkpoint": "the checkpoint", "ema": "the average of the weights"}
    found = [words for key, words in own.items() if key in (*wanted.x.keys, *wanted.y.keys)]
    return f"{' and '.join(found)} can't be chosen in the form, and is left out" if found else ""
