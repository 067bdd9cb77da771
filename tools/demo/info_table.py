"""Settings as a table that is read."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...schedules.plain_json import to_json
from ..compare.words import brief

__all__ = ["rows_of", "table"]

# of a sheet, pictures that are listed
_LISTED = 64

_NAMES = {
    "run": "Model", "folder": "Model", "checkpoint": "Step of training", "ema": "Averaged weights", "seed": "Seed", "label": "Class",
    "prompt": "Prompt", "also": "Steered from", "steps": "Steps", "sampler": "Sampler", "grid": "Grid", "guidance": "Guidance",
    "filters": "Filters", "scores": "Scores", "kept": "Kept", "reason": "Why not", "attempt": "Attempt", "evaluations": "Evaluations",
    "mark": "Rejected are marked", "strict": "The same to the last bit", "brownian": "One Brownian motion", "schedule": "Schedule",
    "row": "Predicts", "weak": "Weaker model", "device": "Made on", "version": "Sfumato",
}  # fmt: skip


def rows_of(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a picture's settings, those that people look for first, the others behind them.

    Args:
        settings: of any origin.
    """
    order = [
        *(key for key in _NAMES if key in settings),
        *(key for key in settings if key not in _NAMES and key != "pictures"),
    ]
    rows: list[tuple[str, str]] = []
    for key in order:
        value = settings[key]
        if value not in (None, "", [], {}):
            rows.append((_NAMES.get(key, str(key)), _said(value)))
    return rows


def table(rows: Sequence[tuple[str, str]], pictures: Sequence[Mapping[str, Any]] = ()) -> str:
    """Rows as HTML, every word of them escaped; of a sheet its pictures below.

    Args:
        rows: names and values.
        pictures: of a sheet, their settings.
    """
    body = "".join(
        f'<tr><th scope="row">{_safe(name, 80)}</th><td>{_safe(value, 2000)}</td></tr>' for name, value in rows
    )
    return f'<div class="sf-wide"><table class="sf-table sf-png">{body}</table></div>{_listed(pictures)}'


def _listed(pictures: Sequence[Mapping[str, Any]]) -> str:
    if not pictures:
        return ""
    keys = [
        key
        for key in ("seed", "label", "prompt", "attempt", "kept", "scores")
        if any(each.get(key) not in (None, "") for each in pictures)
    ]
    head = "".join(f'<th scope="col">{_NAMES[key]}</th>' for key in keys)
    body = "".join(
        "<tr>" + "".join(f"<td>{_safe(_said(each.get(key)), 200)}</td>" for key in keys) + "</tr>"
        for each in pictures[:_LISTED]
    )
    more = f"<p>and {len(pictures) - _LISTED} more</p>" if len(pictures) > _LISTED else ""
    caption = f"<caption>{len(pictures)} pictures</caption>"
    whole = f"{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="sf-wide"><table class="sf-table sf-png">{whole}</table></div>{more}'


def _said(value: Any) -> str:
    """A value in short; parts as one would write them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(each, Mapping) and "class_path" in each for each in value):
        return ", ".join(_said(each) for each in value)
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        try:
            if value["class_path"].startswith("sfumato."):
                return brief(value)
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        return value["class_path"]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_said(each)}" for key, each in list(value.items())[:20])
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else value if isinstance(value, str) else json.dumps(to_json(value), default=str)


def _safe(text: str, most: int) -> str:
    return html.escape(text if len(text) <= most else f"{text[: most - 1]}…")
