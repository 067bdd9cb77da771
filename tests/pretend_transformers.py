"""Names of transformers, made up where it is missing: diffusers' pipelines import it even where no text is encoded.

Import this before them, in a process of its own.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types

import torch


class Stub(types.ModuleType):
    __path__ = ()
    __version__ = "4.57.0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = name.lower() if name.isupper() else type(name, (torch.nn.Module,), {"__module__": self.__name__})
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transformers", "tokenizers"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


if importlib.util.find_spec("transformers") is None:
    version = importlib.metadata.version
    sys.meta_path.insert(0, Finder())
    importlib.metadata.version = lambda name: "4.57.0" if name in ("transformers", "tokenizers") else version(name)
