"""Which weights a network has, in a few letters."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from .inner_tensors import inner_tensors

__all__ = ["fingerprint"]


@torch.no_grad()
def fingerprint(network: nn.Module) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all weights and buffers, with their names; the same on every device.

    A quantised network has another one than the network that it was made of, and the same wherever it is made in the same way.

    network: any.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        parts, also = inner_tensors(tensor)
        for part, inner in parts:
            at = f"{name}.{part}" if part else name
            found.update(f"{at} {tuple(inner.shape)} {inner.dtype}".encode())
            found.update(inner.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        found.update(also.encode())  # equal whole numbers may be used in different ways
    return found.hexdigest()[:16]
