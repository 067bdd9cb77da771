"""What a run tells while it trains: log lines, validation, pictures, warnings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .buckets import NAMES
from .checkpoint import Checkpoint
from .denoiser import Denoiser
from .ema import Averages
from .growth import Growth
from .interrupt import Told
from .latents import vae_of_latents
from .launch import Processes
from .model import Model
from .monitors import Monitor
from .plan import BatchPlan, learning_rate, previewed, validation_data
from .recipe import Recipe
from .run_folder import RunFolder
from .throughput import Meter
from .training_text import first_captions
from .update import Update, Updated
from .validation import Validation

__all__ = ["Observer"]


class Observer:
    """Watches a run, and changes nothing of it.

    Args:
        recipe: of the run.
        std: standard deviation of the data.
        plan: which process does what.
        processes: who trains.
        denoiser, head: what is trained, not wrapped.
        update: which makes the steps.
        averages: of the weights.
        folder: of the run.
        told: what signals ask for.

    Attributes: meter, of the time that training takes.
    """

    def __init__(
        self, recipe: Recipe, std: float, plan: BatchPlan, processes: Processes, denoiser: Denoiser, head: nn.Module | None,
        update: Update, averages: Averages, folder: RunFolder, told: Told,
    ) -> None:  # fmt: skip
        self.recipe, self.processes, self.denoiser, self.head = recipe, processes, denoiser, head
        self.update, self.averages, self.folder, self.told = update, averages, folder, told
        self.meter, self._growth = Meter(processes.device), Growth(recipe.steps)
        # a compiled network does not meet hooks that come later
        self._monitor = Monitor(denoiser.backbone) if recipe.compile is None else None
        self._validation = None
        if recipe.validate_every:
            self._validation = Validation(
                validation_data(recipe), recipe.schedule, recipe.density, recipe.weighting, recipe.objective, recipe.num_classes, std,
                recipe.seed, recipe.validation_samples, plan.micro_batch, processes.device, recipe.corrupt == "skip", recipe.text,
            )  # fmt: skip
        self._made, self._total, self._last = 0, 0.0, 0.0
        self._vae = None
        if recipe.sample_every and recipe.vae is not None and (processes.main or processes.split):
            self._vae = vae_of_latents(recipe.vae, recipe.data, str(processes.device))
        elif recipe.vae is not None:  # another one is refused by every process, previews or not
            vae_of_latents(recipe.vae, recipe.data)
        self._prompts = list(recipe.prompts)
        if recipe.sample_every and recipe.text is not None and not self._prompts:
            self._prompts = first_captions(recipe.data, torch.arange(min(16, len(recipe.data))))

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint holds of it, so that a resumed run tells what the first would have."""
        losses = torch.tensor([self._made, self._total], dtype=torch.float64)
        sums = {name: value * self.processes.count for name, value in self._sums().items()}
        line = {"losses": losses, **sums}
        return {"noise_scale": self.update.noise_scale.state(), "growth": self._growth.state(), "line": line}

    def _sums(self) -> dict[str, Tensor]:
        """What the next line sums up over processes: the tensors themselves, of this one."""
        return {"counts": self.update.buckets.counts, "errors": self.update.buckets.sums, "edm": self.update.edm}

    def share(self) -> None:
        """Let every process hold an equal share of what all of them have summed up, so that any of them can save it."""
        if self.processes.count > 1:
            for value in self._sums().values():
                value.copy_(self.processes.total(value.clone()) / self.processes.count)

    def restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint; one of an earlier format holds nothing of it."""
        if "noise_scale" in found.names:
            self.update.noise_scale.restore(found.tensors("noise_scale"))
        if "growth" in found.names:
            self._growth.restore(found.tensors("growth"))
        if "line" in found.names:
            line = found.tensors("line")
            self._made, self._total = int(line["losses"][0]), float(line["losses"][1])
            for name, value in self._sums().items():
                value.copy_(line[name] / self.processes.count)

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Around the optimizer step that makes it `step`: where that one is logged, the sizes of activations are looked at."""
        logged = step % self.recipe.log_every == 0 or step == self.recipe.steps
        with self._monitor.watching() if logged and self._monitor is not None else nullcontext():
            yield

    def add(self, made: Updated) -> None:
        """Count a step."""
        if made.made:
            self._made, self._total = self._made + 1, self._total + float(made.loss)
        self._last = float(made.norm)
        self.meter.add(self.recipe.batch)

    def log(self, step: int) -> float:
        """Write a line of the steps since the last one.

        Args:
            step: optimizer steps done.

        Returns:
            The mean of their losses; nan where all of their updates were left out, and the line then has none.
        """
        buckets, edm_loss = self.update.take_buckets()
        loss, speed = self._total / self._made if self._made else math.nan, self.meter.take()
        scale = self.update.noise_scale.read()
        values: dict[str, float | None] = {
            "loss": loss if self._made else None, "edm_loss": edm_loss if self._made else None,
            "gradient_norm": self._last if math.isfinite(self._last) else None, "lr": learning_rate(self.recipe, step - 1),
            "images_per_second": speed.images_per_second, "memory_mib": speed.memory_mib, "noise_scale": scale.scale,
            "noise_scale_error": scale.error if scale.scale is not None else None, "skipped": self.update.skipped[0] or None,
        }  # fmt: skip
        plain = {name: value for name, value in values.items() if value is not None}
        sizes = self._sizes(step)
        if self.processes.main:
            self.folder.log({"step": step, **plain, **sizes, "buckets": buckets})
        self.processes.log(plain | _flat(sizes) | _means(buckets), step)
        self._made, self._total = 0, 0.0
        return loss

    def _sizes(self, step: int) -> dict[str, Any]:
        """How large the numbers within the network were, and a warning where they grow too fast."""
        if self._monitor is None:
            return {}
        seen = self._monitor.read()
        for words in self._growth.add(step, seen):
            if self.processes.main:
                warnings.warn(words, stacklevel=2)
        return seen.line()

    def validate(self, step: int) -> None:
        """The loss of the averaged weights on samples that are not trained on."""
        assert self._validation is not None
        processes = self.processes
        with self.averages.swapped(self.denoiser.backbone), processes.answering():
            if processes.split:  # all of them must ask a network in parts, so each asks everything
                total = self._validation.partial(self.denoiser, self.head)
            else:
                answers = self._validation.partial(self.denoiser, self.head, processes.rank, processes.count)
                total = processes.total(answers)
        found = self._validation.result(total)
        if processes.main:
            self.folder.log({"step": step, "validation": found._asdict()})
        processes.log({"validation/loss": found.loss, "validation/edm_loss": found.edm_loss}, step)

    def preview(self, step: int) -> None:
        """A sheet of samples of the averaged weights, always of the same seeds; left out when a signal wants the run to stop."""
        recipe, backbone, vae = self.recipe, self.denoiser.backbone, self._vae
        if vae is None and not previewed(recipe):
            return
        # a network in parts is asked by all processes, each for the same pictures
        if self.processes.main or self.processes.split:
            source = {"run": self.folder.path.name, "checkpoint": step, "ema": True}
            labels = [i % recipe.num_classes for i in range(16)] if recipe.num_classes else None
            prompts = None if recipe.text is None else [self._prompts[i % len(self._prompts)] for i in range(16)]
            with self.averages.swapped(backbone):
                model = Model(
                    self.denoiser, recipe.data.shape, recipe.num_classes, recipe.sampler, recipe.grid, recipe.sampling_steps,
                    recipe.guidance, source, recipe.label_dropout > 0, recipe.text, vae is not None, vae,
                )  # fmt: skip
                watch = backbone.register_forward_pre_hook(self._enter_preview)
                try:
                    with self.processes.answering():
                        drawn = model.sample(range(16), labels, prompts=prompts)
                    if self.processes.main:
                        sheet = self.folder.preview(step)
                        drawn.save_sheet(sheet)
                        self.processes.picture("samples", sheet, step)
                except _Leave:
                    pass
                except Exception as error:  # a picture is no reason to lose a run
                    warnings.warn(f"no preview at step {step}: {error}", stacklevel=2)
                finally:
                    watch.remove()
        self.processes.wait()

    def _enter_preview(self, backbone: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.told.stop and not self.processes.split:
            raise _Leave
        # samples are float32, and a network in parts can't be copied
        return (given[0].double(), *given[1:]) if self.recipe.precision == "fp64" else given


class _Leave(Exception):
    """A preview that nobody waits for any more."""


def _flat(sizes: Mapping[str, Any]) -> dict[str, float]:
    """Sizes as a tracker takes them: one number each."""
    flat: dict[str, float] = {}
    for name, value in sizes.items():
        parts = {f"{name}_{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= {k: v for k, v in parts.items() if v is not None}
    return flat


def _means(buckets: Mapping[str, list[float]]) -> dict[str, float]:
    """The mean error per bucket that saw one."""
    pairs = zip(NAMES, buckets["count"], buckets["error"], strict=True)
    return {f"error/log_snr_{name}": error / count for name, count, error in pairs if count}
