"""A path to take home: its strip as one picture that says how it was made, and its numbers."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...diffusion.images import contact_sheet
from ...schedules.plain_json import to_json
from .encoded import encode
from .path import Path
from .path_pictures import laid_out

__all__ = ["links", "numbers", "strip", "table"]

TILE = 96
"""Side of a frame of the strip, in pixels about."""


def strip(paths: Sequence[Path]) -> bytes:
    """The frames that are laid out, as one PNG; the settings in it are those of the first path's picture.

    Args:
        paths: that were walked to their ends, or as far.
    """
    first = paths[0]
    shown = laid_out(len(first.shots))
    rows: list[Tensor] = []
    titles: list[str] = []
    for path in paths:
        named = f"{path.name}: " if len(paths) > 1 else ""
        rows += [_row([path.shots[i].x0 for i in shown]), _row([path.shots[i].x for i in shown])]
        titles += [f"{named}predicted x0", f"{named}noisy x"]
    names = ["end" if i == first.steps else f"{i + 1}" for i in shown]
    empty = [""] * len(shown)
    captions = [names if k % 2 else empty for k in range(len(rows))]
    sheet = contact_sheet(rows, titles, captions, TILE)
    samples = first.samples
    return encode(sheet, None if samples is None else samples.settings_of(0))


def numbers(paths: Sequence[Path]) -> dict[str, Any]:
    """All numbers of a path, JSON-able."""
    return to_json({
        "settings": None if paths[0].samples is None else paths[0].samples.settings_of(0),
        "paths": [
            {
                "name": path.name, "evaluations": path.evaluations, "seconds": path.seconds, "shots": _rows(path),
                "filters": [{"name": s.name, "score": s.score, "kept": s.kept} for s in path.scores],
            }
            for path in paths
        ],
    })  # fmt: skip


def table(paths: Sequence[Path]) -> str:
    """The numbers of each shot as CSV, a line per shot and path."""
    buffer = io.StringIO()
    rows = [{"path": path.name, **row} for path in paths for row in _rows(path)]
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def links(paths: Sequence[Path], head: str) -> str:
    """What to download, as links whose addresses are the files themselves.

    Args:
        paths: that were walked.
        head: what was walked.
    """
    if not paths[0].shots:
        return ""
    seed = "" if paths[0].samples is None else f"-seed-{int(paths[0].samples.seeds[0])}"
    files = (
        ("Strip (PNG)", f"path{seed}.png", "image/png", strip(paths)),
        ("Numbers (CSV)", f"path{seed}.csv", "text/csv", table(paths).encode()),
        ("Numbers (JSON)", f"path{seed}.json", "application/json", json.dumps(numbers(paths), indent=1, allow_nan=False).encode()),
    )  # fmt: skip
    each = "".join(
        f'<a download="{html.escape(name, quote=True)}" href="data:{kind};base64,{base64.b64encode(data).decode()}">{label}</a>'
        for label, name, kind, data in files
    )
    return f'<p class="sf-path-files">{each}</p>'


def _rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for i, shot in enumerate(path.shots):
        row = {
            "shot": "end" if i == path.steps else i + 1, "t": shot.level.t, "log_snr": shot.level.log_snr, "alpha": shot.level.alpha,
            "sigma": shot.level.sigma, "evaluations": shot.evaluations, "guided": None if shot.pull is None else shot.pull.steered,
            "pull": None if shot.pull is None else shot.pull.size, "change": shot.change, "size": shot.size,
            "left": path.left[i] if path.left else None,
        }  # fmt: skip
        for known in path.scores:
            if known.speaks:
                row[known.name] = known.so_far[i] if i < len(known.so_far) else None
        found.append(row)
    return found


def _row(images: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size, that of the first, (N, C, H, W) in [-1, 1]."""
    same = [image.convert("RGB").resize(images[0].size, Image.Resampling.NEAREST) for image in images]
    return torch.stack([torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 127.5 - 1 for image in same])
