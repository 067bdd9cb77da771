"""Moving averages of the weights: the exponential one, and power functions of training time beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from .present import Present
from .profiles import Power, name_of

__all__ = ["Averages", "Ema"]

_BLOCK = 1 << 26  # elements that are widened at a time, for a network in half precision


class Ema:
    """The moving average of a module's state: parameters averaged, buffers and integers copied.

    The rate is min(decay, (1 + step) / (10 + step)), so that the start is forgotten.

    Args:
        module: whose state to average; its present values are the first average.
        decay: per optimizer step, 0 <= decay < 1; 0 follows the weights.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"ema is {decay}; allowed: 0 <= ema < 1, such as 0.999")
        self.decay = decay
        self._averaged, self._now = averaged_keys(module), Present(module)
        self.state: dict[str, Tensor] = _first(module, self._averaged)

    def rate(self, step: int) -> float:
        """The share of the newest weights at optimizer step 1, 2, ..."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step`, 1, 2, ..."""
        _take([(self.state, self.rate(step))], self._now(module), self._averaged)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The module with the average as its weights, and its own again afterwards, whatever happens."""
        own = {k: v.detach().clone() for k, v in module.state_dict().items()}
        try:
            module.load_state_dict(self.state)
            yield
        finally:
            _put_back(module, own)


class Averages:
    """The exponential average of a module's state, and one per power function of training time, in single precision at least.

    Parameters are averaged, buffers and integers copied. The states of a sharded module (DTensors) are sharded likewise.

    Args:
        module: whose state to average; its present values are the first averages.
        decay: of the exponential one, per optimizer step, 0 <= decay < 1.
        lengths: sigma_rel of each power function, above 0 to 0.3, each once.

    Raises:
        ValueError: for a decay or a length out of range, or one that is given twice.

    Source: Karras et al. 2023 (EDM2), arXiv 2312.02696, section 3.1.
    """

    def __init__(self, module: nn.Module, decay: float, lengths: Sequence[float] = ()) -> None:
        self.exponential = Ema(module, decay)
        self.lengths = tuple(float(length) for length in lengths)
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"ema_lengths is {list(lengths)}; allowed: each length once")
        try:
            self._powers = {name_of(length): Power(length) for length in self.lengths}
        except ValueError as error:
            raise ValueError(f"ema_lengths is {list(lengths)}: {error}") from error
        self.averaged, self._now = averaged_keys(module), Present(module)
        self._states = {name: _first(module, self.averaged) for name in self._powers}

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step`, 1, 2, ..."""
        shares = {
            "ema": self.exponential.rate(step),
            **{name: power.rate(step) for name, power in self._powers.items()},
        }
        _take([(state, shares[name]) for name, state in self.tensors().items()], self._now(module), self.averaged)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The states themselves, not copies, by the name under which a checkpoint holds them: "ema", "ema-0.05", ..."""
        return {"ema": self.exponential.state, **self._states}

    def restore(self, found: Mapping[str, Mapping[str, Tensor]] | Callable[[str], Mapping[str, Tensor]]) -> None:
        """Take the states that `tensors` gave.

        Args:
            found: by name; or a function of the name, such as a checkpoint's `tensors`, which then holds one at a time.

        Raises:
            ValueError: for a name that is missing, or tensors of another network; that average is then as it was.
        """
        for name, state in self.tensors().items():
            try:
                given = found(name) if callable(found) else found[name]
            except (KeyError, FileNotFoundError) as error:
                raise ValueError(
                    f"no average {name!r} was saved; resume with the ema_lengths that the run was begun with"
                ) from error
            wrong = [
                k for k in {**state, **given} if k not in state or k not in given or state[k].shape != given[k].shape
            ]
            if wrong:
                raise ValueError(
                    f"the average {name!r} that was saved is of another network; see {', '.join(wrong[:3])}"
                )
            for k, kept in state.items():
                _local(kept).copy_(_local(_like(given[k], kept)))

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The module with the exponential average as its weights, and its own again afterwards, whatever happens."""
        with self.exponential.swapped(module):
            yield


def averaged_keys(module: nn.Module) -> tuple[str, ...]:
    """The keys of a module's state that are averaged; the others are copied."""
    return tuple(
        k for k, v in module.named_parameters(remove_duplicate=False) if v.is_floating_point() or v.is_complex()
    )


def _first(module: nn.Module, averaged: Sequence[str]) -> dict[str, Tensor]:
    """A copy of the state, what is averaged in single precision at least: a step of a long average is below half precision's digits."""
    wide, state = set(averaged), module.state_dict()
    return {k: v.detach().to(_wide(v.dtype), copy=True) if k in wide else v.detach().clone() for k, v in state.items()}


@cache  # asked for every tensor at every step
def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that is here, the tensor itself otherwise; asked for so, since importing DTensor takes long."""
    if (
        type(tensor) is Tensor or type(tensor) is nn.Parameter
    ):  # most are, and to find that something has no attribute takes long
        return tensor
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # pyright: ignore[reportAttributeAccessIssue]


def _like(given: Tensor, kept: Tensor) -> Tensor:
    """A whole tensor, sharded as another one is."""
    if not hasattr(kept, "to_local") or hasattr(given, "to_local"):
        return given
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(given.to(kept.device), kept.device_mesh, kept.placements)  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def _take(
    states: Sequence[tuple[dict[str, Tensor], float]], now: Mapping[str, Tensor], averaged: Sequence[str]
) -> None:
    """Move states to a module's present one, each by its own share."""
    now = {k: _local(v) for k, v in now.items()}
    for keys in _blocks(now, averaged):
        current = [v if _wide(v.dtype) is v.dtype else v.to(_wide(v.dtype)) for v in map(now.__getitem__, keys)]
        for state, share in states:
            mine = [_local(state[k]) for k in keys]
            torch._foreach_lerp_(mine, current, share)  # pyright: ignore[reportPrivateImportUsage]
    copied = now.keys() - set(averaged)
    for state, _ in states:
        for k in copied:
            _local(state[k]).copy_(now[k])


def _blocks(now: Mapping[str, Tensor], averaged: Sequence[str]) -> Iterator[list[str]]:
    """What is averaged, all at once; in blocks where copies are made of it."""
    block: list[str] = []
    size = 0
    for k in averaged:
        dtype = now[k].dtype
        copied = 0 if _wide(dtype) is dtype else now[k].numel()
        if block and size + copied > _BLOCK:
            yield block
            block, size = [], 0
        block.append(k)
        size += copied
    if block:
        yield block


def _put_back(module: nn.Module, own: Mapping[str, Tensor]) -> None:
    """Give a module its own weights again; Ctrl-C meanwhile waits until it has all of them."""
    stopped: KeyboardInterrupt | None = None
    while True:
        try:
            module.load_state_dict(own)
            break
        except KeyboardInterrupt as error:
            stopped = error
    if stopped is not None:
        raise stopped
