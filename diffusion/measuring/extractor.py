"""What looks at pictures before they are compared: any network that makes a vector of features of each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import is_dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ...schedules.parts import describe
from ...schedules.plain_json import to_json
from ..fingerprint import fingerprint

__all__ = ["Extractor", "Seen", "identity", "look"]


class Seen(NamedTuple):
    """What an extractor makes of pictures.

    features: float32 (N, d). logits: (N, K), the scores of its classes, of an extractor that classifies; None otherwise.
    """

    features: Tensor
    logits: Tensor | None = None


@runtime_checkable
class Extractor(Protocol):
    """Features of pictures: a frozen dataclass, or any nn.Module, with a width.

    An extractor may also say: `short`, how its Frechet distance is called ("FID"); `fingerprint`, which weights it has; `resize`, in words,
    how pictures are brought to its size. Where it does not, they are found or left empty.
    """

    @property
    def num_features(self) -> int:
        """d, the width of the features."""
        ...

    def __call__(self, pictures: Tensor) -> Seen:
        """Look at pictures, uint8 (N, C, H, W) with C of 1 or 3, on any device; answers there. A bare tensor of features will do."""
        ...


@torch.no_grad()
def look(extractor: Extractor, pictures: Tensor) -> Seen:
    """Ask an extractor, and check what it says.

    Args:
        extractor: any; an nn.Module is asked in evaluation mode.
        pictures: uint8 (N, C, H, W), N >= 1.

    Returns:
        float32 features (N, d) and logits (N, K) or None, on the CPU.

    Raises:
        ValueError: for what are no pictures, what is no extractor, and one that answers with something else, another shape, or numbers
            that are not finite.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or len(pictures) < 1 or pictures.shape[1] not in (1, 3):
        raise ValueError(
            f"pictures are {pictures.dtype} {tuple(pictures.shape)}; allowed: uint8 (N, C, H, W) with C of 1 or 3, N >= 1"
        )
    name, width = type(extractor).__name__, getattr(extractor, "num_features", None)
    if not isinstance(width, int) or not callable(extractor):
        raise ValueError(
            f"{name} is no extractor: its num_features is {width!r}; allowed: an nn.Module, or an object to be called with pictures, uint8 "
            "(N, C, H, W), that has num_features, the width of the features (N, num_features) that it answers with"
        )
    module = extractor if isinstance(extractor, nn.Module) else None
    training = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        answer: Any = extractor(pictures)
    except (
        RuntimeError,
        TypeError,
        AttributeError,
        LookupError,
        NotImplementedError,
    ) as error:  # whatever a network of the user's raises
        raise ValueError(
            f"{type(extractor).__name__} failed on uint8 pictures {tuple(pictures.shape)}: {type(error).__name__}: {error}; it must take "
            "them as they are, (N, C, H, W) of 0 to 255, so a network of floating-point weights begins with pictures.float() / 255"
        ) from error
    finally:
        if module is not None:
            module.train(training)
    if isinstance(answer, Tensor):
        seen = Seen(answer)
    elif isinstance(answer, tuple) and len(answer) in (1, 2) and isinstance(answer[0], Tensor):
        seen = Seen(*answer)
    else:
        raise ValueError(
            f"{name} answered with a {type(answer).__name__}; allowed: a tensor of features, or features and logits"
        )
    wanted = (len(pictures), width)
    if tuple(seen.features.shape) != wanted:
        raise ValueError(
            f"{name} made features of shape {tuple(seen.features.shape)} of {len(pictures)} pictures; allowed: {wanted}"
        )
    if seen.logits is not None and (seen.logits.ndim != 2 or len(seen.logits) != len(pictures)):
        raise ValueError(f"{name} made logits of shape {tuple(seen.logits.shape)}; allowed: ({len(pictures)}, classes)")
    for kind, values in (("features", seen.features), ("logits", seen.logits)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise ValueError(f"{name} made {kind} that are not finite of these pictures; its weights may hold nan")
    return Seen(seen.features.float().cpu(), None if seen.logits is None else seen.logits.float().cpu())


def identity(extractor: Extractor) -> dict[str, Any]:
    """Who looked: what every number that comes of it must carry.

    Args:
        extractor: any.

    Returns:
        name; short, how its Frechet distance is called; hash, of its weights, or of its settings where it has none; resize, in words,
        "" where it does not say; num_features; settings, of a part of ours.
    """
    name = type(extractor).__name__
    own = getattr(extractor, "fingerprint", None)
    settings = (
        to_json(describe(extractor)) if is_dataclass(extractor) and not isinstance(extractor, nn.Module) else None
    )
    if not isinstance(own, str):
        if isinstance(extractor, nn.Module):
            own = fingerprint(extractor)
        else:
            own = hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()[:16]
    return {
        "name": name, "short": str(getattr(extractor, "short", f"FD-{name}")), "hash": own,
        "resize": str(getattr(extractor, "resize", "")), "num_features": extractor.num_features, "settings": settings,
    }  # fmt: skip
