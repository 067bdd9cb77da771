"""Sections of the report of `sfumato evaluate` that are looked at: pictures, copies, classes, brightness."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffusion.images import contact_sheet
from ..diffusion.measuring import Pictures
from ..diffusion.measuring.evaluation import Evaluation
from .page import Page

__all__ = ["brightness", "classes", "copies", "samples"]

_TILE, _COLUMNS, _ROWS = 64, 8, 5


def _shown(pictures: Pictures, index: Tensor) -> Tensor:
    """Pictures as they go onto a sheet: in [-1, 1], RGB, not larger than twice a tile."""
    x = pictures.pixels(index).float() / 127.5 - 1
    if x.shape[-1] > 2 * _TILE or x.shape[-2] > 2 * _TILE:
        x = F.interpolate(x, scale_factor=2 * _TILE / max(x.shape[-2:]), mode="area")
    return x.expand(-1, 3, -1, -1)


def _some(count: int, most: int) -> Tensor:
    """Places spread over all."""
    return torch.arange(min(count, most)) * count // min(count, most)


def samples(page: Page, own: Pictures, reference: Pictures | None) -> None:
    """Pictures, beside real ones.

    Args:
        page: of the report.
        own: the pictures.
        reference: real ones, or None.
    """
    page.heading("The pictures" if reference is None else "The pictures, beside real ones")
    left = _shown(own, _some(len(own), _COLUMNS * _ROWS)).split(_COLUMNS)
    groups = [("measured", _COLUMNS)]
    rows = list(left)
    if reference is not None:
        right = _shown(reference, _some(len(reference), _COLUMNS * _ROWS)).split(_COLUMNS)
        # only whole rows stand beside each other
        rows = [torch.cat([a, b]) for a, b in zip(left, right, strict=False) if len(a) == _COLUMNS] or [
            torch.cat([left[0], right[0]])
        ]
        groups = [("measured", len(left[0])), ("reference", len(right[0]))]
    page.picture(
        contact_sheet(rows, tile=_TILE, groups=groups), "Spread evenly over each set, not chosen.", pixels=True
    )


def copies(page: Page, e: Evaluation, own: Pictures, training: Pictures | None, known: bool) -> None:
    """The pictures that look most like copies, each beside its nearest training picture.

    Args:
        page: of the report.
        e: the evaluation.
        own: the pictures.
        training: the training pictures, or None.
        known: whether they are; else they are the reference, of which it is not known.
    """
    suspects = e.details.get("suspects")
    if not suspects or training is None:
        return
    what = "training" if known else "reference"
    page.heading(f"Copies of {what} pictures?")
    if not known:
        page.text(
            "Which pictures the model was trained on is not known; copies are looked for among those of the reference.",
            soft=True,
        )
    facts = e.details["memorisation"]
    page.text(
        f"{100 * facts['copies']:.3g} % of the pictures are equal to a {what} picture to the extractor, "
        f"{100 * e['memorised'].value:.3g} % are three times nearer to one than to any other, {100 * facts['near']:.3g} % are nearer than "
        f"a tenth of what {what} pictures usually are to each other."
    )
    held = facts["held_out"]
    if held is not None:
        page.text(
            f"Of real pictures that the model never saw {100 * held['memorised']:.3g} % count as memorised. Rank test against them: z "
            f"{held['z']:.2f} (below -1.6: pictures lie nearer to the training data than real ones do; p {held['p']:.2g})."
        )
    elif known:
        page.text(
            "Nothing was held out from training, so it is not known how near new real pictures come by chance.",
            soft=True,
        )
    pick = torch.tensor([[s["picture"], s["training"]] for s in suspects])
    both = torch.stack([_shown(own, pick[:, 0]), _shown(training, pick[:, 1])], 1).flatten(0, 1)
    captions = [word for s in suspects for word in (f"{s['picture']}", f"ratio {s['ratio']:.2f}")]
    page.picture(
        contact_sheet(both.split(_COLUMNS), captions=[captions[i : i + _COLUMNS] for i in range(0, len(captions), _COLUMNS)], tile=_TILE),
        f"Pairs: a picture (below it its place in the set), and at its right the nearest {what} picture (below it how much nearer it is "
        "than the second nearest: 0 is a copy, 1 is nothing special). The most suspicious first.", pixels=True,
    )  # fmt: skip


def classes(page: Page, e: Evaluation) -> None:
    """How often each class was recognised, and what it was taken for.

    Args:
        page: of the report.
        e: the evaluation.
    """
    each = e.details.get("per_class")
    if each is None:
        return
    page.heading("Classes")
    assert e.classifier is not None
    real = e["accuracy"].real
    known = (
        ""
        if real is None
        else f" It names {100 * real:.1f} % of real pictures correctly, with those that it was trained on."
    )
    page.text(
        f"Row: the class that was asked for; columns: what {e.classifier['name']} took the pictures for, in per cent.{known}"
    )
    asked, table = e.details["asked"], e.details["confusion"]
    if table is None:
        worst = sorted((c for c in range(len(each)) if asked[c]), key=lambda c: each[c])[:20]
        page.table(("class", "pictures", "recognised, %"), [(c, asked[c], f"{100 * each[c]:.1f}") for c in worst])
        return
    rows = [
        (c, asked[c], *(f"{100 * n / asked[c]:.1f}" if n else "" for n in table[c]))
        for c in range(len(table))
        if asked[c]
    ]
    page.table(("class", "pictures", *map(str, range(len(table)))), rows)


def brightness(page: Page, e: Evaluation) -> bool:
    """A histogram; whether there was a library to draw it with.

    Args:
        page: of the report.
        e: the evaluation.
    """
    found = e.details["brightness"]
    try:
        from .plots import draw_panels
    except ImportError:
        return False
    middles = [(a + b) / 2 for a, b in zip(found["edges"], found["edges"][1:], strict=False)]
    series: list[dict[str, Any]] = [{"x": middles, "y": found["fake"], "name": "measured", "color": 1}]
    if found["real"] is not None:
        series.append({"x": middles, "y": found["real"], "name": "reference", "color": 0})
    page.heading("Brightness")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "brightness.png"
        draw_panels(
            [
                {
                    "title": "mean brightness of a picture",
                    "x": "0 black, 255 white",
                    "y": "share of pictures",
                    "series": series,
                }
            ],
            "",
            file,
        )
        page.picture(
            file,
            "A model that never saw pure noise makes pictures that are all of medium brightness: a narrower line than the reference's.",
        )
    return True
