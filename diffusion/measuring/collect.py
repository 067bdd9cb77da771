"""What an extractor sees in a set of pictures, on one process or several, in the order of the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ..launch import Processes
from ..progress import progress_bar
from .extractor import Extractor, Seen, look
from .pictures import Pictures, batches

__all__ = ["Kept", "Rows", "collect"]


class Rows(Metric):
    """Rows of numbers with the place of each, gathered from all processes and put back in order.

    What is computed of them then is the same on any number of processes, to the last bit.
    """

    full_state_update = False
    index: list[Tensor]
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("index", [], dist_reduce_fx="cat")
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, index: Tensor, rows: Tensor) -> None:
        """Add rows.

        Args:
            index: int64 (B,), their places.
            rows: float (B, d).
        """
        self.index.append(index.to(self.device))
        self.rows.append(rows.to(self.device))

    def compute(self) -> Tensor:
        """All rows, (N, d), in the order of their places, on the CPU."""
        order = dim_zero_cat(self.index).argsort()
        return dim_zero_cat(self.rows)[order].cpu()


class Kept(NamedTuple):
    """What was seen in N pictures, in their order: by each extractor, and their brightness, the mean of a picture's numbers, 0 to 255."""

    seen: tuple[Seen, ...]
    brightness: Tensor


@torch.no_grad()
def collect(
    pictures: Pictures, extractors: Sequence[Extractor], *, batch: int = 64, device: str | torch.device = "cpu",
    processes: Processes | None = None, progress: bool = False, about: str = "looking",
) -> Kept:  # fmt: skip
    """Show pictures to extractors, in one pass.

    Args:
        pictures: any.
        extractors: none or several.
        batch: pictures at a time, >= 1.
        device: where extractors are shown them.
        processes: each reads its own batches; all get everything. None: this process reads all.
        progress: show a bar, in the main process.
        about: what is done, for the bar.

    Raises:
        ValueError: see `look`; in every process where one failed.
    """
    count, rank = (1, 0) if processes is None else (processes.count, processes.rank)
    kept = [Rows() for _ in range(len(extractors) + 1)]
    if processes is not None:
        for each in kept:
            each.to(processes.device)
    bar = progress_bar(len(pictures), 0, about, progress and not rank, leave=False, unit="picture")
    error: Exception | None = None
    try:
        _walk(pictures, extractors, kept, batch, device, (rank, count), bar.update)
    except (ValueError, OSError) as wrong:
        error = wrong
    finally:
        bar.close()
    if processes is not None:
        processes.agree(error)  # or the others would wait for what never comes
    elif error is not None:
        raise error
    light, *rest = [each.compute() for each in kept]
    return Kept(
        tuple(_apart(rows, each.num_features) for rows, each in zip(rest, extractors, strict=True)), light.flatten()
    )


def _apart(rows: Tensor, width: int) -> Seen:
    """Features and logits, which travelled side by side."""
    return Seen(rows[:, :width], rows[:, width:] if rows.shape[1] > width else None)


def _walk(
    pictures: Pictures, extractors: Sequence[Extractor], kept: Sequence[Rows], batch: int, device: str | torch.device,
    part: tuple[int, int], done: Callable[[int], object],
) -> None:  # fmt: skip
    """This process's batches; one that has none looks at the first, and keeps nothing of it, so that all know the widths."""
    own = part[0] * batch < len(pictures)
    for index, pixels in batches(pictures, batch, part) if own else batches(pictures, batch):
        keep = slice(None) if own else slice(0)
        kept[0].update(index[keep], pixels.flatten(1).double().mean(1, keepdim=True)[keep])
        for i, extractor in enumerate(extractors):
            seen = look(extractor, pixels.to(device))
            rows = seen.features if seen.logits is None else torch.cat([seen.features, seen.logits], 1)
            kept[i + 1].update(index[keep], rows[keep])
        done(len(index) * part[1])
        if not own:
            break
