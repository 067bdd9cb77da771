"""What sampling warns of, told apart, so that what many calls say can be said once."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Diverged", "Foreseen", "Rejected"]


class Foreseen(UserWarning):
    """Something that is known before anything is sampled."""


class Rejected(UserWarning):
    """How much filters rejected."""


class Diverged(UserWarning):
    """Pictures that show nothing but where they were cut to their range.

    Args:
        seeds: of these pictures, or the first of them.
        count: of all pictures.
        how: the sampler, its steps and the rule.
        many: of them there are; None: as many as seeds.
    """

    def __init__(self, seeds: Sequence[int], count: int, how: str, many: int | None = None) -> None:
        super().__init__(
            f"{len(seeds) if many is None else many} of {count} pictures diverged, and show nothing but where they were cut to their "
            f"range, such as seed(s) {list(seeds[:8])}: {how}; take more steps, less guidance, or another sampler"
        )
        self.seeds = tuple(seeds)
