"""A noise level that nobody knows: rules that never look at it work, the others say what is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor

from ...schedules.level import Level

__all__ = ["UnknownLevel", "UnknownLevelError", "UnknownRow"]


class UnknownLevelError(ValueError):
    """A rule asked for the noise level, and there is no scheduler that says it."""


def _refuse(_: object) -> NoReturn:
    raise UnknownLevelError(
        "this guidance rule needs the noise level, and its guider has no scheduler that knows it (a config can't hold one); give it: "
        "as_guider(rule, pipe.scheduler), SfumatoGuider.from_pretrained(folder, scheduler=pipe.scheduler), or "
        "guider.scheduler = pipe.scheduler"
    )


class UnknownLevel(Level):
    """A level whose numbers are refused."""

    __slots__ = ()

    def __new__(cls) -> UnknownLevel:
        """The one there is."""
        return super().__new__(cls, math.nan, math.nan, math.nan)

    t = property(_refuse)  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    alpha = property(_refuse)  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    sigma = property(_refuse)  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    @property
    def is_scalar(self) -> bool:
        """Yes: all samples of a pipeline are at one level."""
        return True

    def rows(self, index: slice | Tensor) -> UnknownLevel:
        """Itself."""
        return self


@dataclass(frozen=True)
class UnknownRow:
    """What a network's output means when nobody says: equal to itself, and no more."""

    input_std = None

    def __call__(self, level: Level) -> NoReturn:
        _refuse(self)
