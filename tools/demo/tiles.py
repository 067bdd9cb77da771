"""Pictures as tiles of a page: what is known of each in words, and all of its settings for who looks closer."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EMPTY", "State", "Tile", "scored", "shown_size", "spoken", "table", "tile"]

State = Literal["waiting", "running", "again", "made", "scored", "kept", "rejected", "lost", "dropped", "stopped"]

_VERDICTS: dict[State, tuple[str, str]] = {
    "waiting": ("", "waiting"), "running": ("", ""), "again": ("✗", "rejected, tried again"), "made": ("", ""),
    "scored": ("", "score only"),
    "kept": ("✓", "kept"), "rejected": ("✗", "rejected"), "lost": ("✗", "no picture"), "stopped": ("", "stopped"),
    "dropped": ("✗", "rejected, then stopped"),
}  # fmt: skip

# a picture of one see-through pixel: the tile has its size before there is anything to show
_NOTHING = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

EMPTY = (
    '<p class="sf-empty">Your pictures will appear here: at once as what the model believes, sharper with every step, and at the end '
    "with their seeds, verdicts and settings. Press Sample to begin.</p>"
)
"""What stands in place of tiles before the first of them."""


@dataclass(frozen=True)
class Tile:
    """One slot as it is shown.

    seed: of it. what: its class or prompt in words, "" for none. state: how far it is. width, height: in pixels of the page. source: of
    the picture, "" for none yet. crisp: whether its pixels are enlarged as they are. attempt: 0, 1, ... scores: a line per filter. reason:
    why it was rejected. name: of its file; "" while there is none. elsewhere: whether the file is not in the page, but in the ZIP. label:
    its class as the form has it. rows: settings of its own.
    """

    seed: int
    what: str
    state: State
    width: int
    height: int
    source: str = ""
    crisp: bool = False
    attempt: int = 0
    scores: Sequence[str] = ()
    reason: str = ""
    name: str = ""
    elsewhere: bool = False
    label: str = ""
    rows: Mapping[str, Any] = field(default_factory=dict)


def shown_size(height: int, width: int, count: int) -> tuple[int, int, bool]:
    """Height and width of a tile in pixels of the page, and whether it is crisp: small pictures are enlarged by whole numbers.

    Args:
        height, width: of a picture.
        count: of pictures.
    """
    room = next(size for most, size in ((1, 320), (4, 224), (16, 128), (math.inf, 96)) if count <= most)
    longest = max(height, width)
    if longest * 2 <= room:
        zoom = room // longest
        return height * zoom, width * zoom, True
    share = min(1.0, max(room, 128) / longest)
    return max(1, round(height * share)), max(1, round(width * share)), share == 1.0


def tile(one: Tile) -> str:
    """A tile as HTML; every text in it is escaped, whatever its origin."""
    mark, word = _VERDICTS[one.state]
    what = f", {one.what}" if one.what else ""
    about = f"seed {one.seed}{what}" + (f", {word}" if word else "") + (f": {one.reason}" if one.reason else "")
    e, said = html.escape, " ".join(one.what.split())
    title = e(said if len(said) <= 300 else said[:299] + "…")
    size = f"width:{one.width}px;aspect-ratio:{one.width}/{one.height}"
    if one.state == "lost":
        inner = f'<span class="sf-hatched" style="{size}"><span>{e(one.reason or "no picture")}</span></span>'
    else:
        crisp = " sf-pixels" if one.crisp else ""
        inner = f'<img class="sf-picture{crisp}" style="{size}" alt="{e(about)}" src="{one.source or _NOTHING}">'
    lines = [f'<span class="sf-seed" title="seed">{one.seed}</span>']
    if one.attempt:
        lines.append(f'<span class="sf-soft">attempt {one.attempt}</span>')
    if said:
        lines.append(f'<span class="sf-what" title="{title}">{e(_cut(said))}</span>')
    if word:
        kind = "kept" if one.state == "kept" else "rejected" if mark else "soft"
        sign = f'<span aria-hidden="true">{mark}</span> ' if mark else ""
        lines.append(f'<span class="sf-verdict sf-{kind}" title="{e(one.reason)}">{sign}{word}</span>')
    lines += [f'<span class="sf-score">{e(score)}</span>' for score in one.scores]
    save = f'<a class="sf-save" role="button" tabindex="0" download="{e(one.name)}">save PNG</a>' if one.name else ""
    save = '<span class="sf-soft">its PNG is in the ZIP</span>' if one.elsewhere else save
    able = "" if one.rows else " disabled"
    return (
        f'<figure class="sf-tile sf-is-{one.state}" data-seed="{one.seed}" '
        f'data-label="{e(one.label)}"><button type="button" class="sf-open"{able} '
        f'aria-label="{e(about)}">{inner}</button><figcaption>{"".join(lines)}{save}</figcaption>{table(one.rows, "sf-own")}</figure>'
    )


def table(rows: Mapping[str, Any], kind: str) -> str:
    """A table of settings that is not shown by itself: names and values, those within others as lines of their own.

    Args:
        rows: names and values.
        kind: its class.
    """
    if not rows:
        return ""
    lines = "".join(f"<tr><th scope=row>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows_of(rows))
    return f'<table class="{kind}" hidden><tbody>{lines}</tbody></table>'


def rows_of(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as lines, in words."""
    return [(spoken(key), _said(value)) for key, value in settings.items() if value is not None and value != ""]


def _said(value: Any) -> str:
    """A value in words: parts as in Python, mappings as name and value."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            inner = ", ".join(f"{k}={_said(v)}" for k, v in (value.get("init_args") or {}).items() if v is not None)
            return f"{str(value['class_path']).rpartition('.')[2]}({inner})"
        return ", ".join(f"{spoken(str(k))} {_said(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def spoken(name: str) -> str:
    """The name of a class or a field as words: TrajectoryVariance -> trajectory variance."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("_", " ")).lower()


def scored(name: str, score: float, bounds: tuple[float, float] | None) -> str:
    """A score in words, with what is kept.

    Args:
        name: of the filter.
        score: of a picture.
        bounds: the least and the largest that is kept, as far as it is known.
    """
    least, most = bounds or (-math.inf, math.inf)
    ends = [f"{word} {end:.3g}" for word, end in (("at least", least), ("at most", most)) if math.isfinite(end)]
    return f"{spoken(name)} {score:.3g}" + (f" (kept: {', '.join(ends)})" if ends else "")


def _cut(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
