"""Tensors that are split over processes, in a folder: each process writes and reads its own parts, in safetensors.

The files are those of `torch.distributed.checkpoint` in Hugging Face's form, one per process, each part with its place in the
whole. DCP's own form has a pickle beside them, so it is not used. There a tensor's name is GROUP/NAME.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

__all__ = ["groups", "is_shard", "is_split", "read_shards", "read_split", "size_of", "write_shards"]

Groups = Mapping[str, Mapping[str, Tensor]]


def is_shard(name: str) -> bool:
    """Whether a file of a checkpoint holds parts."""
    return name.startswith("shard-") and name.endswith(".safetensors")


def is_split(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some of the tensors are split over processes."""
    return any(hasattr(v, "full_tensor") for v in tensors.values())


def size_of(tensors: Groups) -> int:
    """Bytes of the whole tensors."""
    return sum(v.numel() * v.element_size() for values in tensors.values() for v in values.values())


def write_shards(tensors: Groups, folder: Path, check: bool) -> None:
    """Write the parts that this process holds; every process must come here, with the same names.

    Args:
        tensors: by group and name; those that are not split are written by one of the processes.
        folder: the same one in all of them.
        check: whether to look if all parts are there; for the one process that will move the folder, perhaps before others look.

    Raises:
        OSError: when a part can't be written, or is missing from the folder afterwards.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    flat = {f"{group}/{name}": value for group, values in tensors.items() for name, value in values.items()}
    try:
        save(flat, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        reasons = "; ".join(f"process {rank}: {reason[0]}" for rank, reason in error.failures.items())
        raise OSError(f"{folder} can't be written: {reasons}") from error
    if not check:
        return
    there = {key: sum(chunk.sizes.numel() for chunk in found.chunks) for key, found in _contents(folder).items()}
    lacking = [key for key, value in flat.items() if there.get(key) != value.numel()]
    if lacking:
        raise OSError(
            f"{folder} lacks parts of {', '.join(lacking[:3])}; the run folder must lie on a file system that all processes share"
        )


def groups(folder: Path) -> list[str]:
    """The groups of which a folder holds parts."""
    return sorted({key.partition("/")[0] for key in _contents(folder)})


def read_shards(folder: Path, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a group, from the parts of any number of processes; nobody waits for anybody.

    Args:
        folder: that holds the parts.
        group: its name.
        like: by name, or by the part of a name before its last slash, tensors of a shape; what has the shape of one is split as that
            one is, everything else is whole.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    wanted: dict[str, Any] = {}
    for key, found in _contents(folder).items():
        own, _, name = key.partition("/")
        if own == group:
            model = _model(name, found.size, like)
            dtype = found.properties.dtype
            wanted[key] = (
                torch.empty(found.size, dtype=dtype) if model is None else torch.empty_like(model, dtype=dtype)
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(wanted, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return {key.partition("/")[2]: value for key, value in wanted.items()}


def read_split(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a plain file, of each only what this process will hold.

    Args:
        path: of safetensors.
        like: see `read_shards`.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    found: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            value = file.get_tensor(name)
            model = _model(name, value.shape, like)
            if isinstance(model, DTensor):
                # every process has read the same file, so nothing is sent
                value = distribute_tensor(
                    value.to(model.device), model.device_mesh, model.placements, src_data_rank=None
                )
            found[name] = value
    return found


def _model(name: str, shape: torch.Size, like: Mapping[str, Tensor]) -> Tensor | None:
    """The split tensor as which one of this name and shape is to be split, if any."""
    model = like.get(name, like.get(name.rpartition("/")[0]))
    return model.detach() if model is not None and hasattr(model, "full_tensor") and model.shape == shape else None


def _contents(folder: Path) -> dict[str, Any]:
    """What the parts in a folder are of, by name, as DCP describes it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    # plain files lie beside them; the names of weights have no slash
    known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {key: found for key, found in known.items() if "/" in key}
