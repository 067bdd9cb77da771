"""Slots: every asked-for picture is made, tried again when a filter rejects it, and depends on nothing but its slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules.brownian import Brownian
from ..schedules.level import Level
from ..schedules.noise import Noise, Seeds, check_seeds, gaussian
from ..schedules.prediction import Prediction
from .filters.filter import Filter, Verdict, apart, check_verdict
from .state import Denoise, Sampler
from .trajectory import Step, tabulate, trajectory

__all__ = ["Finished", "Glimpse", "addressed", "fill"]


def addressed(
    seeds: Tensor, attempts: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Noise:  # fmt: skip
    """The noise source of a batch: each sample's Gaussians are a function of (seed, attempt, step, draw).

    Args:
        seeds, attempts: int64 (B,).
        shape: of one sample.
        dtype, device: of the noise; the bits do not depend on the device.
    """
    seeds, attempts = seeds.to(device), attempts.to(device)
    return lambda step, draw: gaussian(seeds, attempts, step, draw, shape, dtype)


class Finished(NamedTuple):
    """A batch that has reached the end of the levels.

    slots: int64 (B,), which pictures these are attempts at. attempts: int64 (B,). x: (B, ...). keep: bool (B,) on the host.
    verdicts: one per filter, on the host. evaluations: int64 (B, branches), what this attempt has cost.
    """

    slots: Tensor
    attempts: Tensor
    x: Tensor
    keep: Tensor
    verdicts: tuple[Verdict, ...]
    evaluations: Tensor


class Glimpse(NamedTuple):
    """A step of a batch that is on its way, for who looks on.

    step: that has been made; its tensors hold further rows behind those of `slots` where a batch is filled up with repeats. steps: in all.
    slots, attempts: int64 (B,), whose rows these are. spent: int64 (B, branches), evaluations of this attempt so far; written to later.
    """

    step: Step
    steps: int
    slots: Tensor
    attempts: Tensor
    spent: Tensor

    @property
    def x0(self) -> Tensor:
        """(B, ...), what the (guided) model believed where the step began, in the units of the data and not cut to their range."""
        return self.step.prediction.x0[: len(self.slots)]


class _Counted:
    """A plain denoiser, counted per sample."""

    def __init__(self, denoise: Denoise, size: int) -> None:
        self._denoise, self.spent = denoise, torch.zeros(size, 1, dtype=torch.int64)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        self.spent += 1
        return self._denoise(x, level)


def fill(
    sampler: Sampler, denoise_for: Callable[[Tensor], Denoise], levels: Sequence[Level], seeds: Seeds, shape: Sequence[int], *,
    filters: Sequence[Filter] = (), retries: int = 0, batch: int = 64, strict: bool = False, brownian: bool = False,
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    on_step: Callable[[int], object] = lambda samples: None, finish: Callable[[Tensor], Tensor] = lambda x: x,
    known: Callable[[Sequence[tuple[int, int]]], Finished | None] = lambda work: None,
    watch: Callable[[Glimpse], object] | None = None,
) -> Iterator[Finished]:  # fmt: skip
    """Sample every slot, in batches; what a filter rejects is tried again, as attempt 1, 2, ... of the same seed.

    A rejected slot joins the next batch, so batches stay full, and its picture depends on its own seed, condition and attempt
    only. A slot that runs out of retries stays rejected: it is never filled with the least bad.

    Args:
        sampler, levels: see `trajectory`.
        denoise_for: the model for some slots: int64 (B,) -> denoise. A `spent` (B, branches) of it is read as its evaluations.
        seeds: one per slot, in [0, 2^63).
        shape: of one sample.
        filters: asked for a verdict at the end of each batch; a sample must please all.
        retries: how often a slot is tried again, >= 0.
        batch: samples at a time, >= 1.
        strict: fill the last batch up with repeats, so that a network always sees the same batch shape and a picture is the
            same to the last bit, however many are asked for at once.
        brownian: the sampler's noise is that of one Brownian motion per attempt, the same on every grid; see Brownian.
        dtype, device: of the samples.
        on_step: told after each step how many samples have moved, for progress.
        finish: what is done to x after the last step, before filters see it: cutting pictures to their range, so that a filter judges what
            is handed out.
        known: asked before each batch with its slots and attempts; what it returns stands for the batch, which is not made then.
        watch: shown every step of a batch that is made, after filters have seen it; an exception in it ends the work at once.

    Raises:
        ValueError: for values out of range.
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}; allowed: >= 0")
    if brownian and not sampler.draws:
        raise ValueError(
            f"brownian is true, but {sampler} draws no noise; leave brownian out, or take DDIM(eta=1), DDPM(), ..."
        )
    if batch < 1:
        raise ValueError(f"batch is {batch}; allowed: >= 1")
    seed = check_seeds(seeds)
    return _fill(
        sampler, denoise_for, levels, seed, shape, filters, retries, batch, strict, brownian, dtype, device, on_step, finish,
        known, watch,
    )  # fmt: skip


