"""Statistics of pictures that are too many for their features to be kept."""

from __future__ import annotations

import torch

from ..launch import Processes
from ..progress import progress_bar
from .extractor import Extractor, look
from .frechet import Moments
from .pictures import Pictures, batches

__all__ = ["streamed_moments"]


@torch.no_grad()
def streamed_moments(
    pictures: Pictures, extractor: Extractor, *, batch: int = 64, device: str | torch.device = "cpu",
    processes: Processes | None = None, progress: bool = False,
) -> Moments:  # fmt: skip
    """Mean and covariance of what an extractor sees, of any number of pictures: memory holds a batch, and a matrix of the features.

    Args:
        pictures: at least 2.
        extractor: who looks.
        batch: pictures at a time, >= 1.
        device: where the extractor is shown them; sums are in float64 there, too.
        processes: each reads its own batches; all get the moments of all. None: this process reads all.
        progress: show a bar, in the main process.

    Raises:
        ValueError: see `look`, in every process where one failed; for fewer than two pictures.
    """
    from .accumulate import FeatureMoments  # torchmetrics, which takes a second to import

    count, rank = (1, 0) if processes is None else (processes.count, processes.rank)
    kept = FeatureMoments(extractor.num_features).to(device if processes is None else processes.device)
    bar = progress_bar(len(pictures), 0, "looking at the pictures", progress and not rank, leave=False, unit="picture")
    error: Exception | None = None
    try:
        for index, pixels in batches(pictures, batch, (rank, count)):
            kept.update(look(extractor, pixels.to(device)).features)
            bar.update(len(index) * count)
    except (ValueError, OSError) as wrong:
        error = wrong
    finally:
        bar.close()
    if processes is not None:
        processes.agree(error)  # or the others would wait for what never comes
    elif error is not None:
        raise error
    return kept.compute()
