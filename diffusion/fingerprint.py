"""Which weights a network has, in a few letters."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint"]


@torch.no_grad()
def fingerprint(network: nn.Module) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all weights and buffers, with their names; the same on every device.

    network: any.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