def _fill(
    sampler: Sampler, denoise_for: Callable[[Tensor], Denoise], levels: Sequence[Level], seeds: Tensor, shape: Sequence[int],
    filters: Sequence[Filter], retries: int, batch: int, strict: bool, brownian: bool, dtype: torch.dtype, device: torch.device | str,
    on_step: Callable[[int], object], finish: Callable[[Tensor], Tensor], known: Callable[[Sequence[tuple[int, int]]], Finished | None],
    watch: Callable[[Glimpse], object] | None,
) -> Iterator[Finished]:  # fmt: skip
    table = tabulate(sampler, levels)
    queue = deque((slot, 0) for slot in range(len(seeds)))
    while queue:
        work = [queue.popleft() for _ in range(min(batch, len(queue)))]
        real = len(work)
        if (done := known(work)) is not None:
            on_step(real * (len(levels) - 1))
            yield done
            queue.extend(_again(work, done.keep, retries))
            continue
        work += [work[-1]] * (batch - real if strict else 0)
        slots, attempts = torch.tensor(work).T
        noise = addressed(seeds[slots], attempts, shape, dtype, device)
        path = Brownian(seeds[slots].to(device), attempts.to(device), levels, shape, dtype) if brownian else noise
        denoise = denoise_for(slots)
        if not hasattr(denoise, "spent"):
            denoise = _Counted(denoise, len(slots))
        x = levels[0].sigma * noise(-1, 0)
        memories = [f.init(x, levels) for f in filters]
        walk = trajectory(
            sampler, denoise, levels, x, path, table=table, predictions=bool(filters) or watch is not None
        )
        x = torch.empty(0)  # of the walk alone, which writes over what nobody else knows
        for step in walk:
            if step.last:
                step.x = finish(step.x)
            own = [replace(step, noise=apart(noise, j)) for j in range(len(filters))]
            memories = [f.update(m, s) for f, m, s in zip(filters, memories, own, strict=True)]
            on_step(real)
            if watch is not None:
                spent: Tensor = denoise.spent  # pyright: ignore[reportFunctionMemberAccess]
                watch(Glimpse(step, len(levels) - 1, slots[:real], attempts[:real], spent[:real]))
            if step.last:
                x = step.x
            del step, own  # what a step shows is written over in the next one only when nobody holds it
        verdicts = [check_verdict(f, f.verdict(m), len(x)) for f, m in zip(filters, memories, strict=True)]
        verdicts = tuple(Verdict(v.keep[:real], v.score[:real], v.reasons[:real]) for v in verdicts)
        keep = torch.ones(real, dtype=torch.bool)
        for verdict in verdicts:
            keep &= verdict.keep
        spent = denoise.spent  # pyright: ignore[reportFunctionMemberAccess]
        yield Finished(slots[:real], attempts[:real], x[:real], keep, verdicts, spent[:real].clone())
        queue.extend(_again(work[:real], keep, retries))


def _again(work: Sequence[tuple[int, int]], keep: Tensor, retries: int) -> list[tuple[int, int]]:
    """What was rejected and is tried again: slots, and their next attempts."""
    return [(s, a + 1) for (s, a), kept in zip(work, keep.tolist(), strict=True) if not kept and a < retries]
