"""Averages of other lengths, made after training as sums of the stored ones: least squares on the profiles."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .profiles import Power, Profile, gamma_of, inner_product

__all__ = ["POOR", "Fit", "Stored", "fit", "reconstruct"]

POOR = 0.1  # a relative residual above which a fit is warned of
_BLOCK = 1 << 24  # elements that are summed up at a time, in float64
_STEPS = 1 << 14  # optimizer steps at a time, where profiles are summed over them
_NOTHING = 1e-10  # a share below which a file is not read


@dataclass(frozen=True)
class Stored:
    """A power average on disk.

    step: of its end. length: its sigma_rel. path: of its safetensors. averaged: its keys that are averages; None: what is no integer.
    """

    step: int
    length: float
    path: Path
    averaged: frozenset[str] | None = None


@dataclass(frozen=True)
class Fit:
    """A profile as a sum of stored power functions.

    step: its end. stored: (step, length) of each. shares: of each, float64 (N,), of the profile's sum. residual: the norm of what is
    missing, as a share of the profile's own.
    """

    step: int
    stored: tuple[tuple[int, float], ...]
    shares: Tensor
    residual: float

    @property
    def gain(self) -> float:
        """By how much at most rounding of what is stored grows: the sum of the shares' magnitudes, 1 where none is negative."""
        return float(self.shares.abs().sum())

    def weights(self) -> Tensor:
        """What each optimizer step counts in the sum: float64, from step 1 to the last that has a share."""
        found = torch.zeros(max(step for step, _ in self.stored), dtype=torch.float64)
        for share, (step, length) in zip(self.shares.tolist(), self.stored, strict=True):
            if share:
                found[:step] += share * Power(length).weights(step)
        return found


def fit(profile: Profile, step: int, stored: Sequence[tuple[int, float]]) -> Fit:
    """The sum of stored power functions that is nearest to a profile; warns where it is not near.

    Args:
        profile: what is wanted: a Power, an Exponential, or whatever has `weights(step)`.
        step: where it ends, from 1 to the last that is stored.
        stored: (step, length) of each, none twice.

    Raises:
        ValueError: for a step out of range, or when nothing is stored.

    Source: Karras et al. 2023 (EDM2), arXiv 2312.02696, section 3.2: with A the inner products of the stored functions and b theirs with
    the wanted one, A x = b minimises the norm of the difference on [0, t]. Here under sum(x) = the profile's sum, so that
    weights that stand still are kept exactly.
    """
    last = max((t for t, _ in stored), default=0)
    if not 1 <= step <= last:
        raise ValueError(
            f"step is {step}; allowed: 1 to {last}, the last that is stored" if last else "nothing is stored"
        )
    if isinstance(profile, Power) and (step, profile.length) in stored:
        shares = torch.tensor([float(one == (step, profile.length)) for one in stored], dtype=torch.float64)
        return Fit(step, tuple(stored), shares, 0.0)
    t = torch.tensor([float(t) for t, _ in stored], dtype=torch.float64)
    gamma = torch.tensor([gamma_of(length) for _, length in stored], dtype=torch.float64)
    gram, right, norm, total = _products(profile, step, gamma, t)
    shares = _solve(gram, right, total)
    missing = float(norm - 2 * shares @ right + shares @ (gram @ shares))
    found = Fit(step, tuple(stored), shares, math.sqrt(max(missing, 0.0) / norm))
    if found.residual > POOR:
        lengths = ", ".join(f"{length:g}" for length in sorted({length for _, length in stored}))
        warnings.warn(
            f"{profile} at step {step} is made with a relative residual of {found.residual:.2g} from {len(stored)} stored averages of "
            f"lengths {lengths}: it lies beyond what they support. Train with a smaller snapshot_every, or with ema_lengths around it",
            stacklevel=2,
        )
    return found


