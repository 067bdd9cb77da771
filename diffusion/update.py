"""One optimizer step over the global batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..schedules import Density, Drawn, Learning, Schedule, Stream
from ..schedules.noise import integers
from .buckets import Buckets
from .denoiser import Denoiser
from .draws import DataOrder, Draw, draw
from .launch import Processes
from .objective import Losses, Noised
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
        head: of the recipe's objective, or None.
        optimizer: of the parameters of both.

    Attributes: known, what a density that learns from losses knows, a tensor on the host that is the same in every process; else None.
    """

    def __init__(
        self,
        recipe: Recipe,
        processes: Processes,
        denoiser: Denoiser,
        head: nn.Module | None,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.recipe, self.processes, self.optimizer = recipe, processes, optimizer
        self.micro_batches = plan_batches(recipe.batch, processes.count, recipe.micro_batch).places[processes.rank]
        self.known = recipe.density.start(recipe.schedule) if isinstance(recipe.density, Learning) else None
        modules = [denoiser.backbone] if head is None else [denoiser.backbone, head]
        self._modules, self._prepared = processes.prepare(modules, optimizer)
        self.backbone, self._head = self._modules[0], self._modules[1] if head is not None else None
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
            with processes.micro_batch(self._modules, last == self.micro_batches[-1][1]):
                drawn, loss = self._losses(step, first, last, index)
                # the mean over the global batch, times the number of processes over which gradients are averaged
                factored = loss * (drawn.factor.to(loss) if isinstance(drawn.factor, Tensor) else drawn.factor)
                processes.backward(factored.sum() * (processes.count / recipe.batch))
            total += factored.detach().sum() / recipe.batch
            seen.append((index, loss.detach(), drawn.level.t))
        total = processes.total(total)
        norm = processes.clip(self._modules, float("inf") if recipe.clip is None else recipe.clip)
        # half precision overflows now and then, and its scaler skips that step
        if not bool(torch.isfinite(total)) or (recipe.precision != "fp16" and not bool(torch.isfinite(norm))):
            poisoned = [i for index, loss, _ in seen for i in index[~torch.isfinite(loss).cpu()].tolist()]
            raise FloatingPointError(
                f"step {step}: the loss is {float(total):.4g} and the gradient's norm {float(norm):.4g}; no update was made and the "
                f"weights before it are saved. Samples of process {processes.rank} whose loss is not finite: "
                f"{', '.join(map(str, poisoned[:8])) or 'none'}. Lower lr, set clip, or look at these samples"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        known = self._learned(torch.cat([t for *_, t in seen]), torch.cat([loss for _, loss, _ in seen]))
        self._prepared.step()
        self.known = known
        return Updated(total, norm)

    def _learned(self, t: Tensor, loss: Tensor) -> Tensor | None:
        """What the density knows after the losses of the global batch, told in the order of places."""
        if self.known is None or not isinstance(self.recipe.density, Learning):
            return None
        told = self.processes.gather(torch.stack([t.double(), loss.double()], dim=1)).cpu()
        return self.recipe.density.learn(self.known, told[:, 0], told[:, 1])

    def _density(self) -> Density:
        """The density as it is known now."""
        density, known = self.recipe.density, self.known
        return _Known(density, known) if isinstance(density, Learning) and known is not None else density

    def _losses(self, step: int, first: int, last: int, index: Tensor) -> tuple[Draw, Tensor]:
        """What was drawn for a micro-batch, and the loss of each sample, without the density's factor."""
        recipe, device = self.recipe, self.processes.device
        batch = recipe.data.batch(index)
        d = draw(
            recipe.seed, step, torch.arange(first, last), recipe.batch, recipe.data.shape, self._density(), recipe.schedule,
            recipe.label_dropout, device,
        )  # fmt: skip
        condition = None
        if recipe.num_classes and batch.labels is not None:
            labels = batch.labels.to(device)
            condition = {"labels": torch.where(d.dropped, torch.full_like(labels, recipe.num_classes), labels)}
        # what a network itself draws (dropout) is addressed too: a resumed run draws the same
        words = integers(torch.tensor([recipe.seed]), first, step, 2, Stream.TRAIN_NETWORK)[0].tolist()
        torch.manual_seed(words[0] << 31 ^ words[1])
        seen = Noised(batch.x.to(device), d.eps, d.level, condition)
        found: Losses = recipe.objective(self.denoiser, self._head, recipe.weighting, seen)
        self.buckets.add(d.level, found.error.detach())
        return d, found.loss

    def take_buckets(self) -> dict[str, list[float]]:
        """The counts and sums of errors per bucket since the last time, over all processes."""
        counts, sums = (self.processes.total(v).tolist() for v in (self.buckets.counts, self.buckets.sums))
        self.buckets.reset()
        return {"count": counts, "error": sums}


@dataclass(frozen=True)
class _Known:
    """A learning density together with what it knows."""

    density: Learning
    known: Tensor

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return self.density.draw(self.known, u, schedule)
