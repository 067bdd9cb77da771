"""Processes and devices: the one file that knows Accelerate."""

from __future__ import annotations

import atexit
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from .clipping import clip
from .sharding import clip_shards, set_exchange, shard

__all__ = ["Processes", "launched", "usable"]

# one process, or several that exchange gradients through DistributedDataParallel
_PLAIN = {"NO", "MULTI_CPU", "MULTI_GPU"}
# what `accelerate launch` sets for several processes
_LAUNCHED = {"MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"}


class Processes:
    """One process or several, on any device, started as `sfumato train`, `torchrun` or `accelerate launch`.

    Args:
        precision: "fp32", "bf16", "fp16" or "fp64".
        parallel: "ddp", every process holds whole modules, or "fsdp", each a part of them.
        cpu: speak through the CPU, wherever the network is; for processes that tell each other a few numbers.
        tracker: to which to log, by Accelerate's name, such as "tensorboard"; None: to none.
        logs: folder for those that write files.

    Attributes: count, rank, device; place_here: number among the processes of this machine; main: whether this is the process that
    writes; split: whether modules are held in parts.

    Raises:
        ValueError: for a tracker that Accelerate does not know or that is not installed, and where fewer processes run than were
            launched.
    """

    def __init__(
        self, precision: str, tracker: str | None = None, logs: Path | None = None, parallel: str = "ddp", cpu: bool = False
    ) -> None:  # fmt: skip
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import ProjectConfiguration

        # a second run in one process may want another precision; Accelerate keeps the first one's otherwise
        AcceleratorState._reset_state()
        self._tracked = tracker if tracker is None else usable(tracker)
        self._accelerator = Accelerator(
            mixed_precision=precision if precision in ("bf16", "fp16") else "no",
            log_with=self._tracked,
            project_config=ProjectConfiguration(project_dir=str(logs), logging_dir=str(logs))
            if self._tracked and logs is not None
            else None,
            step_scheduler_with_optimizer=False,
            # Accelerate starts several processes on CPUs only when told so; without it each would train alone
            cpu=cpu or not torch.accelerator.is_available(),
        )
        self.count, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self.device, self.main = self._accelerator.device, self._accelerator.is_main_process
        self.place_here = self._accelerator.local_process_index
        # what Accelerate would do to losses, gradients and optimizers is nothing then, and it looks for other libraries at every step
        self._plain = (
            parallel == "ddp"
            and self._accelerator.scaler is None
            and self._accelerator.distributed_type.value in _PLAIN
        )
        self.split, self._half = parallel == "fsdp" and self.count > 1, precision == "bf16"
        self._alone = self._plain and self.count == 1 and precision in ("fp32", "fp64")
        # `accelerate launch --cpu --num_processes 2` starts one process, with an address at which to meet the others
        if self.count == 1 and os.environ.keys() >= _LAUNCHED and "WORLD_SIZE" not in os.environ:
            raise ValueError(
                "`accelerate launch` was asked for several processes and started one, as it does with --cpu; launch with "
                "torchrun --nproc_per_node N (and ACCELERATE_USE_CPU=true)"
            )
        wanted = int(os.environ.get("WORLD_SIZE", "1"))
        if self.count > 1:
            atexit.unregister(_leave)
            atexit.register(_leave)
        if wanted != self.count:
            raise ValueError(
                f"{wanted} processes were launched but Accelerate runs {self.count}; launch with torchrun or `accelerate launch`"
            )

    def device_of(self, name: str) -> str:
        """This process's device, of those of a kind: each has a GPU of its own, as far as there are as many.

        Args:
            name: as the user gave it: "cpu", "cuda", ...

        Raises:
            ValueError: for one GPU that all would share.
        """
        kind, colon, number = name.partition(":")
        if self.count == 1 or kind == "cpu":
            return name
        if colon:
            raise ValueError(
                f"device is {name!r}, for {self.count} processes; allowed: {kind}, of which each takes its own, or one process with number "
                f"{number}"
            )
        there = torch.accelerator.device_count()
        return f"{kind}:{self.place_here % there}" if there else name

    def start_tracker(self) -> None:
        """Begin to log; makes the folder."""
        if self._tracked:
            self._accelerator.init_trackers("train")

    def agree(self, error: Exception | None) -> None:
        """Raise in every process when one found an error, so that none waits for the others.

        Raises:
            Exception: the error where it was found; in the other processes a ValueError that says that there was one.
        """
        if self.largest(torch.tensor(float(error is not None), device=self.device)):
            raise error or ValueError("another process has failed; its message says why")

    def same(self, what: str, text: str) -> None:
        """Refuse processes that were started with different settings.

        Args:
            what: what the text is, for the message.
            text: compared between processes.

        Raises:
            ValueError: in every process, when not all have the same text.
        """
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        found = self.gather(torch.tensor([digest], dtype=torch.int64, device=self.device)).tolist()
        if len(set(found)) > 1:
            odd = [rank for rank, value in enumerate(found) if value != found[0]]
            raise ValueError(
                f"{what} of process {', '.join(map(str, odd))} is not that of process 0; start all of them with the same one"
            )

    def tell(self, text: str) -> str:
        """The text of the main process, in every process."""
        if self.count == 1:
            return text
        words = text.encode()
        size = int(self.total(torch.tensor(len(words) if self.main else 0, device=self.device)))
        sent = torch.zeros(size, dtype=torch.int64, device=self.device)
        if self.main:
            sent += torch.tensor(list(words), dtype=torch.int64, device=self.device)
        return bytes(self.total(sent).tolist()).decode() if size else ""

    def place(self, module: nn.Module, blocks: bool = True) -> None:
        """A module on this device: whole, or this process's part of it; before its optimizer is made, since parts are new parameters.

        Args:
            module: changed in place.
            blocks: whether it is the network, whose blocks may compute in half precision.
        """
        if self.split:
            shard(module, self.device, self._half and blocks)
        else:
            module.to(self.device)

    def prepare(self, modules: Sequence[nn.Module], optimizer: torch.optim.Optimizer) -> tuple[list[nn.Module], Any]:
        """The modules and their optimizer on this device, gradients averaged over the processes."""
        if self._plain:
            return [self._accelerator.prepare(module) for module in modules], optimizer
        if self.split:
            return list(modules), self._accelerator.prepare(optimizer)
        *prepared, optimizer = self._accelerator.prepare(*modules, optimizer)
        return prepared, optimizer

    def micro_batch(self, modules: Sequence[nn.Module], last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch: autocast, and gradients exchanged in the last one only."""
        return nullcontext() if self._alone else self._exchanging(modules, last)

    @contextmanager
    def _exchanging(self, modules: Sequence[nn.Module], last: bool) -> Iterator[None]:
        with ExitStack() as contexts:
            contexts.enter_context(self._accelerator.autocast())
            for module in modules:
                if self.split:
                    set_exchange(module, last)
                elif not last:
                    contexts.enter_context(self._accelerator.no_sync(module))
            yield

    def answering(self) -> AbstractContextManager[object]:
        """Around what asks a network outside of training: its own precision, but that of its blocks where they are gathered in half."""
        return self._accelerator.autocast() if self.split and self._half else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        if self._plain:
            loss.backward()
        else:
            self._accelerator.backward(loss)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float | None) -> Tensor:
        """Clip the gradients together to a norm, None: not at all; returns what the norm was."""
        if self._plain:
            return clip(parameters, norm)
        norm = float("inf") if norm is None else norm
        if self.split:
            return clip_shards(parameters, norm)
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
        if self.count == 1:
            return float(value)
        gathered = self._accelerator.gather(value)
        assert isinstance(gathered, Tensor)
        return float(gathered.max())

    def log(self, values: dict[str, float], step: int) -> None:
        """To the tracker, from the main process."""
        self._accelerator.log(values, step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """A picture to the trackers that show some; from the main process."""
        for tracker in self._accelerator.trackers:
            if hasattr(tracker, "log_images"):
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))[None]
                tracker.log_images(
                    {name: pixels}, step, **({"dataformats": "NHWC"} if tracker.name == "tensorboard" else {})
                )

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Flush the tracker. The group of processes stays until they end: another run may follow."""
        for tracker in self._accelerator.trackers:
            tracker.finish()

    @property
    def scaler(self) -> dict[str, Any] | None:
        """What fp16's gradient scaler has found, as plain numbers; None in other precisions."""
        scaler = self._accelerator.scaler
        return None if scaler is None else {k: float(v) for k, v in scaler.state_dict().items()}

    @scaler.setter
    def scaler(self, state: dict[str, Any] | None) -> None:
        if state and self._accelerator.scaler is not None:
            # the kernel takes no floating-point ones
            whole = {key: int(state[key]) for key in ("growth_interval", "_growth_tracker")}
            self._accelerator.scaler.load_state_dict({**state, **whole})

    def leave_out(self) -> None:
        """After `clip`, in place of a step: fp16's scaler is told that this one is over, or it would refuse the next."""
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.update()


def launched() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or os.environ.keys() >= _LAUNCHED


def _leave() -> None:
    """Leave the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def usable(tracker: str) -> str | None:
    """A tracker's name; None, with a warning, for TensorBoard where it is not installed.

    Raises:
        ValueError: for another one that can't be used.
    """
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    names = [str(kind) for kind in LoggerType if str(kind) != "all"]
    if tracker not in names:
        raise ValueError(f"tracker is {tracker!r}; allowed: {', '.join(names)}, or null")
    if tracker in [str(kind) for kind in get_available_trackers()]:
        return tracker
    if tracker == "tensorboard":
        warnings.warn(
            "tensorboard is not installed (pip install 'sfumato[tensorboard]'); metrics go to metrics.jsonl only",
            stacklevel=3,
        )
        return None
    raise ValueError(f"tracker is {tracker!r}, which is not installed: pip install {tracker}, or set tracker: null")
