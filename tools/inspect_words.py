"""What is wrong with a forward process, in words."""

from __future__ import annotations

import math

import torch

from ..samplers import on_path, tabulate
from ..schedules import Level, PairingError, check_pairing, output_weight
from ..schedules.schedule import entries, first_t
from .inspected import Parts

__all__ = ["readable", "said_of", "warnings_of"]


def readable(level: Level, elements: int) -> float:
    """How well the mean of the data can be read from x: the standard deviation of the noise in it, in units of the data.

    Args:
        level: of numbers.
        elements: numbers per channel of a sample.
    """
    return float(level.ratio) / math.sqrt(elements)


def said_of(parts: Parts, elements: int, assumed: bool = False) -> list[str]:
    """What there is to know beside warnings: where log-SNR begins and ends, and what is assumed or harmless.

    Args:
        parts, elements: as of `warnings_of`.
        assumed: whether nobody knows how it was trained.
    """
    top, bottom = parts.schedule(1.0), parts.schedule(0.0)
    first = parts.schedule(first_t(parts.schedule))
    entry = (
        f", {float(first.log_snr):.4g} (first of {entries(parts.schedule)} entries)" if entries(parts.schedule) else ""
    )
    found = [f"log-SNR runs from {float(bottom.log_snr):.4g} (data){entry} to {float(top.log_snr):.4g} (noise)"]
    if assumed:
        found.append("a scheduler does not say how its network was trained: density and weighting are assumed")
    if top.alpha > 0 and (spread := readable(top, elements)) >= 1:
        found.append(
            f"terminal SNR is not zero, but harmless for {elements} numbers per channel: at t = 1 mean brightness "
            f"can be told only with an error of {spread:.2g}, and data lie in [-1, 1]"
        )
    return found


def warnings_of(parts: Parts, elements: int) -> list[str]:
    """What is wrong with the parts together, in words; empty when nothing is.

    Args:
        parts: the forward process and how it is sampled.
        elements: numbers per channel of a sample.
    """
    found: list[str] = []
    top = parts.schedule(1.0)
    if top.alpha > 0 and (spread := readable(top, elements)) < 1:
        found.append(
            f"terminal SNR is not zero: alpha is {float(top.alpha):.4g} at t = 1 (log-SNR {float(top.log_snr):.2f}). Training shows "
            f"the network the data's mean brightness there, to within {spread:.3g} for {elements} numbers per channel, but sampling "
            f"starts from noise whose mean is 0, so samples keep a mean brightness within about {spread:.3g} of 0: use "
            "ZeroTerminalSNR with row V"
        )
    grid = parts.grid(parts.schedule, parts.sampling_steps)
    first = grid[0]
    if first.log_snr > top.log_snr + 1e-9 and (spread := readable(first, elements)) < 1:
        found.append(
            f"the grid does not start at the top: its first level has log-SNR {float(first.log_snr):.2f} (sigma / alpha "
            f"{float(first.ratio):.3g}), the schedule ends at {float(top.log_snr):.2f}. Sampling hands the network pure noise there, "
            f"as if it held data: mean brightness stays within about {spread:.3g} of 0. Use Trailing, or start higher"
        )
    if grid[-1].sigma > 0:
        found.append(f"the grid ends at sigma {float(grid[-1].sigma):.3g}, not at data: pictures keep that much noise")
    drawn = parts.density((torch.arange(999, dtype=torch.float64) + 1) / 1000, parts.schedule).level
    weights = output_weight(parts.weighting, parts.row, drawn)
    if (largest := float(weights.max() / weights.median().clamp_min(1e-300))) > 1e4:
        found.append(
            f"the loss is that of few noise levels: over the middle 99.8 % of the levels that training sees, the weight on the output "
            f"({type(parts.weighting).__name__} on row {type(parts.row).__name__}) reaches {largest:.2g} times its median. Use another "
            "weighting for this row, such as MinSNR"
        )
    start = output_weight(parts.weighting, parts.row, Level(first.t, *(torch.tensor([float(v)]) for v in first[1:])))
    if (share := float(start / weights.median().clamp_min(1e-300))) < 1e-6:
        found.append(
            f"sampling starts where the loss hardly looks: at its first level (log-SNR {float(first.log_snr):.2f}) the weight on the "
            f"output ({type(parts.weighting).__name__} on row {type(parts.row).__name__}) is {share:.1g} of its median, so the network's "
            "first answer is what its neighbours taught it. Use Constant on this row, or another weighting that does not vanish there"
        )
    # beyond sigma / alpha 80 nothing is left to be seen
    reach = max(float(first.log_snr), -8.8) + 2.0
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    log_snr = parts.density(u, parts.schedule).level.log_snr
    assert isinstance(log_snr, torch.Tensor)
    if (seen := float((log_snr < reach).double().mean())) < 1e-5:
        found.append(
            f"training does not see where sampling starts: {type(parts.density).__name__} draws {seen:.1g} of its levels below log-SNR "
            f"{reach:.2f}, and the grid starts at {float(first.log_snr):.2f}. Use a density with longer tails, or start the grid lower"
        )
    if parts.input_std is None and parts.row.input_std is None:
        sizes = [float(parts.schedule(t).alpha) ** 2 + float(parts.schedule(t).sigma) ** 2 for t in (0.0, 0.5, 1.0)]
        if max(sizes) > 3 * min(sizes):
            found.append(
                f"the size of x changes along the path: alpha^2 + sigma^2 runs from {min(sizes):.3g} to {max(sizes):.3g}, and the network "
                "is fed x itself. Set input_std to the data's standard deviation (1 if they are normalised), which divides its input by "
                "what x has"
            )
    for level in _asked(parts, grid):
        try:
            check_pairing(parts.row, level)
        except PairingError as error:
            found.append(str(error))
            break
    return found


def _asked(parts: Parts, grid: list[Level]) -> list[Level]:
    """Every level that the network is asked at: in sampling, and at the top of training."""
    return [parts.schedule(1.0), *tabulate(on_path(parts.sampler, parts.schedule), grid).asked]
