"""The weights of the Inception network of the Frechet distance, from a file of safetensors, under any of its names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .inception_blocks import InceptionNetwork

__all__ = ["CONVERSION", "check_inception", "read_inception"]

CONVERSION = (
    'python -c "import sys; from torch import load; from safetensors.torch import save_file; p = sys.argv[1]; '
    "w = load(p, weights_only=True, map_location='cpu'); "
    "save_file({k: v.contiguous() for k, v in w.items()}, p.rpartition('.')[0] + '.safetensors')\" pt_inception-2015-12-05-6726825d.pth"
)
"""What a user runs once, where pytorch-fid's or torch-fidelity's file lies; both files are the same weights under the same names."""

# pytorch-fid's own module holds the network as four sequences; what is left out there are poolings
_BLOCKS = {
    **{f"0.{i}": name for i, name in enumerate(("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"))},
    **{f"1.{i}": name for i, name in enumerate(("Conv2d_3b_1x1", "Conv2d_4a_3x3"))},
    **{f"2.{i}": f"Mixed_{n}" for i, n in enumerate(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"))},
    **{f"3.{i}": f"Mixed_{n}" for i, n in enumerate(("7a", "7b", "7c"))},
}


def _ours(key: str) -> str:
    """A key by torchvision's names, from those of pytorch-fid's module (blocks.2.0.branch1x1.conv.weight)."""
    found = re.fullmatch(r"blocks\.(\d\.\d)\.(.+)", key)
    return f"{_BLOCKS.get(found[1], found[1])}.{found[2]}" if found else key


def _shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = InceptionNetwork()
    return {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def _keys(path: Path, says: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """By our names: the name and the shape in the file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {_ours(k): (k, tuple(file.get_slice(k).get_shape())) for k in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{says}, which can't be read as safetensors: {error}") from error


def _check(found: Mapping[str, tuple[str, Sequence[int]]], says: str) -> bool:
    """Whether there are scores; refuses what is another network."""
    known = {k: v for k, v in found.items() if not k.endswith("num_batches_tracked")}
    rows = known.get("fc.weight", ("", (1008,)))[1][0]
    if rows != 1008 or any(k.startswith("AuxLogits.") for k in known):
        raise ValueError(
            f"{says}, which holds another Inception, of {rows} classes, as torchvision trained it; its distances are no FID: give the "
            f"network of 2015 with 1008 classes. Once: {CONVERSION}"
        )
    wanted = _shapes()
    scores = "fc.weight" in known or "fc.bias" in known
    if not scores:
        wanted = {k: v for k, v in wanted.items() if not k.startswith("fc.")}
    for kind, keys in (("lacks", wanted.keys() - known.keys()), ("holds also", known.keys() - wanted.keys())):
        if keys:
            more = f" and {len(keys) - 1} more" * (len(keys) > 1)
            raise ValueError(
                f"{says}, which {kind} {sorted(keys)[0]}{more}, and is not the Inception network of FID. Once: {CONVERSION}"
            )
    for key, shape in wanted.items():
        if tuple(known[key][1]) != shape:
            raise ValueError(f"{says}, whose {known[key][0]} has shape {tuple(known[key][1])}; allowed: {shape}")
    return scores


def check_inception(weights: str) -> bool:
    """Look at the names and shapes in a file, without reading the weights.

    Args:
        weights: path of a .safetensors file.

    Returns:
        whether it has the last layer, which makes scores; pytorch-fid's module has none.

    Raises:
        ValueError: for a file that is missing, a pickle, or holds another network, with what to do.
    """
    path, says = Path(weights), f"Inception.weights is {weights!r}"
    if not path.is_file():
        raise ValueError(
            f"{says}, which is no file; nothing is downloaded here. Take pytorch-fid's pt_inception-2015-12-05-6726825d.pth (or "
            f"torch-fidelity's weights-inception-2015-12-05-6726825d.pth) and make safetensors of it. Once: {CONVERSION}"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{says}; allowed: a .safetensors file, since reading a pickle runs what is in it. Once: {CONVERSION}"
        )
    return _check(_keys(path, says), says)


def read_inception(weights: str) -> nn.Module:
    """The network, in evaluation mode, without gradients, float32 on the CPU.

    Args:
        weights: as of `check_inception`.

    Raises:
        ValueError: as `check_inception`; for numbers that are not floating.
    """
    scores = check_inception(weights)
    says = f"Inception.weights is {weights!r}"
    names = {
        ours: name for ours, (name, _) in _keys(Path(weights), says).items() if not ours.endswith("num_batches_tracked")
    }
    with safe_open(weights, framework="pt") as file:
        state = {ours: file.get_tensor(name) for ours, name in names.items()}
    for key, value in state.items():
        if not value.is_floating_point():
            raise ValueError(f"{says}, whose {names[key]} is {value.dtype}; allowed: floating numbers")
    with torch.device("meta"):
        network = InceptionNetwork()
    if not scores:
        del network.fc
    network.to_empty(device="cpu")
    network.load_state_dict({**_counters(network), **{k: v.float() for k, v in state.items()}})
    return network.eval().requires_grad_(False)


def _counters(network: nn.Module) -> dict[str, torch.Tensor]:
    """How many batches each normalisation saw, which says nothing here, and is in some files and not in others."""
    return {k: torch.zeros_like(v) for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
