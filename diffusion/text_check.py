"""Whether the captions of data, a text encoder and a network fit together."""

from __future__ import annotations

import torch

from .data import Source
from .recipe import Recipe
from .texts import captioned

__all__ = ["check_text"]


def check_text(recipe: Recipe, validation: Source | None) -> None:
    """Refuse a recipe whose text encoder, backbone and data do not fit.

    Args:
        recipe: of the run.
        validation: what it is validated on; None: nothing.

    Raises:
        ValueError: naming the keys and the fix.
    """
    width = getattr(recipe.backbone, "text_width", None)  # a network of somebody else's need not say it
    if recipe.text is None:
        if width:
            raise ValueError(
                f"backbone.text_width is {width}, and text is null, so nothing encodes the captions; set text, such as HashedWords, or "
                "backbone.text_width: 0"
            )
        if recipe.prompts:
            raise ValueError(
                "prompts are given, and text is null, so the network is told no texts; set text, or leave prompts out"
            )
        return
    name = type(recipe.text).__name__
    if recipe.num_classes:
        raise ValueError(
            f"backbone.num_classes is {recipe.num_classes} and text is {name}; allowed: a network of classes, or of texts; set "
            "backbone.num_classes: 0"
        )
    told = recipe.text.encode([""])
    if any(not isinstance(rows, torch.Tensor) or len(rows) != 1 for rows in told.values()):
        raise ValueError(f"text is {name}, whose encode([one text]) gives no tensors of one row each")
    own = told["text"].shape[-1] if "text" in told else None
    if width == 0:
        raise ValueError(
            f"text is {name}, and backbone.text_width is 0, so the network hears no text; set backbone.text_width: {own}"
        )
    if width is not None and own is not None and width != own:
        raise ValueError(
            f"backbone.text_width is {width}, and {name} makes {own} numbers per token; set backbone.text_width: {own}"
        )
    for key, data in (("data", recipe.data), ("validation", validation)):
        if data is not None and not captioned(data):
            raise ValueError(
                f"text is {name}, and {key} has no captions; give data.captions (ImageFolder), data.caption (HuggingFace), or set {key}: "
                "Captions, around data with classes"
            )
