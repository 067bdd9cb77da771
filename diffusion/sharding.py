"""Parameters, gradients and the optimizer's state split over processes: PyTorch's FSDP2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .blocks import blocks

__all__ = ["clip_shards", "gathered", "local", "set_exchange", "shard"]


def shard(module: nn.Module, device: torch.device, half: bool) -> None:
    """Split a module's parameters over all processes, in place, starting from the values of process 0.

    Each block is one unit that is gathered when it runs; what lies outside blocks is another. One at a time goes to the device, so
    a network that is on the host need not fit there whole.

    Args:
        module: a network, or an objective's head.
        device: of this process.
        half: whether blocks are gathered, and compute, in bfloat16; gradients are summed in float32 all the same, and what lies
            outside blocks (embeddings, the way in and out) stays float32 under autocast.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    # inputs are not cast: a time of 999.5 has no bfloat16
    plain = MixedPrecisionPolicy(cast_forward_inputs=False)
    rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in blocks(module):
        _alike(block, device)
        fully_shard(block, mesh=mesh, mp_policy=rounded if half else plain)
    _alike(module, device)
    fully_shard(module, mesh=mesh, mp_policy=plain)


@torch.no_grad()
def _alike(module: nn.Module, device: torch.device) -> None:
    """What of a module is not split yet, on the device and with the values of process 0."""
    for value in (*module.parameters(), *module.buffers()):
        if local(value) is value:
            value.data = value.data.to(device)
            dist.broadcast(value.data, 0)


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this process holds, sharing its memory; a tensor that is not split, itself."""
    return value.to_local() if hasattr(value, "to_local") else value  # pyright: ignore[reportAttributeAccessIssue]


def set_exchange(module: nn.Module, on: bool) -> None:
    """Whether the next backward pass of a split module sums gradients over processes, or keeps them for later."""
    from torch.distributed.fsdp import FSDPModule

    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(on)
    module.set_is_last_backward(on)


@torch.no_grad()
def clip_shards(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Clip the gradient of split parameters to a norm over all processes; returns what the norm was, the same in each of them.

    Args:
        parameters: all of them split.
        limit: largest norm, > 0.
    """
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))  # pyright: ignore[reportPrivateImportUsage]
    squared = norms.square().sum()
    dist.all_reduce(squared)
    norm = squared.sqrt()
    if limit != float("inf"):
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))  # pyright: ignore[reportPrivateImportUsage]
    return norm


def gathered(values: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the host, one after the other; every process must come here.

    Args:
        values: by name, the same names in every process.
        keep: whether this process wants them.

    Returns:
        The tensors; nothing where they are not wanted.
    """
    whole: dict[str, Tensor] = {}
    for name, value in values.items():
        full = value.full_tensor() if hasattr(value, "full_tensor") else value  # pyright: ignore[reportAttributeAccessIssue]
        if keep:
            whole[name] = full.detach().to("cpu")
    return whole
