"""The optimizer's state as named tensors, so that a checkpoint holds nothing but tensors and JSON."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["from_tensors", "to_tensors"]


def to_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """{parameter/key: tensor} of the state of every parameter that has one.

    Raises:
        ValueError: for an optimizer whose per-parameter state holds something else than tensors and numbers.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor | int | float):
                raise ValueError(
                    f"{type(optimizer).__name__} keeps a {type(value).__name__} as {key!r}; only tensors can be saved"
                )
            tensors[f"{name}/{key}"] = torch.as_tensor(value)
    return tensors


def from_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `to_tensors` gave.

    Raises:
        ValueError: when it names a parameter that the module does not have.
    """
    parameters = dict(module.named_parameters())
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise ValueError(f"the optimizer's state names the parameter {name!r}, which the network does not have")
        parameter = parameters[name]
        # AdamW keeps its step count as a float32 scalar; its moments follow the parameter
        optimizer.state[parameter][key] = (
            value.to(parameter.device) if value.ndim else value.to(parameter.device).clone()
        )
