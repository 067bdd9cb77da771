"""What the UNets refuse: arguments that fit no network, and inputs of another shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["check_counts", "check_dropout", "check_input", "check_levels", "check_out"]

AXES = {1: ["L"], 2: ["H", "W"], 3: ["D", "H", "W"]}


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Refuse numbers below one; None is one that was not given."""
    for key, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{key} is {value}; allowed: >= 1")


def check_levels(
    size: int, multipliers: Sequence[float], attention: Sequence[int], dims: int, least: float = 1
) -> None:
    """Refuse levels that do not halve evenly, attention at none of them, data of other axes, and multipliers below `least`."""
    if dims not in AXES:
        raise ValueError(f"dims is {dims}; allowed: 1 (sequences), 2 (images) or 3 (volumes)")
    if not multipliers or min(multipliers) < least:
        raise ValueError(
            f"multipliers is {list(multipliers)}; allowed: one number >= {least:g} per level, such as [1, 2, 2]"
        )
    divisor = 2 ** (len(multipliers) - 1)
    if size % divisor:
        raise ValueError(
            f"size is {size}; allowed with {len(multipliers)} multipliers: multiples of {divisor}; change either"
        )
    levels = [size >> level for level in range(len(multipliers))]
    if strange := [resolution for resolution in attention if resolution not in levels]:
        raise ValueError(f"attention has {strange}, but the levels are at {levels}; name some of these, or [] for none")


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability of dropping."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}; allowed: 0 <= dropout < 1")


def check_out(channels: int, out_channels: int | None) -> int:
    """Channels of the output, None: as many as the image has."""
    out = channels if out_channels is None else out_channels
    if out < 1:
        raise ValueError(f"out_channels is {out}; allowed: >= 1, or null for as many as channels")
    return out


def check_input(x: Tensor, channels: int, divisor: int, dims: int) -> None:
    """Refuse an input of other axes or channels than the network's, or one that can't be halved as often as it does."""
    if x.ndim == dims + 2 and x.shape[1] == channels and not any(n % divisor for n in x.shape[2:]):
        return
    names = AXES[dims]
    listed = " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])
    multiples = "multiples" if dims > 1 else "a multiple"
    raise ValueError(
        f"x has shape {tuple(x.shape)}; allowed: (B, {', '.join([str(channels), *names])}), {listed} {multiples} of {divisor}; pad or "
        "resize the data, or build the network with other channels, dims or fewer multipliers"
    )
