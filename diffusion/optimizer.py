"""The optimizer's state as named tensors, so that a checkpoint holds nothing but tensors and JSON.

`parameter/key` is a tensor of a parameter's state. What is none says what it is: `parameter/key:int`, `:float`, `:bool`, `:none`.
A tensor that stays on the host while its parameter is elsewhere (most step counters) is `parameter/key:host`. What a group of
parameters counts for itself is `/group/key`, the groups of a module in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .together import Together

__all__ = ["from_tensors", "to_tensors"]

_KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float}
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64}
# the recipe's, set anew when a run goes on
_SET = {"params", "param_names", "lr", "initial_lr", "lr_scale", "weight_decay"}


def to_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """{name: tensor} of the state of every parameter that has one, and of what their groups count.

    Of a group everything is kept that is not the default that its optimizer was made with, but the rate and the weight decay.

    Args:
        optimizer: any that steps on dense gradients.
        module: whose parameters.

    Raises:
        ValueError: for state that is neither tensor, number nor None.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors |= _named(optimizer, name, key, value, parameter.device)
    for i, (group, defaults) in enumerate(_groups(optimizer, module)):
        for key, value in group.items():
            if key not in _SET and not _same(value, defaults.get(key, ...)):
                tensors |= _named(optimizer, f"/{i}", key, value, group["params"][0].device)
    return tensors


def from_tensors(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `to_tensors` gave, into an optimizer that was made as that one was.

    Raises:
        ValueError: when it names a parameter that the module does not have, or a group that the optimizer does not have.
    """
    parameters, groups = dict(module.named_parameters()), [g for g, _ in _groups(optimizer, module)]
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        key, _, kind = key.partition(":")
        if kind not in ("", "none", "host", *_KINDS):
            raise ValueError(f"the optimizer's state {path!r} is of a kind that this version does not know")
        if name in parameters:
            optimizer.state[parameters[name]][key] = _value(value, kind, parameters[name])
        elif name.startswith("/") and name[1:].isdigit() and int(name[1:]) < len(groups):
            group = groups[int(name[1:])]
            group[key] = _value(value, kind, group["params"][0])
        else:
            raise ValueError(f"the optimizer's state names the parameter {name!r}, which the network does not have")


def _groups(optimizer: torch.optim.Optimizer, module: nn.Module) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The groups with parameters of a module, each with the defaults of its optimizer."""
    own = {id(p) for p in module.parameters()}
    for part in optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]:
        for group in part.param_groups:
            if any(id(p) in own for p in group["params"]):
                yield group, part.defaults


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, Tensor) or isinstance(default, Tensor):
        return value is default
    return type(value) is type(default) and bool(value == default)


def _named(optimizer: object, name: str, key: object, value: Any, device: torch.device) -> dict[str, Tensor]:
    if not isinstance(key, str) or "/" in key or ":" in key:
        raise ValueError(f"{type(optimizer).__name__} keeps a state named {key!r}; allowed: text without / and :")
    if value is None:
        return {f"{name}/{key}:none": torch.empty(0)}
    if isinstance(value, Tensor):
        away = value.device.type == "cpu" and device.type != "cpu"
        return {f"{name}/{key}:host" if away else f"{name}/{key}": value}
    for kind, cls in _KINDS.items():  # a bool is an int too
        if isinstance(value, cls):
            if cls is int and not -(2**63) <= value < 2**63:
                raise ValueError(f"{type(optimizer).__name__} keeps {key!r} = {value}, beyond 64 bits")
            return {f"{name}/{key}:{kind}": torch.tensor(value, dtype=_DTYPES[cls])}
    raise ValueError(
        f"{type(optimizer).__name__} keeps a {type(value).__name__} as {key!r}; only tensors, numbers and None can be saved"
    )


def _value(value: Tensor, kind: str, parameter: Tensor) -> Any:
    if kind == "none":
        return None
    if kind in _KINDS:
        return _KINDS[kind](value.item())
    if kind == "host":
        return value.to("cpu", copy=True)
    if value.ndim and value.shape == parameter.shape:  # in the parameter's layout, as an optimizer makes it
        return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
    return value.to(parameter.device, copy=True)
