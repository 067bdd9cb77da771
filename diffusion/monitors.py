"""How large the numbers within a network are: outputs of its blocks, and attention logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backbones.attention import Attention

__all__ = ["Monitor", "Watched", "largest_logit"]

_LOGITS_AT_ONCE = 2**22


class Watched(NamedTuple):
    """What was seen, by the name of the module: nothing where it has none.

    rms: root mean square of a block's output. peak: its largest absolute value. logit: the largest |q k^T| / sqrt(D) of an attention.
    """

    rms: dict[str, float]
    peak: dict[str, float]
    logit: dict[str, float]

    def line(self) -> dict[str, Any]:
        """For metrics.jsonl: the largest over all blocks; what is not a finite number is null."""
        line: dict[str, Any] = {}
        if self.logit:
            line["attention_logit"] = _finite(self.logit)
        if self.rms:
            line["activation"] = {"rms": _finite(self.rms), "max": _finite(self.peak)}
        return line


def _finite(values: Mapping[str, float]) -> float | None:
    """The largest, None where one is not finite: max() would pass over nan."""
    return max(values.values()) if all(math.isfinite(v) for v in values.values()) else None


@torch.no_grad()
def largest_logit(q: Tensor, k: Tensor) -> Tensor:
    """The largest |q k^T| / sqrt(D), exact in float32, a scalar on the device; made in parts, so that memory is bounded.

    Args:
        q: queries, (B, H, N, D).
        k: keys, (B, H, M, D).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, keys = q.flatten(0, 1).float(), k.flatten(0, 1).float().transpose(1, 2)
        rows = max(1, _LOGITS_AT_ONCE // max(1, len(q) * keys.shape[2]))
        largest = [(part @ keys).abs().amax() for part in q.split(rows, dim=1)]
        return torch.stack(largest).amax() / math.sqrt(q.shape[2])


class Monitor:
    """Watches the blocks of a network, which are the children of its nn.ModuleLists, and its attentions, in a forward pass now and then.

    Between, nothing is left in the network, so that nothing is spent. Numbers wait on the device for `read`. The network must be the
    one that runs as it is written: one that was compiled does not meet hooks that come later.

    Args:
        module: the network, not wrapped. Attention logits are those of `backbones.attention.Attention`; other networks have none.
        samples: of a batch whose attention logits are looked at, the first ones, >= 1; every sample's blocks are.

    Raises:
        ValueError: for samples < 1.

    Source: Wortsman et al. 2023 (2309.14322), sections 3.1 and 3.4.
    """

    def __init__(self, module: nn.Module, samples: int = 4) -> None:
        if samples < 1:
            raise ValueError(f"Monitor.samples is {samples}; allowed: >= 1")
        self.samples = samples
        lists = {name: part for name, part in module.named_modules() if isinstance(part, nn.ModuleList)}
        self._blocks = {f"{name}.{i}": child for name, part in lists.items() for i, child in part.named_children()}
        self._attentions = {name: part for name, part in module.named_modules() if isinstance(part, Attention)}
        self._squares: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._peaks: dict[str, Tensor] = {}
        self._logits: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes within; what an earlier time saw is forgotten."""
        for seen in (self._squares, self._counts, self._peaks, self._logits):
            seen.clear()
        with ExitStack() as hooks:
            for name, block in self._blocks.items():
                hooks.callback(block.register_forward_hook(self._block(name)).remove)
            for name, attention in self._attentions.items():
                hooks.callback(attention.register_forward_pre_hook(self._attention(name), with_kwargs=True).remove)
            yield

    def _block(self, name: str) -> Any:
        @torch.no_grad()
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            out = next((v for v in out if isinstance(v, Tensor)), None) if isinstance(out, tuple | list) else out
            if not isinstance(out, Tensor) or not out.is_floating_point() or not out.numel():
                return
            wide = torch.promote_types(out.dtype, torch.float32)
            square = torch.linalg.vector_norm(out.detach(), dtype=wide).double() ** 2
            peak = out.detach().abs().amax().double()
            if name in self._counts:  # another micro-batch, or a block that runs twice
                square, peak = square + self._squares[name], torch.maximum(peak, self._peaks[name])
            self._squares[name], self._peaks[name] = square, peak
            self._counts[name] = self._counts.get(name, 0) + out.numel()

        return hook

    def _attention(self, name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            q, k = (named[key] if key in named else given[i] for i, key in enumerate("qk"))
            found = largest_logit(q[: self.samples], k[: self.samples]).double()
            self._logits[name] = torch.maximum(found, self._logits[name]) if name in self._logits else found

        return hook

    def read(self) -> Watched:
        """What the last time saw; the only wait for the device."""
        columns = (self._squares, self._peaks, self._logits)
        values = [v for column in columns for v in column.values()]
        told = iter(torch.stack(values).tolist() if values else [])
        squares, peaks, logits = ({name: next(told) for name in column} for column in columns)
        return Watched({name: (v / self._counts[name]) ** 0.5 for name, v in squares.items()}, peaks, logits)
