"""What a transformer thinks half-way: the tokens after one of its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from .dit import DiT

__all__ = ["Features", "features"]


class Features:
    """What was seen of the last forward pass; see `features`."""

    def __init__(self, says: str) -> None:
        self._says = says
        self._tokens: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """(B, N, width) in the order of the patches, row by row, with their gradient; registers are left out.

        Raises:
            ValueError: when the network has not been asked.
        """
        if self._tokens is None:
            raise ValueError(
                f"{self._says} has not run yet; ask the network within `with features(...)`; a network that was compiled whole does "
                "not show its blocks: set compile: blocks"
            )
        return self._tokens


@contextmanager
def features(net: DiT, layer: int) -> Iterator[Features]:
    """See the tokens after a block of a DiT, in every forward pass within the `with`, in training and sampling.

        with features(net, 7) as seen:
            out = net(x, time)
            loss = distance(seen.tokens)

    Blocks that are recomputed, compiled one by one or sharded are seen as they are: what is read is their output, outside of all that.
    A network compiled whole shows nothing, which is an error when it is read.

    Args:
        net: of which blocks are seen; not a copy of it.
        layer: the block, 0 to depth - 1; negative: from the end.

    Raises:
        ValueError: for a network that is no DiT, and a block that it does not have.

    Source: Yu et al. 2024 (2410.06940), section 3.2, which aligns them with another network's.
    """
    if not isinstance(net, DiT):
        raise ValueError(f"features are of a DiT's blocks, and this is a {type(net).__name__}")
    depth = len(net.layers)
    if not -depth <= layer < depth:
        raise ValueError(f"layer is {layer}; allowed: 0 to {depth - 1}, the blocks of this network")
    seen, tokens = Features(f"block {layer % depth}"), (net.size // net.patch) ** 2

    def see(block: nn.Module, given: object, out: Tensor) -> None:
        seen._tokens = out[:, :tokens]

    handle = net.layers[layer].register_forward_hook(see)
    try:
        yield seen
    finally:
        handle.remove()
