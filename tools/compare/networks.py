"""The networks of a comparison: each is loaded once, and known by everything that its pictures depend on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model, fingerprint
from ...schedules.parts import describe

__all__ = ["Loader", "Networks", "conditions_hash", "model_hash"]

Loader = Callable[[int | None, bool | float], Model]
"""(checkpoint, ema) -> Model."""

WeakLoader = Callable[[str, int | None], Model]
"""(run, checkpoint) -> Model."""

# bytes of weights that are kept at once; beyond that one network at a time
_KEPT = 2 * 2**30


class Networks:
    """Loads networks when they are needed, once each unless they are too large to be kept together.

    Args:
        load: of the model itself.
        weak: of weaker networks.
    """

    def __init__(self, load: Loader, weak: WeakLoader) -> None:
        self._load, self._weak = load, weak
        self._models: dict[tuple[Any, ...], Model] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self.loads = 0
        # what a comparison costs may be asked while another one runs
        self._lock = threading.RLock()

    def model(self, checkpoint: int | None, ema: bool | float) -> Model:
        """The model at a checkpoint, with an average.

        Raises:
            ValueError: for one that is not there.
        """
        return self._get(("model", checkpoint, type(ema).__name__, ema), lambda: self._load(checkpoint, ema))

    def weak(self, run: str, step: int | None) -> Model:
        """A weaker model.

        Raises:
            ValueError: for one that is not there.
        """
        return self._get(("weak", run, step), lambda: self._weak(run, step))

    def identity(self, checkpoint: int | None, ema: bool | float) -> str:
        """A hash of weights, path, clock and decoder."""
        key = ("model", checkpoint, type(ema).__name__, ema)
        return self._known.get(key) or self._known.setdefault(key, model_hash(self.model(checkpoint, ema)))

    def weak_identity(self, run: str, step: int | None) -> str:
        """Likewise of a weaker model."""
        key = ("weak", run, step)
        return self._known.get(key) or self._known.setdefault(key, model_hash(self.weak(run, step)))

    def _get(self, key: tuple[Any, ...], make: Callable[[], Model]) -> Model:
        with self._lock:
            if key not in self._models:
                large = sum(map(_bytes, self._models.values()))
                if large > _KEPT:
                    for each in [k for k in self._models if k[0] == key[0]]:
                        del self._models[each]
                self.loads += 1
                self._models[key] = make()
            return self._models[key]


def _bytes(model: Model) -> int:
    return sum(p.numel() * p.element_size() for p in model.denoiser.parameters())


def model_hash(model: Model) -> str:
    """A hash of all of a model that its pictures depend on: weights and their precision, path, clock, shape and decoder."""
    denoiser, vae = model.denoiser, model.vae
    told: Any = getattr(vae, "describe", None)
    known = [
        fingerprint(denoiser), _words(denoiser.schedule), _words(denoiser.row), _words(getattr(denoiser, "clock", None)),
        str(tuple(model.shape)), str(model.latents), "" if vae is None else str(told() if callable(told) else type(vae).__name__),
        str(next(denoiser.parameters()).dtype),
    ]  # fmt: skip
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def _words(part: object) -> str:
    try:
        return str(describe(part))
    except ValueError:
        return repr(part)


def conditions_hash(
    model: Model,
    labels: Sequence[int | None] | None,
    prompts: Sequence[str] | None,
    also: Mapping[str, Any] | None,
    count: int,
) -> str:
    """A hash of what the network is told: so it knows which text encoder was used, too.

    Args:
        model: who is told.
        labels, prompts, also: as `Model.sample` takes them.
        count: of pictures.

    Raises:
        ValueError: for labels or texts that the model does not know.
    """
    found = hashlib.sha256()
    _feed(
        found,
        model.conditions(
            None if labels is None else list(labels), count, also, None if prompts is None else list(prompts)
        ),
    )
    return found.hexdigest()[:16]


def _feed(found: Any, tree: Any) -> None:
    if isinstance(tree, Tensor):
        found.update(f"{tuple(tree.shape)}{tree.dtype}".encode())
        found.update(tree.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(tree, Mapping):
        for key in sorted(tree):
            found.update(str(key).encode())
            _feed(found, tree[key])
    elif isinstance(tree, list | tuple):
        for each in tree:
            _feed(found, each)
    else:
        found.update(repr(tree).encode())
