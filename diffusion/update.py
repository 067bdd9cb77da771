"""One optimizer step over the global batch."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..schedules import Density, Drawn, Learning, Schedule, Stream, gaussian, uniform
from .buckets import Buckets
from .data import Batch, Source
from .denoiser import Denoiser
from .draws import Draw, Drawing
from .edm_loss import edm_loss
from .feed import Feed, Read, seed_everything
from .launch import Processes
from .local_norm import LocalNorm, square_norm
from .noise_scale import NoiseScale
from .objective import Losses, Noised
from .plan import BatchPlan, learning_rate
from .recipe import Recipe
from .still import buffers_within, holders, put_back
from .training_text import caption_condition, drawn_captions

__all__ = ["NotFinite", "Update", "Updated"]


class NotFinite(FloatingPointError):
    """A loss or gradient that is not finite; no update was made."""


class Updated(NamedTuple):
    """The loss of the global batch, the norm of its gradient before clipping, and whether an update was made of them."""

    loss: Tensor
    norm: Tensor
    made: bool = True


class Update:
    """Makes optimizer steps.

    Args:
        recipe: what is trained.
        data: on what: the recipe's data, without the samples that are left out.
        std: standard deviation of the data.
        plan: which process does what.
        processes: who trains.
        denoiser: the model; its backbone is wrapped so that gradients are exchanged.
        head: of the recipe's objective, or None.
        optimizer: of the parameters of both.

    Attributes:
        noise_scale: what is known of the gradient's noise.
        known: what a density that learns from losses knows, a tensor on the host that is the same in every process; else None.
        skipped: updates left out so far, and how many of them in a row, up to now.
        buckets, edm: errors, and the sum of the EDM loss, of this process since `take_buckets`.
        whole: whether the weights are those after some step; not so after an error within the optimizer's own update.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Source,
        std: float,
        plan: BatchPlan,
        processes: Processes,
        denoiser: Denoiser,
        head: nn.Module | None,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.recipe, self.processes, self.optimizer = recipe, processes, optimizer
        self.known = recipe.density.start(recipe.schedule) if isinstance(recipe.density, Learning) else None
        self.skipped, self.whole = [0, 0], True
        modules = [denoiser.backbone] if head is None else [denoiser.backbone, head]
        self._plain, self._plain_head = denoiser, head
        self._named = {"model": denoiser.backbone, **({} if head is None else {"head": head})}
        self._parameters = [p for module in modules for p in module.parameters()]
        self._holders = holders(modules)
        self._modules, self._prepared = processes.prepare(modules, optimizer)
        self.backbone, self._head = self._modules[0], self._modules[1] if head is not None else None
        # the same parts around the wrapped backbone
        self.denoiser = Denoiser(self.backbone, denoiser.schedule, denoiser.row, denoiser.clock, denoiser.input_std)
        self.feed = Feed(data, recipe.seed, plan.places[processes.rank], recipe.batch, recipe.steps, recipe.workers)
        self._drawing = Drawing(
            recipe.seed, recipe.batch, recipe.data.shape, recipe.schedule, recipe.label_dropout, processes.device
        )
        self._last = len(plan.places[processes.rank]) - 1
        self.buckets, self._std = Buckets(processes.device), std
        self.edm = torch.zeros((), dtype=torch.float64, device=processes.device)
        # the norms of gradients of two batch sizes: of the first micro-batch, or of each process, and of the global batch
        self.noise_scale = NoiseScale(device=processes.device)
        self._first = len(plan.places[processes.rank][0]) if processes.count == 1 and self._last else 0
        self._local = LocalNorm(processes.device) if processes.count > 1 else None
        if self._local is not None and sum(self._local.watch(module) for module in self._modules) < len(modules):
            self._local = None
        self._dtype = torch.float64 if recipe.precision == "fp64" else torch.float32

    def __call__(self, step: int) -> Updated:
        """Make step 0, 1, ...; one that is not made, whatever the reason, leaves running statistics as they were, too.

        Raises:
            NotFinite: when the loss or the gradient is not finite, naming process and samples, and the recipe says to stop or too many
                steps in a row were left out; no update was made.
        """
        kept, made = buffers_within(self._holders), False
        try:
            updated = self._make(step)
            made = updated.made
            return updated
        finally:
            if not made:
                put_back(kept)

    def _make(self, step: int) -> Updated:
        recipe, processes = self.recipe, self.processes
        total = small = torch.zeros((), device=processes.device, dtype=self._dtype)
        seen: list[tuple[Read, Draw, Losses]] = []
        self._prepared.zero_grad(set_to_none=True)
        for number, read in enumerate(self.feed(step)):
            with processes.micro_batch(self._modules, number == self._last):
                drawn, found = self._losses(step, read, self.denoiser, self._head)
                factor = drawn.factor.to(found.loss) if isinstance(drawn.factor, Tensor) else drawn.factor
                share = (found.loss if isinstance(factor, float) and factor == 1.0 else found.loss * factor).sum()
                # the mean over the global batch, times the number of processes over which gradients are averaged
                processes.backward(share * (processes.count / recipe.batch))
            total = total + share.detach() / recipe.batch
            seen.append((read, drawn, Losses(found.loss.detach(), found.error.detach())))
            if number == 0 and self._first:
                small = square_norm(self._parameters, recipe.batch / self._first)
        if self._local is not None:
            small = self._local.take()
        small = small.to(total)
        if processes.count > 1:
            total, small = processes.total(torch.stack([total, small / processes.count])).unbind()
        measured = (self._first or self._local is not None) and recipe.precision != "fp16"  # whose gradients are scaled
        # what transforms make of a gradient is none of the batch's noise
        big = square_norm(self._parameters) if measured and recipe.transforms else None
        self._transform(step)
        norm = processes.clip(self._parameters, recipe.clip)
        # half precision overflows now and then, and its scaler skips that step
        if not math.isfinite(float(total)) or (recipe.precision != "fp16" and not math.isfinite(float(norm))):
            self._left_out(step, float(total), float(norm), seen)
            return Updated(total, norm, made=False)
        rate = learning_rate(recipe, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        known = self._learned(seen)
        if measured:
            few = self._first or recipe.batch // processes.count
            self.noise_scale.add(small, few, norm.double() ** 2 if big is None else big, recipe.batch)
        self.whole = False
        self._prepared.step()
        self.known, self.skipped[1] = known, 0
        for _, drawn, found in seen:
            self.buckets.add(drawn.level, found.error)
            self.edm += edm_loss(found.error, recipe.row, drawn.level, self._std).sum()
        self.whole = (
            True  # not before: until then the weights are one step ahead of the number that they would be saved under
        )
        return Updated(total, norm)

    def _transform(self, step: int) -> None:
        """Do to the gradients what the recipe says."""
        if self.recipe.transforms:
            named = {
                f"{kind}.{name}": p for kind, module in self._named.items() for name, p in module.named_parameters() if p.grad is not None
            }  # fmt: skip
            gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
            for transform in self.recipe.transforms:
                transform(gradients, step, named)

    def _left_out(self, step: int, total: float, norm: float, seen: list[tuple[Read, Draw, Losses]]) -> None:
        """Count an update that is not made, or stop. Every process comes here or none: loss and norm are those of all."""
        self._prepared.zero_grad(set_to_none=True)
        self.processes.leave_out()
        if self.recipe.nonfinite == "skip" and self.skipped[1] < self.recipe.nonfinite_limit:
            self.skipped[0] += 1
            self.skipped[1] += 1
            if self.processes.main:
                warnings.warn(
                    f"step {step}: {_not_finite(total, norm)}; no update was made, and the run goes on", stacklevel=4
                )
            return
        culprits = torch.full((8,), -1, dtype=torch.int64, device=self.processes.device)
        mine = self._culprits(step, seen)[:8]
        culprits[: len(mine)] = torch.tensor(mine, dtype=torch.int64)
        everybody = self.processes.gather(culprits).view(-1, 8).tolist()
        words = [
            f"samples {', '.join(str(i) for i in found if i >= 0)} of process {rank}"
            for rank, found in enumerate(everybody) if found[0] >= 0
        ]  # fmt: skip
        skips = self.recipe.nonfinite == "skip"
        many = f"; neither was one in the {self.skipped[1]} steps before it" if skips else ""
        fix = "raise nonfinite_limit" if skips else "set nonfinite: skip"
        raise NotFinite(
            f"step {step}: {_not_finite(total, norm)}; no update was made{many}. Not finite by themselves: "
            f"{', '.join(words) or 'none of the samples'}{' (the first ones)' if len(mine) == 8 else ''}. Look at them, lower lr, or {fix}"
        )

    def _culprits(self, step: int, seen: list[tuple[Read, Draw, Losses]]) -> list[int]:
        """The samples of this process whose loss is not finite, or if there is none, whose gradient is not."""
        found = [
            i for read, _, losses in seen for i in read.samples[~torch.isfinite(losses.loss).cpu()].tolist()
        ]  # fmt: skip
        if found or self.processes.split:  # a network in parts can't be asked by one process alone
            return found
        parameters = [p for p in self._plain.backbone.parameters() if p.requires_grad]
        for read, _, _ in seen:
            for i in range(len(read.samples)):
                pick = slice(i, i + 1)
                x, *rest = read.batch
                batch = Batch(x[pick], *(None if part is None else part[pick] for part in rest))
                texts = None if read.texts is None else read.texts[pick]
                with self.processes.micro_batch([], last=True):
                    _, losses = self._losses(
                        step, Read(read.places[pick], read.samples[pick], batch, texts), self._plain, self._plain_head
                    )
                gradients = torch.autograd.grad(losses.loss.sum(), parameters, allow_unused=True)
                if not all(bool(torch.isfinite(g).all()) for g in gradients if g is not None):
                    found.append(int(read.samples[i]))
                if len(found) == 8:
                    return found
        return found

    def _learned(self, seen: list[tuple[Read, Draw, Losses]]) -> Tensor | None:
        """What the density knows after the losses of the global batch, told in the order of places."""
        if self.known is None or not isinstance(self.recipe.density, Learning):
            return None
        rows: list[Tensor] = []
        for read, drawn, found in seen:
            t = torch.as_tensor(drawn.level.t, dtype=torch.float64, device=found.loss.device)
            rows.append(torch.stack([read.places.to(t), t, found.loss.double()], dim=1))
        told = self.processes.gather(torch.cat(rows)).cpu()
        told = told[told[:, 0].argsort()]
        return self.recipe.density.learn(self.known, told[:, 1], told[:, 2])

    def _density(self) -> Density:
        """The density as it is known now."""
        density, known = self.recipe.density, self.known
        return _Known(density, known) if isinstance(density, Learning) and known is not None else density

    def _losses(self, step: int, read: Read, denoiser: Denoiser, head: nn.Module | None) -> tuple[Draw, Losses]:
        """What was drawn for a micro-batch, and the losses of its samples, without the density's factor."""
        recipe, device, places = self.recipe, self.processes.device, read.places
        d = self._drawing(step, places, self._density())
        x0, labels, spread = read.batch.x.to(device, self._dtype), read.batch.labels, read.batch.spread
        at = places.to(device)
        seeds = torch.full_like(at, recipe.seed)
        if spread is not None:
            own = gaussian(seeds, at, step, 0, recipe.data.shape, self._dtype, Stream.LATENT)
            x0 = x0 + spread.to(device, self._dtype) * own
        condition: dict[str, Tensor] | None = None
        if recipe.num_classes and labels is not None:
            labels = labels.to(device)
            condition = {"labels": torch.where(d.dropped, torch.full_like(labels, recipe.num_classes), labels)}
        if recipe.text is not None:
            assert read.texts is not None
            captions = drawn_captions(read.texts, recipe.seed, step, places)
            condition = caption_condition(recipe.text, captions, d.dropped, device)
        if recipe.augment is not None:
            done = recipe.augment(x0, uniform(seeds, at, step, recipe.augment.draws, Stream.AUGMENT))
            x0 = done.x
            if done.told is not None:
                condition = {**(condition or {}), "augment": done.told.to(x0)}
        # what a network itself draws (dropout) is addressed too: a resumed run draws the same
        seed_everything(recipe.seed, step, int(places[0]), Stream.TRAIN_NETWORK)
        seen = Noised(x0, d.eps.to(self._dtype), d.level, condition)
        return d, recipe.objective(denoiser, head, recipe.weighting, seen)

    def take_buckets(self) -> tuple[dict[str, list[float]], float]:
        """The counts and sums of errors per bucket, and the mean of the EDM loss, since the last time, over all processes."""
        counts, sums = (self.processes.total(v).tolist() for v in (self.buckets.counts, self.buckets.sums))
        mean = float(self.processes.total(self.edm)) / max(sum(counts), 1)
        self.buckets.reset()
        self.edm.zero_()
        return {"count": counts, "error": sums}, mean


def _not_finite(total: float, norm: float) -> str:
    return f"the loss is {total:.4g} and the gradient's norm {norm:.4g}"


@dataclass(frozen=True)
class _Known:
    """A learning density together with what it knows."""

    density: Learning
    known: Tensor

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return self.density.draw(self.known, u, schedule)
