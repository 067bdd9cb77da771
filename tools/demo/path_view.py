"""A path as the visitor sees it: frames in a strip, one of them large under a slider, and figures with a line at its step."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from .path import Path
from .path_figures import panels, place
from .path_files import links
from .path_pictures import laid_out
from .path_words import readout, say, sentences

__all__ = ["EMPTY", "still_walking", "view"]

EMPTY = (
    '<p class="sf-path-empty">Walk one sample from noise to data, and see what the model believed at every step; the settings are those of '
    "the Sample tab.</p>"
)

LATENTS = (
    '<span class="sf-path-soft">x0 and x are latents here, and so are all numbers; the frames show them roughly, and the finished picture '
    "is what the decoder makes of the last.</span>"
)


def still_walking(paths: Sequence[Path], head: str, most: int = 12) -> str:
    """The strip while it grows.

    Args:
        paths: so far.
        head: see `heading`.
        most: frames in a row.
    """
    if not paths:
        return f'<section class="sf-path"><p class="sf-path-head">{head}</p></section>'
    now = paths[-1]
    of = f", {html.escape(now.name)}" if len(paths) > 1 else ""
    said = f"step {len(now.shots)} of {now.steps}{of}; {sum(p.evaluations for p in paths)} evaluations so far"
    return (
        f'<section class="sf-path"><p class="sf-path-head">{head}</p><p class="sf-path-said" role="status">{said}</p>'
        f"{_strip(paths, laid_out(now.steps + 1, most), every=False)}</section>"
    )


def view(
    paths: Sequence[Path], head: str, data_std: float | None, notes: Sequence[str], retry: bool, stopped: bool, latents: bool = False
) -> str:  # fmt: skip
    """A path that was walked, or two side by side, as HTML that trajectory.js brings to life.

    Args:
        paths: the guided one first, of as many shots.
        head: see `heading`.
        data_std: how large the data are, as the model was told.
        notes: what was warned of.
        retry: whether the form asks for rejected pictures to be tried again.
        stopped: whether there is no end.
        latents: whether x0 and x are latents.
    """
    first = paths[0]
    both = [path for path in paths if len(path.shots) == len(first.shots)]
    count = len(first.shots)
    shots = [
        {"at": round(100 * place(i, first.steps), 3), "say": say(first, i), "rows": readout(both, i)} for i in range(count)
    ]  # fmt: skip
    told = html.escape(json.dumps(shots, ensure_ascii=False, separators=(",", ":")), quote=True)
    warned = "".join(f'<p class="sf-path-note">{html.escape(note)}</p>' for note in notes)
    said = [*sentences(both, retry, stopped), *[LATENTS] * latents]
    words = "".join(f"<p>{sentence}</p>" for sentence in said)
    figures = "".join(
        f'<figure><figcaption><b>{html.escape(p.name)}</b> {html.escape(p.about)}</figcaption><div class="sf-path-plot">{p.svg}'
        '<i class="sf-path-at" aria-hidden="true"></i></div></figure>'
        for p in panels(both, data_std)
    )
    here = 'style="--sf-at:50%"'
    return (
        f'<section class="sf-path" data-shots="{told}" {here}><p class="sf-path-head">{head}</p>{warned}'
        f"{_stage(both)}{_slider(count)}{_strip(both, laid_out(count), every=True)}"
        f'<div class="sf-path-words">{words}</div><div class="sf-path-figures">{figures}</div>{links(both, head)}</section>'
    )


def _stage(paths: Sequence[Path]) -> str:
    """The large frames: each path's, and where there are two, their difference."""
    frames = "".join(
        f'<figure><div class="sf-path-large"><img data-row="{row}" alt=""></div><figcaption>{html.escape(path.name)}</figcaption></figure>'
        for row, path in enumerate(paths)
    )
    if len(paths) > 1:
        frames += (
            '<figure><div class="sf-path-large sf-path-apart"><img data-row="0" alt=""><img data-row="1" alt=""></div>'
            "<figcaption>difference (black: none)</figcaption></figure>"
        )
    head = "".join(f'<th scope="col">{html.escape(path.name)}</th>' for path in paths) if len(paths) > 1 else ""
    top = f"<thead><tr><td></td>{head}</tr></thead>" if head else ""
    read = f'<table class="sf-path-read">{top}<tbody></tbody></table>'
    return f'<div class="sf-path-stage"><div class="sf-path-frames">{frames}</div>{read}</div>'


def _slider(count: int) -> str:
    return (
        '<div class="sf-path-scrub"><button type="button" class="sf-path-play" aria-pressed="false">Play</button>'
        f'<input type="range" id="path-slider" min="0" max="{count - 1}" value="{count - 1}" step="1" aria-label="Step of the path">'
        '<output for="path-slider"></output>'
        '<label class="sf-path-noisy"><input type="checkbox" id="path-noisy"> with the noisy x</label></div>'
    )


def _strip(paths: Sequence[Path], shown: Sequence[int], every: bool) -> str:
    """Frames side by side; those that are not laid out are there for the slider only."""
    cells: list[str] = []
    for index in range(paths[0].steps + 1):
        if not (index in shown or every):
            continue
        rows = "".join(_cell(path, row, index, len(paths) > 1, every) for row, path in enumerate(paths))
        if rows:
            name = "end" if index == paths[0].steps else f"{index + 1}"
            hidden = "" if index in shown else " hidden"
            cells.append(
                f'<button type="button" tabindex="-1" data-k="{index}"{hidden}>{rows}<span>{name}</span></button>'
            )
    key = " and ".join(
        f"{word} row {html.escape(path.name)}" for word, path in zip(("upper", "lower"), paths, strict=False)
    )
    said = f'<p class="sf-path-soft sf-path-key">Predicted x0 where each step begins{f"; {key}" if len(paths) > 1 else ""}.'
    more = (
        " More steps are between these; the slider reaches all." if every and len(shown) < len(paths[0].shots) else ""
    )
    noisy = "Below each the noisy x that it was predicted from, scaled to unit variance."
    return (
        f'{said}<span class="sf-path-when-noisy"> {noisy}</span>{more}</p>'
        f'<div class="sf-path-strip" role="group" aria-label="Frames of the path" tabindex="0">{"".join(cells)}</div>'
    )


def _cell(path: Path, row: int, index: int, named: bool, noisy: bool) -> str:
    if index >= len(path.shots):
        return ""
    shot = path.shots[index]
    of = f", {path.name}" if named else ""
    words = html.escape(f"{say(path, index)}{of}", quote=True)
    small = " sf-path-pixels" if max(shot.x0.size) <= 64 else ""
    x0, x = shot.addresses
    found = f'<img class="sf-path-x0{small}" data-row="{row}" alt="predicted x0, {words}" src="{x0}">'
    return found + (
        f'<img class="sf-path-x{small}" data-row="{row}" alt="noisy x, {words}" src="{x}">' if noisy else ""
    )
