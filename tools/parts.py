"""Which classes may stand where: short names for ours, class paths for anybody's."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

import torch
from torch import nn

from ..schedules.parts import find_class
from .spelling import did_you_mean

__all__ = ["choices", "part_of", "part_type", "resolve_class"]

_ABSENT = object()
_PACKAGES = ("schedules", "samplers", "samplers.filters", "guidance", "diffusion", "diffusion.measuring")


def part_type(hint: Any) -> type | None:
    """The protocol (or nn.Module) that a field wants an object of, X or X | None; None for plain values."""
    if get_origin(hint) in (Union, UnionType):
        found = [part_type(a) for a in get_args(hint)]
        return next((f for f in found if f is not None), None)
    if isinstance(hint, type) and (getattr(hint, "_is_protocol", False) or issubclass(hint, nn.Module)):
        return hint
    return None


def part_of(hint: Any) -> type | None:
    """The part type of the elements of a sequence field, such as filters: Sequence[Filter]; None for other fields."""
    args = get_args(hint)
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Sequence) and args:
        return part_type(args[0])
    return None


def _members(protocol: type) -> dict[str, Any]:
    return {
        k: v
        # typing writes into a protocol when somebody asks what is one for the first time, maybe in another thread
        for k, v in list(vars(protocol).items())
        if (not k.startswith("_") or k in ("__call__", "__len__"))
        and (inspect.isfunction(v) or isinstance(v, property))
    }


def _implements(cls: type, wanted: type) -> bool:
    """Whether one of our classes is such a part: ours annotate a protocol's methods as it does, which tells protocols apart."""
    if not getattr(wanted, "_is_protocol", False):
        return issubclass(cls, wanted)
    if getattr(cls, "_is_protocol", False) or issubclass(cls, nn.Module):
        return False
    for name, member in _members(wanted).items():
        own = inspect.getattr_static(cls, name, _ABSENT)
        if own is _ABSENT or (inspect.isfunction(member) and not _annotated_alike(own, member)):
            return False
    return True


def _annotated_alike(own: Any, wanted: Any) -> bool:
    """Whether a method has a protocol's annotations; where the protocol says Any, any will do."""
    mine, theirs = getattr(own, "__annotations__", {}), wanted.__annotations__
    return mine.keys() == theirs.keys() and all(t == "Any" or mine[k] == t for k, t in theirs.items())


def choices(wanted: type) -> dict[str, type]:
    """Our classes that may stand where `wanted` is asked for, by short name."""
    found: dict[str, type] = {}
    for package in _PACKAGES:
        module = importlib.import_module(f"sfumato.{package}")
        for name in module.__all__:
            cls = getattr(module, name)
            if (
                isinstance(cls, type)
                and _implements(cls, wanted)
                and not inspect.isabstract(cls)
                and name != "Denoiser"
            ):
                found[name] = cls
    return dict(sorted(found.items()))


def _has(cls: type, name: str, kind: Any) -> bool:
    """Whether a class has a member: its own, a field without a default, or an attribute that a module sets when it is made."""
    if isinstance(kind, property) and issubclass(cls, nn.Module):
        return True
    return any(name in vars(c) or name in vars(c).get("__annotations__", {}) for c in cls.__mro__)


def resolve_class(name: str, wanted: type, allow: Sequence[str]) -> type:
    """The class of a short name, or of a dotted path in Sfumato or an allowed package.

    Raises:
        ValueError: with the allowed names and the nearest spelling; for a class that lacks what the part needs.
    """
    known = choices(wanted)
    if "(" in name:
        raise ValueError(
            f"{name!r} is Python; here a part is a name and its arguments are dotted, such as --guidance Interval --guidance.rule CFG "
            "--guidance.rule.scale 3, or in YAML {class_path: CFG, init_args: {scale: 3}}"
        )
    if "." not in name:
        if name not in known:
            raise ValueError(
                f"{name!r} is no {wanted.__name__}; allowed: {', '.join(known)}, or a class path{did_you_mean(name, known)}"
            )
        return known[name]
    cls = find_class(name, allow)
    if issubclass(cls, torch.optim.Optimizer):
        # it becomes a part that makes it (schedules.library), wherever it stands; only one protocol is made of such parts
        from ..diffusion.optimizers import Optimizer

        if wanted is not Optimizer:
            raise ValueError(
                f"{name!r} is an optimizer, no {wanted.__name__}; allowed: {', '.join(known)}, or a class path"
            )
        return cls
    if getattr(wanted, "_is_protocol", False):
        # looked up in the class: every class can itself be called
        missing = [m for m, kind in _members(wanted).items() if not _has(cls, m, kind)]
        if missing:
            raise ValueError(f"{name!r} has no {', '.join(missing)}, which a {wanted.__name__} needs")
    elif not issubclass(cls, wanted):
        raise ValueError(f"{name!r} is no {wanted.__name__}; allowed: {', '.join(known)}, or a class path")
    return cls