def _products(profile: Profile, step: int, gamma: Tensor, t: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Inner products of the stored functions with each other and with a profile, the profile's with itself, and its sum."""
    if isinstance(profile, Power):
        own, end = torch.tensor(profile.gamma, dtype=torch.float64), torch.tensor(float(step), dtype=torch.float64)
        gram = inner_product(gamma[:, None], t[:, None], gamma, t)
        return gram, inner_product(own, end, gamma, t), float(inner_product(own, end, own, end)), 1.0
    # whatever is known by its weights alone is compared as such, summed over steps
    wanted = torch.zeros(int(t.max()), dtype=torch.float64)
    wanted[:step] = profile.weights(step)
    gram, right = torch.zeros(len(t), len(t), dtype=torch.float64), torch.zeros(len(t), dtype=torch.float64)
    for part in torch.arange(1, len(wanted) + 1).split(_STEPS):
        i, power = part.to(torch.float64), gamma[:, None] + 1
        functions = torch.where(
            i <= t[:, None], (i / t[:, None]) ** power * -torch.expm1(power * torch.log1p(-1 / i)), 0.0
        )
        gram += functions @ functions.T
        right += functions @ wanted[part - 1]
    return gram, right, float(wanted @ wanted), float(wanted.sum())


def _solve(gram: Tensor, right: Tensor, total: float) -> Tensor:
    """The minimum of x A x / 2 - b x under sum(x) = total, by a multiplier, in functions of norm 1 and with the border of size 1."""
    scale, n = gram.diagonal().rsqrt(), len(right)
    size = scale.mean()
    system = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    system[:n, :n] = gram * scale[:, None] * scale
    system[n, :n] = system[:n, n] = scale / size
    found = torch.linalg.solve(system, torch.cat([right * scale, (total / size)[None]]))
    return found[:n] * scale


def reconstruct(found: Fit, stored: Sequence[Stored], block: int = _BLOCK) -> dict[str, Tensor]:
    """The tensors of a fit, summed in float64 and given in single precision; buffers are those of the stored step next to the fit's.

    Beside what it returns it holds `block` elements at a time, however many averages there are.

    Args:
        found: of `fit`.
        stored: the averages, in the order in which they were fitted.
        block: elements at a time, >= 1.

    Raises:
        ValueError: for averages that are not those of the fit, or not of one network.
    """
    if tuple((s.step, s.length) for s in stored) != found.stored:
        raise ValueError("stored are other averages than those that were fitted")
    used = [(float(x), s) for x, s in zip(found.shares, stored, strict=True) if abs(float(x)) > _NOTHING]
    nearest = min((s for _, s in used), key=lambda s: (abs(s.step - found.step), s.step))
    averaged = next((s.averaged for s in stored if s.averaged is not None), None)
    made: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with safe_open(nearest.path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no mapping
            one = file.get_tensor(key)
            if one.is_floating_point() and (averaged is None or key in averaged):
                shapes[key] = tuple(one.shape)
                made[key] = torch.empty(one.shape, dtype=torch.promote_types(one.dtype, torch.float32))
            else:
                made[key] = one
    for parts in _blocks(shapes, block):
        sums = {part: torch.zeros(_shape(part, shapes[part[0]]), dtype=torch.float64) for part in parts}
        for share, one in used:
            try:
                with safe_open(one.path, "pt") as file:
                    for part in parts:
                        sums[part].add_(_part(file, part, shapes[part[0]], one.path), alpha=share)
            except SafetensorError as error:
                raise ValueError(f"{one.path} is not of the network of {nearest.path}: {error}") from error
        for (key, first, last), value in sums.items():
            if shapes[key]:
                made[key][first:last] = value
            else:
                made[key].copy_(value)
    return made


def _part(file: Any, part: tuple[str, int, int], shape: tuple[int, ...], path: Path) -> Tensor:
    """Some rows of a stored tensor, in float64."""
    key, first, last = part
    there = tuple(file.get_slice(key).get_shape())
    if there != shape:
        raise ValueError(f"{path} is not of the same network: {key} has shape {there}, elsewhere {shape}")
    rows = file.get_slice(key)[first:last] if shape else file.get_tensor(key)
    return rows.to(torch.float64)


def _shape(part: tuple[str, int, int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of some rows of a tensor."""
    return (part[2] - part[1], *shape[1:]) if shape else shape


def _blocks(shapes: Mapping[str, tuple[int, ...]], block: int) -> Iterator[list[tuple[str, int, int]]]:
    """Rows of tensors, (key, first, last), together of `block` elements at most, or of one row."""
    parts: list[tuple[str, int, int]] = []
    size = 0
    for key, shape in shapes.items():
        rows, each = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        at = 0
        while at < rows:
            taken = min(rows - at, max((block - size) // max(each, 1), 0 if parts else 1))
            if taken:
                parts.append((key, at, at + taken))
                at, size = at + taken, size + taken * each
            if at < rows or size >= block:
                yield parts
                parts, size = [], 0
    if parts:
        yield parts
