"""What a network is told of its samples in training: labels or captions, some of them dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from ..schedules import Stream, uniform
from .data import Source
from .prompts import TextEncoder
from .texts import texts_of

__all__ = ["Told", "caption_condition", "drawn_captions", "empty_condition", "first_captions"]


class Told(Protocol):
    """What of a recipe says how the network is told what a sample shows."""

    @property
    def num_classes(self) -> int: ...

    @property
    def text(self) -> TextEncoder | None: ...


def drawn_captions(texts: Sequence[tuple[str, ...]], seed: int, step: int, places: Tensor) -> list[str]:
    """One caption of each sample, drawn by address where there are several.

    Args:
        texts: of each sample, one or more.
        seed: of the run.
        step: optimizer step.
        places: in the global batch, int64 (B,), on the host.
    """
    if all(len(each) == 1 for each in texts):
        return [each[0] for each in texts]
    u = uniform(torch.full_like(places, seed), places, step, 1, Stream.CAPTION)[:, 0].tolist()
    return [each[int(share * len(each))] for each, share in zip(texts, u, strict=True)]


@torch.no_grad()
def caption_condition(
    text: TextEncoder, captions: Sequence[str], dropped: Tensor | None, device: torch.device
) -> dict[str, Tensor]:
    """The condition of captions, the empty text in place of those that are dropped; each text is encoded once.

    Args:
        text: the encoder.
        captions: one per sample.
        dropped: bool (B,) on the device; None: none.
        device: where to put it.
    """
    each = list(dict.fromkeys(["", *captions]))
    place = {caption: i for i, caption in enumerate(each)}
    index = torch.tensor([place[caption] for caption in captions], dtype=torch.int64)
    # arithmetic of half precision is the network's, and not the encoder's
    with torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext():
        encoded = text.encode(each)
    found: dict[str, Tensor] = {}
    for key, rows in encoded.items():
        own = rows[index.to(rows.device)].to(device)
        if dropped is not None:
            null = rows[:1].to(device)
            own = torch.where(dropped.view(-1, *[1] * (own.ndim - 1)), null, own)
        found[key] = own
    return found


def empty_condition(recipe: Told, count: int, device: torch.device) -> dict[str, Tensor] | None:
    """A condition for trying a network: class 0, or the empty text.

    Args:
        recipe: what is trained.
        count: samples.
        device: of the network.
    """
    if recipe.text is not None:
        return caption_condition(recipe.text, [""] * count, None, device)
    if recipe.num_classes:
        return {"labels": torch.zeros(count, dtype=torch.int64, device=device)}
    return None


def first_captions(data: Source, index: Tensor) -> list[str]:
    """The first caption of some samples.

    Args:
        data: with captions.
        index: int64 (B,).

    Raises:
        ValueError: for data without captions.
    """
    texts = texts_of(data, index)
    if texts is None:
        raise ValueError(f"{type(data).__name__} has no captions; give data that have, such as Captions around them")
    return [each[0] for each in texts]
