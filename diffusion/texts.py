"""What data say of their samples in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .data import Source

__all__ = ["Captioned", "captioned", "encoder_identity", "texts_of"]


class Captioned(Source, Protocol):
    """A data set whose samples have captions."""

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of the samples at `index`, int64 (B,): one or more each, of which the trainer draws one by address. None: the data
        have none."""
        ...


def texts_of(data: Source, index: Tensor) -> list[tuple[str, ...]] | None:
    """The captions of some samples; None where the data have none.

    Args:
        data: any source; of those that have captions, `texts` says them.
        index: int64 (B,).

    Raises:
        ValueError: for a sample without a caption, or with what is no text.
    """
    asked = getattr(data, "texts", None)
    found = None if asked is None else asked(index)
    if found is None:
        return None
    texts = [tuple(each) for each in found]
    for i, each in zip(index.tolist(), texts, strict=True):
        if not each or not all(isinstance(text, str) for text in each):
            raise ValueError(f"sample {i} of the data has the captions {each!r}; allowed: one text or more")
    return texts


def captioned(data: Source) -> bool:
    """Whether the samples of a data set have captions.

    Args:
        data: any source; of one that is not empty, the first sample is asked.
    """
    return getattr(data, "texts", None) is not None and len(data) > 0 and texts_of(data, torch.tensor([0])) is not None


def encoder_identity(described: Any) -> Any:
    """The description of a text encoder without what does not change it: where its files are, and on what it runs.

    Args:
        described: plain data, of parts.describe; what knows no fingerprint of its files stays as it is.
    """
    if not isinstance(described, Mapping):
        return described
    arguments = described.get("init_args")
    if not isinstance(arguments, Mapping):
        return dict(described)
    moved = {"folder", "device"} if arguments.get("fingerprint") or arguments.get("encoder") else set()
    return {**described, "init_args": {k: encoder_identity(v) for k, v in arguments.items() if k not in moved}}
