"""The squared norm of a part of the global batch's gradient, which costs no pass of its own."""

# no postponed annotations here: torch compares those of a communication hook with the types themselves

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

__all__ = ["LocalNorm", "square_norm"]


@torch.no_grad()
def square_norm(parameters: Iterable[nn.Parameter], factor: float | Tensor = 1.0) -> Tensor:
    """The squared norm of the gradients as they are now, a float64 scalar on their device, without waiting for it.

    After the first of several micro-batches this is the gradient of that micro-batch alone. It was divided by the size of the global
    batch, so factor = batch / micro-batch makes it that of the micro-batch's own mean.

    Args:
        parameters: whose gradients; those without one count as zero.
        factor: what to multiply the gradients by; with half precision also 1 / the scaler's scale.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    return (norm.double() * factor) ** 2


class LocalNorm:
    """Squared norm of each process's own gradient, measured where DistributedDataParallel exchanges gradients, just before it does.

    What is exchanged, and every bit of what comes back, is as without it (a test compares).

    Args:
        device: where the gradients are.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._square = torch.zeros((), dtype=torch.float64, device=device)

    def watch(self, module: nn.Module) -> bool:
        """Measure in every backward pass of a module that exchanges gradients, from now on; may be called for several modules.

        Args:
            module: wrapped in DistributedDataParallel; any other has nothing to exchange.

        Returns:
            Whether it is measured.

        Raises:
            RuntimeError: from torch, when the module has a communication hook already.
        """
        if not isinstance(module, DistributedDataParallel):
            return False
        group = module.process_group
        size = dist.get_world_size(group)

        def hook(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # pyright: ignore[reportPrivateImportUsage]
            buffer = bucket.buffer()
            wide = torch.promote_types(buffer.dtype, torch.float32)
            self._square += torch.linalg.vector_norm(buffer, dtype=wide).double() ** 2
            # multiplied, as torch itself does on the way into the bucket: dividing differs in the last bit for 3 processes
            shared = buffer.mul_(1.0 / size)
            work = dist.all_reduce(shared, group=group, async_op=True)
            assert work is not None
            return work.get_future().then(lambda done: done.value()[0])

        module.register_comm_hook(None, hook)
        return True

    def take(self, factor: float | Tensor = 1.0) -> Tensor:
        """The squared norm since the last time, a float64 scalar of this process, and start again from zero.

        Args:
            factor: as in `square_norm`. The trainer's loss is such that a process's gradient is its own mean: 1.
        """
        square, self._square = self._square, torch.zeros_like(self._square)
        return square * factor**2
