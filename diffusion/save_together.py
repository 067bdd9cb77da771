"""A checkpoint that several processes write into one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from .launch import Processes
from .publish import room
from .sharding import gathered
from .shards import Groups, size_of, write_shards

__all__ = ["save_together"]

# in plain form, so that `load` finds them as it does in any other checkpoint
_WHOLE = ("model", "ema")

Publish = Callable[[Mapping[str, Mapping[str, Tensor]], Callable[[Path], None]], None]


def save_together(processes: Processes, tensors: Groups, publish: Publish) -> None:
    """Publish what all processes hold together: weights and average whole, by the main process, the rest in parts, by each its own.

    Args:
        processes: who holds it; every one must come here.
        tensors: by group, the same groups in all of them.
        publish: called in the main process with whole tensors and what else is to be written into the folder, which appears by a
            rename when everything is there.

    Raises:
        OSError: in the processes that found out; the others return.
    """
    whole = {name: gathered(tensors[name], processes.main) for name in tensors if name in _WHOLE}
    parts = {name: values for name, values in tensors.items() if name not in _WHOLE}
    if not processes.main:
        stage = processes.tell("")
        if stage:
            _write(processes, parts, Path(stage))
        return
    told = False

    def write(stage: Path) -> None:
        nonlocal told
        room(stage, size_of(parts))
        told = True
        processes.tell(str(stage.absolute()))
        _write(processes, parts, stage)

    try:
        publish(whole, write)
    finally:
        if not told:  # nobody waits for a folder that will not be
            processes.tell("")


def _write(processes: Processes, parts: Groups, stage: Path) -> None:
    error: Exception | None = None
    if not stage.is_dir():
        error = OSError(
            f"process {processes.rank} does not see {stage}; the run folder must lie on a file system that all share"
        )
    processes.agree(error)
    write_shards(parts, stage, check=processes.main)
