"""Captions for data that have classes only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .data import Source
from .subset import Subset

__all__ = ["Captions"]


@dataclass(frozen=True)
class Captions(Subset):
    """A data set whose classes become captions: every template with every name of the class; which of them is drawn by address in training.

    The first template with the first name is what validation and previews say.

    Args:
        source: the data set, with classes.
        templates: texts in which {} stands for the name of the class.
        names: of the classes, by label; several of one class are parted by |, as in "three|3". Empty: those that the data set knows.

    Raises:
        ValueError: for a template without {}, data without classes, and another number of names.
    """

    source: Source
    templates: Sequence[str] = ("{}",)
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("templates", "names"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # from YAML it is a list, which has no hash
        if not self.templates:
            raise ValueError('Captions.templates is empty; allowed: texts with {}, such as "a photo of {}"')
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"Captions.templates has {template!r}; allowed: texts with one {{}}, for the name")

    @cached_property
    def _names(self) -> list[list[str]]:
        """The names of each class."""
        names, count = list(self.names or getattr(self.source, "class_names", [])), self.source.num_classes
        if count == 0:
            raise ValueError("Captions.source has no classes, so there is nothing to name; give data with classes")
        if len(names) != count:
            raise ValueError(
                f"Captions.names has {len(names)} names for {count} classes; give one for every class, in their order"
            )
        each = [[part.strip() for part in str(name).split("|")] for name in names]
        if not all(part for parts in each for part in parts):
            raise ValueError(f"Captions.names is {names}, with an empty name; allowed: a name, or several parted by |")
        return each

    @cached_property
    def _texts(self) -> list[tuple[str, ...]]:
        """The captions of each class."""
        return [tuple(t.replace("{}", name) for t in self.templates for name in names) for names in self._names]

    @property
    def _index(self) -> Tensor:
        return torch.arange(len(self.source))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def class_names(self) -> Sequence[str]:
        """The first name of every class, by label."""
        return [names[0] for names in self._names]

    @property
    def fingerprint(self) -> str:
        text = f"{self.source.fingerprint} {json.dumps(self._texts)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of the samples' classes."""
        labels = self.source.batch(index).labels
        if labels is None:
            raise ValueError("Captions.source gives no labels, so there is nothing to name; give data with classes")
        return [self._texts[label] for label in labels.tolist()]
