"""What LinearAdaptive has learned: which steps ask the reference, and the numbers that stand for it in the others."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..schedules.parts import build, describe
from ..schedules.rows import Eps, Row

__all__ = ["LinearPlan"]


@dataclass(frozen=True)
class LinearPlan:
    """One entry per step: None asks the reference; numbers replace it by a sum over what has been seen; nothing (empty) does not guide.

    Step k has 2 k + 1 numbers: of cond and reference in step 0, 1, ..., k - 1, then of cond in step k. They hold for the model, the
    scale, the sampler and the levels that they were fitted with.

    Args:
        scale: of the guidance that was fitted, as CFG's.
        steps: the entries.
        ratios: sigma / alpha where each step begins, one per entry.
        space: in which the sum is taken.
        against: the branch that is replaced.
        about: what it was fitted with, for people.
        sampler: what it was fitted with, as text (its repr); None: not known, and then not checked.
        model: the fingerprint of the weights that it was fitted with; None: likewise.

    Raises:
        ValueError: for entries of a wrong length, and what are no numbers.
    """

    scale: float
    steps: Sequence[Sequence[float] | None]
    ratios: Sequence[float]
    space: Row = field(default_factory=Eps)
    against: str = "ref"
    about: str = ""
    sampler: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if not _finite(self.scale):
            raise ValueError(f"LinearPlan.scale is {self.scale}; allowed: a finite number")
        if not isinstance(self.space, Row):
            raise ValueError(f"LinearPlan.space is {self.space!r}; allowed: a row, such as Eps()")
        if not all(isinstance(v, Sequence) and not isinstance(v, str) for v in (self.steps, self.ratios)):
            raise ValueError("LinearPlan.steps and ratios are lists; one of these is none")
        if not all(_finite(ratio) or ratio == math.inf for ratio in self.ratios):
            raise ValueError(f"LinearPlan.ratios are {list(self.ratios)}; allowed: numbers, sigma / alpha of each step")
        if not self.steps or len(self.steps) != len(self.ratios):
            raise ValueError(
                f"LinearPlan has {len(self.steps)} steps and {len(self.ratios)} ratios; allowed: one each per step"
            )
        for k, entry in enumerate(self.steps):
            if entry is None:
                continue
            if not isinstance(entry, Sequence) or not all(map(_finite, entry)):
                raise ValueError(
                    f"LinearPlan.steps[{k}] is {entry!r}; allowed: a list of finite numbers, or null (asks)"
                )
            if len(entry) not in (0, 2 * k + 1):
                raise ValueError(
                    f"LinearPlan.steps[{k}] has {len(entry)} numbers; allowed: {2 * k + 1}, none (empty: not guided), or null (asks)"
                )

    @property
    def evaluations(self) -> int:
        """Of both branches, over all steps."""
        return sum(2 if entry is None else 1 for entry in self.steps)

    def save(self, file: str | Path) -> None:
        """Write it as JSON, which `LinearAdaptive(file)` and `load` read."""
        Path(file).write_text(json.dumps({"linear_adaptive": describe(self)}, indent=1))

    @classmethod
    def load(cls, file: str | Path, allow: Sequence[str] = ()) -> LinearPlan:
        """Read what `save` wrote.

        Args:
            file: the JSON.
            allow: packages whose classes it may name (a space of your own), beside Sfumato's.

        Raises:
            ValueError: for a file that is none.
        """
        try:
            found: Any = json.loads(Path(file).read_text())
            plan = build(found["linear_adaptive"], allow)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = "it has no key linear_adaptive" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{file} holds no plan of LinearAdaptive ({why}); `sfumato guidance RUN` writes one, RUN/guidance/linear.json"
            ) from error
        if not isinstance(plan, cls):
            raise ValueError(f"{file} holds a {type(plan).__name__}, not a LinearPlan")
        return plan


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
