"""How much of a picture diverged: pixels that the solver left far outside the range of the data."""

from __future__ import annotations

from torch import Tensor

__all__ = ["distance", "diverged", "share"]


def diverged(x: Tensor, margin: float) -> Tensor:
    """Which pixels lie outside [-1, 1] by more than a margin; one that is not a number has diverged too.

    Args:
        x: ends of trajectories before anything cuts them.
        margin: in units of the data, >= 0.

    Raises:
        ValueError: for a margin below 0.
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; allowed: >= 0, since [-1, 1] is the data's own range")
    return ~(x.abs() <= 1 + margin)


def share(x: Tensor, margin: float, beside: Tensor | None = None) -> float:
    """Share of the pixels that diverged, 0 to 1.

    Args:
        x, margin: as for `diverged`.
        beside: the same pictures made in many steps; a pixel that diverged there too was pushed out by guidance, not by the
            solver, and is not counted.
    """
    out = diverged(x, margin)
    if beside is not None:
        out &= ~diverged(beside, margin)
    return float(out.double().mean())


def distance(x: Tensor, y: Tensor) -> float:
    """Root mean square of x - y over all pixels of all pictures."""
    return float((x.double() - y.double()).square().mean().sqrt())
