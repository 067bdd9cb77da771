"""An optimizer of any library: its class and arguments, until there are parameters to be moved."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from torch import nn

__all__ = ["Grouped", "Library", "arguments_of"]

# the trainer's: it sets the rate before every step, so a class that demands one gets any
_RATE = 1e-3


class Grouped(Protocol):
    """Parameters that are treated alike."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]: ...

    @property
    def decay(self) -> bool: ...


def arguments_of(cls: type[torch.optim.Optimizer]) -> dict[str, inspect.Parameter]:
    """What a config may say of an optimizer: the arguments of its class but the first, which is the parameters, and lr."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    others = list(inspect.signature(cls).parameters.values())[1:]
    return {p.name: p for p in others if p.kind in named and p.name != "lr"}


def _plain(value: Any) -> bool:
    """Whether a config can hold a value."""
    if isinstance(value, list | tuple):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, repr=False)
class Library:
    """A torch.optim.Optimizer of any library, by its class and arguments; in a config it is written as that class.

    Args:
        cls: the class, such as torch.optim.RAdam.
        arguments: of its constructor, without the parameters and lr; what is not said is filled in with the class's defaults.

    Raises:
        ValueError: for arguments that the class does not take or refuses, and for classes that a training step can't serve: those
            that want the loss as a function, or sparse gradients.
    """

    cls: type[torch.optim.Optimizer]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, takes = self._name, arguments_of(self.cls)
        self._refuse_class(name)
        for key in self.arguments:
            if key == "lr":
                raise ValueError(f"{name}.lr: the learning rate is the recipe's; set lr there")
            if key not in takes:
                near = get_close_matches(key, takes, n=1, cutoff=0.6)
                raise ValueError(
                    f"{name} takes no {key!r}; allowed: {', '.join(takes) or 'none'}{f'; did you mean {near[0]}?' if near else ''}"
                )
        absent = inspect.Parameter.empty
        missing = [k for k, p in takes.items() if p.default is absent and k not in self.arguments]
        if missing:
            raise ValueError(f"{name} needs {', '.join(missing)}; give it among the arguments")
        # complete, so that a config says what was used whatever a later version's defaults are
        filled = {k: p.default for k, p in takes.items() if p.default is not absent and _plain(p.default)}
        object.__setattr__(self, "arguments", {k: _tuples(v) for k, v in {**filled, **self.arguments}.items()})
        self._make([{"params": [nn.Parameter(torch.zeros(2, 2))]}])  # its own refusals, before anything is trained

    @property
    def _name(self) -> str:
        return self.cls.__name__

    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in arguments_of(self.cls).items()}
        changed = [f"{k}={v}" for k, v in self.arguments.items() if _tuples(v) != _tuples(defaults[k])]
        return f"{self._name}({', '.join(changed)})"

    def _refuse_class(self, name: str) -> None:
        if self.cls is torch.optim.Optimizer:
            raise ValueError(
                f"{name} is what optimizers have in common, not one; give a class such as torch.optim.RAdam"
            )
        if issubclass(self.cls, torch.optim.SparseAdam):
            raise ValueError(f"{name} takes sparse gradients only, and a network's are dense; use torch.optim.Adam")
        closure = inspect.signature(self.cls.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ValueError(
                f"{name} evaluates the loss again and again within a step, which is computed once here, from one batch; use a method that "
                "steps on one gradient, such as AdamW"
            )

    def _make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        signature = inspect.signature(self.cls).parameters
        rate = signature.get("lr")
        demanded = {"lr": _RATE} if rate is not None and rate.default is inspect.Parameter.empty else {}
        # YAML has lists for what most of these classes have as tuples
        given = {k: list(v) if isinstance(signature[k].default, list) else v for k, v in self.arguments.items()}
        make: Any = self.cls
        try:
            return make(groups, **demanded, **given)
        except (TypeError, ValueError) as error:
            hint = "; the part Muon gives it matrices, and the rest to another" if self.cls is torch.optim.Muon else ""
            raise ValueError(f"{self._name}: {error}{hint}") from error

    def __call__(self, groups: Sequence[Grouped]) -> torch.optim.Optimizer:
        """The optimizer of these parameters; where decay does not apply, weight_decay is 0."""
        return self._make(
            [{"params": list(g.parameters.values()), **({} if g.decay else {"weight_decay": 0.0})} for g in groups]
        )
