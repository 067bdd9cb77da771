"""Processes and devices: the one file that knows Accelerate."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Processes"]


class Processes:
    """One process or several, on any device, started as `sfumato train`, `torchrun` or `accelerate launch`.

    Args:
        precision: "fp32", "bf16" or "fp16".
        logs: folder for TensorBoard; None: no tracker.

    Attributes: count, rank, device; main: whether this is the process that writes.
    """

    def __init__(self, precision: str, logs: Path | None = None) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import ProjectConfiguration

        # a second run in one process may want another precision; Accelerate keeps the first one's otherwise
        AcceleratorState._reset_state()
        self._tracked = logs is not None and importlib.util.find_spec("tensorboard") is not None
        if logs is not None and not self._tracked:
            warnings.warn(
                "tensorboard is not installed (pip install 'sfumato[tensorboard]'); metrics go to metrics.jsonl only",
                stacklevel=2,
            )
        self._accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            log_with="tensorboard" if self._tracked else None,
            project_config=ProjectConfiguration(project_dir=str(logs), logging_dir=str(logs))
            if self._tracked
            else None,
            step_scheduler_with_optimizer=False,
            # Accelerate starts several processes on CPUs only when told so; without it each would train alone
            cpu=not torch.accelerator.is_available(),
        )
        self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self.device, self.main = self._accelerator.device, self._accelerator.is_main_process
        wanted = int(os.environ.get("WORLD_SIZE", "1"))
        if wanted != self.count:
            raise ValueError(
                f"{wanted} processes were launched but Accelerate runs {self.count}; launch with torchrun or `accelerate launch`"
            )

    def start_tracker(self) -> None:
        """Begin to log; makes the folder."""
        if self._tracked:
            self._accelerator.init_trackers("train")

    def agree(self, error: ValueError | None) -> None:
        """Raise in every process when the main one found an error, so that none waits for the others.

        Raises:
            ValueError: the error, or in the other processes that there was one.
        """
        if self.largest(torch.tensor(float(error is not None), device=self.device)):
            raise error or ValueError("refused by the main process")

    def prepare(self, modules: Sequence[nn.Module], optimizer: torch.optim.Optimizer) -> tuple[list[nn.Module], Any]:
        """The modules and their optimizer on this device, gradients averaged over the processes."""
        *prepared, optimizer = self._accelerator.prepare(*modules, optimizer)
        return prepared, optimizer

    @contextmanager
    def micro_batch(self, modules: Sequence[nn.Module], last: bool) -> Iterator[None]:
        """Around the forward and backward pass of a micro-batch: autocast, and gradients exchanged in the last one only."""
        with ExitStack() as contexts:
            contexts.enter_context(self._accelerator.autocast())
            for module in [] if last else modules:
                contexts.enter_context(self._accelerator.no_sync(module))
            yield

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        self._accelerator.backward(loss)

    def clip(self, modules: Sequence[nn.Module], norm: float) -> Tensor:
        """Clip the gradient of all modules together to a norm; returns what the norm was."""
        parameters = [p for module in modules for p in module.parameters()]
        norm_before = self._accelerator.clip_grad_norm_(parameters, norm)
        assert norm_before is not None
        return norm_before

    def total(self, value: Tensor) -> Tensor:
        """The sum over processes."""
        return self._accelerator.reduce(value, "sum") if self.count > 1 else value  # pyright: ignore[reportReturnType]

    def gather(self, value: Tensor) -> Tensor:
        """The values of all processes, joined along the first dimension in the order of their ranks."""
        gathered = self._accelerator.gather(value) if self.count > 1 else value
        assert isinstance(gathered, Tensor)
        return gathered

    def largest(self, value: Tensor) -> float:
        """The largest value of a scalar over processes."""
        gathered = self._accelerator.gather(value)
        assert isinstance(gathered, Tensor)
        return float(gathered.max())

    def log(self, values: dict[str, float], step: int) -> None:
        """To the tracker, from the main process."""
        self._accelerator.log(values, step=step)

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Flush the tracker."""
        self._accelerator.end_training()
