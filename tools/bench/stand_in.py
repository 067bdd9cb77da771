"""Importing another library's samplers or networks where some of what the library imports is not installed."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["import_peer"]


class _Nothing:
    """What stands for a class or function of a module that is not there: it can be named and inherited from, not used."""

    def __init__(self, *given: object) -> None:
        raise ImportError("this needs a library that is not installed; only an empty stand-in of it was imported")


class _Empty(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last one asked: an empty module for what is known to be missing, and nothing else."""

    def __init__(self) -> None:
        self.missing, self.made = set[str](), list[str]()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in self.missing or _only_asked():
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.made.append(spec.name)
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _only_asked() -> bool:
    """Whether somebody asks if a module is there (importlib.util.find_spec), without importing it."""
    frame = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            return False
        if frame.f_code is importlib.util.find_spec.__code__:
            return True
        frame = frame.f_back
    return False


def import_peer(name: str) -> ModuleType:
    """A module of another library, some of whose own imports may be missing: k-diffusion imports torchvision and clip for its trainer.

    Empty modules stand for those while it is imported, and are taken away again, so that nobody else meets them. A name that a
    library only tries to import is left missing.

    Args:
        name: of the module, such as "k_diffusion.sampling".

    Raises:
        ImportError: where the library itself is not installed.
    """
    finder, top = _Finder(), name.split(".")[0]
    sys.meta_path.append(finder)
    try:
        while True:
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                lacks = (error.name or top).split(".")[0]
                if lacks == top or lacks in finder.missing or importlib.util.find_spec(lacks) is not None:
                    raise
                finder.missing.add(lacks)
    finally:
        sys.meta_path.remove(finder)
        for made in finder.made:
            sys.modules.pop(made, None)
