"""One optimizer step over the global batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules import Stream
from ..schedules.noise import integers
from .buckets import Buckets
from .denoiser import Denoiser
from .draws import DataOrder, draw
from .launch import Processes
from .objective import Losses, losses
from .plan import learning_rate, plan_batches
from .recipe import Recipe

__all__ = ["Update", "Updated"]


class Updated(NamedTuple):
    """The loss of the global batch, and the norm of its gradient before clipping."""

    loss: Tensor
    norm: Tensor


class Update:
    """Makes optimizer steps.

    Args:
        recipe: what is trained.
        processes: who trains.
        denoiser: the model; its backbone is wrapped so that gradients are exchanged.
        optimizer: of the backbone's parameters.
    """

    def __init__(
        self, recipe: Recipe, processes: Processes, denoiser: Denoiser, optimizer: torch.optim.Optimizer
    ) -> None:
        self.recipe, self.processes, self.optimizer = recipe, processes, optimizer
        self.micro_batches = plan_batches(recipe.batch, processes.count, recipe.micro_batch).places[processes.rank]
        self.backbone, self._prepared = processes.prepare(denoiser.backbone, optimizer)
        # the same parts around the wrapped backbone
        self.denoiser = Denoiser(self.backbone, denoiser.schedule, denoiser.row, denoiser.clock, denoiser.input_std)
        self.order, self.buckets = DataOrder(recipe.seed, len(recipe.data)), Buckets(processes.device)

    def __call__(self, step: int) -> Updated:
        """Make step 0, 1, ...

        Raises:
            FloatingPointError: when the loss or the gradient is not finite, naming the samples; no update was made.
        """
        recipe, processes = self.recipe, self.processes
        total, seen = torch.zeros((), device=processes.device), []
        self._prepared.zero_grad(set_to_none=True)
        for first, last in self.micro_batches:
            index = self.order(step * recipe.batch + torch.arange(first, last))
            with processes.micro_batch(self.backbone, last == self.micro_batches[-1][1]):
                loss = self._losses(step, first, last, index).loss
                # the mean over the global batch, times the number of processes over which gradients are averaged
                processes.backward(loss.sum() * (processes.count / recipe.batch))
            total += loss.detach().sum() / recipe.batch
            seen.append((index, loss.detach()))
        total = processes.total(total)
        norm = processes.clip(self.backbone, float("inf") if recipe.clip is None else recipe.clip)
        # half precision overflows now and then, and its scaler skips that step
        if not bool(torch.isfinite(total)) or (recipe.precision != "fp16" and not bool(torch.isfinite(norm))):
            poisoned = [i for index, loss in seen for i in index[~torch.isfinite(loss).cpu()].tolist()]
            raise FloatingPointError(
                f"step {step}: the loss is {float(total):.4g} and the gradient's norm {float(norm):.4g}; no update was made and the "
                f"weights before it are saved. Samples of process {processes.rank} whose loss is not finite: "
                f"{', '.join(map(str, poisoned[:8])) or 'none'}. Lower lr, set clip, or look at these samples"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        self._prepared.step()
        return Updated(total, norm)

    def _losses(self, step: int, first: int, last: int, index: Tensor) -> Losses:
        """The loss of each sample of a micro-batch, with everything that is drawn for it."""
        recipe, device = self.recipe, self.processes.device
        batch = recipe.data.batch(index)
        d = draw(
            recipe.seed, step, torch.arange(first, last), recipe.batch, recipe.data.shape, recipe.density, recipe.schedule,
            recipe.label_dropout, device,
        )  # fmt: skip
        condition = None
        if recipe.num_classes and batch.labels is not None:
            labels = batch.labels.to(device)
            condition = {"labels": torch.where(d.dropped, torch.full_like(labels, recipe.num_classes), labels)}
        # what a network itself draws (dropout) is addressed too: a resumed run draws the same
        words = integers(torch.tensor([recipe.seed]), first, step, 2, Stream.TRAIN_NETWORK)[0].tolist()
        torch.manual_seed(words[0] << 31 ^ words[1])
        found = losses(self.denoiser, recipe.weighting, batch.x.to(device), d.eps, d.level, condition, d.factor)
        self.buckets.add(d.level, found.error.detach())
        return found

    def take_buckets(self) -> dict[str, list[float]]:
        """The counts and sums of errors per bucket since the last time, over all processes."""
        counts, sums = (self.processes.total(v).tolist() for v in (self.buckets.counts, self.buckets.sums))
        self.buckets.reset()
        return {"count": counts, "error": sums}
